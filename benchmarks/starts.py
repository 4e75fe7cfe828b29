"""Local maxima, and what several starts do about them."""

from collections.abc import Iterator
from statistics import median

import numpy as np

import stream_em as sem
from benchmarks.hard import HARD, PUBLISHED, best_known
from benchmarks.rows import Row, alternated
from benchmarks.samples import mixture_params, mixture_records
from stream_em.models.gaussian_mixture import GaussianMixtureParams

BLOCK = 8192
CLOSE, TRUTH_LEVEL = 0.005, 0.001
"""How far below the best known log-likelihood, and below the truth's, as shares of it."""


def run(quick: bool) -> Iterator[Row]:
    """Yield how often a stream ends near the best maximum, what that costs, and how soon an old regime is back."""
    seeds, n = (2, 5_000) if quick else (200, 100_000)
    for name, mixture in HARD.items():
        yield near_the_best(name, mixture(), seeds, n, 1 if quick else 20)
    yield cost(HARD["K=10 D=8"](), 10_000 if quick else 1_000_000, 1 if quick else 5)
    for name, mixture in PUBLISHED.items():
        yield published(name, mixture(), 2 if quick else 100, 5_000 if quick else 1_000_000)
    yield recurring(2_000 if quick else 20_000, 2 if quick else 20)


def streamed(X: np.ndarray, K: int, starts: int, seed: int) -> sem.Learner:
    """Return a learner that has read X block by block."""
    learner = sem.Learner(sem.GaussianMixture(K), starts=starts, seed=seed)
    for begin in range(0, len(X), BLOCK):
        learner.learn(X[begin : begin + BLOCK])
    return learner


def losses(params: GaussianMixtureParams, starts: int, seeds: int, n: int, mark: float, test: np.ndarray) -> np.ndarray:
    """Return how far below a mark each of `seeds` streams of n records ends, as a share of it."""
    K = len(params.weights)
    learners = (streamed(mixture_records(params, n, seed), K, starts, seed) for seed in range(seeds))
    return np.array([(mark - learner.log_likelihood(test).mean()) / abs(mark) for learner in learners])


def near_the_best(name: str, params: GaussianMixtureParams, seeds: int, n: int, runs: int) -> Row:
    """Return the percentage of streams that end near the best known maximum, with eight starts and with one."""
    test = mixture_records(params, n // 2, seed=10**6)
    mark = best_known(params, test, runs)
    many, single = (losses(params, starts, seeds, n, mark, test) for starts in (8, 1))
    note = f"{seeds} streams of {n:,} records; a single start {100 * (single < CLOSE).mean():.4g} %; "
    note += f"median loss {100 * np.median(many):.2g} % against {100 * np.median(single):.2g} %"
    title = f"streams that end within {CLOSE:.1%} of the best known log-likelihood, {name}"
    return Row(title, 100 * float((many < CLOSE).mean()), None, None, ">= 95", "%", note)


def cost(params: GaussianMixtureParams, n: int, rounds: int) -> Row:
    """Return how much longer eight starts take than one, warm-up included."""
    X, K = mixture_records(params, n), len(params.weights)
    streamed(X[:BLOCK], K, 8, 0)  # loads the compiled functions
    ours, single = alternated(lambda: streamed(X, K, 8, 0), lambda: streamed(X, K, 1, 0), rounds)
    name = f"eight starts against one, {n:,} records K={K} D={X.shape[1]}"
    return Row(name, median(ours), median(single), median(ours) / median(single), "<= 4", "s", "times as long")


def published(name: str, params: GaussianMixtureParams, seeds: int, n: int) -> Row:
    """Return the percentage of streams that reach the truth's log-likelihood of their own records in one pass."""
    reached = 0
    for seed in range(seeds):
        X = mixture_records(params, n, seed)
        truth = sem.Learner(sem.GaussianMixture(3), params=params).log_likelihood(X).mean()
        loss = truth - streamed(X, 3, 8, seed).log_likelihood(X, averaged=True).mean()
        reached += loss < TRUTH_LEVEL * abs(truth)
    note = f"{seeds} streams of {n:,} records, within {TRUTH_LEVEL:.1%}"
    return Row(
        f"streams at the truth's log-likelihood after one pass, {name}",
        100 * reached / seeds,
        None,
        None,
        ">= 99",
        "%",
        note,
    )


def recurring(n: int, seeds: int) -> Row:
    """Return after how many records, at most, the stored regime is back from its second visit on: A, B, A, B."""
    waits = [wait for seed in range(seeds) for wait in waits_for_old_regimes(n, seed)]
    note = f"the longest of {len(waits)} visits to a known regime, median {median(waits):,.0f}; K=3 D=4"
    return Row("records until a stored regime wins", float(max(waits)), None, None, "<= 300", "records", note)


def waits_for_old_regimes(n: int, seed: int) -> list[float]:
    """Return how many records after its return each regime of A, B, A, B became the champion again; inf if never."""
    regimes = [mixture_params(3, 4, spread=3.0, seed=2 * seed + i) for i in range(2)]
    learner = sem.Learner(sem.GaussianMixture(3), seed=seed, recent=n // 10)
    waits = []
    for visit in range(4):
        if visit > 0:
            learner.challenge("it changed")
        begin, known = learner.count, len(learner.events)
        X = mixture_records(regimes[visit % 2], n, seed=100 * seed + visit)
        for start in range(0, n, 100):
            learner.learn(X[start : start + 100])
        if visit > 1:
            returned = [event.at - begin for event in list(learner.events)[known:] if " by regime of " in event.detail]
            waits.append(min(returned, default=float("inf")))
    return waits

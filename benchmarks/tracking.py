"""Predictions while the world moves: drift handling against none, forgetting alone, and refitting on a window.

Each record is scored before it is learned, all by all methods, from the end of the warm-up on; the rules are the same
for all streams. Where an opponent has a setting (half-life; window and covariance floor), it is the best of several,
chosen afterwards.
"""

import warnings
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import stream_em as sem
from benchmarks.moving import ANNOTATED, SHIPPED, Moving, generated
from benchmarks.rows import Row
from benchmarks.samples import mixture_records
from benchmarks.scenarios import changing, moved

HALF_LIVES = (20.0, 100.0, 500.0, 2500.0)
"""Of our companions, and each of forgetting alone."""
WINDOWS, FLOORS = (200, 1000), (1e-6, 1e-2)
"""Of scikit-learn: records, and `reg_covar` in units in which the warm-up has variance 1."""
REFRESH, BLOCK, RECENT = 4, 64, 1000
REFIT, LEAST_REFITS = 100, 50
"""A window is refitted every so many records, or more often if that would be fewer times than the second."""
SE_BLOCKS = 20
OPPONENTS = ("no drift handling", "constant half-life", "sklearn on a window")


class Run(NamedTuple):
    """What one method made of a stream."""

    scores: np.ndarray
    seconds: float


def run(quick: bool) -> Iterator[Row]:
    """Yield the gain over the best opponent on each stream, and how soon a shifted component is learned."""
    streams = [*ANNOTATED, *SHIPPED, *generated(20_000, range(1, 6))]
    if quick:
        streams = [ANNOTATED[0], *list(generated(700, [1]))[:1]]
    for stream in streams:
        yield tracked(stream)
    for size in (1.0,) if quick else (1.0, 2.0, 4.0):
        yield from recovery(size, *((1, 3000, 1000) if quick else (20, 30_000, 10_000)))


def tracked(stream: Moving) -> Row:
    """Compare all methods on one stream, or on several of its kind."""
    found: dict[str, dict[str, list[Run]]] = {}
    sizes = []
    for make in stream.records:
        X = make()
        sizes.append(len(X))
        warmup = warmup_of(X, stream.n_components)
        for method, variant, scores_of in methods(stream.n_components, warmup):
            begin = perf_counter()
            scores = scores_of(X)[warmup:]
            found.setdefault(method, {}).setdefault(variant, []).append(Run(scores, perf_counter() - begin))
    best = {
        method: max(variants.items(), key=lambda item: joined(item[1]).mean()) for method, variants in found.items()
    }
    ours = joined(best["ours"][1])
    rival = max(OPPONENTS, key=lambda method: joined(best[method][1]).mean())
    gains = ours - joined(best[rival][1])
    error = standard_error(gains)
    note = "; ".join(
        f"{method}{variant} {joined(runs).mean():.3f} in {sum(run.seconds for run in runs):.2g} s"
        for method, (variant, runs) in best.items()
    )
    name = f"{stream.name}: gain over {rival}"
    times = f"{len(sizes)} x " if len(sizes) > 1 else ""
    note = f"{note}; {times}{sizes[0]:,} records, K={stream.n_components}, standard error {error:.2g}"
    return Row(name, gains.mean(), None, None, f">= {-2 * error:.2g}", "nats", note)


def warmup_of(X: np.ndarray, K: int) -> int:
    """Return how many records are not scored: 20 per component and feature, at least 100, at most a quarter."""
    return min(max(100, 20 * K * X.shape[1]), len(X) // 4)


def methods(K: int, warmup: int) -> Iterator[tuple[str, str, Callable[[np.ndarray], np.ndarray]]]:
    """Yield each method with its variants: (method, variant, what gives the scores)."""

    def learned(**options: Any) -> Callable[[np.ndarray], np.ndarray]:
        def scores(X: np.ndarray) -> np.ndarray:
            learner = sem.Learner(sem.GaussianMixture(K), warmup=warmup, refresh_every=REFRESH, **options)
            return np.concatenate([learner.learn(X[i : i + BLOCK]) for i in range(0, len(X), BLOCK)])

        return scores

    drift = {"drift": sem.DriftSettings(), "recent": RECENT, "restart_every": RECENT}
    yield "ours", "", learned(half_lives=HALF_LIVES, **drift)
    yield "without companions", "", learned(**drift)
    yield "no drift handling", "", learned()
    for half_life in HALF_LIVES:
        forgetting = sem.Stepsize.equal(floor=sem.Stepsize.constant(half_life=half_life).scale)
        yield "constant half-life", f" {half_life:g}", learned(stepsize=forgetting)
    for window in WINDOWS:
        for floor in FLOORS:
            variant = f" of {window:,}, floor {floor:g}"
            yield "sklearn on a window", variant, lambda X, w=window, f=floor: refitted(X, K, warmup, w, f)


def refitted(X: np.ndarray, K: int, warmup: int, window: int, floor: float) -> np.ndarray:
    """Return the log-likelihood (n,) of each record under scikit-learn's mixture of the latest window before it."""
    scores, unit = np.full(len(X), np.nan), X[:warmup].std(axis=0)
    every = max(1, min(REFIT, len(X) // LEAST_REFITS))
    Z = X / unit
    for begin in range(warmup, len(X), every):
        mixture = GaussianMixture(K, reg_covar=floor, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(Z[max(0, begin - window) : begin])
        scores[begin : begin + every] = mixture.score_samples(Z[begin : begin + every]) - np.log(unit).sum()
    return scores


def joined(runs: list[Run]) -> np.ndarray:
    """Return the scores of all records of a method."""
    return np.concatenate([each.scores for each in runs])


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of dependent values (n,), from the means of blocks."""
    means = np.array([block.mean() for block in np.array_split(values, SE_BLOCKS)])
    return float(means.std(ddof=1) / np.sqrt(SE_BLOCKS))


RECOVERY: dict[str, dict[str, Any]] = {
    "drift": {"drift": sem.DriftSettings()},
    "no drift handling": {},
    "half-life 1,000": {"stepsize": sem.Stepsize.constant(half_life=1000)},
    "half-life 5,000": {"stepsize": sem.Stepsize.constant(half_life=5000)},
}
TEST, STEP = 20_000, 128


def recovery(size: float, streams: int, before: int, after: int) -> Iterator[Row]:
    """Yield how long after a shift of one component's mean the loss against the new truth stays above 1 %, D=16.

    The loss is that of the parameters at each time on records that nobody learns.
    """
    oracles, losses = zip(
        *(losses_after(size, before + 37 * seed, after, seed) for seed in range(streams)), strict=True
    )
    for name in RECOVERY:
        paths = [loss[name] for loss in losses]
        within = median(last_above(path, 0.01 * abs(mark)) for path, mark in zip(paths, oracles, strict=True))
        halved = median(last_above(path, path[0] / 2) for path in paths)
        at_once, at_1000, at_end = (median(path[i] for path in paths) for i in (0, 1000 // STEP, -1))
        note = f"loss {at_once:.2g} nats at once, halved after {halved:,.0f} records,"
        note += f" {at_1000:.2g} after 1,000, {at_end:.2g} after {after:,}; truth {median(oracles):.4g}"
        title = f"records until within 1 % of the truth after a shift by {size:g} sd, D=16: {name}"
        yield Row(title, within, None, None, "<= 3000" if name == "drift" and size == 1 else "", "records", note)


def losses_after(size: float, before: int, after: int, seed: int) -> tuple[float, dict[str, np.ndarray]]:
    """Return the new truth's mean log-likelihood, and how far each learner is below it at every `STEP` records."""
    params, X = changing("abrupt", 3, 16, size, before, after, 1, seed)
    truth = moved(params, size, np.random.default_rng(seed))
    test = mixture_records(truth, TEST, seed=10**6 + seed)
    mark = sem.Learner(sem.GaussianMixture(3), params=truth).log_likelihood(test).mean()
    found = {}
    for name, options in RECOVERY.items():
        learner = sem.Learner(sem.GaussianMixture(3), **options)
        learner.learn(X[:before])
        path = [mark - learner.log_likelihood(test).mean()]
        for begin in range(before, before + after, STEP):
            learner.learn(X[begin : begin + STEP])
            path.append(mark - learner.log_likelihood(test).mean())
        found[name] = np.array(path)
    return mark, found


def last_above(path: np.ndarray, limit: float) -> float:
    """Return after how many records a loss is below a limit for good; if it never is, the length of its path."""
    above = np.flatnonzero(path >= limit)
    return float(STEP * (above[-1] + 1)) if len(above) else 0.0

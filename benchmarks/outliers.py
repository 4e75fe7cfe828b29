"""Outliers that come in bursts, what leaving them out costs, and components that are away for long."""

from collections.abc import Iterator

import numpy as np

import stream_em as sem
from benchmarks.rows import Row, alternated, faster
from benchmarks.samples import chain_params, chain_records, mixture_params, mixture_records

K, ROBUST, BURST, PERIOD = 3, 10.0, 50, 500
HALF_LIFE, SPARED, RETURNED = 1000, 200.0, 500
FAR = 40.0
"""Outliers lie so far from the origin; means lie within about 10."""


def run(quick: bool) -> Iterator[Row]:
    """Yield how far the parameters are from those of a clean run, the cost, and what is left of an absent component."""
    n = 5000 if quick else 100_000
    for kind in ("mixture", "chain"):
        for D in (2, 16):
            for place in ("anywhere", "at one point"):
                yield deviation(kind, D, place, n)
    for kind, K_, D in (("mixture", 3, 2), ("mixture", 8, 16), ("chain", 3, 2), ("chain", 8, 16)):
        yield cost(kind, K_, D, n, 2 if quick else 9)
    yield absence(1 if quick else 20)


def stream(kind: str, K: int, D: int, n: int):
    """Return a model, its parameters and n records of it."""
    params = (mixture_params if kind == "mixture" else chain_params)(K, D, spread=4.0)
    X = (mixture_records if kind == "mixture" else chain_records)(params, n)
    return (sem.GaussianMixture if kind == "mixture" else sem.HiddenMarkov)(K), params, X


def with_bursts(X: np.ndarray, place: str, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return the records, a tenth of which are outliers in bursts of 50, and which are."""
    rng = np.random.default_rng(seed)
    out = np.zeros(len(X), dtype=bool)
    for start in range(1000, len(X), PERIOD):
        at = start + rng.integers(PERIOD - BURST)
        out[at : at + BURST] = True
    directions = rng.normal(size=(int(out.sum()) if place == "anywhere" else 1, X.shape[1]))
    directions *= FAR / np.linalg.norm(directions, axis=1)[:, np.newaxis]
    found = X.copy()
    found[out] = directions + 0.3 * rng.normal(size=(int(out.sum()), X.shape[1]))
    return found, out


def learned(learner: sem.Learner, X: np.ndarray) -> sem.Learner:
    """Learn records in blocks, and make the last M-step."""
    for begin in range(0, len(X), 1024):
        learner.learn(X[begin : begin + 1024])
    learner.refresh()
    return learner


def deviation(kind: str, D: int, place: str, n: int) -> Row:
    """Compare with a run in which the outliers are missing: means in deviations, the rest relative; the largest."""
    model, start, clean = stream(kind, K, D, n)
    X, out = with_bursts(clean, place)
    holed = np.where(out[:, np.newaxis], np.nan, clean)
    learner = learned(sem.Learner(model, params=start, robust=ROBUST, drift=sem.DriftSettings()), X)
    found, expected = learner.params, learned(sem.Learner(model, params=start), holed).params
    deviations = np.sqrt(np.diagonal(expected.covariances, axis1=1, axis2=2))
    probabilities = "weights" if kind == "mixture" else "transitions"
    worst = max(
        np.abs((found.means - expected.means) / deviations).max(),
        *(
            np.linalg.norm(a - b) / np.linalg.norm(b)
            for a, b in zip(found.covariances, expected.covariances, strict=True)
        ),
        np.abs(getattr(found, probabilities) / getattr(expected, probabilities) - 1.0).max(),
    )
    told = sum(event.kind in ("drift", "challenger", "replaced") for event in learner.events)
    note = f"{learner.left_out:,.0f} left out of {out.sum():,} outliers in {n:,} records; {told} alarms and challengers"
    return Row(f"10 % outliers in bursts {place}, {kind} D={D}", worst, None, None, "<= 0.05", "relative", note)


def cost(kind: str, K: int, D: int, n: int, rounds: int) -> Row:
    """Compare learning with the option to learning without it, on records without outliers."""
    model, start, X = stream(kind, K, D, n)

    def timed(robust: float | None):
        return lambda: learned(sem.Learner(model, params=start, robust=robust), X)

    ours, plain = timed(ROBUST), timed(None)
    ours()
    plain()
    return faster(f"learning with robust against without, {kind} K={K} D={D}", alternated(ours, plain, rounds))


def absence(half_lives: int) -> Row:
    """Compare how much worse than by the truth a component's records are explained when it returns."""
    params = mixture_params(K, 2, spread=10.0)
    X = mixture_records(params, 60_000)
    own = np.argmax(sem.Learner(sem.GaussianMixture(K), params=params).posterior(X), axis=1) == 0
    away, back = X[10_000:][~own[10_000:]][: half_lives * HALF_LIFE], X[50_000:]
    stepsize = sem.Stepsize.constant(half_life=HALF_LIFE)
    found = []
    for spared in (SPARED, 0.0):
        model = sem.GaussianMixture(K, spared_records=spared)
        learner = learned(learned(sem.Learner(model, params=params, stepsize=stepsize), X[:10_000]), away)
        lost = sem.Learner(model, params=params).log_likelihood(back) - learner.learn(back)
        found.append(float(lost[own[50_000:]][:RETURNED].mean()))
    name = f"nats lost on a component's first {RETURNED} records after {half_lives} half-lives away, spared or not"
    return Row(name, found[0], found[1], None, "", "nats", f"{SPARED:.0f} records spared; half-life {HALF_LIFE:,}")

"""A whole fit: time until the log-likelihood at which scikit-learn's default fit stops."""

import warnings
from collections.abc import Iterator
from time import perf_counter

import numpy as np
import sklearn.mixture

import stream_em as sem
from benchmarks.rows import Row, faster, seconds
from benchmarks.samples import mixture_params, mixture_records

K, D, BLOCK = 8, 16, 8192
SLACK = 1e-3
"""How much lower our log-likelihood may be, as a share."""
MOST_PASSES = 3


def run(quick: bool) -> Iterator[Row]:
    """Yield the comparison on a well-defined mixture whose components overlap a little."""
    X = mixture_records(mixture_params(K, D, spread=0.8), 20_000 if quick else 1_000_000)
    ours, theirs, notes = [], [], []
    stream_until(X[:5000], -np.inf)  # loads the compiled functions
    for _ in range(1 if quick else 2):
        peer = sklearn.mixture.GaussianMixture(K, random_state=0)
        theirs.append(seconds(lambda peer=peer: fit_peer(peer, X)))
        goal = float(peer.score(X))
        taken, passes, first, final = stream_until(X, goal - SLACK * abs(goal))
        ours.append(taken)
        notes.append(
            f"mean log-likelihood {final:.4f} after {passes} pass(es) ({first:.4f} after one)"
            f" against {goal:.4f} after {peer.n_iter_} iterations and k-means"
        )
        reached = final >= goal - SLACK * abs(goal)
    note = notes[-1] if reached else f"NOT REACHED: {notes[-1]}"
    row = faster(f"time to scikit-learn's log-likelihood, {len(X):,} records K={K} D={D}", (ours, theirs), ">= 15", "s")
    yield row._replace(note=f"{row.note}; {note}", ratio=row.ratio if reached else float("nan"))


def fit_peer(peer: sklearn.mixture.GaussianMixture, X: np.ndarray) -> None:
    """Fit scikit-learn's mixture as it comes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may stop at its 100 iterations
        peer.fit(X)


def stream_until(X: np.ndarray, target: float) -> tuple[float, int, float, float]:
    """Stream X until the averaged parameters reach a mean log-likelihood; (seconds, passes, after the first, last)."""
    learner = sem.Learner(sem.GaussianMixture(K))
    taken, values = 0.0, []
    while not values or (values[-1] < target and len(values) < MOST_PASSES):
        begin = perf_counter()
        for start in range(0, len(X), BLOCK):
            learner.learn(X[start : start + BLOCK])
        taken += perf_counter() - begin
        values.append(float(learner.log_likelihood(X, averaged=True).mean()))
    return taken, len(values), values[0], values[-1]

"""Plain EM iterations on records that are all there."""

from typing import Any

from stream_em.arrays import FloatArray
from stream_em.em import e_step, maximise


def iterate(
    sized: Any,
    theta: FloatArray,
    s: FloatArray,
    records: FloatArray,
    weights: FloatArray,
    max_iter: int,
    tol: float,
) -> tuple[list[float], bool]:
    """Run EM from theta in place, at most `max_iter` iterations, until one gains less than `tol` nats a record.

    Returns the total log-likelihood after each iteration, and whether it converged. Priors count in the gain.
    """
    n_records = float(weights.sum())
    path: list[float] = []
    penalty = maximise(sized, theta, s, 0.0)
    before = e_step(sized, theta, s, records, weights) + penalty
    for _ in range(max_iter):
        penalty = maximise(sized, theta, s, n_records)
        path.append(e_step(sized, theta, s, records, weights))
        gain, before = path[-1] + penalty - before, path[-1] + penalty
        if gain < tol * n_records:
            return path, True
    return path, False

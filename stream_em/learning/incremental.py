"""Incremental EM: over and over the same batches, with an M-step after each, and never a step down.

Each batch's statistics are kept, and replaced when its turn comes again; the M-step sees the sum of all. Both steps
then climb the same bound of the log-likelihood: Neal & Hinton (1998), A view of the EM algorithm that justifies
incremental, sparse, and other variants. With signals told apart sample by sample this is the incremental algorithm of
Ablin, Gramfort, Cardoso & Bach (2019), with sums a batch kept in the place of weights a sample.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import e_step, maximise, model_sizes, score
from stream_em.errors import InputError
from stream_em.learning.batch import BatchFit, started
from stream_em.models.interface import Settings


def incremental_em(
    model: Settings,
    X: Any,
    params: Any = None,
    max_iter: int = 100,
    tol: float = 1e-8,
    *,
    batch: int = 256,
    weights: Any = None,
    starts: int = 8,
    seed: int = 0,
) -> BatchFit:
    """Fit a model to all of X (n, D) by incremental EM: an M-step after each `batch` records, whose order stays.

    Needs far fewer passes than `batch_em`, and as many numbers a batch as the model has statistics. Stops after
    `max_iter` passes, or when one gains less than `tol` nats a record; in each pass all is also scored. NaN, `weights`
    and starts are as in `batch_em`. Raises `InputError` for a chain, whose records all hang together.

    >>> import stream_em as sem
    >>> X = np.r_[np.arange(5.0), np.arange(50.0, 55.0)]
    >>> fit = sem.incremental_em(sem.GaussianMixture(n_components=2), X, batch=2)
    >>> np.sort(fit.params.means[:, 0]).round(2)
    array([ 2., 52.])
    """
    if not isinstance(batch, int) or batch < 1:
        raise InputError(f"batch must be a whole number of records, 1 or more, not {batch!r}")
    together = model.records_together if isinstance(model, Settings) else None
    if isinstance(model, Settings) and together is None:
        raise InputError(f"{model.name}: the records of a sequence cannot be learned batch by batch; use batch_em")
    sized, theta, records, counts = started(model, X, params, max_iter, tol, weights, starts, seed)
    length = -(-batch // (together or 1)) * (together or 1)
    s, n = np.zeros(model_sizes(sized)[3]), float(counts.sum())
    steps = incremental_steps(sized, theta, s, records, counts, length)
    path: list[float] = []
    before, converged = next(steps), False
    while len(path) < max_iter and not converged:
        for _ in range(0, len(records), length):
            prior = next(steps)
        path.append(float(counts @ score(sized, theta, np.zeros_like(s), records)[1]))
        converged = path[-1] + prior - before < tol * n
        before = path[-1] + prior
    return BatchFit(model.params(sized, theta), np.array(path), len(path), converged, theta, s)


def incremental_steps(
    sized: Any, theta: FloatArray, s: FloatArray, records: FloatArray, weights: FloatArray, length: int
) -> Iterator[float]:
    """Change theta and s in place, one batch of `length` of the (n, D) records a step, for as long as it is asked.

    The first step is an E-step over all; it yields the log-likelihood, with the log prior density. Each other one
    yields the log prior density.
    """
    prior, total = maximise(sized, theta, s, 0.0), float(weights.sum())
    n_blended = model_sizes(sized)[2]
    parts = [slice(begin, begin + length) for begin in range(0, len(records), length)]
    shares = np.array([weights[part].sum() for part in parts]) / total
    kept, fresh = np.zeros((len(parts), n_blended)), np.zeros_like(s)
    s[:], log_likelihood = 0.0, 0.0
    for b, part in enumerate(parts):
        if shares[b] > 0:
            log_likelihood += e_step(sized, theta, fresh, records[part], weights[part])
            kept[b] = shares[b] * fresh[:n_blended]
    s[n_blended:] = fresh[n_blended:]
    yield log_likelihood + prior
    while True:
        for b, part in enumerate(parts):
            if shares[b] > 0:
                e_step(sized, theta, fresh, records[part], weights[part])
                kept[b] = shares[b] * fresh[:n_blended]
                if b == len(parts) - 1:
                    s[n_blended:] = fresh[n_blended:]
            # Summed anew each time, so that rounding does not add up.
            s[:n_blended] = kept.sum(axis=0)
            s[:2] = 1.0, 1.0 / total
            yield maximise(sized, theta, s, total)

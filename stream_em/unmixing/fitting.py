"""A first unmixing from a few records: how many sources they allow, and EM on them alone."""

from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import e_step, model_sizes
from stream_em.learning.iterate import iterate
from stream_em.models.signal_unmixing import SignalUnmixing

ITERATIONS = 10
"""EM iterations on the records that a start, or a new mixing, is learned from."""
LEAST_VARIANCE = 1e-10
"""Directions of less than this part of the greatest variance carry no signal."""
PREFERRED = 0.1
"""A start from nothing must be better than one from before by so many nats a record: it loses the sources' order."""


class Fit(NamedTuple):
    """What a few records say of the mixing."""

    theta: FloatArray
    s: FloatArray
    log_likelihood: float
    """In nats a record."""


def numerical_rank(records: FloatArray) -> int:
    """Return in how many directions (n, D) records vary, each channel in its own units; at least 1."""
    centred = np.nan_to_num(records - np.nan_to_num(_column_means(records)))
    scale = np.sqrt((centred**2).mean(axis=0))
    scaled = centred / np.where(scale > 0, scale, 1.0)
    variances = np.linalg.eigvalsh(scaled.T @ scaled)
    return max(1, int((variances > LEAST_VARIANCE * max(variances[-1], np.finfo(float).tiny)).sum()))


def _column_means(records: FloatArray) -> FloatArray:
    seen = ~np.isnan(records)
    return np.asarray(np.where(seen, records, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1))


def fitted(model: SignalUnmixing, sized: Any, records: FloatArray, before: FloatArray | None = None) -> Fit:
    """Return EM's fit to (n, D) records: from sphering, or from the parameters `before` unless that is clearly worse.

    Statistics keep the units of `before`.
    """
    weights = np.ones(len(records))
    fresh = model.unit_theta(sized, records, weights)
    if before is None:
        return _iterated(sized, fresh, records, weights)
    found = _iterated(sized, before.copy(), records, weights)
    in_its_units = before.copy()
    model.set_params(sized, in_its_units, model.params(sized, fresh))
    other = _iterated(sized, in_its_units, records, weights)
    return other if other.log_likelihood > found.log_likelihood + PREFERRED else found


def _iterated(sized: Any, theta: FloatArray, records: FloatArray, weights: FloatArray) -> Fit:
    s = np.zeros(model_sizes(sized)[3])
    iterate(sized, theta, s, records, weights, ITERATIONS, 0.0)
    return Fit(theta, s, e_step(sized, theta, s, records, weights) / len(records))

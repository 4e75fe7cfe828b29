"""Parameters of signal unmixing as users see them."""

from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.emissions.gaussian import checked
from stream_em.errors import InputError


class SignalUnmixingParams(NamedTuple):
    """Parameters in the records' units: y = unmixing (x - location), x = location + mixing y + noise."""

    unmixing: FloatArray
    """(K, D)."""
    mixing: FloatArray
    """(D, K)."""
    location: FloatArray
    """(D,)."""
    scales: FloatArray
    """(K,): of the sources' densities, each a Student-t; the sources are in units of the channels."""
    noise: FloatArray
    """(D,): variance of each channel that no source explains; 0 with as many sources as channels."""


class MixtureUnmixingParams(NamedTuple):
    """The same where each source's density is a mixture of J Gaussians."""

    unmixing: FloatArray
    """(K, D)."""
    mixing: FloatArray
    """(D, K)."""
    location: FloatArray
    """(D,)."""
    scales: FloatArray
    """(K,): standard deviations of the sources, which are in units of the channels."""
    noise: FloatArray
    """(D,): variance of each channel that no source explains; 0 with as many sources as channels."""
    source_weights: FloatArray
    """(K, J): of the Gaussians of each source."""
    source_means: FloatArray
    """(K, J)."""
    source_deviations: FloatArray
    """(K, J)."""


def checked_densities(params: Any, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return weights, means and deviations (K, J) of mixture sources; raises `InputError` if they are impossible."""
    lacking = [name for name in MixtureUnmixingParams._fields if not hasattr(params, name)]
    if lacking:
        raise InputError(f"params of mixture sources must be MixtureUnmixingParams; they have no {lacking[0]}")
    weights, means, deviations = (
        checked(name, getattr(params, name), shape) for name in MixtureUnmixingParams._fields[5:]
    )
    if (weights < 0).any() or not np.allclose(weights.sum(axis=1), 1.0):
        raise InputError("source_weights must not be negative, and those of each source must sum to 1")
    if not (deviations > 0).all():
        raise InputError("source_deviations must be above 0")
    return weights / weights.sum(axis=1, keepdims=True), means, deviations

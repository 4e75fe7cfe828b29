"""Learned components as values to draw: shares, means, covariances, and which fields tell them apart."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.learning.learner import Learner

MOST_DRAWN = 50
"""Of a model with more components those with the greatest shares are drawn."""


class Components(NamedTuple):
    """K Gaussian components."""

    shares: FloatArray
    """(K,)."""
    means: FloatArray
    """(K, D)."""
    covariances: FloatArray
    """In the shape of their type."""
    covariance_type: str

    def variances(self) -> FloatArray:
        """Return the variances (K, D)."""
        return variances_of(self.covariances, self.covariance_type, self.means.shape)

    def pair_covariances(self, i: int, j: int) -> FloatArray:
        """Return the covariances (K, 2, 2) of two fields."""
        out = np.zeros((len(self.means), 2, 2))
        out[:, [0, 1], [0, 1]] = self.variances()[:, [i, j]]
        if self.covariance_type in ("full", "tied"):
            out[:, 0, 1] = out[:, 1, 0] = self.covariances[..., i, j]
        return out

    def drawn(self) -> list[int]:
        """Return the components to draw, in their order."""
        return sorted(np.argsort(-self.shares, kind="stable")[:MOST_DRAWN].tolist())

    def telling_fields(self, most: int) -> list[int]:
        """Return up to `most` fields, in their order: those whose means differ most, measured within components."""
        if self.means.shape[1] <= most:
            return list(range(self.means.shape[1]))
        centre = self.shares @ self.means
        within = np.sqrt(np.maximum(self.shares @ self.variances(), np.finfo(float).tiny))
        separation = self.shares @ np.square(np.clip((self.means - centre) / within, -1e100, 1e100))
        return sorted(np.argsort(-separation, kind="stable")[:most].tolist())


def variances_of(covariances: FloatArray, covariance_type: str, shape: tuple[int, ...]) -> FloatArray:
    """Return the variances in the shape (K, D) from covariances in the shape of their type."""
    match covariance_type:
        case "full":
            covariances = np.diagonal(covariances, axis1=1, axis2=2)
        case "tied":
            covariances = np.diagonal(covariances)
        case "spherical":
            covariances = covariances[:, np.newaxis]
    return np.broadcast_to(covariances, shape)


def components_of(learner: Learner | None) -> Components | None:
    """Return the components of a learner, or None if it has not started or its model is not of this kind."""
    if learner is None or not learner.started:
        return None
    params = learner.params._asdict()
    if "means" not in params or "covariances" not in params:
        return None
    shares = shares_of(params)
    K = learner.model.n_components
    kind = getattr(learner.model, "covariance_type", "full")
    return Components(np.full(K, 1 / K) if shares is None else shares, params["means"], params["covariances"], kind)


def shares_of(params: Mapping[str, Any]) -> FloatArray | None:
    """Return each component's share (K,) of the records: its weight, or how often a chain is in that state."""
    if "weights" in params:
        return np.atleast_1d(np.asarray(params["weights"], dtype=np.float64))
    if "transitions" in params:
        return stationary(np.atleast_2d(np.asarray(params["transitions"], dtype=np.float64)))
    return None


def stationary(transitions: FloatArray) -> FloatArray:
    """Return the probabilities (K,) that transitions (K, K) leave as they are.

    >>> stationary(np.array([[0.9, 0.1], [0.3, 0.7]]))
    array([0.75, 0.25])
    """
    K = len(transitions)
    equations = np.vstack([transitions.T - np.eye(K), np.ones((1, K))])
    found = np.linalg.lstsq(equations, np.append(np.zeros(K), 1.0), rcond=None)[0]
    found = np.maximum(found, 0.0)
    total = found.sum()
    return np.asarray(found / total if total > 0 else np.full(K, 1 / K))

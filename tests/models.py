"""The table of models: every law in `test_laws.py` is asserted for every row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import naive
import numpy as np
import twins_nonnegative
import twins_sinusoids

import stream_em as sem
from stream_em.arrays import FloatArray


@dataclass(frozen=True)
class Case:
    """A model, parameters near which it is tested, data from about there, and its plain NumPy twin."""

    name: str
    model: Any
    params: Any
    draw: Callable[[np.random.Generator, int], FloatArray]
    twin: Callable[..., Any]
    """(params, X, weights, covariance prior (D, D), model) -> parameters after one EM iteration, log-likelihoods (n,).
    """


D = 3
MEANS = np.array([[0.0, 10.0, -1.0], [3.0, 11.0, 1.0]])
COVARIANCES = {
    "full": np.array([np.eye(D) + 0.5, 2 * np.eye(D) - 0.3]),
    "tied": np.eye(D) + 0.5,
    "diag": np.array([[1.0, 2.0, 0.5], [2.0, 1.0, 1.0]]),
    "spherical": np.array([1.0, 2.0]),
}


def _two_clusters(rng: np.random.Generator, n: int) -> FloatArray:
    labels = rng.random(n) < 0.4
    return np.where(labels[:, np.newaxis], MEANS[1], MEANS[0]) + rng.normal(size=(n, D)) * [1.0, 1.5, 0.7]


def _mixture(covariance_type: str) -> Case:
    params = sem.GaussianMixture.params_type(np.array([0.6, 0.4]), MEANS, COVARIANCES[covariance_type])
    model = sem.GaussianMixture(n_components=2, covariance_type=covariance_type)
    return Case(f"mixture-{covariance_type}", model, params, _two_clusters, naive.mixture_em_step)


def _sticky_states(rng: np.random.Generator, n: int) -> FloatArray:
    switches = np.cumsum(rng.random(n) < 0.1) % 2
    return MEANS[switches] + rng.normal(size=(n, D)) * [1.0, 1.5, 0.7]


def _chain(covariance_type: str) -> Case:
    transitions = np.array([[0.9, 0.1], [0.2, 0.8]])
    params = sem.HiddenMarkov.params_type(np.array([0.7, 0.3]), transitions, MEANS, COVARIANCES[covariance_type])
    model = sem.HiddenMarkov(n_components=2, covariance_type=covariance_type)
    return Case(f"chain-{covariance_type}", model, params, _sticky_states, naive.chain_em_step)


CASES = [make(covariance_type) for make in (_mixture, _chain) for covariance_type in COVARIANCES]


COMPONENTS = np.array([[0.7, 0.2, 0.1], [0.05, 0.25, 0.7]])


def nonnegative(beta_loss: str, **settings: Any) -> Case:
    """Return a factorisation into two components with these settings."""

    def draw(rng: np.random.Generator, n: int) -> FloatArray:
        means = rng.gamma(1.0, 30.0, (n, 2)) @ COMPONENTS
        return rng.poisson(means).astype(float) if beta_loss == "kullback-leibler" else rng.exponential(means)

    params = sem.NonnegativeFactorization.params_type(
        np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]), np.array([20.0, 30.0])
    )
    model = sem.NonnegativeFactorization(n_components=2, beta_loss=beta_loss, **settings)
    return Case(beta_loss, model, params, draw, twins_nonnegative.em_step)


def sinusoids() -> Case:
    """Return two lines."""

    def draw(rng: np.random.Generator, n: int) -> FloatArray:
        t = np.arange(n)
        return (np.cos(0.3 * t + 1.0) + 0.5 * np.cos(1.1 * t) + 0.1 + 0.3 * rng.normal(size=n))[:, np.newaxis]

    lines = [[0.048, 0.175], [1e-3, 2e-3], [100.0, 200.0], [1.0, 0.5], [0.1], [0.05]]
    params = sem.SuperimposedSinusoids.params_type(*map(np.array, lines))
    model = sem.SuperimposedSinusoids(n_components=2)
    return Case("sinusoids", model, params, draw, twins_sinusoids.kalman)


OTHER_CASES = [nonnegative("kullback-leibler"), nonnegative("itakura-saito"), sinusoids()]
"""Models of which some laws do not hold: they have files of their own, which assert those that do."""

"""The table of models: every law in `test_laws.py` is asserted for every row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import naive
import numpy as np
import twins_nonnegative
import twins_sinusoids
from twins_mixture_sources import mixture_sources_em_step
from twins_unmixing import loud_and_quiet, scale_sources_em_step

import stream_em as sem
from stream_em.arrays import FloatArray
from stream_em.models.unmixing_params import MixtureUnmixingParams, SignalUnmixingParams


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
    exact_if_missing: bool = True
    """Whether the E-step is exact where values are missing."""


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


MIXING = np.array([[1.0, 0.4, -0.3], [0.5, 1.0, 0.6], [-0.2, 0.7, 1.0]])
LOCATION = np.array([1.0, -2.0, 10.0])
LOUDNESS = np.array([1.0, 0.5, 2.0])


def _unmixing(sources: str, draw: Callable[[np.random.Generator, int], FloatArray]) -> Case:
    """Return unmixing whose parameters are the true ones, but for the mixing, which is nearly so."""
    mixing = MIXING + 0.1 * np.eye(D)
    params = SignalUnmixingParams(np.linalg.inv(mixing), mixing, LOCATION + 0.1, LOUDNESS, np.zeros(D))
    twin = scale_sources_em_step
    if sources == "mixture":
        # Two humps, flat, heavy-tailed: all of mean 0.
        weights = np.array([[0.48, 0.04, 0.48], [0.3, 0.4, 0.3], [0.5, 0.3, 0.2]])
        means = np.array([[-1.0, 0.0, 1.0], [-1.2, 0.0, 1.2], [0.0, 0.0, 0.0]])
        deviations = np.array([[0.3, 0.3, 0.3], [0.6, 0.6, 0.6], [0.3, 1.0, 2.0]])
        params, twin = MixtureUnmixingParams(*params, weights, means, deviations), mixture_sources_em_step
    model = sem.SignalUnmixing(n_components=D, sources=sources, block=20)  # type: ignore[arg-type]

    def mixed(rng: np.random.Generator, n: int) -> FloatArray:
        return draw(rng, n) * LOUDNESS @ MIXING.T + LOCATION

    return Case(f"unmixing-{sources}", model, params, mixed, twin, exact_if_missing=False)


def _two_humps_flat_and_tailed(rng: np.random.Generator, n: int) -> FloatArray:
    humps = rng.choice([-1.0, 1.0], n) + 0.3 * rng.normal(size=n)
    return np.stack([humps, rng.uniform(-2.0, 2.0, n), rng.laplace(size=n)], axis=1)


CASES = [make(covariance_type) for make in (_mixture, _chain) for covariance_type in COVARIANCES]
UNMIXING_CASES = [
    _unmixing("block", lambda rng, n: loud_and_quiet(rng, n, D)),
    _unmixing("sample", lambda rng, n: rng.standard_t(4.0, (n, D))),
    _unmixing("mixture", _two_humps_flat_and_tailed),
]
ALL_CASES = CASES + UNMIXING_CASES


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

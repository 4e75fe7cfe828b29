"""Data with known parameters, the same for the same seed."""

import numpy as np

from stream_em.models.gaussian_mixture import GaussianMixtureParams
from stream_em.models.hidden_markov import HiddenMarkovParams


def mixture_params(K: int, D: int, spread: float, seed: int = 0) -> GaussianMixtureParams:
    """Return a random mixture; `spread` is the standard deviation of the means, those of the components are near 1."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(K, D, D)) / np.sqrt(D)
    covariances = 0.6 * roots @ roots.transpose(0, 2, 1) + 0.4 * np.eye(D)
    return GaussianMixtureParams(rng.dirichlet(np.full(K, 10.0)), rng.normal(0.0, spread, (K, D)), covariances)


def mixture_records(params: GaussianMixtureParams, n: int, seed: int = 1) -> np.ndarray:
    """Return (n, D) records drawn from a mixture."""
    rng = np.random.default_rng(seed)
    return emitted(params, rng.choice(len(params.weights), size=n, p=params.weights), rng)


def chain_params(K: int, D: int, spread: float, seed: int = 0) -> HiddenMarkovParams:
    """Return a random hidden Markov model that stays in a state for ten records on average."""
    _, means, covariances = mixture_params(K, D, spread, seed)
    leave = np.random.default_rng(seed + 1).dirichlet(np.ones(K), K)
    return HiddenMarkovParams(np.full(K, 1.0 / K), 0.9 * np.eye(K) + 0.1 * leave, means, covariances)


def chain_records(params: HiddenMarkovParams, n: int, seed: int = 1) -> np.ndarray:
    """Return (n, D) records of one sequence."""
    rng = np.random.default_rng(seed)
    upto, draws = params.transitions.cumsum(axis=1), rng.random(n)
    states = np.zeros(n, dtype=np.int64)
    for t in range(1, n):
        states[t] = min(int(upto[states[t - 1]].searchsorted(draws[t])), len(upto) - 1)
    return emitted(params, states, rng)


def emitted(params: GaussianMixtureParams | HiddenMarkovParams, labels: np.ndarray, rng: np.random.Generator):
    """Return one record (D,) for each label (n,)."""
    records = rng.normal(size=(len(labels), params.means.shape[1]))
    for k, (mean, covariance) in enumerate(zip(params.means, params.covariances, strict=True)):
        records[labels == k] = records[labels == k] @ np.linalg.cholesky(covariance).T + mean
    return records

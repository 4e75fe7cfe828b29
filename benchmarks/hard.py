"""Mixtures on which EM often ends in a poor maximum, and the best likelihood that is known for each."""

import numpy as np
from sklearn import datasets

import stream_em as sem
from benchmarks.samples import mixture_params
from stream_em.models.gaussian_mixture import GaussianMixtureParams

MOST_FITTED = 20_000
"""Batch EM fits so many of the test records."""


def ten_in_eight() -> GaussianMixtureParams:
    """Return ten overlapping components in eight dimensions."""
    return mixture_params(10, 8, spread=1.5, seed=3)._replace(weights=falling(10, 0.75))


def long_in_four() -> GaussianMixtureParams:
    """Return six long thin components that cross each other in four dimensions."""
    rng = np.random.default_rng(102)
    covariances = np.array([turned(rng, np.geomspace(0.05, 4.0, 4)) for _ in range(6)])
    means = mixture_params(6, 4, spread=1.5, seed=2).means
    return GaussianMixtureParams(falling(6, 0.7), means, covariances)


def groups_in_plane() -> GaussianMixtureParams:
    """Return three groups of two, two and three components in the plane: far apart, overlapping within."""
    rng = np.random.default_rng(2)
    groups = ((0.0, 0.0, 2), (12.0, 2.0, 2), (3.0, 14.0, 3))
    means = np.concatenate([[x, y] + 2.2 * rng.normal(size=(n, 2)) for x, y, n in groups])
    covariances = np.array([turned(rng, np.array([0.15, 1.0])) for _ in means])
    return GaussianMixtureParams(falling(7, 0.75), means, covariances)


HARD = {"K=10 D=8": ten_in_eight, "K=6 D=4, thin": long_in_four, "K=7 D=2, in groups": groups_in_plane}


def iris() -> GaussianMixtureParams:
    """Return Iris1 of Nguyen, Forbes & McLachlan (2020): the classes of the iris data, each alike in weight."""
    X, labels = datasets.load_iris(return_X_y=True)
    classes = [X[labels == k] for k in range(3)]
    means, covariances = [each.mean(axis=0) for each in classes], [np.cov(each.T) for each in classes]
    return GaussianMixtureParams(np.full(3, 1 / 3), np.array(means), np.array(covariances))


def elki() -> GaussianMixtureParams:
    """Return ELKI1 of the same paper."""
    deviations = np.array([[0.09, 0.09], [0.05, 0.1], [0.035, 0.035]])
    means = np.array([[0.3, 0.3], [0.85, 0.35], [0.45, 0.85]])
    return GaussianMixtureParams(np.array([0.5, 0.3, 0.2]), means, np.array([np.diag(row**2) for row in deviations]))


PUBLISHED = {"Iris1": iris, "ELKI1": elki}


def falling(K: int, ratio: float) -> np.ndarray:
    """Return K weights, each `ratio` of the one before."""
    weights = ratio ** np.arange(K)
    return np.asarray(weights / weights.sum())


def turned(rng: np.random.Generator, variances: np.ndarray) -> np.ndarray:
    """Return a covariance with these variances along random axes."""
    axes = np.linalg.qr(rng.normal(size=(len(variances), len(variances))))[0]
    return np.asarray(axes * variances @ axes.T)


def best_known(params: GaussianMixtureParams, X: np.ndarray, runs: int) -> float:
    """Return the greatest mean log-likelihood of X (n, D): of the truth, of batch EM from there and from `runs` starts.

    Batch EM learns from the very records it is judged on, so this is a hard mark.
    """
    model, fitted = sem.GaussianMixture(len(params.weights)), X[:MOST_FITTED]
    found = [params, sem.batch_em(model, fitted, params, max_iter=300, tol=1e-6).params]
    found += [sem.batch_em(model, fitted, starts=1, seed=seed, max_iter=300, tol=1e-6).params for seed in range(runs)]
    return max(float(sem.Learner(model, params=each).log_likelihood(X).mean()) for each in found)

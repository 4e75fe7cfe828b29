"""Gaussian densities with diagonal covariances, or one variance for all features (`spherical`).

The features are phi(z) = (1, z, z²). A record with missing values needs no grouping: with mask features
(seen, z·seen, z²·seen) the log-density of its observed part is again one matrix product, and the missing moments
mean and mean² + variance are filled in after the sums.
"""

from typing import NamedTuple

import numpy as np

from stream_em.emissions.interface import (
    add_statistics,
    derive,
    encode,
    fill,
    log_densities,
    log_prior,
    maximise,
    sizes,
    usual,
    windows,
)
from stream_em.emissions.standardise import standardised
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import add_products

LOG_2PI = 1.8378770664093453
SMALLEST_VARIANCE = 1e-12


class DiagonalGaussian(NamedTuple):
    """Sizes and settings; the prior is `prior_records` pseudo-records of variance `prior_variance`.

    `ridge` is added to every variance, in squared units of the records.
    """

    n_components: int
    n_features: int
    spherical: int
    learn_means: int
    learn_covariances: int
    prior_records: float
    prior_variance: float
    ridge: float = 0.0


class DiagonalGaussianParams(NamedTuple):
    """Windows on the parameter vector, in standardised units."""

    means: np.ndarray  # (K, D)
    covariances: np.ndarray  # (K, D) variances
    shift: np.ndarray  # (D,)
    scale: np.ndarray  # (D,)
    natural: np.ndarray  # (K, 1 + 2D): the coefficients of phi in each log-density


@sizes.register(DiagonalGaussian)
def _(emission):
    K, D = emission.n_components, emission.n_features
    return 2 * K * D, 2 * D + K * (1 + 2 * D), 1 + 2 * D


@windows.register(DiagonalGaussian)
def _(emission, primary, derived):
    K, D = emission.n_components, emission.n_features
    return DiagonalGaussianParams(
        primary[: K * D].reshape(K, D),
        primary[K * D :].reshape(K, D),
        derived[:D],
        derived[D : 2 * D],
        derived[2 * D :].reshape(K, 1 + 2 * D),
    )


@encode.register(DiagonalGaussian)
def _(emission, params, records, phi):
    D = emission.n_features
    n_missing = standardised(records, params.shift, params.scale, phi[1 : 1 + D])
    for t in range(len(records)):
        phi[0, t] = 1.0
    for d in range(D):
        z, square = phi[1 + d], phi[1 + D + d]
        for t in range(len(z)):
            square[t] = z[t] * z[t]
    return n_missing


@derive.register(DiagonalGaussian)
def _(emission, params):
    D = emission.n_features
    for k in range(emission.n_components):
        params.natural[k, 0] = 0.0
        for d in range(D):
            params.natural[k, 0] += _log_peak(params, k, d)
            params.natural[k, 1 + d] = params.means[k, d] / params.covariances[k, d]
            params.natural[k, 1 + D + d] = -0.5 / params.covariances[k, d]


@kernel
def _log_peak(params, k, d):
    """Return the log-density of feature d of component k at z = 0, in the units of the records."""
    mean, variance = params.means[k, d], params.covariances[k, d]
    return -0.5 * (LOG_2PI + np.log(variance) + mean * mean / variance) - np.log(params.scale[d])


@log_prior.register(DiagonalGaussian)
def _(emission, params):
    D = emission.n_features
    total = 0.0
    for k in range(emission.n_components):
        for d in range(D):
            variance = params.covariances[k, d]
            total += np.log(variance) + emission.prior_variance / variance
    return -0.5 * emission.prior_records * total


@maximise.register(DiagonalGaussian)
def _(emission, statistics, n_records, params):
    D = emission.n_features
    mass = 0.0
    for k in range(emission.n_components):
        mass += statistics[k, 0]
    for k in range(emission.n_components):
        s0 = statistics[k, 0]
        n_k = n_records * s0 / mass
        if not n_k > 0.0:
            continue
        if emission.learn_means:
            for d in range(D):
                params.means[k, d] = statistics[k, 1 + d] / s0
        if emission.learn_covariances:
            total = 0.0
            for d in range(D):
                mean = params.means[k, d]
                second = statistics[k, 1 + D + d] - 2.0 * mean * statistics[k, 1 + d] + s0 * mean * mean
                scatter = max(second * (n_records / mass), 0.0)
                total += scatter
                params.covariances[k, d] = _posterior_variance(emission, params.scale[d], scatter, n_k)
            if emission.spherical:
                for d in range(D):
                    params.covariances[k, d] = _posterior_variance(emission, params.scale[d], total / D, n_k)
    derive(emission, params)


@kernel
def _posterior_variance(emission, scale, scatter, n_records):
    """Return the mode of a variance given the sum of `n_records` squared deviations."""
    prior = emission.prior_records * emission.prior_variance
    variance = (scatter + prior) / (n_records + emission.prior_records) + emission.ridge / scale**2
    return max(variance, SMALLEST_VARIANCE)


@kernel
def _masked_features(records, phi):
    """Return (3D, n): which values are there, and the values and squares, 0 where they are not."""
    n, D = records.shape
    features = np.empty((3 * D, n))
    for d in range(D):
        for t in range(n):
            features[d, t] = 0.0 if np.isnan(records[t, d]) else 1.0
            features[D + d, t] = phi[1 + d, t]
            features[2 * D + d, t] = phi[1 + D + d, t]
    return features


@log_densities.register(DiagonalGaussian)
def _(emission, params, records, phi, n_missing, out):
    if n_missing == 0:
        np.dot(params.natural, phi, out)
    else:
        D = emission.n_features
        natural = np.empty((emission.n_components, 3 * D))
        for k in range(emission.n_components):
            for d in range(D):
                natural[k, d] = _log_peak(params, k, d)
                natural[k, D + d] = params.natural[k, 1 + d]
                natural[k, 2 * D + d] = params.natural[k, 1 + D + d]
        np.dot(natural, _masked_features(records, phi), out)


@usual.register(DiagonalGaussian)
def _(emission, params, records, n_missing, means, deviations):
    K, D = emission.n_components, emission.n_features
    own = np.empty((K, D))
    for k in range(K):
        for d in range(D):
            # The squared distance of one feature is chi-squared: mean 1, variance 2.
            own[k, d] = -0.5 * (LOG_2PI + np.log(params.covariances[k, d]) + 1.0) - np.log(params.scale[d])
    for t in range(len(records)):
        n_observed = 0
        for k in range(K):
            means[k, t] = 0.0
        for d in range(D):
            if not np.isnan(records[t, d]):
                n_observed += 1
                for k in range(K):
                    means[k, t] += own[k, d]
        deviations[t] = np.sqrt(0.5 * n_observed)


@add_statistics.register(DiagonalGaussian)
def _(emission, params, records, phi, n_missing, weights, out):
    if n_missing == 0:
        add_products(weights, phi, out)
    else:
        K, D = emission.n_components, emission.n_features
        M = len(weights)
        moments = np.dot(weights, _masked_features(records, phi).T)
        for m in range(M):
            k = m // (M // K)
            total = 0.0
            for t in range(weights.shape[1]):
                total += weights[m, t]
            out[m, 0] += total
            for d in range(D):
                mean, variance = params.means[k, d], params.covariances[k, d]
                missing = total - moments[m, d]
                out[m, 1 + d] += moments[m, D + d] + missing * mean
                out[m, 1 + D + d] += moments[m, 2 * D + d] + missing * (mean * mean + variance)


@fill.register(DiagonalGaussian)
def _(emission, params, records, weights):
    for t in range(len(records)):
        for d in range(emission.n_features):
            if np.isnan(records[t, d]):
                mean = 0.0
                for k in range(emission.n_components):
                    mean += weights[t, k] * params.means[k, d]
                records[t, d] = params.shift[d] + params.scale[d] * mean

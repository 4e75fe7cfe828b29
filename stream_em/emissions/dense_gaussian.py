"""Gaussian densities with full covariance matrices: one a component, or one pooled over all (`tied`).

A Gaussian is an exponential family: with phi(z) = (1, z, packed z zᵀ) its log-density is an inner product, so the
E-step is one matrix product and the statistics are another. Records are standardised first (z = (x - shift) / scale),
because natural parameters lose digits when the mean is many standard deviations from zero; parameters and priors live
in those units.
"""

from typing import NamedTuple

import numpy as np

from stream_em.emissions.incomplete import add_incomplete, fill_incomplete, marginal_log_densities, usual_marginals
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
from stream_em.emissions.quadratic import LOG_2PI, natural_parameters, quadratic_features
from stream_em.emissions.standardise import FARTHEST, standardised
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import add_products, add_to, unpack

SMALLEST_VARIANCE = 1e-12


class DenseGaussian(NamedTuple):
    """Sizes and settings; the prior is `prior_records` pseudo-records of covariance `prior_variance` times unity.

    `ridge` is added to every variance, in squared units of the records.
    """

    n_components: int
    n_features: int
    tied: int
    learn_means: int
    learn_covariances: int
    prior_records: float
    prior_variance: float
    ridge: float = 0.0


class DenseGaussianParams(NamedTuple):
    """Windows on the parameter vector, in standardised units."""

    means: np.ndarray  # (K, D)
    covariances: np.ndarray  # (K, D, D)
    shift: np.ndarray  # (D,)
    scale: np.ndarray  # (D,)
    natural: np.ndarray  # (K, P): the coefficients of phi in each log-density
    log_determinants: np.ndarray  # (K,)


@sizes.register(DenseGaussian)
def _(emission):
    K, D = emission.n_components, emission.n_features
    P = 1 + D + D * (D + 1) // 2
    return K * D + K * D * D, 2 * D + K * P + K, P


@windows.register(DenseGaussian)
def _(emission, primary, derived):
    K, D = emission.n_components, emission.n_features
    P = 1 + D + D * (D + 1) // 2
    return DenseGaussianParams(
        primary[: K * D].reshape(K, D),
        primary[K * D :].reshape(K, D, D),
        derived[:D],
        derived[D : 2 * D],
        derived[2 * D : 2 * D + K * P].reshape(K, P),
        derived[2 * D + K * P :],
    )


@encode.register(DenseGaussian)
def _(emission, params, records, phi):
    D = emission.n_features
    n_missing = standardised(records, params.shift, params.scale, phi[1 : 1 + D])
    quadratic_features(phi[1 : 1 + D], phi)
    return n_missing


@derive.register(DenseGaussian)
def _(emission, params):
    D = emission.n_features
    jacobian = 0.0
    for d in range(D):
        jacobian += np.log(params.scale[d])
    for k in range(emission.n_components):
        if emission.tied:
            _copy(params.covariances[0], params.covariances[k])
        log_det = natural_parameters(params.means[k], params.covariances[k], params.natural[k])
        params.natural[k, 0] -= jacobian
        params.log_determinants[k] = log_det


@kernel
def _copy(source, target):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@log_prior.register(DenseGaussian)
def _(emission, params):
    D = emission.n_features
    total = 0.0
    for k in range(1 if emission.tied else emission.n_components):
        trace = 0.0
        position = 1 + D
        for i in range(D):
            trace -= 2.0 * params.natural[k, position]
            position += D - i
        total += params.log_determinants[k] + emission.prior_variance * trace
    return -0.5 * emission.prior_records * total


@maximise.register(DenseGaussian)
def _(emission, statistics, n_records, params):
    K, D = emission.n_components, emission.n_features
    mass = 0.0
    for k in range(K):
        mass += statistics[k, 0]
    pooled, scatter = np.zeros((D, D)), np.empty((D, D))
    for k in range(K):
        s0, first, mean = statistics[k, 0], statistics[k, 1 : 1 + D], params.means[k]
        if not n_records * s0 / mass > 0.0:
            continue
        for i in range(D if emission.learn_means else 0):
            farthest = min(FARTHEST, 2e100 / params.scale[i])
            mean[i] = min(max(first[i] / s0, -farthest), farthest)
        if emission.learn_covariances:
            unpack(statistics[k, 1 + D :], scatter)
            for i in range(D):
                for j in range(i, D):
                    centred = scatter[i, j] - first[i] * mean[j] - mean[i] * first[j]
                    scatter[i, j] = scatter[j, i] = (centred + s0 * mean[i] * mean[j]) * (n_records / mass)
            if emission.tied:
                add_to(pooled, scatter)
            else:
                _posterior_covariance(emission, params.scale, scatter, n_records * s0 / mass, params.covariances[k])
    if emission.tied and emission.learn_covariances:
        _posterior_covariance(emission, params.scale, pooled, n_records, params.covariances[0])
    derive(emission, params)


@kernel
def _posterior_covariance(emission, scale, scatter, n_records, covariance):
    """Write the mode of the covariance given the scatter of `n_records` records about the mean."""
    prior = emission.prior_records * emission.prior_variance
    total = n_records + emission.prior_records
    for i in range(len(scatter)):
        for j in range(len(scatter)):
            covariance[i, j] = scatter[i, j] / total
        farthest = min(FARTHEST, 2e100 / scale[i])
        variance = covariance[i, i] + prior / total + emission.ridge / scale[i] ** 2
        covariance[i, i] = min(max(variance, SMALLEST_VARIANCE), farthest * farthest)
    # Cancellation, or a cap above, can leave a covariance that no two such variances could have.
    for i in range(len(scatter)):
        for j in range(i):
            if covariance[i, j] * covariance[i, j] > covariance[i, i] * covariance[j, j]:
                largest = np.sqrt(covariance[i, i]) * np.sqrt(covariance[j, j])
                covariance[i, j] = covariance[j, i] = largest if covariance[i, j] > 0.0 else -largest


@log_densities.register(DenseGaussian)
def _(emission, params, records, phi, n_missing, out):
    np.dot(params.natural, phi, out)
    if n_missing > 0:
        marginal_log_densities(params, records, phi, out)


@usual.register(DenseGaussian)
def _(emission, params, records, n_missing, means, deviations):
    K, D = emission.n_components, emission.n_features
    jacobian = 0.0
    for d in range(D):
        jacobian += np.log(params.scale[d])
    for t in range(len(records)):
        # The squared distance is chi-squared: mean D, variance 2D.
        deviations[t] = np.sqrt(0.5 * D)
        for k in range(K):
            means[k, t] = -0.5 * (D * LOG_2PI + params.log_determinants[k] + D) - jacobian
    if n_missing > 0:
        usual_marginals(params, records, means, deviations)


@add_statistics.register(DenseGaussian)
def _(emission, params, records, phi, n_missing, weights, out):
    if n_missing > 0:
        add_incomplete(params, records, phi, weights, out)
    add_products(weights, phi, out)


@fill.register(DenseGaussian)
def _(emission, params, records, weights):
    fill_incomplete(params, records, weights)

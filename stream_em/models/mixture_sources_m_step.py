"""The M-step of unmixing with mixture sources: each row of W exactly, then the density of its source."""

import numpy as np

from stream_em.em import m_step, penalty, refresh
from stream_em.kernels.completion import LOG_2_PI
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import row_dot, unpack
from stream_em.kernels.rows import invert, update_row
from stream_em.models.mixture_sources import MixtureSources
from stream_em.models.unmixing_moments import RIDGE, centred, derive, turn

NARROWEST = 0.01
"""No Gaussian of a source is narrower than this part of the source's own deviation."""
FEWEST = 1e-12
"""A Gaussian that stands for less than this part of the records stays where it is."""
LEAST_WEIGHT = 1e-300


@m_step.register(MixtureSources)
def _(model, stats, n_records, params):
    K, D, J = model.n_components, model.n_features, model.n_gaussians
    P = (D + 1) * (D + 2) // 2
    plain, full = np.zeros(P), np.empty((D + 1, D + 1))
    for i in range(K * J):
        for p in range(P):
            plain[p] += stats.moments[i, p] / K
    mass = plain[0]
    if mass > 0.0:
        if K < D:
            turn(plain, params, full)
        inverse, covariance, factor = np.empty((K, K)), np.empty((K, K)), np.empty((K, K))
        centre, row, half, pull, first = np.empty(K), np.empty(K), np.empty((K, D)), np.empty(K), np.empty(D + 1)
        log_det = invert(params.unmixing, inverse)
        for k in range(K):
            moments = stats.moments[k * J : (k + 1) * J]
            _weighted(moments, params.means[k], params.deviations[k], plain, first)
            unpack(plain, full)
            precision = full[0, 0]
            centred(full, mass, params.projection, half, covariance, centre)
            for i in range(K):
                along = first[i + 1] if K == D else row_dot(params.projection[i], first[1:], D)
                pull[i] = (along - centre[i] * first[0]) / mass
                covariance[i, i] += RIDGE * precision / mass
            log_det += update_row(k, covariance, pull, params.unmixing, inverse, factor, row)
            params.offset[k] = row_dot(params.unmixing[k], centre, K) - first[0] / precision
            log_det -= _fit_density(k, moments, params, full, inverse)
        derive(model, params, inverse, log_det)
        _set_heights(params)


@kernel
def _weighted(moments, means, deviations, packed, first):
    """Write the sum over j of S_j / s_j² (P,), and of m_j / s_j² times the first row of S_j (D + 1,)."""
    packed[:] = 0.0
    first[:] = 0.0
    for j in range(len(means)):
        factor = 1.0 / (deviations[j] * deviations[j])
        for p in range(len(packed)):
            packed[p] += factor * moments[j, p]
        for d in range(len(first)):
            first[d] += means[j] * factor * moments[j, d]


@kernel
def _fit_density(k, moments, params, full, inverse):
    """Set the Gaussians of source k given its row of W, and the scale of both so that its mean is 0 and its power 1.

    The column of the inverse goes with it. Returns the logarithm of what the row was divided by.
    """
    K, E, J = len(params.unmixing), len(full), len(moments)
    weights, means, deviations = params.weights[k], params.means[k], params.deviations[k]
    row, W = np.empty(E), params.unmixing[k]
    row[0] = -params.offset[k]
    for d in range(1, E):
        row[d] = W[d - 1] if len(params.projection) == 0 else 0.0
        for i in range(len(params.projection)):
            row[d] += W[i] * params.projection[i, d - 1]
    ridge, total = RIDGE * row_dot(W, W, K), 0.0
    for j in range(J):
        weights[j] = max(moments[j, 0], 0.0)
        total += weights[j]
    for j in range(J):
        weights[j] /= total
        if weights[j] > FEWEST:
            unpack(moments[j], full)
            mean, square = row_dot(row, full[0], E) / full[0, 0], 0.0
            for d in range(E):
                square += row[d] * row_dot(full[d], row, E)
            means[j] = mean
            deviations[j] = np.sqrt(max(square / full[0, 0] - mean * mean, 0.0) + ridge)
    return _normalise(k, params, inverse)


@kernel
def _normalise(k, params, inverse):
    """Give source k mean 0 and power 1, its row of W and column of the inverse with it; return the log of the factor.

    No Gaussian is then narrower than it may be.
    """
    weights, means, deviations = params.weights[k], params.means[k], params.deviations[k]
    mean, square = 0.0, 0.0
    for j in range(len(weights)):
        mean += weights[j] * means[j]
        square += weights[j] * (means[j] * means[j] + deviations[j] * deviations[j])
    scale = np.sqrt(square - mean * mean)
    for j in range(len(weights)):
        means[j] = (means[j] - mean) / scale
        deviations[j] = max(deviations[j] / scale, NARROWEST)
    params.offset[k] = (params.offset[k] + mean) / scale
    for i in range(len(inverse)):
        params.unmixing[k, i] /= scale
        inverse[i, k] *= scale
    return np.log(scale)


@kernel
def _set_heights(params):
    """Set what follows from the densities of the sources."""
    K, J = params.weights.shape
    for k in range(K):
        params.power[k] = 0.0
        for j in range(J):
            deviation = params.deviations[k, j]
            params.log_heights[k, j] = np.log(max(params.weights[k, j], LEAST_WEIGHT) / deviation) - 0.5 * LOG_2_PI
            params.power[k] += params.weights[k, j] * (deviation * deviation + params.means[k, j] ** 2)


@refresh.register(MixtureSources)
def _(model, params):
    inverse = np.empty_like(params.unmixing)
    log_det = invert(params.unmixing, inverse)
    for k in range(model.n_components):
        log_det -= _normalise(k, params, inverse)
    derive(model, params, inverse, log_det)
    _set_heights(params)


@penalty.register(MixtureSources)
def _(model, params):
    return 0.0

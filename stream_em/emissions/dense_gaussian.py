"""Gaussian densities with full covariance matrices: one a component, or one pooled over all (`tied`).

A Gaussian is an exponential family: with phi(z) = (1, z, packed z zᵀ) its log-density is an inner product, so the
E-step is one matrix product and the statistics are another. Records are standardised first (z = (x - shift) / scale),
because natural parameters lose digits when the mean is many standard deviations from zero; parameters and priors live
in those units.

Missing values: records are grouped by which fields they lack. For observed fields o and missing ones m of a component,
E[z_m | z_o] = mu_m + B (z_o - mu_o) with B = S_mo S_oo^-1, and the conditional covariance C = S_mm - B S_om enters the
second moment (Ghahramani & Jordan 1994). Both are linear in z_o, so a group needs the moments of its observed fields
only: two small matrix products as for complete records, then one lift a component.
"""

from typing import NamedTuple

import numpy as np

from stream_em.emissions.interface import (
    add_statistics,
    derive,
    encode,
    log_densities,
    log_prior,
    maximise,
    sizes,
    windows,
)
from stream_em.emissions.standardise import standardised
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import add_to, invert_covariance, multiply, row_dot, unpack

LOG_2PI = 1.8378770664093453
SMALLEST_VARIANCE = 1e-12


class DenseGaussian(NamedTuple):
    """Sizes and settings; the prior is `prior_records` pseudo-records of covariance `prior_variance` times unity."""

    n_components: int
    n_features: int
    tied: int
    learn_means: int
    learn_covariances: int
    prior_records: float
    prior_variance: float


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


@kernel
def quadratic_features(z, phi):
    """Fill rows 0 and D+1 onward of `phi` (P, n) from `z` (D, n); z may be rows 1 to D of phi itself."""
    D, n = z.shape
    position = 1 + D
    for t in range(n):
        phi[0, t] = 1.0
    for i in range(D):
        left = z[i]
        for j in range(i, D):
            right, out = z[j], phi[position]
            for t in range(n):
                out[t] = left[t] * right[t]
            position += 1


@encode.register(DenseGaussian)
def _(emission, params, records, phi):
    D = emission.n_features
    n_missing = standardised(records, params.shift, params.scale, phi[1 : 1 + D])
    quadratic_features(phi[1 : 1 + D], phi)
    return n_missing


@kernel
def natural_parameters(mean, covariance, natural):
    """Write the coefficients (P,) of phi; return log det of the covariance, which is raised in place if singular."""
    D = len(mean)
    precision = np.empty((D, D))
    log_det = invert_covariance(covariance, precision)
    quadratic = 0.0
    for i in range(D):
        natural[1 + i] = row_dot(precision[i], mean, D)
        quadratic += natural[1 + i] * mean[i]
    natural[0] = -0.5 * (D * LOG_2PI + log_det + quadratic)
    position = 1 + D
    for i in range(D):
        natural[position] = -0.5 * precision[i, i]
        for j in range(i + 1, D):
            natural[position + j - i] = -precision[i, j]
        position += D - i
    return log_det


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
            mean[i] = first[i] / s0
        if emission.learn_covariances:
            unpack(statistics[k, 1 + D :], scatter)
            for i in range(D):
                for j in range(D):
                    centred = scatter[i, j] - first[i] * mean[j] - mean[i] * first[j]
                    scatter[i, j] = (centred + s0 * mean[i] * mean[j]) * (n_records / mass)
            if emission.tied:
                add_to(pooled, scatter)
            else:
                _posterior_covariance(emission, scatter, n_records * s0 / mass, params.covariances[k])
    if emission.tied and emission.learn_covariances:
        _posterior_covariance(emission, pooled, n_records, params.covariances[0])
    derive(emission, params)


@kernel
def _posterior_covariance(emission, scatter, n_records, covariance):
    """Write the mode of the covariance given the scatter of `n_records` records about the mean."""
    prior = emission.prior_records * emission.prior_variance
    total = n_records + emission.prior_records
    for i in range(len(scatter)):
        for j in range(len(scatter)):
            covariance[i, j] = scatter[i, j] / total
        covariance[i, i] = max(covariance[i, i] + prior / total, SMALLEST_VARIANCE)


@log_densities.register(DenseGaussian)
def _(emission, params, records, phi, n_missing, out):
    np.dot(params.natural, phi, out)
    if n_missing > 0:
        _marginal_log_densities(params, records, phi, out)


@add_statistics.register(DenseGaussian)
def _(emission, params, records, phi, n_missing, weights, out):
    if n_missing > 0:
        _add_incomplete(params, records, phi, weights, out)
    add_to(out, np.dot(weights, phi.T))


@kernel
def _marginal_log_densities(params, records, phi, out):
    """Write the log-densities of the observed fields of the records with missing values."""
    K, D = params.means.shape
    done = np.zeros(len(records), np.bool_)
    members, fields = np.empty(len(records), np.int64), np.empty(D, np.int64)
    for first in range(len(records)):
        n_members, n_observed = _next_group(records, first, done, members, fields)
        if n_members == 0 or n_observed == D:
            continue
        observed, group = fields[:n_observed], members[:n_members]
        features = _group_features(phi, group, observed)
        natural, log_density = np.empty((1, len(features))), np.empty((1, n_members))
        mean, covariance = np.empty(n_observed), np.empty((n_observed, n_observed))
        for k in range(K):
            _marginal(params.means[k], params.covariances[k], observed, mean, covariance)
            natural_parameters(mean, covariance, natural[0])
            for i in range(n_observed):
                natural[0, 0] -= np.log(params.scale[observed[i]])
            multiply(natural, features, log_density)
            for t in range(n_members):
                out[k, group[t]] = log_density[0, t]


@kernel
def _add_incomplete(params, records, phi, weights, out):
    """Add the lifted statistics of the records with missing values, and zero their weights."""
    M, n = weights.shape
    K, D = params.means.shape
    done = np.zeros(n, np.bool_)
    members, fields = np.empty(n, np.int64), np.empty(D, np.int64)
    for first in range(n):
        n_members, n_observed = _next_group(records, first, done, members, fields)
        if n_members == 0 or n_observed == D:
            continue
        observed, group = fields[:n_observed], members[:n_members]
        features = _group_features(phi, group, observed)
        group_weights = np.empty((M, n_members))
        for m in range(M):
            for t in range(n_members):
                group_weights[m, t] = weights[m, group[t]]
                weights[m, group[t]] = 0.0
        moments = np.dot(group_weights, features.T)
        slope, offset, spread = np.empty((D, n_observed)), np.empty(D), np.empty((D, D))
        for k in range(K):
            _regression(params.means[k], params.covariances[k], observed, slope, offset, spread)
            for m in range(k * (M // K), (k + 1) * (M // K)):
                _lift(moments[m], slope, offset, spread, out[m])


@kernel
def _next_group(records, first, done, members, fields):
    """List the records from `first` on that lack the same fields and are not yet done; (how many, fields observed)."""
    if done[first]:
        return 0, 0
    n, D = records.shape
    n_observed = 0
    for d in range(D):
        if not np.isnan(records[first, d]):
            fields[n_observed] = d
            n_observed += 1
    n_members = 0
    for t in range(first, n):
        same = not done[t]
        for d in range(D):
            if np.isnan(records[t, d]) != np.isnan(records[first, d]):
                same = False
                break
        if same:
            done[t] = True
            members[n_members] = t
            n_members += 1
    return n_members, n_observed


@kernel
def _group_features(phi, group, observed):
    """Return the features (P_o, n_members) of the observed fields of a group's records."""
    n_observed = len(observed)
    features = np.empty((1 + n_observed + n_observed * (n_observed + 1) // 2, len(group)))
    for i in range(n_observed):
        for t in range(len(group)):
            features[1 + i, t] = phi[1 + observed[i], group[t]]
    quadratic_features(features[1 : 1 + n_observed], features)
    return features


@kernel
def _marginal(mean, covariance, observed, out_mean, out_covariance):
    """Write mean and covariance of the observed fields."""
    for i in range(len(observed)):
        out_mean[i] = mean[observed[i]]
        for j in range(len(observed)):
            out_covariance[i, j] = covariance[observed[i], observed[j]]


@kernel
def _regression(mean, covariance, observed, slope, offset, spread):
    """Write slope (D, o), offset (D,) and spread (D, D) of E[z | z_o] = slope z_o + offset and Var[z | z_o]."""
    D, n_observed = slope.shape
    observed_mean, within = np.empty(n_observed), np.empty((n_observed, n_observed))
    _marginal(mean, covariance, observed, observed_mean, within)
    precision, across = np.empty((n_observed, n_observed)), np.empty((D, n_observed))
    invert_covariance(within, precision)
    for d in range(D):
        for i in range(n_observed):
            across[d, i] = covariance[d, observed[i]]
    multiply(across, precision, slope)
    for i in range(n_observed):
        for j in range(n_observed):
            slope[observed[i], j] = 1.0 if i == j else 0.0
    for d in range(D):
        offset[d] = mean[d] - row_dot(slope[d], observed_mean, n_observed)
        for e in range(D):
            spread[d, e] = covariance[d, e] - row_dot(slope[d], across[e], n_observed)
    for i in range(n_observed):
        offset[observed[i]] = 0.0
        for d in range(D):
            spread[observed[i], d] = 0.0
            spread[d, observed[i]] = 0.0


@kernel
def _lift(moments, slope, offset, spread, out):
    """Add the statistics (P,) of all fields, given those (P_o,) of the observed ones."""
    D, n_observed = slope.shape
    total, first = moments[0], moments[1 : 1 + n_observed]
    second, half, mapped = np.empty((n_observed, n_observed)), np.empty((D, n_observed)), np.empty(D)
    unpack(moments[1 + n_observed :], second)
    multiply(slope, second, half)
    out[0] += total
    for i in range(D):
        mapped[i] = row_dot(slope[i], first, n_observed)
        out[1 + i] += mapped[i] + total * offset[i]
    position = 1 + D
    for i in range(D):
        for j in range(i, D):
            cross = mapped[i] * offset[j] + offset[i] * mapped[j]
            constant = total * (offset[i] * offset[j] + spread[i, j])
            out[position] += row_dot(half[i], slope[j], n_observed) + cross + constant
            position += 1

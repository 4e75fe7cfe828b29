"""Records with missing values under a Gaussian with a full covariance.

They are grouped by which fields they lack. For observed fields o and missing ones m of a component,
E[z_m | z_o] = mu_m + B (z_o - mu_o) with B = S_mo S_oo^-1, and the conditional covariance C = S_mm - B S_om enters the
second moment (Ghahramani & Jordan 1994). Both are linear in z_o, so a group needs the moments of its observed fields
only: two small matrix products as for complete records, then one lift a component.
"""

import numpy as np

from stream_em.emissions.quadratic import LOG_2PI, natural_parameters, quadratic_features
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import invert_covariance, multiply, row_dot, unpack


@kernel
def marginal_log_densities(params, records, phi, out):
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
def usual_marginals(params, records, means, deviations):
    """Write mean (K, n) and deviation (n,) of the log-density of the observed fields, for records that lack some."""
    K, D = params.means.shape
    done = np.zeros(len(records), np.bool_)
    members, fields = np.empty(len(records), np.int64), np.empty(D, np.int64)
    for first in range(len(records)):
        n_members, n_observed = _next_group(records, first, done, members, fields)
        if n_members == 0 or n_observed == D:
            continue
        observed = fields[:n_observed]
        mean, covariance = np.empty(n_observed), np.empty((n_observed, n_observed))
        precision = np.empty((n_observed, n_observed))
        for k in range(K):
            _marginal(params.means[k], params.covariances[k], observed, mean, covariance)
            value = -0.5 * (n_observed * (LOG_2PI + 1.0) + invert_covariance(covariance, precision))
            for i in range(n_observed):
                value -= np.log(params.scale[observed[i]])
            for t in range(n_members):
                means[k, members[t]] = value
        for t in range(n_members):
            deviations[members[t]] = np.sqrt(0.5 * n_observed)


@kernel
def add_incomplete(params, records, phi, weights, out):
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
def fill_incomplete(params, records, weights):
    """Replace the missing values of (n, D) records by sum_k weights[k] E[z | z_o, k]."""
    K, D = params.means.shape
    done = np.zeros(len(records), np.bool_)
    members, fields = np.empty(len(records), np.int64), np.empty(D, np.int64)
    slope, offset, spread = np.empty(D * D), np.empty(D), np.empty((D, D))
    for first in range(len(records)):
        n_members, n_observed = _next_group(records, first, done, members, fields)
        if n_members == 0 or n_observed == D:
            continue
        observed, slopes = fields[:n_observed], slope[: D * n_observed].reshape(D, n_observed)
        z, filled = np.empty(n_observed), np.zeros((n_members, D))
        for k in range(K):
            _regression(params.means[k], params.covariances[k], observed, slopes, offset, spread)
            for t in range(n_members):
                for i in range(n_observed):
                    z[i] = (records[members[t], observed[i]] - params.shift[observed[i]]) / params.scale[observed[i]]
                for d in range(D):
                    filled[t, d] += weights[members[t], k] * (row_dot(slopes[d], z, n_observed) + offset[d])
        for t in range(n_members):
            row = records[members[t]]
            for d in range(D):
                if np.isnan(row[d]):
                    row[d] = params.shift[d] + params.scale[d] * filled[t, d]


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

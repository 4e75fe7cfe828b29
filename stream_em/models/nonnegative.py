"""Non-negative matrix factorisation: x = h W, superimposed components whose activations h are each record's own.

With v = h W a value x is Poisson of mean v ("kullback-leibler": superimposed counts; Cemgil 2009, Bayesian inference
for nonnegative matrix factorisation models), or exponential of mean v ("itakura-saito": the power of superimposed
complex Gaussians; Févotte, Bertin & Durrieu 2009). Activations are parameters of their record, fitted to it given W:

    h_k <- h_k p_k / q_k,    p_k = sum_f w_kf x_f / v_f^c,    q_k = sum_f w_kf / v_f^(c - 1),    c = 1 or 2.

For counts that is EM, and max_k p_k / q_k - 1 times sum_f x_f bounds what is still to be gained (Lindsay 1983). Given
the activations W is updated by majorisation, for both losses from two statistics that are running means:

    A_kf = w_kf^c h_k x_f / v_f^c,    B_kf = h_k / v_f^(c - 1),    W = A / B or (A / B)^(1/2),

for counts EM again, otherwise online MM (Lefèvre, Bach & Févotte 2011), quicker than EM. Missing values leave out their
terms. The prior is that of some records, without scale: a log-density sum_f alpha_f log(w_kf / sum_g w_kg).
"""

from typing import NamedTuple

import numpy as np

from stream_em.em import (
    ASSIGN,
    SCORE,
    accumulate,
    fill_missing,
    m_step,
    model_sizes,
    n_hidden,
    params_of,
    penalty,
    refresh,
    stats_of,
)
from stream_em.kernels.activations import SMALLEST, fit_activations, ratios
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import log_in_place
from stream_em.kernels.factorials import log_factorial_in_place

TILE_NUMBERS = 32768
"""A tile of records has so many values: what is computed of them stays in the second-level cache."""
SMALLEST_POWER = 1e-10
"""A power below this part of its feature's mean counts as that: the density of silence would be infinite."""


class Nonnegative(NamedTuple):
    """Sizes and settings; `counts` is 1 for Poisson and 0 for exponential values."""

    n_components: int
    n_features: int
    counts: int
    n_inner: int
    tolerance: float
    prior_records: float
    learn_components: int


class NonnegativeParams(NamedTuple):
    """Windows on theta; x is in units of the features."""

    components: np.ndarray  # (K, F): W, rows sum to 1
    activations: np.ndarray  # (K,): means
    gains: np.ndarray  # (K,): the sum of each component in the records' own units
    prior: np.ndarray  # (F,): alpha of one pseudo-record
    scale: np.ndarray  # (F,)


class NonnegativeStats(NamedTuple):
    """Windows on s."""

    above: np.ndarray  # (K, F): A
    below: np.ndarray  # (K, F): B
    activations: np.ndarray  # (K,)


@model_sizes.register(Nonnegative)
def _(model):
    K, F = model.n_components, model.n_features
    n_blended = 2 + 2 * K * F + K
    return K * F + K, K * F + 2 * K + 2 * F, n_blended, n_blended


@n_hidden.register(Nonnegative)
def _(model):
    return model.n_components


@params_of.register(Nonnegative)
def _(model, theta):
    K, F = model.n_components, model.n_features
    a = K * F
    b = a + 2 * K
    return NonnegativeParams(
        theta[:a].reshape(K, F), theta[a : a + K], theta[a + K : b], theta[b : b + F], theta[b + F :]
    )


@stats_of.register(Nonnegative)
def _(model, s):
    K, F = model.n_components, model.n_features
    a = 2 + K * F
    b = a + K * F
    return NonnegativeStats(s[2:a].reshape(K, F), s[a:b].reshape(K, F), s[b:])


@accumulate.register(Nonnegative)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    K, F = model.n_components, model.n_features
    tile = max(1, min(TILE_NUMBERS // F, 512, len(records)))
    x, seen, v, ratio = np.empty((tile, F)), np.empty((tile, F)), np.empty((tile, F)), np.empty((tile, F))
    h, order = np.empty((tile, K)), np.empty(tile, np.int64)
    for begin in range(0, len(records), tile):
        n = min(tile, len(records) - begin)
        holes = _encode(model, params, records[begin : begin + n], x[:n], seen[:n])
        for t in range(n):
            order[t] = begin + t
        if mode == ASSIGN:
            for t in range(n):
                for k in range(K):
                    h[t, k] = probabilities[begin + t, k] / params.gains[k]
        else:
            scratch = (v, ratio)
            counts, most, least = model.counts, model.n_inner, model.tolerance
            fit_activations(params.components, counts, most, least, x[:n], seen[:n], holes, scratch, h[:n], order[:n])
        np.dot(h[:n], params.components, v[:n])
        if mode != SCORE:
            _add(model, params.components, stats, x[:n], seen[:n], holes, v[:n], ratio[:n], h[:n], order, weights)
        if mode != ASSIGN and len(probabilities) > 0:
            for t in range(n):
                for k in range(K):
                    probabilities[order[t], k] = params.gains[k] * h[t, k]
        if mode != ASSIGN:
            _score(model, params.scale, x[:n], seen[:n], holes, v[:n], ratio[:n], order, log_likelihood)


@kernel
def _encode(model, params, records, x, seen):
    """Write values (n, F) in units of the features, 0 where missing; tell whether any is, and then which are there."""
    n, F = records.shape
    total = 0.0
    least = 0.0 if model.counts else SMALLEST_POWER
    for t in range(n):
        for f in range(F):
            value = records[t, f] / params.scale[f]
            total += value
            x[t, f] = value if value > least else least
    holes = total != total
    for t in range(n if holes else 0):
        for f in range(F):
            missing = records[t, f] != records[t, f]
            seen[t, f] = 0.0 if missing else 1.0
            x[t, f] = 0.0 if missing else x[t, f]
    return holes


@kernel
def _add(model, W, stats, x, seen, holes, v, ratio, h, order, weights):
    """Add the statistics of (n, F) records with means v; what is in v stays."""
    (n, F), K = x.shape, len(W)
    weighed, inverse = np.empty((K, n)), v.copy()
    for t in range(n):
        for k in range(K):
            weighed[k, t] = weights[order[t]] * h[t, k]
            stats.activations[k] += weighed[k, t]
    ratios(model.counts, x, seen, holes, inverse, ratio)
    above = np.dot(weighed, ratio)
    for k in range(K):
        for f in range(F):
            stats.above[k, f] += above[k, f] * (W[k, f] if model.counts else W[k, f] * W[k, f])
    if model.counts and not holes:
        for k in range(K):
            total = 0.0
            for t in range(n):
                total += weighed[k, t]
            for f in range(F):
                stats.below[k, f] += total
    else:
        below = np.dot(weighed, seen if model.counts else inverse)
        for k in range(K):
            for f in range(F):
                stats.below[k, f] += below[k, f]


@kernel
def _score(model, scale, x, seen, holes, v, scratch, order, log_likelihood):
    """Write the log-densities of (n, F) records given their means v, which are overwritten."""
    n, F = x.shape
    product = np.empty(F)
    for t in range(n):
        values, means, room, total = x[t], v[t], scratch[t], 0.0
        for f in range(F):
            means[f] = means[f] if means[f] > SMALLEST else SMALLEST
        if model.counts:
            for f in range(F):
                total -= means[f] if not holes else means[f] * seen[t, f]
            log_in_place(means, room)
            for f in range(F):
                total += values[f] * means[f]
            log_factorial_in_place(values, product, room)
            for f in range(F):
                total -= values[f]
        else:
            for f in range(F):
                total -= values[f] / means[f]
                means[f] *= scale[f]
            log_in_place(means, room)
            for f in range(F):
                total -= means[f] if not holes else means[f] * seen[t, f]
        log_likelihood[order[t]] = total


@fill_missing.register(Nonnegative)
def _(model, params, records, probabilities):
    n, F = records.shape
    for t in range(n):
        for f in range(F):
            if records[t, f] != records[t, f]:
                records[t, f] = 0.0
                for k in range(model.n_components):
                    activation = probabilities[t, k] / params.gains[k]
                    records[t, f] += activation * params.components[k, f] * params.scale[f]


@m_step.register(Nonnegative)
def _(model, stats, n_records, params):
    K, F = model.n_components, model.n_features
    for k in range(K if model.learn_components else 0):
        pseudo, evidence = 0.0, 0.0
        for f in range(F):
            pseudo += model.prior_records * params.prior[f]
            evidence += stats.above[k, f]
        if evidence == 0.0:
            # Nothing but zeros has come: with the prior alone all components would become, and stay, the same.
            continue
        row, total = np.empty(F), 0.0
        for f in range(F):
            alpha = model.prior_records * params.prior[f]
            above, below = n_records * stats.above[k, f], n_records * stats.below[k, f] + pseudo
            if model.counts:
                above += alpha
            else:
                above = 0.5 * (alpha + np.sqrt(alpha * alpha + 4.0 * below * above))
            row[f] = above / below if below > 0.0 else params.components[k, f]
            total += row[f]
        if 0.0 < total < np.inf:
            for f in range(F):
                params.components[k, f] = row[f] / total
                # Activations are from now on in units of the new rows, and so is what is known of them.
                stats.above[k, f] /= 1.0 if model.counts else total
                stats.below[k, f] *= total
            stats.activations[k] *= total
    for k in range(K):
        params.activations[k] = stats.activations[k]
    _derive(params)


@kernel
def _derive(params):
    for k in range(len(params.gains)):
        params.gains[k] = 0.0
        for f in range(len(params.scale)):
            params.gains[k] += params.components[k, f] * params.scale[f]


@refresh.register(Nonnegative)
def _(model, params):
    _derive(params)


@penalty.register(Nonnegative)
def _(model, params):
    total = 0.0
    for k in range(model.n_components if model.prior_records > 0.0 else 0):
        for f in range(model.n_features):
            if params.prior[f] > 0.0:
                total += params.prior[f] * np.log(max(params.components[k, f], SMALLEST))
    return model.prior_records * total

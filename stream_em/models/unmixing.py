"""Superimposed signals: x = c + A y (and noise, where there are more channels than sources); W is the inverse of A.

Each source is a Gaussian whose scale is latent and shared by a block of L consecutive records, with a gamma prior on
its precision: within a block it is a multivariate Student-t with nu degrees of freedom. With q_i the sum of y_i² in a
block,

    E-step      u_i = (nu + L) / (nu + q_i)
    statistics  V_i = mean over the records of u_i (1, x)(1, x)'
    M-step      each source's centre, then each row of W in turn (`kernels.rows`), exactly.

L = 1 is ICA with Student-t sources, as in Ablin, Gramfort, Cardoso & Bach (2019), Stochastic algorithms with descent
guarantees for ICA; longer blocks are the time-varying Gaussian sources of Pham & Cardoso (2001) and Ono (2011), with a
prior. Given what came before it in its block, a source is Student-t with nu + m degrees of freedom and scale²
(nu + q) / (nu + m): its predictive density is exact, and waits for nothing.

With fewer sources than channels the rows of W lie in the principal subspace, which one step of orthogonal iteration an
M-step follows: EM for principal components without noise (Roweis 1998).
"""

import math
from typing import NamedTuple

import numpy as np

from stream_em.em import SCORE, accumulate, m_step, model_sizes, n_hidden, params_of, penalty, refresh, stats_of
from stream_em.emissions.standardise import FARTHEST
from stream_em.kernels.completion import complete
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import log_in_place
from stream_em.kernels.linalg import multiply, row_dot, unpack
from stream_em.kernels.rows import invert, orthonormalise, update_row

LONGEST_GATE = 5
"""So many blocks in a row may be taken for artefacts; what goes on after that is how the world is now."""
SILENT = 1e-10
"""A block of less than this part of the usual power is digital silence, which says nothing."""
RIDGE = 1e-11
"""White noise that each covariance is taken to hold, in units of the channels: it keeps singular ones finite."""
TILE = 2048
"""Records at a time."""
FACTORS = 4
"""So many sums of squares are multiplied before the logarithm is taken."""
LARGEST_FACTOR = 1e75
SMALL = 100
"""Matrices of so many entries are multiplied by loops: BLAS takes longer to begin."""


class Unmixing(NamedTuple):
    """Sizes and settings; `gate` is 0 if no block is left out, `reference` -1 if all channels give the scale."""

    n_components: int
    n_features: int
    block: int
    freedom: float
    gate: float
    reference: int


class UnmixingParams(NamedTuple):
    """Windows on theta; x is in units of the channels, z = P x, y = W z - offset."""

    unmixing: np.ndarray  # (K, K): W
    offset: np.ndarray  # (K,)
    projection: np.ndarray  # (K, D): P, rows orthonormal; (0, D) if K = D, where z is x
    noise: np.ndarray  # (1,): variance in each direction that no source has
    mixing: np.ndarray  # (D, K)
    rows: np.ndarray  # (K, D + 1): (-offset, W P)
    basis: np.ndarray  # (K, D + 1): (0, P); (0, D + 1) if K = D
    log_factor: np.ndarray  # (1,): of the density in the records' own units: log|det W| and what is constant
    power: np.ndarray  # (K,): mean square of each source
    scales: np.ndarray  # (K,): of y in the records' own units: at the reference channel, or root mean square over all
    constants: np.ndarray  # (L,): of the predictive density of the m-th record of a block
    shift: np.ndarray  # (D,)
    scale: np.ndarray  # (D,)


class UnmixingStats(NamedTuple):
    """Windows on s: packed symmetric (D + 1, D + 1) means over the records, and what belongs to the block begun."""

    weighted: np.ndarray  # (K, P): of u_i (1, x)(1, x)'
    plain: np.ndarray  # (P,): of (1, x)(1, x)'
    begun: np.ndarray  # (P,): the same of the block begun, which is not yet in the others
    tally: np.ndarray  # (5,): records of the block begun; blocks left out in a row, and in all; silent ones; summed
    # log-likelihood
    squares: np.ndarray  # (K,): sum of y² over the block begun


@model_sizes.register(Unmixing)
def _(model):
    K, D = model.n_components, model.n_features
    R = K if K < D else 0
    P = (D + 1) * (D + 2) // 2
    n_own = K * K + K + R * D + 1
    n_theta = n_own + D * K + K * (D + 1) + R * (D + 1) + 1 + 2 * K + model.block + 2 * D
    n_blended = 2 + (K + 2) * P
    return n_own, n_theta, n_blended, n_blended + 5 + K


@n_hidden.register(Unmixing)
def _(model):
    return model.n_components


@params_of.register(Unmixing)
def _(model, theta):
    K, D = model.n_components, model.n_features
    R = K if K < D else 0
    a = K * K
    b = a + K
    c = b + R * D
    d = c + 1
    e = d + D * K
    f = e + K * (D + 1)
    g = f + R * (D + 1)
    h = g + 1
    i = h + 2 * K
    j = i + model.block
    return UnmixingParams(
        theta[:a].reshape(K, K),
        theta[a:b],
        theta[b:c].reshape(R, D),
        theta[c:d],
        theta[d:e].reshape(D, K),
        theta[e:f].reshape(K, D + 1),
        theta[f:g].reshape(R, D + 1),
        theta[g:h],
        theta[h : h + K],
        theta[h + K : i],
        theta[i:j],
        theta[j : j + D],
        theta[j + D :],
    )


@stats_of.register(Unmixing)
def _(model, s):
    K = model.n_components
    P = (model.n_features + 1) * (model.n_features + 2) // 2
    a = 2 + K * P
    b = a + P
    c = b + P
    return UnmixingStats(s[2:a].reshape(K, P), s[a:b], s[b:c], s[c : c + 5], s[c + 5 :])


@accumulate.register(Unmixing)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    K, E, L, learns = model.n_components, model.n_features + 1, model.block, mode != SCORE
    length = max(1, min(TILE, L, len(records)))
    tally, squares, none = stats.tally.copy(), stats.squares.copy(), np.zeros(0)
    z_buffer, y_buffer, weighed = np.empty(E * length), np.empty(K * length), np.empty(E * length)
    product = np.empty((E, E))
    begin = 0
    while begin < len(records):
        end = min(len(records), begin + length, begin + L - int(tally[0]))
        n = end - begin
        z, y = z_buffer[: E * n].reshape(E, n), y_buffer[: K * n].reshape(K, n)
        share, scores = weights[begin:end], log_likelihood[begin:end]
        any_hole = standardise(params, records[begin:end], z)
        project(params.rows, z, y)
        added = stats.begun if learns else none
        if any_hole or len(scores) > 0 or len(params.basis) > 0:
            tally[4] += _score_each(model, params, tally[0], squares, z, y, share, added, scores)
        else:
            tally[4] += _score_all(model, params, tally[0], squares, y)
        if len(probabilities) > 0:
            for k in range(K):
                scale, row = params.scales[k], y[k]
                for t in range(n):
                    probabilities[begin + t, k] = scale * row[t]
        tally[0] += n
        if learns:
            add_product(z, share, weighed[: E * n].reshape(E, n), product, stats.begun)
        if tally[0] == L:
            if learns:
                _end_block(model, params, stats, tally, squares)
            tally[0] = 0.0
            squares[:] = 0.0
        begin = end
    if learns:
        stats.tally[:] = tally
        stats.squares[:] = squares


@kernel
def standardise(params, records, z):
    """Write (1, x) in the units of the channels into the columns of z (D + 1, n); tell whether there is a NaN."""
    n, D = records.shape
    total = 0.0
    z[0] = 1.0
    for d in range(D):
        row, shift, factor = z[d + 1], params.shift[d], 1.0 / params.scale[d]
        for t in range(n):
            row[t] = (records[t, d] - shift) * factor
        for t in range(n):
            total += abs(row[t])
    if total < FARTHEST:
        return False
    for d in range(D):
        row = z[d + 1]
        for t in range(n):
            row[t] = FARTHEST if row[t] > FARTHEST else row[t]
            row[t] = -FARTHEST if row[t] < -FARTHEST else row[t]
    return total != total


@kernel
def project(rows, z, y):
    """Write the product of (K, E) rows and z (E, n)."""
    if rows.size <= SMALL:
        multiply(rows, z, y)
    else:
        np.dot(rows, z, y)


@kernel
def _score_all(model, params, place, squares, y):
    """Take n records of one block, the first at `place`, into the sums of squares; return their log-likelihood."""
    K, n = y.shape
    # The densities of the records telescope.
    total = n * params.log_factor[0]
    for t in range(n):
        total += params.constants[int(place) + t]
    for k in range(K):
        total += 0.5 * (model.freedom + place) * np.log(model.freedom + squares[k])
        squares[k] += row_dot(y[k], y[k], n)
        total -= 0.5 * (model.freedom + place + n) * np.log(model.freedom + squares[k])
    return total


@kernel
def _score_each(model, params, place, squares, z, y, weights, begun, scores):
    """Do the same record by record, and write the log-density of each to `scores`, unless that is (0,).

    Missing channels are completed in z (D + 1, n) and y (K, n); what they leave uncertain is added to `begun`, unless
    that is (0,).
    """
    K, n = y.shape
    groups = (K + FACTORS - 1) // FACTORS
    logs, scratch = np.ones((groups, n + 1)), np.empty(groups * (n + 1))
    completed = np.full(n, np.nan)
    for k in range(K):
        logs[k // FACTORS, 0] *= min(model.freedom + squares[k], LARGEST_FACTOR)
    for t in range(n):
        missing = 0.0
        for d in range(len(z)):
            missing += z[d, t]
        if missing != missing:
            completed[t] = complete_record(model, params, place + t, squares, z, y, t, weights[t], begun)
        for k in range(K):
            squares[k] += y[k, t] * y[k, t]
            logs[k // FACTORS, t + 1] *= min(model.freedom + squares[k], LARGEST_FACTOR)
    log_in_place(logs.reshape(groups * (n + 1)), scratch)
    for g in range(1, groups):
        for t in range(n + 1):
            logs[0, t] += logs[g, t]
    residuals, total = np.zeros(n), 0.0
    if len(params.basis) > 0:
        _residuals(params, z, residuals)
    for t in range(n):
        m = place + t
        half = 0.5 * (model.freedom + m)
        score = params.log_factor[0] + params.constants[int(m)] + half * logs[0, t] - (half + 0.5) * logs[0, t + 1]
        score = completed[t] if completed[t] == completed[t] else score + residuals[t]
        total += score
        if len(scores) > 0:
            scores[t] = score
    return total


@kernel
def complete_record(model, params, m, squares, z, y, t, weight, begun):
    """Complete record t: its missing channels in z (D + 1, n) and its sources in y (K, n); return its log-density."""
    K, E = len(y), len(z)
    variances, spread, loading, source = np.empty(K), np.empty((K, K)), np.empty((E, K)), np.empty(K)
    for k in range(K):
        variances[k] = (model.freedom + squares[k]) / (model.freedom + m)
    record, missing, units = np.empty(E - 1), np.zeros(E, np.bool_), 0.0
    for d in range(1, E):
        record[d - 1] = z[d, t]
        missing[d] = z[d, t] != z[d, t]
        units += 0.0 if missing[d] else np.log(params.scale[d - 1])
    noise = params.noise[0] if len(params.basis) > 0 else 0.0
    score = complete(record, params.mixing, params.offset, variances, noise, source, spread)
    for d in range(1, E):
        z[d, t] = record[d - 1]
    for k in range(K):
        y[k, t] = source[k]
        squares[k] += spread[k, k]
    for d in range(E if len(begun) > 0 else 0):
        for k in range(K):
            loading[d, k] = row_dot(params.mixing[d - 1], spread[k], K) if missing[d] else 0.0
    position = 0
    for c in range(E if len(begun) > 0 else 0):
        for d in range(c, E):
            if missing[c] and missing[d]:
                begun[position] += weight * row_dot(loading[c], params.mixing[d - 1], K)
                begun[position] += weight * noise if c == d else 0.0
            position += 1
    return score - units


@kernel
def _residuals(params, z, residuals):
    """Write the log-density, up to a constant, of what lies outside the subspace of the sources, for each record."""
    within = np.dot(params.basis, z)
    for d in range(1, len(z)):
        for t in range(len(residuals)):
            residuals[t] += z[d, t] * z[d, t]
    for k in range(len(within)):
        for t in range(len(residuals)):
            residuals[t] -= within[k, t] * within[k, t]
    for t in range(len(residuals)):
        residuals[t] = -0.5 * max(residuals[t], 0.0) / params.noise[0]


@kernel
def add_product(z, weights, weighed, product, packed):
    """Add the weighted sum of (1, x)(1, x)' over the columns of z (D + 1, n) to a packed matrix."""
    E, n = z.shape
    for c in range(E):
        for t in range(n):
            weighed[c, t] = weights[t] * z[c, t]
    if E * E > SMALL:
        np.dot(weighed, z.T, product)
    position = 0
    for c in range(E):
        for d in range(c, E):
            packed[position] += row_dot(weighed[c], z[d], n) if E * E <= SMALL else product[c, d]
            position += 1


@kernel
def _end_block(model, params, stats, tally, squares):
    """Take a complete block into the statistics, unless it is silent or an artefact."""
    K, L = len(squares), model.block
    relative = 0.0
    for k in range(K):
        relative += squares[k] / (K * L * params.power[k]) if params.power[k] > 0.0 else 1.0 / K
    if relative < SILENT:
        tally[3] += 1.0
    elif 0.0 < model.gate < relative and tally[1] < LONGEST_GATE:
        tally[1] += 1.0
        tally[2] += 1.0
    else:
        tally[1] = 0.0 if relative <= model.gate else tally[1]
        for k in range(K):
            u, row = (model.freedom + L) / (model.freedom + squares[k]), stats.weighted[k]
            for i in range(len(row)):
                row[i] += u * stats.begun[i]
        for i in range(len(stats.plain)):
            stats.plain[i] += stats.begun[i]
    for i in range(len(stats.begun)):
        stats.begun[i] = 0.0


@m_step.register(Unmixing)
def _(model, stats, n_records, params):
    K, D, begun = model.n_components, model.n_features, stats.tally[0] > 0.0
    full, plain = np.empty((D + 1, D + 1)), stats.plain + stats.begun
    mass = plain[0]
    if mass > 0.0:
        before, after = np.zeros(K), np.zeros(K)
        if begun:
            _powers(stats.begun, params.rows, full, before)
        if K < D:
            _turn(plain, params, full)
        inverse, covariance, factor = np.empty((K, K)), np.empty((K, K)), np.empty((K, K))
        centre, row, half = np.empty(K), np.empty(K), np.empty((K, D))
        log_det = invert(params.unmixing, inverse)
        for k in range(K):
            if begun:
                u = (model.freedom + stats.tally[0]) / (model.freedom + stats.squares[k])
                unpack(stats.weighted[k] + u * stats.begun, full)
            else:
                unpack(stats.weighted[k], full)
            _centred(full, mass, params.projection, half, covariance, centre)
            for j in range(K):
                covariance[j, j] += RIDGE
            log_det += update_row(k, covariance, params.unmixing, inverse, factor, row)
            params.offset[k] = row_dot(params.unmixing[k], centre, K)
        _derive(model, params, inverse, log_det)
        _powers(plain, params.rows, full, params.power)
        if begun:
            # The sums of squares of the block begun are those of the old rows.
            _powers(stats.begun, params.rows, full, after)
            for k in range(K):
                stats.squares[k] *= after[k] / before[k] if before[k] > 0.0 else 1.0


@kernel
def _powers(packed, rows, full, powers):
    """Write the mean square (K,) of each source y = rows (1, x), given a packed sum of (1, x)(1, x)'."""
    unpack(packed, full)
    E, mass = len(full), full[0, 0]
    for k in range(len(rows)):
        row, total = rows[k], 0.0
        for c in range(E):
            total += row[c] * row_dot(full[c], row, E)
        powers[k] = total / mass if mass > 0.0 else 0.0


@kernel
def _centred(full, mass, projection, half, covariance, centre):
    """Write the projected mean (K,) and, per unit of `mass`, the projected covariance (K, K) of a full sum."""
    K, D = half.shape
    weight = full[0, 0]
    mean = full[0] / weight
    if len(projection) == 0:
        for c in range(D):
            centre[c] = mean[c + 1]
            for d in range(D):
                covariance[c, d] = (full[c + 1, d + 1] - weight * mean[c + 1] * mean[d + 1]) / mass
        return
    for k in range(K):
        out = half[k]
        out[:] = 0.0
        for c in range(D):
            factor, row = projection[k, c], full[c + 1]
            for d in range(D):
                out[d] += factor * row[d + 1]
        centre[k] = row_dot(projection[k], mean[1:], D)
    for k in range(K):
        for j in range(K):
            covariance[k, j] = (row_dot(half[k], projection[j], D) - weight * centre[k] * centre[j]) / mass


@kernel
def _turn(plain, params, full):
    """Turn the subspace by one orthogonal iteration on the covariance, the rows of W with it; set the noise."""
    K, D = params.projection.shape
    unpack(plain, full)
    mass, old, turned = full[0, 0], params.projection.copy(), np.empty(K)
    total = 0.0
    for d in range(D):
        total += full[d + 1, d + 1] / mass
    for k in range(K):
        new = params.projection[k]
        mean = row_dot(old[k], full[0, 1:], D) / mass
        for d in range(D):
            new[d] = RIDGE * old[k, d] + row_dot(old[k], full[d + 1, 1:], D) / mass - mean * full[0, d + 1] / mass
    orthonormalise(params.projection)
    for k in range(K):
        for j in range(K):
            turned[j] = 0.0
            for i in range(K):
                turned[j] += params.unmixing[k, i] * row_dot(old[i], params.projection[j], D)
        params.unmixing[k] = turned
        for d in range(D):
            total -= params.projection[k, d] * row_dot(full[d + 1, 1:], params.projection[k], D) / mass
    params.noise[0] = max(total / (D - K), RIDGE)


@kernel
def _derive(model, params, inverse, log_det):
    """Set what follows from W, its inverse (K, K) and log|det W|."""
    K, D = model.n_components, model.n_features
    params.log_factor[0] = log_det
    for d in range(D):
        params.log_factor[0] -= np.log(params.scale[d])
    for k in range(K):
        params.rows[k, 0] = -params.offset[k]
    if K == D:
        params.rows[:, 1:] = params.unmixing
        params.mixing[:] = inverse
    else:
        params.log_factor[0] -= 0.5 * (D - K) * np.log(2.0 * np.pi * params.noise[0])
        params.basis[:, 0] = 0.0
        params.basis[:, 1:] = params.projection
        for d in range(D):
            for k in range(K):
                params.rows[k, d + 1] = params.mixing[d, k] = 0.0
                for j in range(K):
                    params.rows[k, d + 1] += params.unmixing[k, j] * params.projection[j, d]
                    params.mixing[d, k] += params.projection[j, d] * inverse[j, k]
    for k in range(K):
        if model.reference < 0:
            params.scales[k] = 0.0
            for d in range(D):
                params.scales[k] += (params.mixing[d, k] * params.scale[d]) ** 2 / D
            params.scales[k] = np.sqrt(params.scales[k])
        else:
            params.scales[k] = params.mixing[model.reference, k] * params.scale[model.reference]


@refresh.register(Unmixing)
def _(model, params):
    inverse = np.empty_like(params.unmixing)
    log_det = invert(params.unmixing, inverse)
    _derive(model, params, inverse, log_det)
    for m in range(model.block):
        half = 0.5 * (model.freedom + m)
        each = math.lgamma(half + 0.5) - math.lgamma(half) - 0.5 * np.log(np.pi)
        params.constants[m] = model.n_components * each


@penalty.register(Unmixing)
def _(model, params):
    return 0.0

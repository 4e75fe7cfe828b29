"""Records with several channels as superimposed signals: their units, what is missing, sums of products.

Whatever the densities of the sources; see `unmixing` for the windows.
"""

import numpy as np

from stream_em.emissions.standardise import FARTHEST
from stream_em.kernels.completion import complete
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import multiply, row_dot

LONGEST_GATE = 5
"""So many blocks in a row may be taken for artefacts; what goes on after that is how the world is now."""
SILENT = 1e-10
"""A block of less than this part of the usual power is digital silence, which says nothing."""
SMALL = 100
"""Matrices of so many entries are multiplied by loops: BLAS takes longer to begin."""


@kernel
def standardise(params, records, z):
    """Write (1, x) in units of the channels into the columns of z (D + 1, n); tell of a NaN, which stays."""
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
def outside(params, z, residuals):
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
def complete_sources(params, variances, z, y, t, spread, missing):
    """Complete record t in z (D + 1, n) and y (K, n), sources being Gaussians of `variances`; return its log-density.

    `spread` (K, K) receives the covariance of the sources, `missing` (D + 1,) which channels were.
    """
    K, E = len(y), len(z)
    record, source, units = np.empty(E - 1), np.empty(K), 0.0
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
    return score - units


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
def complete_record(model, params, m, squares, z, y, t, weight, begun):
    """Complete record t: its missing channels in z (D + 1, n) and its sources in y (K, n); return its log-density."""
    K, E = len(y), len(z)
    variances, spread, loading, missing = np.empty(K), np.empty((K, K)), np.empty((E, K)), np.zeros(E, np.bool_)
    for k in range(K):
        variances[k] = (model.freedom + squares[k]) / (model.freedom + m)
    score = complete_sources(params, variances, z, y, t, spread, missing)
    noise = params.noise[0] if len(params.basis) > 0 else 0.0
    for k in range(K):
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
    return score


@kernel
def is_learned(model, params, tally, squares, t):
    """Tell whether record t, whose sources have these squares (K, n), is neither silent nor an artefact."""
    K, relative = len(squares), 0.0
    for k in range(K):
        relative += squares[k, t] / (K * params.power[k]) if params.power[k] > 0.0 else 1.0 / K
    if relative < SILENT:
        tally[3] += 1.0
        return False
    if 0.0 < model.gate < relative and tally[1] < LONGEST_GATE:
        tally[1] += 1.0
        tally[2] += 1.0
        return False
    tally[1] = 0.0 if relative <= model.gate else tally[1]
    return True

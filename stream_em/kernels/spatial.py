"""Unmixing matrices of all frequencies at once: complex rows, each set to its exact maximiser.

The update is that of `rows`, for complex numbers: with one weighted covariance V (Hermitian) a source and frequency,
log|det W|^2 - sum_k w_k^H V_k w_k is greatest in row w_k^H for w_k = V_k^-1 a_k / sqrt(a_k^H V_k^-1 a_k), a_k the k-th
column of W^-1 (Ono 2011). Arrays are real and imaginary part (2, …), frequencies lie along the last axis, and TILE of
them are taken together, so that every loop over them is a few vector instructions. A packed Hermitian (D, D) matrix
lists its lower triangle row by row, real and imaginary part of each entry, the diagonal's imaginary part left out: D^2
real numbers.
"""

import numpy as np

from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import RELATIVE_PIVOT
from stream_em.kernels.rows import invert

TILE = 32
"""Frequencies."""
TINY = 1e-300


@kernel
def apply_rows(rows, spectrum, out):
    """Write at each frequency the product of `rows` (2, K, D, F) and a `spectrum` (2, D, F): (2, K, F)."""
    K, D, F = rows.shape[1:]
    for k in range(K):
        real, imag = out[0, k], out[1, k]
        for f in range(F):
            real[f] = imag[f] = 0.0
        for d in range(D):
            a, b, x, y = rows[0, k, d], rows[1, k, d], spectrum[0, d], spectrum[1, d]
            for f in range(F):
                real[f] += a[f] * x[f] - b[f] * y[f]
                imag[f] += a[f] * y[f] + b[f] * x[f]


@kernel
def add_covariances(spectrum, factors, packed):
    """Add factors[k] x x^H to the packed matrices of each source (K, D^2, F), given a `spectrum` x (2, D, F)."""
    D, F = spectrum.shape[1:]
    product, width = np.empty(F), 8 * TILE
    for begin in range(0, F, width):
        end, position = min(F, begin + width), 0
        for i in range(D):
            for j in range(i + 1):
                for part in range(1 if i == j else 2):
                    for f in range(begin, end):
                        x, y, u, v = spectrum[0, i, f], spectrum[1, i, f], spectrum[0, j, f], spectrum[1, j, f]
                        product[f] = x * u + y * v if part == 0 else y * u - x * v
                    for k in range(len(factors)):
                        factor, out = factors[k], packed[k, position]
                        for f in range(begin, end):
                            out[f] += factor * product[f]
                    position += 1


@kernel
def update_rows(packed, scale, ridge, unmixing, mixing):
    """Set all rows of W (2, K, K, F) to their maximisers in turn, and the inverse (2, K, K, F) with them.

    The covariances are `scale` times the packed ones (R, K^2, F), plus `ridge` on the diagonal; the last serves all
    further rows too. Returns by how much the sum of log|det W|^2 has grown.
    """
    K, F = unmixing.shape[1], unmixing.shape[3]
    rows, columns = np.empty((2, K, K, TILE)), np.empty((2, K, K, TILE))
    factor, covariance = np.zeros((2, K, K, TILE)), np.zeros((2, K, K, TILE))
    row, growth, change = np.zeros((2, K, TILE)), np.zeros(TILE), np.zeros((2, TILE))
    total = 0.0
    for begin in range(0, F, TILE):
        # Rows of all frequencies are a power of two apart, and would drive each other out of the cache.
        _take(unmixing, begin, rows)
        _take(mixing, begin, columns)
        for k in range(K):
            _unpack(packed[min(k, len(packed) - 1)], begin, scale, ridge, covariance)
            _factorise(covariance, factor)
            _solve(factor, columns, k, row, growth)
            for b in range(TILE):
                total += 2.0 * np.log(growth[b])
            _replace(k, row, growth, rows, columns, change)
        _correct(rows, columns, covariance, factor)
        _put(rows, begin, unmixing)
        _put(columns, begin, mixing)
    return total


@kernel
def _take(matrices, begin, tile):
    for part in range(2):
        for i in range(tile.shape[1]):
            for j in range(tile.shape[2]):
                for b in range(TILE):
                    tile[part, i, j, b] = matrices[part, i, j, begin + b]


@kernel
def _put(tile, begin, matrices):
    for part in range(2):
        for i in range(tile.shape[1]):
            for j in range(tile.shape[2]):
                for b in range(TILE):
                    matrices[part, i, j, begin + b] = tile[part, i, j, b]


@kernel
def _unpack(packed, begin, scale, ridge, covariance):
    D, position = covariance.shape[1], 0
    for i in range(D):
        for j in range(i + 1):
            for part in range(1 if i == j else 2):
                out, more = covariance[part, i, j], ridge if i == j else 0.0
                for b in range(TILE):
                    out[b] = scale * packed[position, begin + b] + more
                position += 1


@kernel
def _factorise(covariance, factor):
    """Write the lower Cholesky factors, with the inverse of the diagonal; too small a pivot is raised."""
    D = covariance.shape[1]
    for i in range(D):
        for j in range(i + 1):
            real, imag = factor[0, i, j], factor[1, i, j]
            for b in range(TILE):
                real[b] = covariance[0, i, j, b]
                imag[b] = covariance[1, i, j, b]
            for m in range(j):
                for b in range(TILE):
                    x, y, u, v = factor[0, i, m, b], factor[1, i, m, b], factor[0, j, m, b], factor[1, j, m, b]
                    real[b] -= x * u + y * v
                    imag[b] -= y * u - x * v
            for b in range(TILE):
                if i == j:
                    least = RELATIVE_PIVOT * covariance[0, i, i, b] + TINY
                    real[b] = 1.0 / np.sqrt(max(real[b], least))
                    imag[b] = 0.0
                else:
                    real[b] *= factor[0, j, j, b]
                    imag[b] *= factor[0, j, j, b]


@kernel
def _solve(factor, mixing, k, row, growth):
    """Write V^-1 a / sqrt(a^H V^-1 a) and that root, given the factors of V and the k-th column of the mixing, a."""
    D = factor.shape[1]
    for b in range(TILE):
        growth[b] = 0.0
    for i in range(D):
        for b in range(TILE):
            row[0, i, b] = mixing[0, i, k, b]
            row[1, i, b] = mixing[1, i, k, b]
        for m in range(i):
            for b in range(TILE):
                x, y, u, v = factor[0, i, m, b], factor[1, i, m, b], row[0, m, b], row[1, m, b]
                row[0, i, b] -= x * u - y * v
                row[1, i, b] -= x * v + y * u
        for b in range(TILE):
            row[0, i, b] *= factor[0, i, i, b]
            row[1, i, b] *= factor[0, i, i, b]
            growth[b] += row[0, i, b] ** 2 + row[1, i, b] ** 2
    for b in range(TILE):
        growth[b] = np.sqrt(growth[b] + TINY)
    for i in range(D - 1, -1, -1):
        for b in range(TILE):
            row[0, i, b] *= factor[0, i, i, b]
            row[1, i, b] *= factor[0, i, i, b]
        for m in range(i):
            for b in range(TILE):
                x, y, u, v = factor[0, i, m, b], factor[1, i, m, b], row[0, i, b], row[1, i, b]
                row[0, m, b] -= x * u + y * v
                row[1, m, b] -= x * v - y * u
        for b in range(TILE):
            row[0, i, b] /= growth[b]
            row[1, i, b] /= growth[b]


@kernel
def _replace(k, row, growth, unmixing, mixing, change):
    """Set row k of W to the conjugate of `row`, and the inverse with it (Sherman & Morrison 1950)."""
    D = row.shape[1]
    for d in range(D):
        for b in range(TILE):
            x, y = row[0, d, b], -row[1, d, b]
            u, v = unmixing[0, k, d, b], unmixing[1, k, d, b]
            unmixing[0, k, d, b], unmixing[1, k, d, b] = x, y
            row[0, d, b], row[1, d, b] = (x - u) / growth[b], (y - v) / growth[b]
    for m in range(D):
        # The k-th column is that by which the others change: it comes last.
        column = m if m < k else m + 1 if m < D - 1 else k
        for b in range(TILE):
            change[0, b] = change[1, b] = 0.0
        for d in range(D):
            for b in range(TILE):
                x, y, u, v = row[0, d, b], row[1, d, b], mixing[0, d, column, b], mixing[1, d, column, b]
                change[0, b] += x * u - y * v
                change[1, b] += x * v + y * u
        for d in range(D):
            for b in range(TILE):
                u, v = mixing[0, d, k, b], mixing[1, d, k, b]
                mixing[0, d, column, b] -= change[0, b] * u - change[1, b] * v
                mixing[1, d, column, b] -= change[0, b] * v + change[1, b] * u


@kernel
def _correct(unmixing, mixing, error, scratch):
    """Take back the rounding errors of the updates, by one Newton step A <- A (2 - W A) (Schulz 1933)."""
    D = error.shape[1]
    for i in range(D):
        for j in range(D):
            real, imag = error[0, i, j], error[1, i, j]
            for b in range(TILE):
                real[b], imag[b] = 1.0 if i == j else 0.0, 0.0
            for m in range(D):
                for b in range(TILE):
                    x, y = unmixing[0, i, m, b], unmixing[1, i, m, b]
                    u, v = mixing[0, m, j, b], mixing[1, m, j, b]
                    real[b] -= x * u - y * v
                    imag[b] -= x * v + y * u
    for i in range(D):
        for j in range(D):
            real, imag = scratch[0, i, j], scratch[1, i, j]
            for b in range(TILE):
                real[b] = imag[b] = 0.0
            for m in range(D):
                for b in range(TILE):
                    x, y = mixing[0, i, m, b], mixing[1, i, m, b]
                    u, v = error[0, m, j, b], error[1, m, j, b]
                    real[b] += x * u - y * v
                    imag[b] += x * v + y * u
    for part in range(2):
        for i in range(D):
            for j in range(D):
                for b in range(TILE):
                    mixing[part, i, j, b] += scratch[part, i, j, b]


@kernel
def invert_all(unmixing, mixing):
    """Write the inverses of W (2, K, K, F), with pivots; return the sum of log|det W|^2, -inf if one is singular."""
    K, F = unmixing.shape[1], unmixing.shape[3]
    matrix, inverse = np.empty((K, K), np.complex128), np.empty((K, K), np.complex128)
    total = 0.0
    for f in range(F):
        for i in range(K):
            for j in range(K):
                matrix[i, j] = complex(unmixing[0, i, j, f], unmixing[1, i, j, f])
        total += 2.0 * invert(matrix, inverse)
        for i in range(K):
            for j in range(K):
                mixing[0, i, j, f], mixing[1, i, j, f] = inverse[i, j].real, inverse[i, j].imag
    return total

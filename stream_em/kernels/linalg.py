"""Small dense linear algebra on contiguous rows: packed symmetric matrices, Cholesky factors and their inverses.

`np.linalg` and array expressions cost 0.2 to 0.6 s of compilation a use, and raise on a singular matrix; these loops
compile in a tenth of that, and say so instead. A packed symmetric (D, D) matrix lists its upper triangle row by row:
D(D+1)/2 numbers.
"""

import numpy as np

from stream_em.kernels.dispatch import kernel

RELATIVE_PIVOT = 1e-13
ROWS_AT_A_TIME = 8
LARGEST_SMALL_PRODUCT = 1200


@kernel(reassociate=True)
def row_dot(a, b, length):
    """Return the inner product of the first `length` entries of two contiguous vectors."""
    total = 0.0
    for i in range(length):
        total += a[i] * b[i]
    return total


@kernel
def cholesky(matrix, factor):
    """Write the lower Cholesky factor of a (D, D) matrix; False if a pivot is not above 1e-13 of its diagonal entry.

    The upper triangle of `factor` is not touched.
    """
    D = len(matrix)
    for i in range(D):
        row = factor[i]
        for j in range(i):
            row[j] = (matrix[i, j] - row_dot(row, factor[j], j)) / factor[j, j]
        pivot = matrix[i, i] - row_dot(row, row, i)
        if not pivot > RELATIVE_PIVOT * matrix[i, i]:
            return False
        row[i] = np.sqrt(pivot)
    return True


@kernel
def invert_triangular(factor, inverse):
    """Write the inverse of a lower triangular (D, D) matrix."""
    D = len(factor)
    for i in range(D):
        row = inverse[i]
        for m in range(D):
            row[m] = 0.0
        for j in range(i):
            above, weight = inverse[j], factor[i, j]
            for m in range(j + 1):
                row[m] -= weight * above[m]
        scale = 1.0 / factor[i, i]
        for m in range(i):
            row[m] *= scale
        row[i] = scale


@kernel
def _keep_diagonal(covariance):
    """Make a matrix that is no covariance a diagonal one; an entry that is not a positive number becomes 1."""
    for i in range(len(covariance)):
        variance = covariance[i, i]
        for j in range(len(covariance)):
            covariance[i, j] = 0.0
        covariance[i, i] = variance if 0.0 < variance < np.inf else 1.0


@kernel
def invert_covariance(covariance, inverse):
    """Write the inverse of a (D, D) covariance and return its log-determinant.

    One that is numerically singular has its diagonal raised, in place, until it is not; the raise is relative, so that
    rescaling a column commutes with it. If doubling it does not help, only the diagonal is kept.
    """
    D = len(covariance)
    factor, root = np.empty((D, D)), np.empty((D, D))
    raised = 1e-12
    while not cholesky(covariance, factor):
        for i in range(D):
            covariance[i, i] *= 1.0 + raised
        raised *= 10.0
        if raised > 1.0:
            _keep_diagonal(covariance)
    invert_triangular(factor, root)
    log_det = 0.0
    for i in range(D):
        log_det += 2.0 * np.log(factor[i, i])
        for j in range(D):
            inverse[i, j] = 0.0
    for m in range(D):
        row = root[m]
        for i in range(m + 1):
            out, weight = inverse[i], row[i]
            for j in range(i + 1):
                out[j] += weight * row[j]
    for i in range(D):
        for j in range(i):
            inverse[j, i] = inverse[i, j]
    return log_det


@kernel
def multiply(a, b, out):
    """Write the product of (n, m) `a` and (m, p) `b`: for matrices too small for BLAS to pay."""
    for i in range(a.shape[0]):
        row = out[i]
        for j in range(b.shape[1]):
            row[j] = 0.0
        for m in range(a.shape[1]):
            weight, other = a[i, m], b[m]
            for j in range(b.shape[1]):
                row[j] += weight * other[j]


@kernel
def add_to(out, values):
    """Add one (n, m) matrix to another in place."""
    for i in range(out.shape[0]):
        row, other = out[i], values[i]
        for j in range(out.shape[1]):
            row[j] += other[j]


@kernel
def add_products(weights, phi, out):
    """Add the product of (M, n) `weights` and the transpose of (P, n) `phi` to `out` (M, P).

    In pieces: OpenBLAS has a kernel for small products that reads its operands where they lie, and takes it if the
    result has at most 1200 entries; for larger ones it first copies phi, which costs as much as these thin products.
    """
    for row in range(0, len(weights), ROWS_AT_A_TIME):
        left = weights[row : row + ROWS_AT_A_TIME]
        columns = LARGEST_SMALL_PRODUCT // len(left)
        for column in range(0, len(phi), columns):
            part = np.dot(left, phi[column : column + columns].T)
            for i in range(part.shape[0]):
                target, source = out[row + i], part[i]
                for j in range(part.shape[1]):
                    target[column + j] += source[j]


@kernel
def pair_products(z, out):
    """Write the products of all pairs of the rows of z (E, n): packed, (P, n)."""
    E, n = z.shape
    position = 0
    for c in range(E):
        left = z[c]
        for d in range(c, E):
            right, product = z[d], out[position]
            for t in range(n):
                product[t] = left[t] * right[t]
            position += 1


@kernel
def pack(matrix, packed):
    """Write the upper triangle of a symmetric (D, D) matrix, row by row."""
    D = len(matrix)
    position = 0
    for i in range(D):
        for j in range(i, D):
            packed[position] = matrix[i, j]
            position += 1


@kernel
def unpack(packed, matrix):
    """Write the symmetric (D, D) matrix whose upper triangle is listed in `packed`."""
    D = len(matrix)
    position = 0
    for i in range(D):
        for j in range(i, D):
            matrix[i, j] = matrix[j, i] = packed[position]
            position += 1

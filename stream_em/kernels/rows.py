"""Unmixing matrices, row by row: each row's exact maximiser, with the inverse kept by rank-one updates.

With one weighted covariance V_i a source, the rows of W maximise log|det W| - sum_i w_i' V_i w_i / 2 one at a time:
w_i = V_i^-1 a_i / sqrt(a_i' V_i^-1 a_i), a_i the i-th column of W^-1 (Ono 2011; Ablin, Gramfort, Cardoso & Bach 2019).
With a linear term sum_i w_i' b_i it is w_i = V_i^-1 b_i + V_i^-1 a_i / g, where g = w_i' a_i is the positive root of
g² - g a_i' V_i^-1 b_i = a_i' V_i^-1 a_i: the gradient V_i w_i - b_i - a_i / (w_i' a_i) is 0 there, and nowhere else on
this side. As w_i' a_i is above 0, a row never changes its sign or its place.
"""

import numpy as np

from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import cholesky, row_dot


@kernel
def invert(matrix, inverse):
    """Write the inverse of a (K, K) matrix by Gauss–Jordan elimination; return log|det|, -inf if it is singular."""
    K = len(matrix)
    work = matrix.copy()
    log_det = 0.0
    for i in range(K):
        for j in range(K):
            inverse[i, j] = 1.0 if i == j else 0.0
    for i in range(K):
        pivot = i
        for j in range(i + 1, K):
            if abs(work[j, i]) > abs(work[pivot, i]):
                pivot = j
        if not abs(work[pivot, i]) > 0.0:
            return -np.inf
        log_det += np.log(abs(work[pivot, i]))
        if pivot != i:
            for m in range(K):
                work[i, m], work[pivot, m] = work[pivot, m], work[i, m]
                inverse[i, m], inverse[pivot, m] = inverse[pivot, m], inverse[i, m]
        scale = 1.0 / work[i, i]
        row, out = work[i], inverse[i]
        for m in range(K):
            row[m] *= scale
            out[m] *= scale
        for j in range(K):
            weight = work[j, i]
            if j != i and weight != 0.0:
                other, other_out = work[j], inverse[j]
                for m in range(K):
                    other[m] -= weight * row[m]
                    other_out[m] -= weight * out[m]
    return log_det


@kernel
def factorise(covariance, factor):
    """Write the lower Cholesky factor of a (K, K) covariance, its diagonal raised, in place, until it has one."""
    raised = 1e-12
    while not cholesky(covariance, factor):
        largest = 0.0
        for i in range(len(covariance)):
            largest = max(largest, covariance[i, i])
        for i in range(len(covariance)):
            covariance[i, i] += raised * largest + 1e-300
        raised *= 10.0


@kernel
def solve(factor, values):
    """Replace the vector b (K,) by the solution of L L' x = b, given the lower Cholesky factor L (K, K)."""
    K = len(factor)
    for i in range(K):
        values[i] = (values[i] - row_dot(factor[i], values, i)) / factor[i, i]
    for i in range(K - 1, -1, -1):
        values[i] /= factor[i, i]
        row, value = factor[i], values[i]
        for j in range(i):
            values[j] -= row[j] * value


@kernel
def update_row(i, covariance, pull, unmixing, mixing, factor, row):
    """Set row i of W (K, K) to its maximiser given V_i = `covariance` and b_i = `pull`; `mixing`, its inverse, follows.

    Returns by how much log|det W| has grown. `pull` is (K,), or (0,) for none; it, `covariance`, `factor` (K, K) and
    `row` (K,) are overwritten.
    """
    K = len(unmixing)
    factorise(covariance, factor)
    for j in range(K):
        row[j] = mixing[j, i]
    solve(factor, row)
    if len(pull) > 0:
        solve(factor, pull)
    square, along = 0.0, 0.0
    for j in range(K):
        square += mixing[j, i] * row[j]
        along += mixing[j, i] * pull[j] if len(pull) > 0 else 0.0
    root = np.sqrt(along * along + 4.0 * square)
    # The same number twice: each form keeps its digits where the other would lose them.
    growth = 0.5 * (along + root) if along >= 0.0 else 2.0 * square / (root - along)
    for j in range(K):
        row[j] = row[j] / growth + pull[j] if len(pull) > 0 else row[j] / growth
    replace_row(i, row, growth, unmixing, mixing)
    return np.log(growth)


@kernel
def replace_row(i, row, growth, unmixing, mixing):
    """Set row i of W (K, K) and its inverse with it (Sherman & Morrison 1950); `growth` is row' a_i, not 0."""
    K = len(unmixing)
    change = np.zeros(K)
    for j in range(K):
        weight, other = (row[j] - unmixing[i, j]) / growth, mixing[j]
        for m in range(K):
            change[m] += weight * other[m]
    for j in range(K):
        weight, other = mixing[j, i], mixing[j]
        for m in range(K):
            other[m] -= weight * change[m]
        unmixing[i, j] = row[j]


@kernel
def orthonormalise(rows):
    """Make the rows (K, D) orthonormal in place: Gram & Schmidt, twice, each row against those above it."""
    K, D = rows.shape
    for _ in range(2):
        for i in range(K):
            row = rows[i]
            for j in range(i):
                overlap = row_dot(row, rows[j], D)
                for d in range(D):
                    row[d] -= overlap * rows[j, d]
            length = np.sqrt(row_dot(row, row, D))
            for d in range(D):
                row[d] = row[d] / length if length > 0.0 else 0.0

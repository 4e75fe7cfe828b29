"""What a record with missing channels says of its sources."""

import numpy as np

from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import row_dot
from stream_em.kernels.rows import factorise, solve

LOG_2_PI = 1.8378770664093453
EXACT = 1e-12
"""Noise of a channel where the model has none, relative to the signal: for the arithmetic only."""


@kernel
def complete(record, mixing, offset, variances, noise, sources, spread):
    """Write E[y] (K,) and Var[y] (K, K) given the channels that are not NaN; return their log-density.

    x = A (y + offset) + e with A = `mixing` (D, K), y ~ N(0, diag(`variances`)) and e of variance `noise` in each
    channel. The NaN of `record` (D,) are replaced by what is expected there.
    """
    D, K = mixing.shape
    seen = np.empty(D, np.int64)
    n = 0
    for d in range(D):
        if record[d] == record[d]:
            seen[n] = d
            n += 1
    covariance, factor, cross = np.empty((n, n)), np.empty((n, n)), np.empty((K, n))
    difference, gain = np.empty(n), np.empty(n)
    for a in range(n):
        d = seen[a]
        difference[a] = record[d] - row_dot(mixing[d], offset, K)
        for k in range(K):
            cross[k, a] = variances[k] * mixing[d, k]
    for a in range(n):
        row = mixing[seen[a]]
        for b in range(n):
            total = 0.0
            for k in range(K):
                total += row[k] * cross[k, b]
            covariance[a, b] = total
        covariance[a, a] += noise + EXACT * covariance[a, a]
    factorise(covariance, factor)
    score = 0.0
    for a in range(n):
        gain[a] = difference[a]
        score -= 0.5 * LOG_2_PI + np.log(factor[a, a])
    solve(factor, gain)
    score -= 0.5 * row_dot(gain, difference, n)
    for k in range(K):
        sources[k] = row_dot(cross[k], gain, n)
    for k in range(K):
        for a in range(n):
            gain[a] = cross[k, a]
        solve(factor, gain)
        for m in range(K):
            spread[k, m] = -row_dot(cross[m], gain, n)
        spread[k, k] += variances[k]
    for d in range(D):
        if record[d] != record[d]:
            record[d] = 0.0
            for k in range(K):
                record[d] += mixing[d, k] * (sources[k] + offset[k])
    return score

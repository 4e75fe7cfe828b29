"""What a window of records and sources shows: how much of each other the sources hold, and which channels stand still."""

import numpy as np

from stream_em.kernels.dispatch import kernel


@kernel
def observe(records, sources, sums, level, still):
    """Take (n, D) records and their (n, K) sources into a window.

    `sums` (K + 1, K + 1) are of the products of (1, y). `level` (D,) is each channel's first value, `still` (D,) whether
    it has had no other; `sums[0, 0]`, the records so far, tells whether the window begins.
    """
    n, K = sources.shape
    if sums[0, 0] == 0.0:
        for d in range(len(level)):
            level[d] = records[0, d]
            still[d] = True
    for d in range(len(level)):
        for t in range(n):
            if not still[d]:
                break
            value = records[t, d]
            still[d] = value == level[d] or (value != value and level[d] != level[d])
    product = np.dot(sources.T, sources)
    sums[0, 0] += n
    for t in range(n):
        for k in range(K):
            sums[0, k + 1] += sources[t, k]
    for i in range(K):
        for j in range(K):
            sums[i + 1, j + 1] += product[i, j]


@kernel
def crosstalk(sums):
    """Return the mean squared correlation of different sources in a window, given its `sums`; 0 if there is none."""
    K, n = len(sums) - 1, sums[0, 0]
    total, pairs = 0.0, 0
    for i in range(1, K + 1):
        for j in range(1, i):
            covariance = sums[i, j] - sums[0, i] * sums[0, j] / n
            first, second = sums[i, i] - sums[0, i] ** 2 / n, sums[j, j] - sums[0, j] ** 2 / n
            if first > 0.0 and second > 0.0:
                total += covariance * covariance / (first * second)
                pairs += 1
    return total / pairs if pairs > 0 else 0.0

"""What a window shows: how much of each other the sources hold, and which channels stand still."""

import numpy as np

from stream_em.kernels.dispatch import kernel

QUIET = 0.1
"""A source of less than this part of its usual power is in a pause: what is heard of it is noise, and what leaks."""
SILENT = 1e-3
"""If one has less than this part while others are loud, they cannot have moved: it would be heard in its place."""


@kernel
def observe(records, sources, tally, products, level, still):
    """Take (n, D) records and their (n, K) sources into a window; return how many channels have stood still in it.

    `tally` (1,) counts its records, `products` (K, K) sums those of the sources, which are centred. `level` (D,) is the
    first value of each channel, `still` (D,) whether it has had no other.
    """
    n, K = sources.shape
    if tally[0] == 0.0:
        products[:] = 0.0
        for d in range(len(level)):
            level[d] = records[0, d]
            still[d] = True
    n_still = 0
    for d in range(len(level)):
        for t in range(n):
            if not still[d]:
                break
            value = records[t, d]
            still[d] = value == level[d] or (value != value and level[d] != level[d])
        n_still += still[d]
    tally[0] += n
    product = np.dot(sources.T, sources)
    for i in range(K):
        for j in range(K):
            products[i, j] += product[i, j]
    return n_still


@kernel
def crosstalk(products, usual):
    """Return the mean squared correlation of different sources in a window, given their `products` (K, K).

    `usual` (K,) is what each source's own product usually is: a source in a pause counts as if it had 0.1 of it,
    because noise, and what leaks into silence, are no change. NaN if more than half of them are in a pause, when little
    is heard but noise, or if one has less than 0.001.
    """
    K, total = len(products), 0.0
    loudness = np.empty(K)
    for i in range(K):
        loudness[i] = products[i, i] / usual[i] if usual[i] > 0.0 else 0.0
    loudness.sort()
    if K < 2 or not loudness[K // 2] >= QUIET or loudness[0] < SILENT:
        return np.nan
    for i in range(K):
        for j in range(i):
            first, second = max(products[i, i], QUIET * usual[i]), max(products[j, j], QUIET * usual[j])
            if first > 0.0 and second > 0.0:
                total += products[i, j] / first * (products[i, j] / second)
    return 2.0 * total / (K * (K - 1.0))

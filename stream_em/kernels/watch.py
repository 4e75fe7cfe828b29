"""The loop over windows of a drift monitor: sums, statistics, evidence, and the reference that follows."""

import numpy as np

from stream_em.kernels.dispatch import kernel
from stream_em.kernels.evidence import weigh
from stream_em.kernels.windows import PER_COMPONENT, learn_reference, window_statistics, window_sums

LEAD = 16
"""So many windows make the first reference, before any is compared with it."""


@kernel
def watch(records, posterior, log_likelihood, window, reference, evidence, recent, tally, steps, threshold):
    """Watch (n, D) records in whole windows until there is an alarm; return how many windows that took, and the level.

    `tally` holds the windows since the beginning, and how many they are when a burst of wild records should be over;
    until then nothing is judged. `recent` is a ring of the windows' sums.
    """
    K = len(reference.usual)
    weights = np.empty((K, window))
    statistics = np.empty(PER_COMPONENT + 3 * K)
    level = 0.0
    n_windows = len(records) // window
    for t in range(n_windows):
        part = slice(t * window, (t + 1) * window)
        now = tally[0]
        row = recent[now % len(recent)]
        window_sums(records[part], posterior[part], log_likelihood[part], reference, weights, row)
        window_statistics(row, reference, statistics)
        if now >= LEAD and now >= tally[1]:
            level = weigh(statistics, PER_COMPONENT, K, evidence, now)
        learn_reference(row, reference, max(2.0 / (now + 2.0), steps[t]))
        tally[0] += 1
        if level >= threshold or tally[0] == tally[1]:
            return t + 1, level
    return n_windows, level

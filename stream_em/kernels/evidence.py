"""Evidence that a statistic has moved, from nothing but its rank among its own past.

While nothing changes, the rank of a new value among the past ones is uniform, whatever the distribution. A bet on ranks
near the top is an e-value: on average it multiplies by 1, or less. Sums of products of e-values from every possible
moment of change on, averaged over all bets, stay below A for at least A windows on average: the e-detector of
Shin, Ramdas & Rinaldo (2023), of Shiryaev–Roberts type, with the power bets of Vovk, Nouretdinov & Gammerman (2003).
"""

from typing import NamedTuple

import numpy as np

from stream_em.kernels.dispatch import kernel

FEWEST_RANKED = 64
"""Nobody bets on the rank among fewer values."""
CHANCE = 10.0
"""Wealth that comes and goes by chance: what is gathered beyond it dates a change."""
LONGEST_MEAN = 64
"""Windows that a value may be a mean over, at most."""
INDEPENDENT = 0.1
"""A correlation of neighbours that is taken for none."""


class Evidence(NamedTuple):
    """S statistics, B bets: the first S on a statistic that grows, the others on masses that shrink; J odds of each."""

    past: np.ndarray  # (S, M) ring of the latest values
    counts: np.ndarray  # (S, 4) values so far, windows to a value, windows of the next one so far, where a turn begins
    sums: np.ndarray  # (S,) of the windows of the next value
    correlation: np.ndarray  # (S,) of neighbouring values
    wealth: np.ndarray  # (B, J)
    since: np.ndarray  # (B, J) window after which the evidence was gathered


@kernel(reassociate=True)
def rank(past, value):
    """Return how many past values are below `value`, and how many are equal."""
    below = equal = 0
    for i in range(len(past)):
        below += past[i] < value
        equal += past[i] == value
    return below, equal


@kernel
def e_value(above, tied, n, kappa):
    """Return the mean of kappa p^(kappa - 1) over the p from above / n to (above + tied) / n: of mean 1 for each n."""
    low, high = above / n, (above + tied) / n
    return (high**kappa - low**kappa) / (high - low)


@kernel
def bet(wealth, since, now, above, tied, n, kappas, correlation):
    """Take one rank into the wealth (J,) of a bet. Values that still depend on each other count for less."""
    caution = (1.0 - correlation) / (1.0 + correlation)
    for j in range(len(kappas)):
        if wealth[j] < CHANCE:
            since[j] = now
        wealth[j] = (1.0 + wealth[j]) * e_value(above, tied, n, 1.0 - (1.0 - kappas[j]) * caution)


@kernel
def lag_correlation(past, begin):
    """Return the correlation of neighbours in a ring of values whose oldest is at `begin`."""
    n = len(past)
    mean = past.sum() / n
    product = square = 0.0
    for i in range(n):
        z = past[(begin + i) % n] - mean
        square += z * z
        if i > 0:
            product += z * (past[(begin + i - 1) % n] - mean)
    return product / square if square > 0.0 else 0.0


@kernel
def averaged(evidence, s, value):
    """Return the mean of statistic s over as many windows as it needs, NaN until there are so many."""
    evidence.sums[s] += value
    evidence.counts[s, 2] += 1
    if evidence.counts[s, 2] < evidence.counts[s, 1]:
        return np.nan
    mean = evidence.sums[s] / evidence.counts[s, 1]
    evidence.sums[s] = 0.0
    evidence.counts[s, 2] = 0
    return mean


@kernel
def remember(evidence, s, value):
    """Put a value of statistic s among the past ones, over the oldest if there is no room; tell whether to bet anew.

    At every power of two it is looked whether neighbours still depend on each other. As long as they do, they are
    averaged in pairs, and from then on a value is a mean over twice as many windows (batch means).
    """
    past, size = evidence.past[s], evidence.past.shape[1]
    past[evidence.counts[s, 0] % size] = value
    evidence.counts[s, 0] += 1
    doubled = False
    count = evidence.counts[s, 0]
    while count >= FEWEST_RANKED and count & (count - 1) == 0:
        n = min(count, size)
        correlation = lag_correlation(past[:n], count % n)
        evidence.correlation[s] = min(max(correlation, 0.0), 0.9)
        if correlation < max(INDEPENDENT, 3.0 / np.sqrt(n)) or evidence.counts[s, 1] >= LONGEST_MEAN:
            break
        order = np.roll(past[:n], -(count % n))
        past[: n // 2] = (order[::2] + order[1::2]) / 2.0
        evidence.counts[s, 0] = count = n // 2
        evidence.counts[s, 1] *= 2
        doubled = True
    return doubled


@kernel
def weigh(statistics, masses, evidence, now, kappas):
    """Take the statistics (S,) of a window into the evidence; return the mean wealth of all bets.

    Those in `masses` (a slice) are bet on both ways.
    """
    S, size = evidence.past.shape
    for s in range(S):
        if statistics[s] != statistics[s]:
            continue
        value = averaged(evidence, s, statistics[s])
        if value != value:
            continue
        n = min(evidence.counts[s, 0], size)
        both = masses.start <= s < masses.stop
        down = S + s - masses.start
        below, equal = rank(evidence.past[s, :n], value)
        # Among nothing but equals a rank says nothing, and without a bet nothing is staked.
        if n >= FEWEST_RANKED and equal < n:
            above, tied, among = n - below - equal, equal + 1.0, n + 1.0
            bet(evidence.wealth[s], evidence.since[s], now, above, tied, among, kappas, evidence.correlation[s])
            if both:
                since = evidence.since[down]
                bet(evidence.wealth[down], since, now, below, tied, among, kappas, evidence.correlation[s])
        if remember(evidence, s, value):
            evidence.wealth[s] = 0.0
            if both:
                evidence.wealth[down] = 0.0
    return evidence.wealth.mean()

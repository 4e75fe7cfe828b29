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
    """What is known of S statistics, and B bets at two odds: S that they grow, the others that masses shrink."""

    past: np.ndarray  # (S, M) ring of the latest values
    counts: np.ndarray  # (S, 3) values so far, windows to a value, windows of the next one so far
    sums: np.ndarray  # (S,) of the windows of the next value
    correlation: np.ndarray  # (S,) of neighbouring values
    wealth: np.ndarray  # (B, 2)
    since: np.ndarray  # (B, 2) window after which the evidence was gathered


@kernel(reassociate=True)
def rank(past, s, n, value):
    """Return how many of the first n past values of statistic s are below `value`, and how many are equal."""
    below = equal = 0
    for i in range(n):
        below += past[s, i] < value
        equal += past[s, i] == value
    return below, equal


@kernel
def gamble(wealth, since, b, now, above, tied, n, stake):
    """Take one rank into the wealth of bet b at both odds, of which a share `stake` is at risk.

    With p from low = above / n to high = (above + tied) / n the e-values are the means of p^(-1/2) / 2 and p^(-3/4) / 4
    over that range. Over all ranks their mean is 1, whatever n.
    """
    low, high = np.sqrt(above / n), np.sqrt((above + tied) / n)
    e_value = 1.0 / (low + high)
    for j in range(2):
        if wealth[b, j] < CHANCE:
            since[b, j] = now
        wealth[b, j] = (1.0 + wealth[b, j]) * (1.0 + stake * (e_value - 1.0))
        e_value /= np.sqrt(low) + np.sqrt(high)


@kernel
def lag_correlation(values):
    """Return the correlation of neighbouring values (n,), 0 if they are all equal."""
    centred = values - values.mean()
    square = (centred * centred).sum()
    return (centred[1:] * centred[:-1]).sum() / square if square > 0.0 else 0.0


@kernel
def settle(past, count):
    """Look whether neighbours in a ring of `count` values still depend on each other; average them in pairs if so.

    Returns the correlation, and whether they were averaged: then half as many values are left, from place 0 on. The
    limit is three standard errors.
    """
    n = min(count, len(past))
    values = np.roll(past[:n], -(count % n))
    correlation = lag_correlation(values)
    if correlation < max(INDEPENDENT, 3.0 / np.sqrt(n)):
        return correlation, False
    past[: n // 2] = (values[::2] + values[1::2]) / 2.0
    return correlation, True


@kernel
def weigh(statistics, first_mass, n_masses, evidence, now):
    """Take the statistics (S,) of a window into the evidence; return the mean wealth of all bets.

    The masses, `n_masses` from `first_mass` on, are bet on both ways. A value is the mean of a statistic over as many
    windows as it takes until neighbouring values do not depend on each other (batch means); this is looked at whenever
    their number is a power of two.
    """
    past, counts, sums, correlation, wealth, since = evidence
    S, size = past.shape
    for s in range(S):
        if statistics[s] != statistics[s]:
            continue
        sums[s] += statistics[s]
        counts[s, 2] += 1
        if counts[s, 2] < counts[s, 1]:
            continue
        value, count = sums[s] / counts[s, 1], counts[s, 0]
        sums[s] = 0.0
        counts[s, 2] = 0
        n = min(count, size)
        both = first_mass <= s < first_mass + n_masses
        down = S + s - first_mass
        # Among nothing but equals a rank says nothing, and without a bet nothing is staked.
        if n >= FEWEST_RANKED:
            below, equal = rank(past, s, n, value)
            if equal < n:
                tied, among = equal + 1.0, n + 1.0
                stake = (1.0 - correlation[s]) / (1.0 + correlation[s])
                gamble(wealth, since, s, now, n - below - equal, tied, among, stake)
                if both:
                    gamble(wealth, since, down, now, below, tied, among, stake)
        past[s, count % size] = value
        count += 1
        while count >= FEWEST_RANKED and count & (count - 1) == 0 and counts[s, 1] < LONGEST_MEAN:
            found, averaged = settle(past[s], count)
            correlation[s] = min(max(found, 0.0), 0.9)
            if not averaged:
                break
            count = min(count, size) // 2
            counts[s, 1] *= 2
            wealth[s] = 0.0
            if both:
                wealth[down] = 0.0
        counts[s, 0] = count
    return wealth.mean()

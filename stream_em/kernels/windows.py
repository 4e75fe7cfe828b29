"""A window of scored records as a few sums, and these as statistics that move when the stream does.

A row of sums holds the wild records, those counted, their summed squared excess (nats²), and then for each component
its responsibilities, its weighted log-likelihoods, and its weighted residuals (D).
"""

from typing import NamedTuple

import numpy as np

from stream_em.kernels.dispatch import kernel

HEAD = 3
"""Sums that belong to no component."""
WILD = 6.0
"""A record is wild if its log-likelihood lies so many standard deviations below its component's mean."""
MOST_WILD = 0.25
"""With a larger share of wild records it is not they that are wrong, but the model: all of them are counted."""
FEWEST_RECORDS = 4.0
"""A component with fewer records in a window says nothing about its mean there."""
LEAST_WEIGHT = 1e-9
DIRECTION_KEPT = 0.75
"""How much of the direction of the residuals is kept from window to window: four windows are remembered."""
LOG_LIKELIHOOD, OUTLIERS, PER_COMPONENT = 0, 1, 2
"""Places of the statistics; from PER_COMPONENT on come K masses, K distances and K directions."""


class Reference(NamedTuple):
    """What a window is compared with: the means over the past, the last half of which counts most."""

    means: np.ndarray  # (K, D)
    usual: np.ndarray  # (K,) log-likelihood
    mass: np.ndarray  # (K,) records a window
    variance: np.ndarray  # (1,) of the log-likelihood about its component's
    whiteners: np.ndarray  # (K, D, D) inverse Cholesky factors of the covariances, fixed
    direction: np.ndarray  # (K, D) sum of past whitened residuals


@kernel
def window_sums(records, posterior, log_likelihood, reference, row):
    """Write the sums of one window of (n, D) records, (n, K) posterior and (n,) log-likelihood, in which only values of
    records may be NaN.
    """
    n, K, D = len(records), len(reference.usual), reference.means.shape[1]
    excess, weights = np.empty(n), np.empty((K, n))
    cut = -WILD * np.sqrt(reference.variance[0])
    n_wild = 0
    for i in range(n):
        z = log_likelihood[i]
        for k in range(K):
            z -= posterior[i, k] * reference.usual[k]
        excess[i] = z
        n_wild += z < cut
    row[:] = 0.0
    row[0] = n_wild
    everything = n_wild > MOST_WILD * n
    for i in range(n):
        counted = 1.0 if everything or not excess[i] < cut else 0.0
        row[1] += counted
        row[2] += counted * excess[i] * excess[i]
        for k in range(K):
            r = counted * posterior[i, k]
            weights[k, i] = r
            row[HEAD + k] += r
            row[HEAD + K + k] += r * log_likelihood[i]
    totals = row[HEAD + 2 * K :].reshape(K, D)
    for k in range(K):
        add_residuals(records, weights[k], row[HEAD + k], reference.means[k], totals[k])


@kernel
def add_residuals(records, weights, total_weight, mean, out):
    """Add to out (D,) the residuals from a mean, weighted; where values are missing, scaled up for what is missing."""
    n, D = len(weights), len(mean)
    whole = n - n % 4
    for i in range(0, whole, 4):
        a, b, c, d = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for j in range(D):
            out[j] += (a * records[i, j] + b * records[i + 1, j]) + (c * records[i + 2, j] + d * records[i + 3, j])
    for i in range(whole, n):
        for j in range(D):
            out[j] += weights[i] * records[i, j]
    for j in range(D):
        out[j] -= total_weight * mean[j]
        if out[j] != out[j]:
            out[j] = seen = 0.0
            for i in range(n):
                if records[i, j] == records[i, j] and weights[i] > 0.0:
                    out[j] += weights[i] * (records[i, j] - mean[j])
                    seen += weights[i]
            out[j] *= np.sqrt(total_weight / seen) if seen > 0.0 else 0.0


@kernel
def window_statistics(row, reference, out):
    """Write the statistics (2 + 3K,) of a window, NaN where there is nothing to say, and turn the direction.

    They are the mean shortfall of the log-likelihood from what its component's usually is, in nats; the wild
    records; each component's share of the records; the squared Mahalanobis length of its summed residual over its
    records, about chi-squared with D degrees of freedom; and that residual's length along the residuals before it,
    about standard normal. More is worse, but shares may move either way.
    """
    K, D = reference.means.shape
    counted = row[1] if row[1] > 0.0 else np.nan
    shortfall = 0.0
    totals = row[HEAD + 2 * K :].reshape(K, D)
    z = np.empty(D)
    for k in range(K):
        n = row[HEAD + k]
        shortfall += n * reference.usual[k] - row[HEAD + K + k]
        out[PER_COMPONENT + k] = n / counted - reference.mass[k]
        if n < FEWEST_RECORDS or D == 0:
            out[PER_COMPONENT + K + k] = out[PER_COMPONENT + 2 * K + k] = np.nan
            continue
        square = along = length = 0.0
        for d in range(D):
            z[d] = 0.0
            for e in range(d + 1):
                z[d] += reference.whiteners[k, d, e] * totals[k, e]
            z[d] /= np.sqrt(n)
            square += z[d] * z[d]
            along += z[d] * reference.direction[k, d]
            length += reference.direction[k, d] ** 2
            reference.direction[k, d] = DIRECTION_KEPT * reference.direction[k, d] + z[d]
        out[PER_COMPONENT + K + k] = square
        out[PER_COMPONENT + 2 * K + k] = along / np.sqrt(length) if length > 0.0 else np.nan
    out[LOG_LIKELIHOOD] = shortfall / counted
    out[OUTLIERS] = row[0]


@kernel
def learn_reference(row, reference, step):
    """Take a window's sums into the reference means, with a step from 0 to 1."""
    K, D = reference.means.shape
    totals = row[HEAD + 2 * K :].reshape(K, D)
    for k in range(K):
        mass = row[HEAD + k] / max(row[1], 1.0)
        reference.mass[k] += step * (mass - reference.mass[k])
        if mass > LEAST_WEIGHT:
            share = step / (reference.mass[k] * max(row[1], 1.0))
            reference.usual[k] += share * (row[HEAD + K + k] - row[HEAD + k] * reference.usual[k])
            for d in range(D):
                reference.means[k, d] += share * totals[k, d]
    if row[1] > 0.0:
        reference.variance[0] += step * (row[2] / row[1] - reference.variance[0])

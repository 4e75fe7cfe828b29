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


@kernel(reassociate=True)
def window_sums(records, posterior, log_likelihood, reference, weights, row):
    """Write the sums of one window of (n, D) records, (n, K) posterior and (n,) log-likelihood, in which only values of
    records may be NaN. Room for `weights` is (K, n).
    """
    means, usual = reference.means, reference.usual
    (n, K), D = posterior.shape, means.shape[1]
    cut = -WILD * np.sqrt(reference.variance[0])
    n_counted = weigh_records(posterior, log_likelihood, usual, cut, weights, row)
    row[0] = n - n_counted
    if row[0] > MOST_WILD * n:
        weigh_records(posterior, log_likelihood, usual, -np.inf, weights, row)
    for k in range(K):
        mass = value = 0.0
        for i in range(n):
            mass += weights[k, i]
            value += weights[k, i] * log_likelihood[i]
        row[HEAD + k] = mass
        row[HEAD + K + k] = value
    totals = row[HEAD + 2 * K :].reshape(K, D)
    if D > 0:
        np.dot(weights, records, totals)
    for k in range(K):
        mass = row[HEAD + k]
        for d in range(D):
            totals[k, d] -= mass * means[k, d]
            if totals[k, d] != totals[k, d]:
                totals[k, d] = observed_residual(records[:, d], weights[k], mass, means[k, d])


@kernel(reassociate=True)
def weigh_records(posterior, log_likelihood, usual, cut, weights, row):
    """Write the posterior of the records whose excess is at least `cut`, transposed, and their squared excess."""
    n, K = posterior.shape
    n_counted = square = 0.0
    for i in range(n):
        excess = log_likelihood[i]
        for k in range(K):
            excess -= posterior[i, k] * usual[k]
        counted = 0.0 if excess < cut else 1.0
        n_counted += counted
        square += counted * excess * excess
        for k in range(K):
            weights[k, i] = counted * posterior[i, k]
    row[1], row[2] = n_counted, square
    return n_counted


@kernel
def observed_residual(values, weights, total_weight, mean):
    """Return the weighted residual of values (n,) some of which are missing, scaled up for those."""
    total = seen = 0.0
    for i in range(len(values)):
        if values[i] == values[i] and weights[i] > 0.0:
            total += weights[i] * (values[i] - mean)
            seen += weights[i]
    return total * np.sqrt(total_weight / seen) if seen > 0.0 else 0.0


@kernel(reassociate=True)
def window_statistics(row, reference, out):
    """Write the statistics (2 + 3K,) of a window, NaN where there is nothing to say, and turn the direction.

    They are the mean shortfall of the log-likelihood from what its component's usually is, in nats; the wild
    records; each component's share of the records; the squared Mahalanobis length of its summed residual over its
    records, about chi-squared with D degrees of freedom; and that residual's length along the residuals before it,
    about standard normal. More is worse, but shares may move either way.
    """
    means, usual, mass, whiteners, direction = (
        reference.means,
        reference.usual,
        reference.mass,
        reference.whiteners,
        reference.direction,
    )
    K, D = means.shape
    counted = row[1] if row[1] > 0.0 else np.nan
    shortfall = 0.0
    totals = row[HEAD + 2 * K :].reshape(K, D)
    for k in range(K):
        n = row[HEAD + k]
        shortfall += n * usual[k] - row[HEAD + K + k]
        out[PER_COMPONENT + k] = n / counted - mass[k]
        if n < FEWEST_RECORDS or D == 0:
            out[PER_COMPONENT + K + k] = out[PER_COMPONENT + 2 * K + k] = np.nan
            continue
        square = along = length = 0.0
        for d in range(D):
            total = 0.0
            for e in range(D):
                total += whiteners[k, d, e] * totals[k, e]
            z = total / np.sqrt(n)
            square += z * z
            along += z * direction[k, d]
            length += direction[k, d] ** 2
            direction[k, d] = DIRECTION_KEPT * direction[k, d] + z
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

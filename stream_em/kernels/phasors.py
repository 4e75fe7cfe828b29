"""A bank of damped phasors behind one noisy signal: the Kalman filter, and how its predictions depend on each line.

The signal is y_t = level + sum_k (x_k)_1 + e, the phasors are x_k <- exp(-damping_k) R(angle_k) x_k + w. Variances are
in units of the noise's, so that those of the state do not depend on it. Everything is kept in a frame that turns with
the lines: there a transition is a multiplication by exp(-damping), and it is the observation that turns.
"""

from typing import NamedTuple

import numpy as np

from stream_em.kernels.dispatch import kernel

LOG_2_PI = 1.8378770664093453
LARGEST_RATIO = 1e8
"""Of a phasor's first variance to that of the noise."""
ANGLE, DAMPING, GAIN = 0, 1, 2
"""What predictions are differentiated by; the gain's logarithm is half that of the ratio of the two noises."""


class Bank(NamedTuple):
    """K lines; all (K,) but the last two, which are (1,)."""

    angles: np.ndarray
    dampings: np.ndarray
    ratios: np.ndarray  # of the state's noise to the observation's
    powers: np.ndarray  # mean squared lengths
    noise: np.ndarray
    level: np.ndarray


class Filter(NamedTuple):
    """What is carried from record to record."""

    begun: np.ndarray  # (1,): 0 before the first record
    turned: np.ndarray  # (2K,): cosine and sine of each line's phase
    mean: np.ndarray  # (2K,)
    covariance: np.ndarray  # (2K, 2K)
    slopes: np.ndarray  # (3K, 2K): derivatives of the mean by angle, damping and log gain of each line


class Sums(NamedTuple):
    """Weighted sums over the records that are there."""

    information: np.ndarray  # (K, 3, 3)
    target: np.ndarray  # (K, 3): information times parameters, plus the score
    powers: np.ndarray  # (K,): E |x_k|²
    totals: np.ndarray  # (4,): weight; innovation² / variance; target and information of the level


@kernel
def begin_filter(bank, state):
    """Set the filter to before the first record: nothing is known but each line's power."""
    K = len(bank.angles)
    state.mean[:] = 0.0
    state.covariance[:] = 0.0
    state.slopes[:] = 0.0
    for k in range(K):
        state.turned[2 * k], state.turned[2 * k + 1] = 1.0, 0.0
        for i in (2 * k, 2 * k + 1):
            state.covariance[i, i] = min(0.5 * bank.powers[k] / bank.noise[0], LARGEST_RATIO)


@kernel(reassociate=True)
def follow(bank, state, sums, y, weights, learns, signals, log_likelihood):
    """Filter n values; NaN is missing, and only predicted. The state moves on; `sums` are added to if it `learns`.

    Writes the log-density of each value given those before it, and, unless it is (0, 0), the part (n, K) that each line
    has in it, given also itself. The derivatives leave out that of the gain by angle and damping, whose effect is
    uncorrelated with the innovations (Ljung & Söderström 1983, Theory and practice of recursive identification).
    """
    K, n = len(bank.angles), len(y)
    d = 2 * K
    mean, covariance, slopes, turned = state.mean, state.covariance, state.slopes, state.turned
    seen_by, spread, gain, decay = np.empty(d), np.empty(d), np.empty(d), np.empty(d)
    cosines, sines, psi, logs = np.cos(bank.angles), np.sin(bank.angles), np.empty(3 * K), np.empty(K)
    for k in range(K):
        decay[2 * k] = decay[2 * k + 1] = np.exp(-bank.dampings[k])
        logs[k] = 0.5 * np.log(bank.ratios[k])
    for t in range(n):
        if state.begun[0] == 0.0:
            begin_filter(bank, state)
            state.begun[0] = 1.0
        else:
            for k in range(K):
                c, s = turned[2 * k], turned[2 * k + 1]
                a, b = c * cosines[k] - s * sines[k], s * cosines[k] + c * sines[k]
                unit = 1.5 - 0.5 * (a * a + b * b)
                turned[2 * k], turned[2 * k + 1] = a * unit, b * unit
            for i in range(d):
                mean[i] *= decay[i]
                row, factor = covariance[i], decay[i]
                for j in range(d):
                    row[j] *= factor * decay[j]
                row[i] += bank.ratios[i // 2]
            for p in range(3 * K):
                row = slopes[p]
                for j in range(d):
                    row[j] *= decay[j]
            for k in range(K):
                i = 2 * k
                slopes[3 * k + ANGLE, i] -= mean[i + 1]
                slopes[3 * k + ANGLE, i + 1] += mean[i]
                slopes[3 * k + DAMPING, i] -= mean[i]
                slopes[3 * k + DAMPING, i + 1] -= mean[i + 1]
        if y[t] == y[t]:
            innovation, variance = y[t] - bank.level[0], 1.0
            for k in range(K):
                seen_by[2 * k], seen_by[2 * k + 1] = turned[2 * k], -turned[2 * k + 1]
            for i in range(d):
                row, total = covariance[i], 0.0
                for j in range(d):
                    total += row[j] * seen_by[j]
                spread[i] = total
                variance += total * seen_by[i]
                innovation -= mean[i] * seen_by[i]
            for i in range(d):
                gain[i] = spread[i] / variance
            for i in range(d):
                row, factor = covariance[i], spread[i]
                for j in range(d):
                    row[j] -= factor * gain[j]
                mean[i] += gain[i] * innovation
            for p in range(3 * K):
                row, total = slopes[p], 0.0
                for j in range(d):
                    total += row[j] * seen_by[j]
                psi[p] = total
                for j in range(d):
                    row[j] -= total * gain[j]
            for k in range(K):
                for i in (2 * k, 2 * k + 1):
                    slopes[3 * k + GAIN, i] += gain[i] * innovation
            square = innovation * innovation / variance
            log_likelihood[t] = -0.5 * (LOG_2_PI + np.log(bank.noise[0] * variance) + square / bank.noise[0])
            if learns:
                _add(bank, state, sums, weights[t], psi, logs, innovation, variance)
        else:
            log_likelihood[t] = 0.0
        for k in range(K if len(signals) > 0 else 0):
            signals[t, k] = turned[2 * k] * mean[2 * k] - turned[2 * k + 1] * mean[2 * k + 1]


@kernel
def _add(bank, state, sums, weight, psi, logs, innovation, variance):
    """Add what one value tells."""
    share = weight / variance
    for k in range(len(logs)):
        own, i = psi[3 * k : 3 * k + 3], 2 * k
        along = own[ANGLE] * bank.angles[k] + own[DAMPING] * bank.dampings[k] + own[GAIN] * logs[k]
        for a in range(3):
            for b in range(3):
                sums.information[k, a, b] += share * own[a] * own[b]
            sums.target[k, a] += share * own[a] * (along + innovation)
        spread = state.covariance[i, i] + state.covariance[i + 1, i + 1]
        square = state.mean[i] * state.mean[i] + state.mean[i + 1] * state.mean[i + 1]
        sums.powers[k] += weight * (square + bank.noise[0] * spread)
    sums.totals[0] += weight
    sums.totals[1] += share * innovation * innovation
    sums.totals[2] += share * (bank.level[0] + innovation)
    sums.totals[3] += share

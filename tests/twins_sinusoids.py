"""A plain NumPy twin of the superimposed sinusoids: dense matrices in a frame that does not turn with the lines."""

from typing import NamedTuple

import numpy as np


class Lines(NamedTuple):
    """Parameters as the formulas have them."""

    turns: np.ndarray  # (K,) radians a record
    dampings: np.ndarray  # (K,)
    ratios: np.ndarray  # (K,): state noise over observation noise
    powers: np.ndarray  # (K,): mean squared length of a phasor
    noise: float
    level: float


def one_step(lines):
    """Return the transition (2K, 2K) and its derivatives by each line's angle and damping (K, 2, 2K, 2K)."""
    K = len(lines.turns)
    F, dF = np.zeros((2 * K, 2 * K)), np.zeros((K, 2, 2 * K, 2 * K))
    for k in range(K):
        c, s = np.cos(lines.turns[k]), np.sin(lines.turns[k])
        block = slice(2 * k, 2 * k + 2)
        F[block, block] = np.exp(-lines.dampings[k]) * np.array([[c, -s], [s, c]])
        dF[k, 0][block, block] = np.array([[0.0, -1.0], [1.0, 0.0]]) @ F[block, block]
        dF[k, 1][block, block] = -F[block, block]
    return F, dF


class Filtered(NamedTuple):
    """What a pass gives."""

    log_likelihood: np.ndarray  # (n,)
    signals: np.ndarray  # (n, K)
    info: np.ndarray  # (K, 3, 3) summed
    score: np.ndarray  # (K, 3) summed
    squares: float  # summed innovation² / its variance, in units of the noise
    seen: int
    level_score: float
    level_info: float
    powers: np.ndarray  # (K,) summed
    widths: np.ndarray  # (K,): a quarter of the trace of each phasor's last covariance


def kalman(lines, y):
    """Filter a signal (n,), NaN where missing, and differentiate its predictions by angle, damping and log gain."""
    K, n = len(lines.turns), len(y)
    F, dF = one_step(lines)
    Q, H = np.diag(np.repeat(lines.ratios, 2)), np.tile([1.0, 0.0], K)
    m, D = np.zeros(2 * K), np.zeros((K, 3, 2 * K))
    P = np.diag(np.repeat(np.minimum(0.5 * lines.powers / lines.noise, 1e8), 2))
    scores, signals = np.zeros(n), np.zeros((n, K))
    info, score, powers = np.zeros((K, 3, 3)), np.zeros((K, 3)), np.zeros(K)
    squares = level_score = level_info = 0.0
    seen = 0
    for t in range(n):
        if t > 0:
            for k in range(K):
                D[k] = D[k] @ F.T
                D[k, 0] += dF[k, 0] @ m
                D[k, 1] += dF[k, 1] @ m
            m, P = F @ m, F @ P @ F.T + Q
        if not np.isnan(y[t]):
            variance = H @ P @ H + 1.0
            gain, innovation = P @ H / variance, y[t] - lines.level - H @ m
            psi = D @ H
            info += psi[:, :, np.newaxis] * psi[:, np.newaxis, :] / variance
            score += psi * innovation / variance
            squares += innovation**2 / variance
            level_score += innovation / variance
            level_info += 1.0 / variance
            scores[t] = -0.5 * (np.log(2 * np.pi * lines.noise * variance) + innovation**2 / (lines.noise * variance))
            D = D - psi[:, :, np.newaxis] * gain
            for k in range(K):
                D[k, 2, 2 * k : 2 * k + 2] += gain[2 * k : 2 * k + 2] * innovation
            m, P = m + gain * innovation, P - np.outer(gain, gain) * variance
            seen += 1
            for k in range(K):
                spread = P[2 * k, 2 * k] + P[2 * k + 1, 2 * k + 1]
                powers[k] += m[2 * k] ** 2 + m[2 * k + 1] ** 2 + lines.noise * spread
        signals[t] = m[::2]
    return Filtered(
        scores,
        signals,
        info,
        score,
        squares,
        seen,
        level_score,
        level_info,
        powers,
        0.25 * np.diag(P).reshape(K, 2).sum(axis=1),
    )


def m_step(lines, found, n):
    """Return the lines after one scoring step in angle, damping and gain, and the exact noise."""
    K = len(lines.turns)
    turns, dampings, ratios = lines.turns.copy(), lines.dampings.copy(), lines.ratios.copy()
    for k in range(K):
        step = np.linalg.solve(found.info[k], found.score[k])
        width = min(found.widths[k], 0.1)
        turns[k] = np.clip(turns[k] + np.clip(step[0], -width, width), 0.0, np.pi)
        dampings[k] = max(dampings[k] + np.clip(step[1], -width, width), 0.0)
        ratios[k] = np.clip(ratios[k] * np.exp(2.0 * np.clip(step[2], -0.5, 0.5)), max(2e-10, 2 / n**2), 1.0)
    level = lines.level + found.level_score / found.level_info
    return Lines(turns, dampings, ratios, found.powers / found.seen, found.squares / found.seen, level)

"""The lines of a signal, one after the other, each finer than a bin of its periodogram.

The strongest peak of what is left is taken out again and again, with all lines fitted together by least squares each
time (Feder & Weinstein 1988; RELAX: Li & Stoica 1996, Efficient mixed-spectrum estimation).
"""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import FloatArray

PADDING = 4
"""The periodogram is computed at so many points a bin."""
ZOOMS, POINTS = 4, 9
"""A peak is looked for again among so many points about it, so often, each time between its neighbours."""
CYCLES = 2
"""Each line is looked for anew so often when all are known."""
FEWEST = 16
"""With fewer values there are no lines to find."""


class Found(NamedTuple):
    """Lines of a signal, the strongest first."""

    angles: FloatArray
    """(K,) in radians a record, between 0 and pi."""
    powers: FloatArray
    """(K,): squared amplitudes."""
    noise: float
    """Variance of what is left."""


def find_lines(y: FloatArray, n_lines: int) -> Found:
    """Return the strongest lines of a signal (n,) of mean 0, NaN where a value is missing."""
    seen = ~np.isnan(y)
    y = np.where(seen, y, 0.0)
    if seen.sum() < max(FEWEST, 4 * n_lines):
        spread = np.pi * (np.arange(n_lines) + 0.5) / n_lines
        power = float((y**2).sum() / max(seen.sum(), 1))
        return Found(spread, np.full(n_lines, power / n_lines), power)
    times = np.arange(len(y), dtype=np.float64)
    angles: list[float] = []
    left = y
    for _ in range(n_lines):
        angles.append(_zoomed(left, times, _strongest(left)))
        left = y - seen * _fitted(y, seen, times, angles).sum(axis=0)
    for _ in range(CYCLES if n_lines > 1 else 0):
        for k in range(n_lines):
            parts = _fitted(y, seen, times, angles)
            alone = y - seen * (parts.sum(axis=0) - parts[k])
            angles[k] = _zoomed(alone, times, angles[k])
    parts = _fitted(y, seen, times, angles)
    powers = 2.0 * (parts**2).mean(axis=1)
    noise = float(((y - parts.sum(axis=0))[seen] ** 2).mean())
    order = np.argsort(-powers, kind="stable")
    return Found(np.array(angles)[order], powers[order], noise)


def _strongest(y: FloatArray) -> float:
    """Return the angle of the highest point of the periodogram, away from 0 and pi."""
    length = PADDING * 2 ** int(np.ceil(np.log2(len(y))))
    power = np.abs(np.fft.rfft(y, length))
    edge = length // len(y) + 1
    power[:edge] = power[-edge:] = 0.0
    return float(2.0 * np.pi * int(power.argmax()) / length)


def _zoomed(y: FloatArray, times: FloatArray, angle: float) -> float:
    """Return the angle of the peak near an angle, to a thousandth of a bin."""
    width = 2.0 * np.pi / len(y) / PADDING
    least = 0.5 * np.pi / len(y)
    for _ in range(ZOOMS):
        nearby = np.clip(angle + width * np.linspace(-1.0, 1.0, POINTS), least, np.pi - least)
        power = [np.abs(np.exp(-1j * each * times) @ y) for each in nearby]
        angle = float(nearby[int(np.argmax(power))])
        width *= 2.0 / (POINTS - 1)
    return angle


def _fitted(y: FloatArray, seen: FloatArray, times: FloatArray, angles: list[float]) -> FloatArray:
    """Return the lines (K, n) that fit y best, where it was seen."""
    phases = np.outer(angles, times)
    waves = np.concatenate([np.cos(phases), np.sin(phases)])
    gram = (waves * seen) @ waves.T
    gram[np.diag_indices(len(gram))] *= 1.0 + 1e-9
    amplitudes = np.linalg.solve(gram, waves @ y)
    K = len(angles)
    return np.asarray(amplitudes[:K, np.newaxis] * waves[:K] + amplitudes[K:, np.newaxis] * waves[K:])

"""The lines of a signal, one after the other, each finer than a bin of its periodogram.

The strongest peak of what is left is taken out again and again, with all lines fitted together by least squares each
time (Feder & Weinstein 1988; RELAX: Li & Stoica 1996, Efficient mixed-spectrum estimation).
"""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import BoolArray, FloatArray

PADDING = 4
"""The periodogram is computed at so many points a bin."""
ZOOMS, POINTS = 4, 9
"""A peak is looked for again among so many points about it, so often, each time between its neighbours."""
PIECES = 256
"""So many sums of a signal that is turned back by about its angle tell as much as all its values."""
LEAST_SHARE = 1e-9
"""Directions of less than this part of the largest are no lines of their own."""
CYCLES = 2
"""Each line is looked for anew so often when all are known."""
FEWEST = 16
"""With fewer values there are no lines to find."""


class Found(NamedTuple):
    """Lines of a signal."""

    angles: FloatArray
    """(K,) in radians a record, between 0 and pi."""
    powers: FloatArray
    """(K,): squared amplitudes."""
    noise: float
    """Variance of what is left."""


def find_lines(y: FloatArray, n_lines: int) -> Found:
    """Return the strongest lines of a signal (n,) of mean 0, NaN where a value is missing, the strongest first."""
    seen = ~np.isnan(y)
    y = np.where(seen, y, 0.0)
    if seen.sum() < max(FEWEST, 4 * n_lines):
        spread = np.pi * (np.arange(n_lines) + 0.5) / n_lines
        power = float((y**2).sum() / max(seen.sum(), 1))
        return Found(spread, np.full(n_lines, power / n_lines), power)
    lines = _Lines(y, seen)
    for k in range(n_lines):
        lines.place(k, _strongest(lines.left()))
        lines.place(k, _zoomed(lines.alone(k), lines.angles[k]))
    for _ in range(CYCLES if n_lines > 1 else 0):
        for k in range(n_lines):
            lines.place(k, _zoomed(lines.alone(k), lines.angles[k]))
    found = lines.found()
    order = np.argsort(-found.powers, kind="stable")
    return Found(found.angles[order], found.powers[order], found.noise)


def fit_lines(y: FloatArray, angles: FloatArray) -> Found:
    """Return the lines at given angles (K,) that fit a signal (n,) of mean 0 best, NaN where a value is missing."""
    seen = ~np.isnan(y)
    lines = _Lines(np.where(seen, y, 0.0), seen)
    for k, angle in enumerate(angles.tolist()):
        lines.place(k, angle)
    return lines.found()


class _Lines:
    """Lines that fit a signal (n,) together, where it was seen."""

    def __init__(self, y: FloatArray, seen: BoolArray) -> None:
        self._y, self._seen = y, seen
        self._waves: FloatArray = np.empty((0, len(y)))
        self._amplitudes: FloatArray = np.empty(0)
        self.angles: list[float] = []

    def place(self, k: int, angle: float) -> None:
        """Set the angle of line k, or add one as the last, and fit all of them by least squares."""
        phases = angle * np.arange(len(self._y))
        pair = np.stack([np.cos(phases), np.sin(phases)])
        if k == len(self.angles):
            self.angles.append(angle)
            self._waves = np.concatenate([self._waves, pair])
        self.angles[k], self._waves[2 * k : 2 * k + 2] = angle, pair
        gram = (self._waves * self._seen) @ self._waves.T
        # Two lines may be the same, as in silence, where there is none.
        self._amplitudes = np.asarray(np.linalg.lstsq(gram, self._waves @ self._y, LEAST_SHARE)[0], dtype=np.float64)

    def part(self, k: int) -> FloatArray:
        """Return line k (n,)."""
        own = slice(2 * k, 2 * k + 2)
        return np.asarray(self._amplitudes[own] @ self._waves[own])

    def found(self) -> Found:
        """Return the lines in their order."""
        powers = np.array([2.0 * (self.part(k) ** 2).mean() for k in range(len(self.angles))])
        left = self.left()[self._seen]
        return Found(np.array(self.angles), powers, float((left**2).mean()) if len(left) else 0.0)

    def left(self) -> FloatArray:
        """Return what is left of the signal without the lines, 0 where it was not seen."""
        return np.asarray(self._y - self._seen * (self._amplitudes @ self._waves))

    def alone(self, k: int) -> FloatArray:
        """Return what is left without the lines but k."""
        return self.left() + self._seen * self.part(k)


def _strongest(y: FloatArray) -> float:
    """Return the angle of the highest point of the periodogram, away from 0 and pi."""
    length = PADDING * 2 ** int(np.ceil(np.log2(len(y))))
    power = np.abs(np.fft.rfft(y, length))
    edge = length // len(y) + 1
    power[:edge] = power[-edge:] = 0.0
    return float(2.0 * np.pi * int(power.argmax()) / length)


def _zoomed(y: FloatArray, angle: float) -> float:
    """Return the angle of the peak near an angle, to a thousandth of a bin.

    The signal is turned back by the angle, which leaves it so slow that sums over pieces of it are enough.
    """
    n = len(y)
    slow = y * np.exp(-1j * angle * np.arange(n))
    length = -(-n // PIECES)
    sums = np.add.reduceat(slow, np.arange(0, n, length))
    places = (np.arange(len(sums)) + 0.5) * length
    offset, width = 0.0, 2.0 * np.pi / n / PADDING
    for _ in range(ZOOMS):
        nearby = offset + width * np.linspace(-1.0, 1.0, POINTS)
        offset = float(nearby[int(np.argmax(np.abs(np.exp(-1j * np.outer(nearby, places)) @ sums)))])
        width *= 2.0 / (POINTS - 1)
    least = 0.5 * np.pi / n
    return float(np.clip(angle + offset, least, np.pi - least))

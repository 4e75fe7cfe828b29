"""What is wrong with channels: silent, constant, missing, clipped, the same as another; told while they arrive."""

from collections.abc import Sequence

import numpy as np

from stream_em.arrays import FloatArray, IntArray

CLIPPED_SHARE = 1e-3
"""A channel of which more samples than this lie at its greatest or least value has met a limit."""
FEWEST_CLIPPED = 16
SAME = 1e-9
"""Two channels whose correlation differs from one by less than this are the same but for their scale."""


class ChannelCheck:
    """Counts what there is to say of each channel, in constant memory."""

    def __init__(self, names: Sequence[str]) -> None:
        d = len(names)
        self._names = tuple(names)
        self._n = 0
        self._missing: IntArray = np.zeros(d, dtype=np.int64)
        self._greatest, self._least = np.full(d, -np.inf), np.full(d, np.inf)
        self._at_greatest: IntArray = np.zeros(d, dtype=np.int64)
        self._at_least: IntArray = np.zeros(d, dtype=np.int64)
        self._first = np.full(d, np.nan)
        self._products = np.zeros((d + 1, d + 1))

    def look(self, values: FloatArray) -> None:
        """Take the next samples (n, D); NaN is missing."""
        if len(values) == 0:
            return
        missing = np.isnan(values)
        self._n += len(values)
        self._missing += missing.sum(axis=0)
        self._first = np.where(
            np.isnan(self._first), values[np.argmin(missing, axis=0), np.arange(len(self._first))], self._first
        )
        self._greatest, self._at_greatest = _at_limit(np.fmax, self._greatest, self._at_greatest, values)
        self._least, self._at_least = _at_limit(np.fmin, self._least, self._at_least, values)
        # About the first sample of each channel: sums of squares about zero would lose the digits of a large offset.
        about = np.c_[np.ones(len(values)), np.nan_to_num(values - np.nan_to_num(self._first))]
        self._products += about.T @ about

    def notes(self) -> list[str]:
        """Return what a person should know, a line each."""
        found = []
        for j, name in enumerate(self._names):
            here = int(self._n - self._missing[j])
            if here == 0:
                found.append(f"{name}: has no value at all")
                continue
            if self._missing[j]:
                found.append(f"{name}: {self._missing[j]:,} of {self._n:,} samples are missing")
            if self._greatest[j] == self._least[j]:
                value = self._greatest[j]
                found.append(f"{name}: {'is silent' if value == 0 else f'is constant ({value:g})'}")
                continue
            at_limits = int(self._at_greatest[j] + self._at_least[j])
            if at_limits >= FEWEST_CLIPPED and at_limits > CLIPPED_SHARE * here:
                found.append(
                    f"{name}: is clipped: {at_limits:,} of {here:,} samples lie at its limits {self._least[j]:g} and"
                    f" {self._greatest[j]:g}, and what was cut off sounds in every source"
                )
        return found + [f"{a} and {b}: are the same but for their scale" for a, b in self._same()]

    def _same(self) -> list[tuple[str, str]]:
        means = self._products[0, 1:] / max(self._n, 1)
        covariance = self._products[1:, 1:] / max(self._n, 1) - np.outer(means, means)
        deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        varies = (self._greatest > self._least) & (deviations > 0)
        pairs = []
        for i, j in zip(*np.triu_indices(len(self._names), 1), strict=True):
            if varies[i] and varies[j] and abs(covariance[i, j]) > (1 - SAME) * deviations[i] * deviations[j]:
                pairs.append((self._names[i], self._names[j]))
        return pairs


def _at_limit(extreme: np.ufunc, limit: FloatArray, count: IntArray, values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the limit of (n, D) values and those before, and how often it was met."""
    found = extreme(limit, extreme.reduce(values, axis=0))
    return found, np.where(found == limit, count, 0) + (values == found).sum(axis=0)

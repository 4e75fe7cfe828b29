"""The latest records of a stream, in constant memory."""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import FloatArray, IntArray


class Recent(NamedTuple):
    """A ring: the next record goes where the oldest is."""

    records: FloatArray
    """(n, D)."""
    counts: FloatArray
    """(n,): how many records each stands for."""
    taken: IntArray
    """(1,): records taken so far."""


def no_records(n: int, n_features: int) -> Recent:
    """Return a ring with room for n records."""
    return Recent(np.zeros((n, n_features)), np.zeros(n), np.zeros(1, dtype=np.int64))


def remember(recent: Recent, records: FloatArray, counts: FloatArray) -> None:
    """Take (n, D) records in place of the oldest."""
    room = len(recent.records)
    if room == 0:
        return
    end = int(recent.taken[0]) + len(records)
    records, counts = records[-room:], counts[-room:]
    begin = (end - len(records)) % room
    fit = min(len(records), room - begin)
    for ring, values in ((recent.records, records), (recent.counts, counts)):
        ring[begin : begin + fit] = values[:fit]
        ring[: len(values) - fit] = values[fit:]
    recent.taken[0] = end


def latest(recent: Recent, n: int | None = None) -> tuple[FloatArray, FloatArray]:
    """Return the latest n records (all that there are if None), oldest first, and their counts."""
    there = min(int(recent.taken[0]), len(recent.records))
    n = there if n is None else min(n, there)
    places = np.arange(int(recent.taken[0]) - n, int(recent.taken[0])) % max(1, len(recent.records))
    return recent.records[places], recent.counts[places]

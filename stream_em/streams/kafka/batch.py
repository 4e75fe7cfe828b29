"""Messages that were fetched together, decoded: their records, where each came from, and what could not be used."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.streams.codecs.interface import Codec
from stream_em.streams.kafka.interface import Envelope, Fetched, Partition
from stream_em.streams.records import Rejected


class Place(NamedTuple):
    """Where reading goes on in a partition: `within` records of the message at `offset` were taken already."""

    offset: int
    within: int = 0


class Cut(NamedTuple):
    """The first message that is not taken whole, and how many of its records are."""

    message: int
    within: int = 0


class Batch:
    """Messages of one topic and what a codec makes of them."""

    def __init__(
        self,
        fetched: Sequence[Fetched],
        codec: Codec,
        places: dict[Partition, Place],
        envelope: Callable[[Any], Envelope],
    ) -> None:
        self._fetched = fetched
        self._codec = codec
        self._envelope = envelope
        lengths = [len(each.values) for each in fetched]
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._offsets = np.concatenate([each.offsets for each in fetched])
        self._numbers = np.repeat([each.partition.number for each in fetched], lengths)
        values = [value for each in fetched for value in each.values]
        readable = cast("list[bytes]", values)
        if None in values:
            readable = [value for value in values if value is not None]
        self.n_tombstones = len(values) - len(readable)
        decoded = codec.decode(readable)
        self.values: FloatArray = decoded.values
        self.message: IntArray = decoded.message
        self.record: IntArray = decoded.record
        reasons = [(wrong.message, wrong.reason) for wrong in decoded.unreadable]
        if self.n_tombstones:
            at = np.flatnonzero([value is not None for value in values])
            self.message = at[self.message]
            reasons = [(int(at[message]), reason) for message, reason in reasons]
        self.unreadable: list[tuple[int, str]] = reasons
        self._contents = values
        self._already: dict[int, int] = {}
        self._skip(places)

    @property
    def n_messages(self) -> int:
        """The number of messages, those without a value too."""
        return len(self._offsets)

    @property
    def n_units(self) -> int:
        """The number of records and of what could not be used."""
        return len(self.message) + len(self.unreadable)

    def places(self, records: slice = slice(None)) -> dict[str, str | IntArray]:
        """Return where records came from, as columns."""
        message = self.message[records]
        found: dict[str, str | IntArray] = {
            "topic": self._fetched[0].partition.topic,
            "partition": self._numbers[message],
            "offset": self._offsets[message],
        }
        if self._codec.several:
            found["record"] = self.record[records]
        return found

    def timestamps(self, records: slice, of: Callable[[Sequence[Any]], FloatArray]) -> FloatArray:
        """Return the times (n,) of records by their messages'."""
        times = np.concatenate([of(each.messages) for each in self._fetched])
        return np.asarray(times[self.message[records]])

    def whole(self) -> Cut:
        """Return the cut behind all messages."""
        return Cut(self.n_messages)

    def cut_after(self, n: int) -> Cut:
        """Return the cut behind the first `n` records or unusable messages.

        A message of which a part is unusable is not cut: it is taken whole if any of it is.
        """
        if n >= self.n_units:
            return self.whole()
        bad = np.bincount([message for message, _ in self.unreadable], minlength=self.n_messages)
        ends = np.cumsum(np.bincount(self.message, minlength=self.n_messages) + bad)
        message = int(np.searchsorted(ends, n, side="right"))
        taken = n - (int(ends[message - 1]) if message else 0)
        if taken and bad[message]:
            return Cut(message + 1)
        return Cut(message, self.already(message) + taken)

    def already(self, message: int) -> int:
        """Return how many records of a message were taken before it was read again."""
        return self._already.get(message, 0)

    def before(self, cut: Cut) -> slice:
        """Return which records lie before a cut."""
        end = int(np.searchsorted(self.message, cut.message))
        if cut.within:
            end += int(np.count_nonzero(self.record[self.message == cut.message] < cut.within))
        return slice(0, end)

    def rejected(self, cut: Cut) -> tuple[Rejected, ...]:
        """Return what could not be used before a cut; `cut.within` does not matter to a message that is unusable."""
        return tuple(self.reject(message, reason) for message, reason in self.unreadable if message < cut.message)

    def reject(self, message: int, reason: str) -> Rejected:
        """Return a message that could not be used, as it was."""
        fetched, index = self._found(message)
        topic, number = fetched.partition
        offset = int(self._offsets[message])
        place: dict[str, str | int] = {"topic": topic, "partition": number, "offset": offset}
        words = f"{fetched.partition}, offset {offset:,}: {reason}"
        return Rejected(place, words, self._contents[message] or b"", *self._envelope(fetched.messages[index]))

    def moved(self, cut: Cut) -> dict[Partition, Place]:
        """Return where reading goes on behind a cut in each partition that lies before it."""
        found: dict[Partition, Place] = {}
        for fetched, start, end in zip(self._fetched, self._starts[:-1], self._starts[1:], strict=True):
            if end <= cut.message:
                found[fetched.partition] = Place(int(self._offsets[end - 1]) + 1)
            elif start <= cut.message:
                found[fetched.partition] = Place(int(self._offsets[cut.message]), cut.within)
        return found

    def _found(self, message: int) -> tuple[Fetched, int]:
        which = int(np.searchsorted(self._starts, message, side="right")) - 1
        return self._fetched[which], message - int(self._starts[which])

    def _skip(self, places: dict[Partition, Place]) -> None:
        """Leave out the records that were taken already from a message that is read again."""
        for each, start in zip(self._fetched, self._starts[:-1], strict=True):
            place = places.get(each.partition)
            if place is None or not place.within or each.offsets[0] != place.offset:
                continue
            self._already[int(start)] = place.within
            again = (self.message == start) & (self.record < place.within)
            keep: Any = ~again
            self.values = np.ascontiguousarray(self.values[keep])
            self.message, self.record = self.message[keep], self.record[keep]

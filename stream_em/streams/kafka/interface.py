"""What the source and the sinks need of a Kafka client, whichever library it is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from stream_em.arrays import FloatArray, IntArray


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"topic {self.topic}, partition {self.number}"


class Topic(NamedTuple):
    """A topic as the broker knows it now."""

    id: str
    """32 hexadecimal digits; a topic that is deleted and made anew has another."""
    partitions: tuple[int, ...]


class Range(NamedTuple):
    """The offsets that a partition holds: from `begin` up to, not including, `end`."""

    begin: int
    end: int


class Fetched(NamedTuple):
    """Consecutive messages of one partition; a message without a value is a tombstone."""

    partition: Partition
    offsets: IntArray
    """(n,)"""
    values: list[bytes | None]
    timestamp: float
    """Of the last, in seconds since 1970."""
    messages: Sequence[Any]
    """The client's own objects, for `Client.envelope`."""
    n_bytes: int
    """Of all values."""
    topic_id: str = ""
    """Of the topic as it was when they were fetched."""

    @classmethod
    def of(
        cls,
        partition: Partition,
        offsets: IntArray,
        values: list[bytes | None],
        timestamp: float,
        messages: Sequence[Any],
    ) -> "Fetched":
        """Return the messages with their bytes counted."""
        if None in values:
            n_bytes = sum(len(value) for value in values if value is not None)
        else:
            n_bytes = sum(map(len, cast("list[bytes]", values)))
        return cls(partition, offsets, values, timestamp, messages, n_bytes)

    def part(self, begin: int, end: int | None) -> "Fetched":
        """Return some of the messages."""
        chosen = slice(begin, end)
        of = self.partition, self.offsets[chosen], self.values[chosen], self.timestamp, self.messages[chosen]
        return Fetched.of(*of)._replace(topic_id=self.topic_id)


class Envelope(NamedTuple):
    """What a message carries beside its value."""

    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class BrokerAwayError(Exception):
    """No broker answered in time; it may be back later."""


class OffsetsGoneError(Exception):
    """The broker does not have the offsets that were asked for."""

    def __init__(self, partitions: Iterable[Partition]) -> None:
        self.partitions = tuple(partitions)
        super().__init__(", ".join(map(str, self.partitions)))


class Client(Protocol):
    """A connection that reads; one thread at a time may use it.

    Every method raises `OutsideError` if the broker refuses the client for good (password, certificate, rights).
    """

    def topics(self, names: Sequence[str] | None, seconds: float) -> dict[str, Topic]:
        """Return those of these topics that are there, or all; raises `BrokerAwayError` if none answers in time."""
        ...

    def create(self, topic: str, seconds: float) -> None:
        """Make a topic with the broker's own number of partitions and replicas; raises `BrokerAwayError`."""
        ...

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions, and no others, each from its offset on."""
        ...

    def fetch(self, most: int, seconds: float) -> list[Fetched]:
        """Return up to `most` messages, waiting so long for the first; raises `OffsetsGoneError`."""
        ...

    def pause(self, paused: bool) -> None:
        """Let `fetch` return nothing, or something again."""
        ...

    def position(self, partition: Partition) -> int:
        """Return the offset that is read next: beyond the last message and what is no message after it."""
        ...

    def ranges(self, partitions: Sequence[Partition], seconds: float) -> dict[Partition, Range]:
        """Ask for the offsets that partitions hold; raises `BrokerAwayError` if none answers in time."""
        ...

    def end(self, partition: Partition) -> int | None:
        """Return the end of a partition as the last fetch told it, without asking."""
        ...

    def offsets_at(self, partitions: Sequence[Partition], timestamp: float, seconds: float) -> dict[Partition, int]:
        """Return the first offset from a time (seconds since 1970) on, the end if all are earlier."""
        ...

    commit_error: str | None
    """Why the last commit that nobody waited for failed, if it did."""

    def commit(self, offsets: Mapping[Partition, int], seconds: float | None) -> None:
        """Store offsets as the group's; raises `BrokerAwayError` if that did not happen in time.

        If `seconds` is None, nobody waits for it.
        """
        ...

    def timestamps(self, messages: Sequence[Any]) -> FloatArray:
        """Return the times (n,) of some of `Fetched.messages`, in seconds since 1970."""
        ...

    def envelope(self, message: Any) -> Envelope:
        """Return key and headers of one of `Fetched.messages`."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...

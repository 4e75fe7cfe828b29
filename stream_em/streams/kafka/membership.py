"""Several processes of one group that share the partitions of topics, by the group protocol of the broker."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import Partition, Topic


class Held(NamedTuple):
    """What is this member's now."""

    partitions: frozenset[Partition]
    lost: frozenset[Partition]
    """What it lost since the last look: the group went on without it, and others may have them already."""
    joined: bool
    """Whether the group has ever told it what is its own."""


class Membership(Protocol):
    """A member of a group. It reads nothing: it only says which partitions are whose. One thread may use it.

    Nothing is waited for when the group moves a partition: whoever hands over and whoever takes over settle that
    between themselves. Every method raises `OutsideError` if the broker refuses for good.
    """

    commit_error: str | None
    """Why the last commit failed, if it did."""

    def topics(self, names: Sequence[str] | None, seconds: float) -> dict[str, Topic]:
        """Return those of these topics that are there, or all; raises `BrokerAwayError` if none answers in time."""
        ...

    def join(self, topics: Sequence[str]) -> None:
        """Take part in these topics, and no others."""
        ...

    def held(self, seconds: float) -> Held:
        """Stay in the group, waiting so long for news, and return what is ours."""
        ...

    def commit(self, offsets: Mapping[Partition, int], seconds: float | None) -> None:
        """Store offsets of partitions that are ours; raises `BrokerAwayError` if that did not happen in time.

        If `seconds` is None, nobody waits for it.
        """
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


def open_membership(connection: Connection, group: str) -> Membership:
    """Connect; raises `BrokerAwayError` if no broker answers in time, `OutsideError` if it refuses."""
    if connection.client == "confluent-kafka":
        from stream_em.streams.kafka.confluent_member import ConfluentMember

        return ConfluentMember(connection, group)
    from stream_em.streams.kafka.kafkapython_member import KafkaPythonMember

    return KafkaPythonMember(connection, group)

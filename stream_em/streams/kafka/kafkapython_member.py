"""Membership in a group with kafka-python."""

from collections.abc import Iterable, Sequence
from typing import Any

from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.kafka.kafkapython import KafkaPythonClient, library
from stream_em.streams.kafka.membership import Held


class KafkaPythonMember(KafkaPythonClient):
    """A member that moves only the partitions that must move (KIP-429)."""

    def __init__(self, connection: Connection, group: str) -> None:
        library()
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

        super().__init__(connection, group, "read_committed", partition_assignment_strategy=[CooperativeStickyAssignor])
        self._listener = _listener(self._consumer)
        self._name = ""
        self._held: frozenset[Partition] = frozenset()

    def join(self, topics: Sequence[str]) -> None:
        """Take part in these topics, and no others."""
        with self._blame():
            self._consumer.subscribe(list(topics), listener=self._listener)

    def held(self, seconds: float) -> Held:
        """Stay in the group, waiting so long for news, and return what is ours."""
        with self._blame():
            self._consumer.poll(timeout_ms=int(1000 * seconds))
        partitions = frozenset(Partition(*theirs) for theirs in self._consumer.assignment())
        lost, self._listener.lost = frozenset(Partition(*theirs) for theirs in self._listener.lost), set()
        group = self._consumer.group_metadata()
        if self._name and group.member_id != self._name:
            # A failed commit can make it join again under a new name without a word of what it has lost.
            lost |= self._held
        self._name, self._held = group.member_id, partitions
        return Held(partitions, lost, group.generation_id >= 0)


def _listener(consumer: Any) -> Any:
    """Return an object that lets nothing be fetched and remembers what was lost."""
    from kafka import ConsumerRebalanceListener

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        def __init__(self) -> None:
            self.lost: set[Any] = set()

        def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
            for theirs in assigned:
                # Without a place to read from, the client would look for a committed one, and fail if there is none.
                consumer.seek(theirs, 0)
                consumer.pause(theirs)

        def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
            """Nothing to do: what is ours is looked at after each poll."""

        def on_partitions_lost(self, lost: Iterable[Any]) -> None:
            self.lost |= set(lost)

    return Listener()

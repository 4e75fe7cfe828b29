"""Membership in a group with confluent-kafka."""

from collections.abc import Sequence
from typing import Any

from stream_em.streams.kafka.confluent import ConfluentClient
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.kafka.membership import Held


class ConfluentMember(ConfluentClient):
    """A member that moves only the partitions that must move (KIP-429)."""

    def __init__(self, connection: Connection, group: str) -> None:
        arguments = {"partition.assignment.strategy": "cooperative-sticky"}
        super().__init__(connection, group, "read_committed", **arguments)
        self._lost: set[Partition] = set()
        self._joined = False

    def join(self, topics: Sequence[str]) -> None:
        """Take part in these topics, and no others."""
        with self._blame():
            self._consumer.subscribe(list(topics), on_assign=self._assigned, on_lost=self._lose)

    def held(self, seconds: float) -> Held:
        """Stay in the group, waiting so long for news, and return what is ours."""
        with self._blame():
            message = self._consumer.poll(seconds)
            self._check_refused()
            if message is not None and message.error() is not None:
                self._check(message.error())
            theirs = self._consumer.assignment()
        lost, self._lost = frozenset(self._lost), set()
        return Held(frozenset(Partition(at.topic, at.partition) for at in theirs), lost, self._joined)

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        self._joined = True
        for at in partitions:
            at.offset = self._ck.OFFSET_END
        consumer.incremental_assign(partitions)
        if partitions:
            consumer.pause(partitions)

    def _lose(self, consumer: Any, partitions: list[Any]) -> None:
        self._lost |= {Partition(at.topic, at.partition) for at in partitions}

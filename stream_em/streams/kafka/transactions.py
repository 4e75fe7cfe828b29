"""Messages that become visible together, with a mark of how far they go: both or neither."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Protocol, TypeVar

from stream_em.errors import OutsideError
from stream_em.streams.kafka import confluent, kafkapython
from stream_em.streams.kafka.batch import Place
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import BrokerAwayError, Partition
from stream_em.streams.kafka.producing import ConfluentProducer, KafkaPythonProducer, Producer, given_up

TRANSACTION_MILLISECONDS = 600_000
"""The broker ends a transaction by itself after so long; a snapshot must come before."""
RETRY_SECONDS = 0.2
Answer = TypeVar("Answer")
Marks = Mapping[Partition, Place]


class TransactionalProducer(Producer, Protocol):
    """A producer whose messages are seen by readers of committed ones only after `commit`.

    One with the same name that was there before is shut out, and what it had not committed is thrown away.
    """

    def marks(self) -> dict[Partition, Place]:
        """Return the marks of the last commit under this name."""
        ...

    def commit(self, marks: Marks) -> None:
        """Make all messages since the last commit visible, and the marks with them."""
        ...


def open_transactional(connection: Connection, patience: float, name: str) -> TransactionalProducer:
    """Connect under a name that belongs to one run and topic; raises `OutsideError` as `open_producer` does."""
    try:
        if connection.client == "confluent-kafka":
            return _ConfluentTransactions(connection, patience, name)
        return _KafkaPythonTransactions(connection, patience, name)
    except BrokerAwayError as error:
        raise OutsideError(f"kafka: {error}; check kafka.bootstrap_servers, or start the broker") from None


def _patiently(ask: Callable[[], Answer], connection: Connection) -> Answer:
    """Ask until there is an answer: a broker that has just started has no coordinator yet."""
    deadline = time.monotonic() + connection.connect_timeout
    while True:
        try:
            return ask()
        except BrokerAwayError as error:
            if time.monotonic() > deadline:
                raise OutsideError(f"kafka: {error}; try again when it is there") from None
            time.sleep(RETRY_SECONDS)


class _KafkaPythonTransactions(KafkaPythonProducer):
    def __init__(self, connection: Connection, patience: float, name: str) -> None:
        super().__init__(connection, patience, transactional_id=name, transaction_timeout_ms=TRANSACTION_MILLISECONDS)
        self._name = name
        self._begun = False
        with kafkapython.blaming(connection, connection.connect_timeout):
            self._producer.init_transactions()

    def marks(self) -> dict[Partition, Place]:
        with closing(kafkapython.admin_of(self._connection)) as admin:
            stored = _patiently(lambda: self._stored(admin), self._connection)
        return {Partition(*theirs): Place(at.offset, int(at.metadata)) for theirs, at in stored.items()}

    def _stored(self, admin: Any) -> Any:
        with kafkapython.blaming(self._connection):
            return admin.list_group_offsets({self._name: None})[self._name]

    def send(self, *arguments: Any, **more: Any) -> None:
        if not self._begun:
            self._producer.begin_transaction()
            self._begun = True
        super().send(*arguments, **more)

    def commit(self, marks: Marks) -> None:
        from kafka.structs import OffsetAndMetadata, TopicPartition

        if not self._begun:
            return
        self.flush()
        theirs = {TopicPartition(*each): OffsetAndMetadata(at.offset, str(at.within), -1) for each, at in marks.items()}
        with given_up(kafkapython.blaming(self._connection, self._patience)):
            self._producer.send_offsets_to_transaction(theirs, self._name)
            self._producer.commit_transaction()
        self._begun = False


class _ConfluentTransactions(ConfluentProducer):
    def __init__(self, connection: Connection, patience: float, name: str) -> None:
        more = {"transactional.id": name, "transaction.timeout.ms": TRANSACTION_MILLISECONDS}
        super().__init__(connection, patience, **more)
        self._name = name
        self._begun = False
        with confluent.blaming(connection, connection.connect_timeout):
            self._producer.init_transactions(connection.connect_timeout)

    def marks(self) -> dict[Partition, Place]:
        return _patiently(self._marks, self._connection)

    def _marks(self) -> dict[Partition, Place]:
        from confluent_kafka import ConsumerGroupTopicPartitions
        from confluent_kafka.admin import AdminClient

        with confluent.blaming(self._connection, self._connection.connect_timeout):
            admin = AdminClient(self._connection.for_confluent() | {"logger": confluent.LOG})
            asked = admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(self._name)], request_timeout=self._connection.connect_timeout
            )
            stored = asked[self._name].result().topic_partitions
        return {Partition(at.topic, at.partition): Place(at.offset, int(at.metadata)) for at in stored}

    def send(self, *arguments: Any, **more: Any) -> None:
        if not self._begun:
            self._producer.begin_transaction()
            self._begun = True
        super().send(*arguments, **more)

    def commit(self, marks: Marks) -> None:
        ck = confluent.library()
        if not self._begun:
            return
        self.flush()
        theirs = [ck.TopicPartition(*each, at.offset, str(at.within)) for each, at in marks.items()]
        group = {"group.id": self._name, "logger": confluent.LOG}
        with given_up(confluent.blaming(self._connection, self._patience)):
            reader = ck.Consumer(self._connection.for_confluent() | group)
            try:
                self._producer.send_offsets_to_transaction(theirs, reader.consumer_group_metadata(), self._patience)
            finally:
                reader.close()
            self._producer.commit_transaction(self._patience)
        self._begun = False

"""Messages that become visible together, with a mark of how far they go: both or neither."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple, Protocol, TypeVar

from stream_em.errors import OutsideError
from stream_em.streams.kafka import confluent, kafkapython
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import BrokerAwayError, Partition
from stream_em.streams.kafka.producing import ConfluentProducer, Headers, KafkaPythonProducer, Producer, given_up
from stream_em.streams.kafka.settings import LONGEST_TRANSACTION_SECONDS

TRANSACTION_MILLISECONDS = LONGEST_TRANSACTION_SECONDS * 1000
RETRY_SECONDS = 0.2
Answer = TypeVar("Answer")


class Mark(NamedTuple):
    """How far a partition was written: up to, not including, the record `within` of the message at `offset`."""

    offset: int
    within: int
    topic_id: str
    """Of the topic that the partition belongs to; one that is made anew has another. Empty if it is not known."""

    @property
    def words(self) -> str:
        """What the broker keeps beside the offset."""
        return f"{self.within} {self.topic_id}"

    @classmethod
    def of(cls, offset: int, words: str) -> "Mark":
        """Return the mark that the broker has kept."""
        within, _, topic_id = words.partition(" ")
        return cls(offset, int(within), topic_id)


Marks = Mapping[Partition, Mark]


class _Client(Producer, Protocol):
    """A producer of one of the libraries with a transactional id: it shuts out an earlier one of the same id."""

    def begin(self) -> None:
        """Begin a transaction."""
        ...

    def marks(self) -> dict[Partition, Mark]:
        """Return the marks of the last commit."""
        ...

    def commit(self, marks: Marks) -> None:
        """Commit the transaction, and marks with it."""
        ...


class TransactionalProducer:
    """A producer whose messages are seen by readers of committed ones only after `commit`.

    One with the same name that was there before is shut out, and what it had not committed is thrown away.
    """

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._begun = False
        self.marks = client.marks
        self.flush = client.flush
        self.close = client.close

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Send a message, perhaps later; the first begins a transaction."""
        if not self._begun:
            self._client.begin()
            self._begun = True
        self._client.send(topic, key, value, headers)

    def commit(self, marks: Marks) -> None:
        """Make all messages since the last commit visible, and the marks with them."""
        if self._begun:
            self._client.flush()
            self._client.commit(marks)
            self._begun = False


def open_transactional(connection: Connection, patience: float, name: str) -> TransactionalProducer:
    """Connect under a name that belongs to one run and topic; raises `OutsideError` as `open_producer` does."""
    kind = _ConfluentTransactions if connection.client == "confluent-kafka" else _KafkaPythonTransactions
    try:
        return TransactionalProducer(kind(connection, patience, name))
    except BrokerAwayError as error:
        raise OutsideError(f"kafka: {error}; check kafka.bootstrap_servers, or start the broker") from None


def end_transactions(connection: Connection, names: Iterable[str]) -> None:
    """Throw away what was sent under these names and not committed, and shut out whoever still sends under them.

    Until then readers of committed messages see nothing of what comes after it.
    """
    for name in names:
        open_transactional(connection, connection.connect_timeout, name).close()


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
        with kafkapython.blaming(connection, connection.connect_timeout):
            self._producer.init_transactions()

    def begin(self) -> None:
        with given_up(kafkapython.blaming(self._connection)):
            self._producer.begin_transaction()

    def marks(self) -> dict[Partition, Mark]:
        with closing(kafkapython.admin_of(self._connection)) as admin:
            stored = _patiently(lambda: self._stored(admin), self._connection)
        return {Partition(*theirs): Mark.of(at.offset, at.metadata) for theirs, at in stored.items()}

    def _stored(self, admin: Any) -> Any:
        with kafkapython.blaming(self._connection):
            return admin.list_group_offsets({self._name: None})[self._name]

    def commit(self, marks: Marks) -> None:
        from kafka.structs import OffsetAndMetadata, TopicPartition

        theirs = {TopicPartition(*each): OffsetAndMetadata(at.offset, at.words, -1) for each, at in marks.items()}
        with given_up(kafkapython.blaming(self._connection, self._patience)):
            self._producer.send_offsets_to_transaction(theirs, self._name)
            self._producer.commit_transaction()


class _ConfluentTransactions(ConfluentProducer):
    def __init__(self, connection: Connection, patience: float, name: str) -> None:
        more = {"transactional.id": name, "transaction.timeout.ms": TRANSACTION_MILLISECONDS}
        super().__init__(connection, patience, **more)
        self._name = name
        with confluent.blaming(connection, connection.connect_timeout):
            self._producer.init_transactions(connection.connect_timeout)

    def begin(self) -> None:
        with given_up(confluent.blaming(self._connection)):
            self._producer.begin_transaction()

    def marks(self) -> dict[Partition, Mark]:
        return _patiently(self._marks, self._connection)

    def _marks(self) -> dict[Partition, Mark]:
        from confluent_kafka import ConsumerGroupTopicPartitions
        from confluent_kafka.admin import AdminClient

        with confluent.blaming(self._connection, self._connection.connect_timeout):
            admin = AdminClient(self._connection.for_confluent() | {"logger": confluent.LOG})
            asked = admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(self._name)], request_timeout=self._connection.connect_timeout
            )
            stored = asked[self._name].result().topic_partitions
        return {Partition(at.topic, at.partition): Mark.of(at.offset, at.metadata) for at in stored}

    def commit(self, marks: Marks) -> None:
        ck = confluent.library()
        theirs = [ck.TopicPartition(*each, at.offset, at.words) for each, at in marks.items()]
        group = {"group.id": self._name, "logger": confluent.LOG}
        with given_up(confluent.blaming(self._connection, self._patience)):
            reader = ck.Consumer(self._connection.for_confluent() | group)
            try:
                self._producer.send_offsets_to_transaction(theirs, reader.consumer_group_metadata(), self._patience)
            finally:
                reader.close()
            self._producer.commit_transaction(self._patience)

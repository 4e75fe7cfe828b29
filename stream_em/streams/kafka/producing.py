"""Two clients that write, behind one interface."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Protocol

from stream_em.errors import OutsideError
from stream_em.streams.kafka import confluent, kafkapython
from stream_em.streams.kafka.clients import open_client
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import BrokerAwayError, Client

ANSWER_SECONDS = 10.0
LINGER_MILLISECONDS = 20
BATCH_BYTES = 256 << 10
MOST_BYTES = 16 << 20
LEAST_PATIENCE_SECONDS = 10.0
"""Clients refuse to give up on a message before a request can time out."""
Headers = Sequence[tuple[str, bytes | None]]


class Producer(Protocol):
    """A connection that writes; every message is kept by the broker when `flush` returns."""

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Send a message, perhaps later; raises `OutsideError` if an earlier one failed."""
        ...

    def flush(self) -> None:
        """Wait until the broker has acknowledged all messages; raises `OutsideError` if it does not."""
        ...

    def close(self) -> None:
        """Let go of the connection; what was not flushed may be lost."""
        ...


def open_producer(connection: Connection, patience: float) -> Producer:
    """Connect; `patience` is how many seconds a message may wait for a broker that is away.

    Raises `OutsideError` if there is none now.
    """
    try:
        if connection.client == "confluent-kafka":
            return ConfluentProducer(connection, patience)
        return KafkaPythonProducer(connection, patience)
    except BrokerAwayError as error:
        raise OutsideError(f"kafka: {error}; check kafka.bootstrap_servers, or start the broker") from None


def make_topics(connection: Connection, topics: Sequence[str]) -> list[str]:
    """Make the topics that are not there, and return which these were.

    A message to one that is not there would wait for all patience. Raises `OutsideError` if the broker refuses.
    """
    if not topics:
        return []
    with _asked(connection) as client:
        missing = _missing(client, topics)
        for topic in missing:
            client.create(topic, ANSWER_SECONDS)
    return missing


def missing_topics(connection: Connection, topics: Sequence[str]) -> list[str]:
    """Return the topics that are not there; raises `OutsideError` if the broker is away or refuses."""
    if not topics:
        return []
    with _asked(connection) as client:
        return _missing(client, topics)


def _missing(client: Client, topics: Sequence[str]) -> list[str]:
    there = client.topics(topics, ANSWER_SECONDS)
    return [topic for topic in topics if topic not in there]


@contextmanager
def _asked(connection: Connection) -> Iterator[Client]:
    """Give a client for a few questions."""
    try:
        with closing(open_client(connection)) as client:
            yield client
    except BrokerAwayError as error:
        raise OutsideError(f"kafka: {error}; check kafka.bootstrap_servers, or start the broker") from None


@contextmanager
def given_up(blaming: AbstractContextManager[None]) -> Iterator[None]:
    """Turn a broker that is still away after all patience into `OutsideError`."""
    try:
        with blaming:
            yield
    except BrokerAwayError as error:
        raise OutsideError(f"kafka: {error}; run again when it is back: the run goes on where it stopped") from None


class KafkaPythonProducer:
    """Writes with kafka-python."""

    def __init__(self, connection: Connection, patience: float, **more: Any) -> None:
        kafka = kafkapython.library()
        self._connection = connection
        self._patience = max(patience, LEAST_PATIENCE_SECONDS)
        self._failed: list[BaseException] = []
        arguments = {
            "linger_ms": LINGER_MILLISECONDS,
            "batch_size": BATCH_BYTES,
            "max_request_size": MOST_BYTES,
            "delivery_timeout_ms": int(1000 * self._patience),
            "max_block_ms": int(1000 * self._patience),
        }
        arguments |= kafkapython.arguments_of(connection, kafka.KafkaProducer) | more
        self._producer = kafkapython.connected(connection, kafka.KafkaProducer, arguments)

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Send a message, perhaps later."""
        self._check()
        with given_up(kafkapython.blaming(self._connection, self._patience)):
            future = self._producer.send(topic, key=key, value=value, headers=list(headers))
        future.add_errback(self._failed.append)

    def flush(self) -> None:
        """Wait until the broker has acknowledged all messages."""
        with given_up(kafkapython.blaming(self._connection, self._patience)):
            self._producer.flush(timeout=self._patience)
        self._check()

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close(timeout=0)

    def _check(self) -> None:
        if self._failed:
            with given_up(kafkapython.blaming(self._connection, self._patience)):
                raise self._failed[0]


class ConfluentProducer:
    """Writes with confluent-kafka."""

    def __init__(self, connection: Connection, patience: float, **more: Any) -> None:
        ck = confluent.library()
        self._connection = connection
        self._patience = max(patience, LEAST_PATIENCE_SECONDS)
        self._failed: list[Any] = []
        arguments = {
            "linger.ms": LINGER_MILLISECONDS,
            "batch.size": BATCH_BYTES,
            "message.max.bytes": MOST_BYTES,
            "enable.idempotence": True,
            "message.timeout.ms": int(1000 * self._patience),
            "logger": confluent.LOG,
            "error_cb": self._note,
            "on_delivery": self._delivered,
        }
        arguments |= connection.for_confluent() | more
        with confluent.blaming(connection):
            self._producer = ck.Producer(arguments)
        with confluent.blaming(connection, connection.connect_timeout):
            self._producer.list_topics(timeout=connection.connect_timeout)

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = ()) -> None:
        """Send a message, perhaps later."""
        while True:
            self._check()
            try:
                self._producer.produce(topic, value, key, headers=list(headers))
            except BufferError:
                self._producer.poll(0.1)
                continue
            except confluent.library().KafkaException:
                with given_up(confluent.blaming(self._connection)):
                    raise
            self._producer.poll(0)
            return

    def flush(self) -> None:
        """Wait until the broker has acknowledged all messages."""
        waiting = self._producer.flush(self._patience)
        self._check()
        if waiting:
            raise OutsideError(f"kafka: {waiting:,} messages were not acknowledged within {self._patience:.0f} s")

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.purge()

    def _note(self, error: Any) -> None:
        if confluent.is_refusal(error):
            self._failed.append(error)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(error)

    def _check(self) -> None:
        if self._failed:
            raise confluent.refused(self._failed[0], self._connection)

"""The interface over confluent-kafka, which is librdkafka: an extra, several times faster."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import methodcaller
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError, OutsideError
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import (
    BrokerAwayError,
    Envelope,
    Fetched,
    OffsetsGoneError,
    Partition,
    Range,
    Topic,
)

TAKEN = frozenset(
    {"group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "isolation.level"}
    | {"partition.assignment.strategy"}
)
_POLL_SECONDS = 0.05
# The library gives no headers but as texts. Where one is none, it sets an exception and returns half a list all the
# same: a plain call, once the interpreter has specialised it, would let that pass, and the list crashes who reads it.
_HEADERS = methodcaller("headers")
LOG = logging.getLogger("stream_em.kafka")
LOG.addHandler(logging.NullHandler())
LOG.propagate = False


class ConfluentClient:
    """Reads with confluent-kafka."""

    def __init__(self, connection: Connection, group: str | None, isolation_level: str, **more: Any) -> None:
        ck = library()
        self._ck = ck
        self._connection = connection
        self._refused: list[Any] = []
        self.commit_error: str | None = None
        self._arguments = connection.for_confluent(TAKEN) | {"error_cb": self._note, "logger": LOG}
        arguments = self._arguments | {
            # librdkafka wants a name even where there is no group.
            "group.id": group or "stream_em",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "on_commit": self._committed,
            # The library's defaults let the first messages, and those after a full queue, wait for a second.
            "enable.sparse.connections": False,
            "fetch.queue.backoff.ms": 10,
            # Nothing is ever skipped or read again by the client's own choice.
            "auto.offset.reset": "error",
            "isolation.level": isolation_level,
            **more,
        }
        with self._blame():
            self._consumer = ck.Consumer(arguments)
        self._isolation_level = isolation_level
        self._positions: dict[Partition, int] = {}
        self._gone: list[Partition] = []
        self._made: list[Any] = []
        with self._blame(connection.connect_timeout):
            answer = self._admin().describe_cluster(request_timeout=connection.connect_timeout)
            while not answer.done():
                # Refusals come to `_note` while it polls, long before the request times out.
                self._admin().poll(_POLL_SECONDS)
                self._check_refused()
            answer.result()

    def topics(self, names: Sequence[str] | None, seconds: float) -> dict[str, Topic]:
        """Return those of these topics that are there, or all; raises `BrokerAwayError` if none answers in time."""
        with self._blame(seconds):
            if names is None:
                names = list(self._admin().list_topics(timeout=seconds).topics)
            wanted = self._ck.TopicCollection(list(names))
            described = self._admin().describe_topics(wanted, request_timeout=seconds)
            found = {}
            for name, future in described.items():
                try:
                    topic = future.result()
                except self._ck.KafkaException as error:
                    if error.args[0].code() != self._ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise
                    continue
                if not topic.is_internal:
                    found[name] = Topic(_hexadecimal(topic.topic_id), tuple(sorted(at.id for at in topic.partitions)))
        return found

    def create(self, topic: str, seconds: float) -> None:
        """Make a topic with the broker's own number of partitions and replicas; raises `BrokerAwayError`."""
        from confluent_kafka.admin import NewTopic

        with self._blame(seconds):
            try:
                self._admin().create_topics([NewTopic(topic)], request_timeout=seconds)[topic].result()
            except self._ck.KafkaException as error:
                if error.args[0].code() != self._ck.KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions, and no others, each from its offset on."""
        with self._blame():
            for topic in {partition.topic for partition in positions}:
                with suppress(self._ck.KafkaException):
                    # Only to know the leaders now: on its own it looks for them once a second.
                    self._consumer.list_topics(topic, timeout=1.0)
            self._consumer.assign([self._theirs(partition, offset) for partition, offset in positions.items()])
        self._positions, self._gone = dict(positions), []

    def fetch(self, most: int, seconds: float) -> list[Fetched]:
        """Return up to `most` messages, waiting so long for the first; raises `OffsetsGoneError`."""
        if self._gone:
            gone, self._gone = self._gone, []
            raise OffsetsGoneError(gone)
        with self._blame():
            messages = self._consumer.consume(most, timeout=seconds)
            self._check_refused()
        runs: dict[Partition, list[Any]] = {}
        for message in messages:
            partition = Partition(message.topic(), message.partition())
            error = message.error()
            if error is None:
                runs.setdefault(partition, []).append(message)
            elif error.code() in (self._ck.KafkaError._AUTO_OFFSET_RESET, self._ck.KafkaError.OFFSET_OUT_OF_RANGE):
                # Said once only, so it must not be lost among messages of other partitions.
                self._gone.append(partition)
            else:
                self._check(error)
        return [self._fetched(partition, run) for partition, run in runs.items() if partition in self._positions]

    def pause(self, paused: bool) -> None:
        """Let `fetch` return nothing, or something again."""
        partitions = [self._theirs(partition) for partition in self._positions]
        with self._blame():
            (self._consumer.pause if paused else self._consumer.resume)(partitions)

    def position(self, partition: Partition) -> int:
        """Return the offset that is read next: beyond the last message and what is no message after it."""
        with self._blame():
            (at,) = self._consumer.position([self._theirs(partition)])
        return max(int(at.offset), self._positions[partition])

    def ranges(self, partitions: Sequence[Partition], seconds: float) -> dict[Partition, Range]:
        """Ask for the offsets that partitions hold; raises `BrokerAwayError` if none answers in time."""
        from confluent_kafka.admin import OffsetSpec

        isolation = self._ck.IsolationLevel[self._isolation_level.upper()]
        theirs = [self._theirs(partition) for partition in partitions]
        found: list[dict[Partition, int]] = []
        with self._blame(seconds):
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
                asked = self._admin().list_offsets(
                    dict.fromkeys(theirs, spec), isolation_level=isolation, request_timeout=seconds
                )
                found.append(
                    {Partition(at.topic, at.partition): future.result().offset for at, future in asked.items()}
                )
        return {partition: Range(found[0][partition], found[1][partition]) for partition in partitions}

    def end(self, partition: Partition) -> int | None:
        """Return the end of a partition as the last fetch told it, without asking."""
        _, end = self._consumer.get_watermark_offsets(self._theirs(partition), cached=True)
        return int(end) if end >= 0 else None

    def offsets_at(self, partitions: Sequence[Partition], timestamp: float, seconds: float) -> dict[Partition, int]:
        """Return the first offset from a time (seconds since 1970) on, the end if all are earlier."""
        ends = self.ranges(partitions, seconds)
        with self._blame(seconds):
            asked = [self._theirs(partition, int(1000 * timestamp)) for partition in partitions]
            found = self._consumer.offsets_for_times(asked, timeout=seconds)
        there = {Partition(at.topic, at.partition): at.offset for at in found}
        return {p: there[p] if there.get(p, -1) >= 0 else ends[p].end for p in partitions}

    def commit(self, offsets: Mapping[Partition, int], seconds: float | None) -> None:
        """Store offsets as the group's, and wait for it unless `seconds` is None; raises `BrokerAwayError`."""
        theirs = [self._theirs(partition, offset) for partition, offset in offsets.items()]
        with self._blame(seconds):
            # A commit that waits has no deadline in this library, so it is sent and looked for.
            self._consumer.commit(offsets=theirs, asynchronous=True)
            if seconds is None:
                return
            begin = time.monotonic()
            while time.monotonic() - begin < seconds:
                stored = self._consumer.committed(theirs, timeout=seconds)
                if [at.offset for at in stored] == [at.offset for at in theirs]:
                    return
                time.sleep(0.01)
        raise BrokerAwayError(f"the broker stored no offsets within {seconds:.0f} s")

    def timestamps(self, messages: Sequence[Any]) -> FloatArray:
        """Return the times (n,) of some of `Fetched.messages`, in seconds since 1970."""
        return np.fromiter((message.timestamp()[1] for message in messages), np.float64, len(messages)) / 1000.0

    def envelope(self, message: Any) -> Envelope:
        """Return key and headers of one of `Fetched.messages`."""
        try:
            headers = tuple(_HEADERS(message) or ())
        except SystemError:
            headers = (("stream_em.headers-lost", b"one has a name that is not UTF-8"),)
        return Envelope(message.key(), headers)

    def close(self) -> None:
        """Let go of the connection."""
        self._made = []
        self._consumer.close()

    def _fetched(self, partition: Partition, run: list[Any]) -> Fetched:
        offsets = np.fromiter((message.offset() for message in run), np.int64, len(run))
        self._positions[partition] = int(offsets[-1]) + 1
        _, milliseconds = run[-1].timestamp()
        return Fetched.of(partition, offsets, [message.value() for message in run], milliseconds / 1000.0, run)

    def _theirs(self, partition: Partition, offset: int | None = None) -> Any:
        if offset is None:
            return self._ck.TopicPartition(partition.topic, partition.number)
        return self._ck.TopicPartition(partition.topic, partition.number, offset)

    def _admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        if not self._made:
            self._made = [AdminClient(self._arguments)]
        return self._made[0]

    def _committed(self, error: Any, partitions: Any) -> None:
        self.commit_error = None if error is None else words(error)

    def _note(self, error: Any) -> None:
        if is_refusal(error):
            self._refused.append(error)

    def _check_refused(self) -> None:
        if self._refused:
            raise refused(self._refused[-1], self._connection)

    def _check(self, error: Any) -> None:
        if error.fatal() or error.code() in not_allowed(self._ck):
            raise refused(error, self._connection)

    @contextmanager
    def _blame(self, seconds: float | None = None) -> Iterator[None]:
        try:
            with blaming(self._connection, seconds):
                yield
        except BrokerAwayError:
            self._check_refused()
            raise


def library() -> Any:
    """Return the library; raises `InputError` if it is not installed."""
    try:
        import confluent_kafka
    except ImportError:
        raise InputError(
            "kafka.client: confluent-kafka is not installed; pip install 'stream-em[confluent]', or use kafka-python"
        ) from None
    return confluent_kafka


@contextmanager
def blaming(connection: Connection, seconds: float | None = None) -> Iterator[None]:
    """Turn confluent-kafka's errors into ours: refused for good, not there within `seconds`, or told wrongly."""
    ck = library()
    begin = time.monotonic()
    try:
        yield
    except ck.KafkaException as error:
        what = error.args[0]
        if what.code() == ck.KafkaError._INVALID_ARG:
            raise InputError(f"kafka: {words(what)}; check the table [kafka] and its options") from None
        if what.code() in not_allowed(ck) or is_refusal(what) or what.fatal():
            raise refused(what, connection) from None
        waited = seconds if seconds is not None else time.monotonic() - begin
        servers = ", ".join(connection.servers)
        raise BrokerAwayError(f"no broker at {servers} within {waited:.0f} s ({words(what)})") from error


def is_refusal(error: Any) -> bool:
    """Tell whether the broker, or its certificate, stands against this client for good."""
    ck = library()
    return error.code() in (ck.KafkaError._AUTHENTICATION, ck.KafkaError._SSL)


def not_allowed(ck: Any) -> set[int]:
    """Return the codes by which a broker says that a right lacks."""
    names = ("TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID")
    return {getattr(ck.KafkaError, f"{name}_AUTHORIZATION_FAILED") for name in names}


def refused(error: Any, connection: Connection) -> OutsideError:
    """Return the error about a broker that will not have us."""
    ck = library()
    mend = {
        ck.KafkaError._AUTHENTICATION: "check sasl_username, sasl_password and sasl_mechanism",
        ck.KafkaError._SSL: "check ssl_cafile and the broker's certificate",
    }.get(error.code(), "ask for the right")
    return OutsideError(f"kafka: {', '.join(connection.servers)} refuses: {words(error)}; {mend}")


def words(error: Any) -> str:
    """Return what an error says in one line."""
    return " ".join((error.str() if hasattr(error, "str") else str(error)).split())[:200]


def _hexadecimal(identifier: Any) -> str:
    high, low = identifier.get_most_significant_bits(), identifier.get_least_significant_bits()
    return f"{high % (1 << 64):016x}{low % (1 << 64):016x}"

"""The interface over kafka-python, which needs no compiler and no library of the system."""

import difflib
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any, ClassVar

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

TRY_SECONDS = 3.0
"""So long one attempt to connect may take before it is asked whether the broker refuses."""
TAKEN = frozenset(
    {"group_id", "enable_auto_commit", "auto_offset_reset", "isolation_level", "key_deserializer", "value_deserializer"}
    | {"partition_assignment_strategy"}
)


class KafkaPythonClient:
    """Reads with kafka-python."""

    def __init__(self, connection: Connection, group: str | None, isolation_level: str, **more: Any) -> None:
        kafka = library()
        self._connection = connection
        self.commit_error: str | None = None
        self._admins: list[Any] = []
        arguments = arguments_of(connection, kafka.KafkaConsumer, TAKEN) | {
            "group_id": group,
            "enable_auto_commit": False,
            # Nothing is ever skipped or read again by the client's own choice.
            "auto_offset_reset": "none",
            "isolation_level": isolation_level,
            **more,
        }
        self._open_consumer = partial(connected, connection, kafka.KafkaConsumer, arguments)
        self._consumer = self._open_consumer()
        self._partitions: dict[Any, Partition] = {}

    def topics(self, names: Sequence[str] | None, seconds: float) -> dict[str, Topic]:
        """Return those of these topics that are there, or all; raises `BrokerAwayError` if none answers in time."""
        from kafka.errors import UnknownTopicOrPartitionError, for_code

        with self._blame(seconds):
            described = self._admin().describe_topics(None if names is None else list(names))
            for topic in described:
                # Only one error says that a topic is not there; others pass.
                if topic["error_code"] not in (0, UnknownTopicOrPartitionError.errno):
                    raise for_code(topic["error_code"])(topic["name"])
        return {
            topic["name"]: Topic(
                uuid.UUID(str(topic["topic_id"])).hex,
                tuple(sorted(partition["partition_index"] for partition in topic["partitions"])),
            )
            for topic in described
            if not topic["error_code"] and not topic["is_internal"]
        }

    def create(self, topic: str, seconds: float) -> None:
        """Make a topic with the broker's own number of partitions and replicas; raises `BrokerAwayError`."""
        from kafka.admin import NewTopic
        from kafka.errors import TopicAlreadyExistsError

        with self._blame(seconds), suppress(TopicAlreadyExistsError):
            self._admin().create_topics([NewTopic(topic, -1, -1)])

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions, and no others, each from its offset on."""
        self._partitions = {_theirs(partition): partition for partition in positions}
        with self._blame():
            self._consumer.assign(list(self._partitions))
            for theirs, partition in self._partitions.items():
                self._consumer.seek(theirs, positions[partition])

    def fetch(self, most: int, seconds: float) -> list[Fetched]:
        """Return up to `most` messages, waiting so long for the first; raises `OffsetsGoneError`."""
        from kafka.errors import CorruptRecordError, LogTruncationError, OffsetOutOfRangeError

        corrupt = None
        with self._blame():
            try:
                polled = self._consumer.poll(timeout_ms=int(1000 * seconds), max_records=most)
            except OffsetOutOfRangeError as error:
                raise OffsetsGoneError(self._partitions[theirs] for theirs in error.args[0]) from None
            except LogTruncationError as error:
                raise OffsetsGoneError(self._partitions[theirs] for theirs in error.divergent_offsets) from None
            except CorruptRecordError as error:
                corrupt = _words(error)
        if corrupt is not None:
            raise InputError(
                f"{self._corrupt_place()}: kafka-python can neither read nor pass over this message ({corrupt});"
                ' set kafka.client to "confluent-kafka", which reads headers whose names are not UTF-8'
            )
        return [_fetched(self._partitions[theirs], records) for theirs, records in polled.items()]

    def pause(self, paused: bool) -> None:
        """Let `fetch` return nothing, or something again."""
        (self._consumer.pause if paused else self._consumer.resume)(*self._partitions)

    def position(self, partition: Partition) -> int:
        """Return the offset that is read next: beyond the last message and what is no message after it."""
        with self._blame():
            return int(self._consumer.position(_theirs(partition), timeout_ms=1000))

    def ranges(self, partitions: Sequence[Partition], seconds: float) -> dict[Partition, Range]:
        """Ask for the offsets that partitions hold; raises `BrokerAwayError` if none answers in time."""
        theirs = [_theirs(partition) for partition in partitions]
        milliseconds = int(1000 * seconds)
        with self._blame(seconds):
            begins = self._consumer.beginning_offsets(theirs, timeout_ms=milliseconds)
            ends = self._consumer.end_offsets(theirs, timeout_ms=milliseconds)
            return {Partition(*each): Range(begins[each], ends[each]) for each in theirs}

    def end(self, partition: Partition) -> int | None:
        """Return the end of a partition as the last fetch told it, without asking."""
        end = self._consumer.highwater(_theirs(partition))
        return None if end is None else int(end)

    def offsets_at(self, partitions: Sequence[Partition], timestamp: float, seconds: float) -> dict[Partition, int]:
        """Return the first offset from a time (seconds since 1970) on, the end if all are earlier."""
        ends = self.ranges(partitions, seconds)
        with self._blame(seconds):
            asked = {_theirs(partition): int(1000 * timestamp) for partition in partitions}
            found = self._consumer.offsets_for_times(asked, timeout_ms=int(1000 * seconds))
        there = {Partition(*theirs): at.offset for theirs, at in found.items() if at is not None}
        return {partition: there.get(partition, ends[partition].end) for partition in partitions}

    def commit(self, offsets: Mapping[Partition, int], seconds: float | None) -> None:
        """Store offsets as the group's, and wait for it unless `seconds` is None; raises `BrokerAwayError`."""
        from kafka.structs import OffsetAndMetadata

        theirs = {_theirs(partition): OffsetAndMetadata(offset, "", -1) for partition, offset in offsets.items()}
        with self._blame(seconds):
            if seconds is None:
                self._consumer.commit_async(theirs, callback=self._committed)
            else:
                self._consumer.commit(theirs, timeout_ms=int(1000 * seconds))

    def _committed(self, offsets: Any, answer: Any) -> None:
        self.commit_error = _words(answer) if isinstance(answer, Exception) else None

    def timestamps(self, messages: Sequence[Any]) -> FloatArray:
        """Return the times (n,) of some of `Fetched.messages`, in seconds since 1970."""
        return np.fromiter((message.timestamp for message in messages), np.float64, len(messages)) / 1000.0

    def envelope(self, message: Any) -> Envelope:
        """Return key and headers of one of `Fetched.messages`."""
        return Envelope(message.key, tuple(message.headers))

    def close(self) -> None:
        """Let go of the connection."""
        for thing in self._admins:
            thing.close()
        self._admins = []
        self._consumer.close(autocommit=False, timeout_ms=1000)

    def _corrupt_place(self) -> str:
        """Return where the message is that the library cannot take apart: it does not say that itself."""
        from kafka.errors import CorruptRecordError

        with closing(self._open_consumer()) as consumer, self._blame():
            ends = consumer.end_offsets(list(self._partitions))
            for theirs, partition in self._partitions.items():
                offset = self._consumer.position(theirs, timeout_ms=1000)
                if offset >= ends[theirs]:
                    continue
                consumer.assign([theirs])
                consumer.seek(theirs, offset)
                try:
                    consumer.poll(timeout_ms=1000, max_records=1)
                except CorruptRecordError:
                    return f"{partition}, offset {offset:,}"
        return "one of the topics"

    def _admin(self) -> Any:
        if not self._admins:
            self._admins = [admin_of(self._connection)]
        return self._admins[0]

    @contextmanager
    def _blame(self, seconds: float | None = None) -> Iterator[None]:
        with blaming(self._connection, seconds):
            yield


def library() -> Any:
    """Return the library; raises `InputError` if it is not installed."""
    try:
        import kafka
        import kafka.errors
    except ImportError:
        raise InputError("kafka: kafka-python is not installed; pip install 'stream-em[kafka]'") from None
    return kafka


class _Listener(logging.Handler):
    """Hears why the library cannot connect: it tries again until a timeout, and says the cause in its log only."""

    marks: ClassVar = {
        "SaslAuthenticationFailedError: ": "check sasl_username, sasl_password and sasl_mechanism",
        "Handshake failed: ": "check ssl_cafile and the broker's certificate",
    }

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.refusal: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a refusal, pass over the rest: the source itself says that the broker is away."""
        text = record.getMessage()
        for mark, mend in self.marks.items():
            if mark in text:
                self.refusal = f"{text.rpartition(mark)[2].partition(' (')[0].rstrip(')')}; {mend}"


_LISTENER = _Listener()
logging.getLogger("kafka").addHandler(_LISTENER)
logging.getLogger("kafka").propagate = False


def connected(connection: Connection, make: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Return a client of the library once a broker answers.

    Raises `BrokerAwayError` if none does in time, `OutsideError` if it refuses.
    """
    begin = time.monotonic()
    while True:
        left = connection.connect_timeout - (time.monotonic() - begin)
        _LISTENER.refusal = None
        try:
            with blaming(connection, connection.connect_timeout):
                return make(**arguments | {"bootstrap_timeout_ms": int(1000 * min(left, TRY_SECONDS))})
        except BrokerAwayError:
            if _LISTENER.refusal is not None:
                raise OutsideError(f"kafka: {', '.join(connection.servers)} refuses: {_LISTENER.refusal}") from None
            if left <= TRY_SECONDS:
                raise


@contextmanager
def blaming(connection: Connection, seconds: float | None = None) -> Iterator[None]:
    """Turn kafka-python's errors into ours: refused for good, not there within `seconds`, or told wrongly."""
    errors = library().errors
    begin = time.monotonic()
    servers = ", ".join(connection.servers)
    try:
        yield
    except errors.AuthorizationError as error:
        raise OutsideError(f"kafka: {servers}: not allowed ({_words(error)}); ask for the right") from None
    except errors.KafkaConfigurationError as error:
        raise InputError(f"kafka.options: {_words(error)}") from None
    except (AssertionError, ValueError, TypeError) as error:
        raise InputError(f"kafka: {_words(error)}; check the table [kafka]") from None
    except errors.UnsupportedCodecError as error:
        raise OutsideError(f"kafka: {_words(error)}; pip install 'stream-em[kafka]'") from None
    except FileNotFoundError as error:
        raise InputError(f"kafka: a file of ssl_… is not there ({_words(error)})") from None
    except (errors.RetriableError, OSError) as error:
        waited = seconds if seconds is not None else time.monotonic() - begin
        raise BrokerAwayError(f"no broker at {servers} within {waited:.0f} s ({_words(error)})") from error
    except errors.KafkaError as error:
        raise OutsideError(f"kafka: {servers}: {_words(error)}") from None


def _fetched(partition: Partition, records: Sequence[Any]) -> Fetched:
    first, last = records[0], records[-1]
    if last.offset - first.offset == len(records) - 1:
        offsets = np.arange(first.offset, last.offset + 1)
    else:
        offsets = np.fromiter((record.offset for record in records), np.int64, len(records))
    return Fetched.of(partition, offsets, [record.value for record in records], last.timestamp / 1000.0, records)


def _theirs(partition: Partition) -> Any:
    from kafka import TopicPartition

    return TopicPartition(*partition)


def admin_of(connection: Connection) -> Any:
    """Return an admin client."""
    from kafka import KafkaAdminClient

    return KafkaAdminClient(**arguments_of(connection, KafkaAdminClient, TAKEN))


def arguments_of(connection: Connection, kind: Any, taken: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the arguments of a client of one kind, with those options that it takes.

    Raises `InputError` for an option that no kind of client takes.
    """
    kafka = library()
    known = set().union(*(each.DEFAULT_CONFIG for each in (kafka.KafkaConsumer, kafka.KafkaProducer)))
    unknown = sorted(connection.options.keys() - known - kafka.KafkaAdminClient.DEFAULT_CONFIG.keys())
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(known), 1)
        offer = f"; did you mean {near[0]!r}?" if near else "; see its documentation"
        raise InputError(f"kafka.options.{unknown[0]}: kafka-python has no such option{offer}")
    arguments = connection.for_kafka_python(taken)
    return {name: value for name, value in arguments.items() if name in kind.DEFAULT_CONFIG}


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


_: Callable[..., Any] = KafkaPythonClient

"""A sink that sends rows to a topic: each as a JSON object, or blocks of sources as samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from stream_em.sinks.interface import Rows, as_list, n_rows
from stream_em.streams.codecs import codec_named
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.kafka.positions import position_in
from stream_em.streams.kafka.producing import Producer
from stream_em.streams.kafka.transactions import Mark, TransactionalProducer

_ENCODER = msgspec.json.Encoder()
_BLOCK_VALUES = 1 << 14
"""Numbers of a message that holds a block of samples: 64 KB in float32."""


class TopicSink:
    """Rows as JSON messages, at least once: their keys tell repeats.

    A row about a record has the key topic-partition-offset (and -record, where a message holds several) of where it
    came from, or file-record; others have the count of records. After a crash what came after the last snapshot is sent
    again. In a `format` other than "json" ("pcm-float32", "arrow") a message is a block of samples, one of
    each source in turn, and its key that of the first.
    """

    def __init__(self, topic: str, producer: Producer, format: str = "json") -> None:
        self._topic = topic
        self._producer = producer
        self._format = format

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on: what was sent stays sent."""

    def write(self, rows: Rows) -> None:
        """Send rows; raises `OutsideError` if the broker refuses or has been away for too long."""
        keys = list(_keys(rows))
        new = [i for i, key in enumerate(keys) if self._is_new(key)]
        for i, value in self._values(rows, new):
            self._producer.send(self._topic, "-".join(map(str, keys[i])).encode(), value)

    def _values(self, rows: Rows, chosen: list[int]) -> Iterator[tuple[int, bytes]]:
        """Give the messages of the chosen rows, and the first row of each."""
        if self._format == "json":
            columns = {name: as_list(column, n_rows(rows)) for name, column in rows.items()}
            for i in chosen:
                yield i, _ENCODER.encode({name: column[i] for name, column in columns.items()})
            return
        fields = tuple(name for name in rows if name.startswith("source_"))
        codec, length = codec_named(self._format, fields), max(1, _BLOCK_VALUES // len(fields))
        samples = np.array([rows[name] for name in fields]).T
        for begin in range(0, len(chosen), length):
            block = chosen[begin : begin + length]
            for value in codec.encode(samples[block], fields):
                yield block[0], value

    def _is_new(self, key: tuple[Any, ...]) -> bool:
        return True

    def flush(self) -> dict[str, Any]:
        """Wait until all rows are acknowledged; raises `OutsideError` if they are not."""
        self._producer.flush()
        return {}

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close()


class ExactlyOnceTopicSink(TopicSink):
    """The same in transactions: readers of committed messages see each row once.

    What a flush commits carries marks of the last place in each partition, so that rows which are written again after a
    crash are left out. A mark holds for the topic of that id, not for one of the same name that was made anew. Only for
    rows about messages, and such with a count that grows.
    """

    def __init__(self, topic: str, producer: TransactionalProducer, format: str = "json") -> None:
        super().__init__(topic, producer, format)
        self._transactions = producer
        self._done: dict[Partition, Mark] = {}
        self._marks: dict[Partition, Mark] = {}
        self._ids: Mapping[str, str] = {}

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on behind what was committed, which may be beyond the position."""
        self._done = self._transactions.marks()
        self._marks = dict(self._done)

    def reading(self, position: dict[str, Any]) -> None:
        """Be told where the source is behind the rows that come next, and so which topics they are about."""
        self._ids = position_in(position).ids

    def flush(self) -> dict[str, Any]:
        """Commit all rows; raises `OutsideError` if the broker does not."""
        self._transactions.commit(self._marks)
        return {}

    def _is_new(self, key: tuple[Any, ...]) -> bool:
        topic, number, offset, record = (*key, 0)[:4] if len(key) > 1 else (self._topic, 0, int(key[0]), 0)
        partition, id = Partition(topic, number), self._ids.get(topic, "")
        done = self._done.get(partition)
        if done is not None and done.topic_id in ("", id) and (offset, record) < (done.offset, done.within):
            return False
        self._marks[partition] = Mark(offset, record + 1, id)
        return True


def _keys(rows: Rows) -> Iterator[tuple[Any, ...]]:
    """Give what tells each row from all others."""
    places = (("topic", "partition", "offset", "record"), ("topic", "partition", "offset"), ("file", "record"))
    names = next((names for names in places if all(name in rows for name in names)), ("count",))
    return zip(*(as_list(rows[name], n_rows(rows)) for name in names), strict=True)

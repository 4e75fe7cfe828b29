"""A sink that writes each row as a JSON object to a topic."""

from typing import Any

import msgspec

from stream_em.sinks.interface import Rows, as_list, n_rows
from stream_em.streams.kafka.producing import Producer

_ENCODER = msgspec.json.Encoder()


class TopicSink:
    """Rows as JSON messages, at least once: their keys tell repeats.

    A row about a record has the key topic-partition-offset (and -record, where a message holds several) of where it
    came from, or file-record; others have the count of records. After a crash what came after the last snapshot is sent
    again.
    """

    def __init__(self, topic: str, producer: Producer) -> None:
        self._topic = topic
        self._producer = producer

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on: what was sent stays sent."""

    def write(self, rows: Rows) -> None:
        """Send rows; raises `OutsideError` if the broker refuses or has been away for too long."""
        n = n_rows(rows)
        columns = {name: as_list(column, n) for name, column in rows.items()}
        keys = zip(*_key_columns(columns), strict=True)
        for key, row in zip(keys, zip(*columns.values(), strict=True), strict=True):
            value = _ENCODER.encode(dict(zip(columns, row, strict=True)))
            self._producer.send(self._topic, "-".join(map(str, key)).encode(), value)

    def flush(self) -> dict[str, Any]:
        """Wait until all rows are acknowledged; raises `OutsideError` if they are not."""
        self._producer.flush()
        return {}

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close()


def _key_columns(columns: dict[str, list[Any]]) -> list[list[Any]]:
    for names in (("topic", "partition", "offset", "record"), ("topic", "partition", "offset"), ("file", "record")):
        if all(name in columns for name in names):
            return [columns[name] for name in names]
    return [columns["count"]]

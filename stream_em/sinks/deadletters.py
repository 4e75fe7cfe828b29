"""Where records go that could not be used: a file, or a topic."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from stream_em.sinks.appended import AppendedSink
from stream_em.sinks.lines import json_lines
from stream_em.sinks.tables import rejected_rows
from stream_em.streams.kafka.producing import Producer
from stream_em.streams.records import Rejected


class DeadLetters(Protocol):
    """Keeps records as they were, with the reason and where they came from; opened, flushed and closed as a sink is."""

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on at a position, or begin anew if it is None."""
        ...

    def write(self, rejected: Sequence[Rejected]) -> None:
        """Add records."""
        ...

    def flush(self) -> dict[str, Any]:
        """Make all records durable and return the position after them."""
        ...

    def close(self) -> None:
        """Let go of file or connection."""
        ...


class DeadLetterFile:
    """JSON lines, each record exactly once."""

    def __init__(self, path: Path) -> None:
        self._sink = AppendedSink(path, json_lines)
        self.open = self._sink.open
        self.flush = self._sink.flush
        self.close = self._sink.close

    def write(self, rejected: Sequence[Rejected]) -> None:
        """Add records."""
        self._sink.write(rejected_rows(rejected))


class DeadLetterTopic:
    """Messages with their own bytes, key and headers; headers `stream_em.…` add the reason and where they came from.

    At least once: the place tells repeats.
    """

    def __init__(self, topic: str, producer: Producer) -> None:
        self._topic = topic
        self._producer = producer

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on: what was sent stays sent."""

    def write(self, rejected: Sequence[Rejected]) -> None:
        """Send messages; raises `OutsideError` if the broker refuses or has been away for too long."""
        for record in rejected:
            place = [(f"stream_em.{name}", str(value).encode()) for name, value in record.place.items()]
            headers = [*record.headers, ("stream_em.reason", record.reason.encode()), *place]
            self._producer.send(self._topic, record.key, record.content, headers)

    def flush(self) -> dict[str, Any]:
        """Wait until all are acknowledged; raises `OutsideError` if they are not."""
        self._producer.flush()
        return {}

    def close(self) -> None:
        """Let go of the connection."""
        self._producer.close()

"""How far a position is behind the ends of its partitions."""

import time
from typing import Any, NamedTuple

from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import Client, Partition
from stream_em.streams.kafka.opening import Opened
from stream_em.streams.kafka.settings import KafkaSettings

FETCH_SECONDS = 5.0


class Lag(NamedTuple):
    """How far reading is behind in one partition."""

    topic: str
    partition: int
    position: int
    end: int
    lag: int
    """Messages."""
    seconds: float | None
    """The age of the first message that is not read yet; None if there is none, or it was deleted."""


def partition_lags(connection: Connection, settings: KafkaSettings, position: dict[str, Any] | None) -> list[Lag]:
    """Return the lag of each partition; raises as `KafkaSource.seek` does, but for messages that are gone."""
    opened = Opened(connection, settings)
    try:
        offsets = opened.offsets(position)
        ranges = opened.ranges(list(offsets))
        ages = _ages(opened.client, {each: at for each, at in offsets.items() if at < ranges[each].end})
        return [
            Lag(*each, offsets[each], ranges[each].end, max(0, ranges[each].end - offsets[each]), ages.get(each))
            for each in sorted(offsets)
        ]
    finally:
        opened.close()


def _ages(client: Client, offsets: dict[Partition, int]) -> dict[Partition, float]:
    """Return how old the message at each offset is, as far as these come soon."""
    ages: dict[Partition, float] = {}
    deadline = time.monotonic() + FETCH_SECONDS
    for partition, offset in offsets.items():
        client.assign({partition: offset})
        while time.monotonic() < deadline and partition not in ages:
            for fetched in client.fetch(1, 0.5):
                ages[fetched.partition] = max(0.0, time.time() - fetched.timestamp)
    return ages

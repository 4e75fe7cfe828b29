"""Messages that count, and what was counted."""

import json
import time

from kafka import KafkaConsumer, TopicPartition


def objects(begin, end):
    """Return messages whose field a counts."""
    return [json.dumps({"a": i, "b": -i / 2}).encode() for i in range(begin, end)]


def counted(blocks):
    """Return the values of the field a in all blocks."""
    return [int(value) for block in blocks for value in block.values[:, 0]]


def through_json(position):
    """Return a position as a snapshot keeps it."""
    return json.loads(json.dumps(position))


def until(condition, seconds=30.0):
    """Wait until a condition holds; returns how long that took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - begin


def committed(address, topic):
    """Return all messages of a topic that readers of committed ones see."""
    consumer = KafkaConsumer(
        bootstrap_servers=address,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        enable_auto_commit=False,
        consumer_timeout_ms=3000,
    )
    consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)])
    found = list(consumer)
    consumer.close()
    return found

"""Rows in transactions, over a producer of wood: what is sent again after a crash, and what is not."""

import numpy as np
import pytest

from stream_em.sinks.topic import ExactlyOnceTopicSink
from stream_em.streams.codecs import codec_named
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.kafka.transactions import Mark, TransactionalProducer

OLD, NEW = "a" * 32, "b" * 32


class WoodenClient:
    """Keeps what was committed, and throws away what was not when another takes its place."""

    def __init__(self, committed=(), marks=()):
        self.committed, self.kept, self.open, self.begun = list(committed), dict(marks), [], 0
        self.values = []

    def begin(self):
        self.begun += 1

    def send(self, topic, key, value, headers=()):
        self.open.append(key.decode())
        self.values.append(value)

    def flush(self):
        pass

    def marks(self):
        return {each: Mark.of(offset, words) for each, (offset, words) in self.kept.items()}

    def commit(self, marks):
        self.committed, self.open = self.committed + self.open, []
        self.kept = {each: (mark.offset, mark.words) for each, mark in marks.items()}

    def close(self):
        pass


def opened(client):
    """Return a sink that goes on after whoever used the client before."""
    client.open = []
    sink = ExactlyOnceTopicSink("scores", TransactionalProducer(client))
    sink.open(None)
    return sink


def write(sink, id, begin, end, number=0):
    sink.reading({"topics": {"t": {"id": id, "partitions": {str(number): end}}}})
    offsets = np.arange(begin, end)
    sink.write({"topic": "t", "partition": np.full(end - begin, number), "offset": offsets, "x": offsets / 2})


def test_rows_that_were_committed_are_left_out_and_others_are_not():
    client = WoodenClient()
    sink = opened(client)
    write(sink, OLD, 0, 5)
    write(sink, OLD, 0, 3, number=1)
    sink.flush()
    write(sink, OLD, 5, 9)
    sink = opened(client)
    write(sink, OLD, 2, 7)
    write(sink, OLD, 1, 4, number=1)
    sink.flush()
    before = [f"t-0-{i}" for i in range(5)] + [f"t-1-{i}" for i in range(3)]
    assert client.committed == [*before, "t-0-5", "t-0-6", "t-1-3"]
    assert client.kept == {Partition("t", 0): (6, f"1 {OLD}"), Partition("t", 1): (3, f"1 {OLD}")}


def test_a_commit_on_the_way_to_a_mark_does_not_lower_it():
    client = WoodenClient(marks={Partition("t", 0): (9, f"1 {OLD}")})
    sink = opened(client)
    write(sink, OLD, 2, 5)
    write(sink, OLD, 0, 1, number=1)
    sink.flush()
    sink = opened(client)
    write(sink, OLD, 5, 11)
    sink.flush()
    assert client.committed == ["t-1-0", "t-0-10"]


@pytest.mark.parametrize("seen_before", [False, True])
def test_marks_of_a_topic_do_not_hold_for_another_of_its_name(seen_before):
    client = WoodenClient(marks={Partition("t", 0): (99, f"1 {OLD}")})
    sink = opened(client)
    if seen_before:
        write(sink, OLD, 95, 101)
    write(sink, NEW, 0, 3)
    sink.flush()
    assert client.committed == ["t-0-100"] * seen_before + ["t-0-0", "t-0-1", "t-0-2"]
    sink = opened(client)
    write(sink, NEW, 0, 5)
    sink.flush()
    assert client.committed[-2:] == ["t-0-3", "t-0-4"]
    assert len(set(client.committed)) == len(client.committed)


def test_marks_that_know_no_topic_hold_for_any():
    client = WoodenClient(marks={Partition("t", 0): (7, "1")})
    sink = opened(client)
    write(sink, OLD, 5, 10)
    sink.flush()
    assert client.committed == ["t-0-8", "t-0-9"]
    assert client.kept == {Partition("t", 0): (9, f"1 {OLD}")}


def test_rows_with_a_count_need_no_topic():
    client = WoodenClient()
    for counts, committed in ([100.0, 200.0], ["100.0", "200.0"]), ([200.0, 300.0], ["100.0", "200.0", "300.0"]):
        sink = opened(client)
        for count in counts:
            sink.write({"count": [count], "weights": [[1.0]]})
        sink.flush()
        assert client.committed == committed


def test_without_rows_there_is_no_transaction():
    client = WoodenClient(marks={Partition("t", 0): (7, f"1 {OLD}")})
    sink = opened(client)
    sink.flush()
    write(sink, OLD, 0, 7)
    sink.flush()
    assert (client.begun, client.committed) == (0, [])


@pytest.mark.parametrize("format", ["pcm-float32", "arrow"])
def test_sources_go_out_as_blocks_of_samples_and_none_twice(format):
    n, fields = 20_000, ("source_1", "source_2")
    sources = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32).astype(float)
    client = WoodenClient()
    for begin in 0, 15_000:
        sink = ExactlyOnceTopicSink("sources", TransactionalProducer(client), format)
        sink.open(None)
        sink.reading({"topics": {"t": {"id": OLD, "partitions": {"0": n}}}})
        end = begin + 17_000
        columns = {name: sources[begin:end, k] for k, name in enumerate(fields)}
        sink.write(
            {"topic": "t", "partition": 0 * sources[begin:end, 0].astype(int), "offset": np.arange(n)[begin:end]}
            | columns
        )
        sink.flush()
    assert client.committed == ["t-0-0", "t-0-8192", "t-0-16384", "t-0-17000"]
    decoded = codec_named(format, fields).decode(client.values)
    np.testing.assert_array_equal(decoded.values, sources)

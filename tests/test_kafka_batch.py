"""Messages that hold several records, cut anywhere and gone on with: every record once."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as sem
from stream_em.streams.codecs import codec_named
from stream_em.streams.kafka.batch import Batch, Place
from stream_em.streams.kafka.buffer import Buffer
from stream_em.streams.kafka.interface import Envelope, Fetched, Partition

ONE = Partition("t", 0)


def arrow(values):
    sink = io.BytesIO()
    table = pa.table({"a": pa.array(values, pa.float64())})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def fetched(messages, begin=0):
    values = messages[begin:]
    return Fetched.of(ONE, np.arange(begin, begin + len(values)), values, 0.0, [None] * len(values))


MESSAGES = st.lists(st.lists(st.sampled_from([1.0, 2.0, float("inf")]), max_size=5), min_size=1, max_size=5)


@given(MESSAGES, st.lists(st.integers(1, 7), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_cutting_anywhere_loses_and_doubles_nothing(contents, limits):
    messages = [arrow(values) for values in contents]
    places, seen, rejected, turn = {ONE: Place(0)}, [], [], 0
    while places[ONE].offset < len(messages):
        batch = Batch(
            [fetched(messages, places[ONE].offset)],
            codec_named("arrow", ["a"]),
            places,
            lambda message: Envelope(None, ()),
        )
        cut = batch.cut_after(limits[turn % len(limits)])
        turn += 1
        records = batch.before(cut)
        seen += zip(batch.places(records)["offset"].tolist(), batch.places(records)["record"].tolist(), strict=True)
        rejected += [record.place["offset"] for record in batch.rejected(cut)]
        places |= batch.moved(cut)
        assert turn < 200, "no progress"
    usable = [(m, r) for m, values in enumerate(contents) for r, value in enumerate(values) if np.isfinite(value)]
    assert seen == usable
    assert rejected == [m for m, values in enumerate(contents) for value in values if not np.isfinite(value)]


def test_what_stopped_the_poller_is_raised_behind_what_it_had_fetched():
    buffer = Buffer(10)
    buffer.put([fetched([b"x"])])
    buffer.end(sem.OutsideError("refused"))
    assert buffer.take(10, 1).ended is False
    with pytest.raises(sem.OutsideError, match="refused"):
        buffer.take(10, 1)

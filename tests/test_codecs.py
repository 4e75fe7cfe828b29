import base64
import contextlib
import csv
import io
import json
import math
import struct
import sys
import threading
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stream_em.errors import InputError, OutsideError
from stream_em.streams.codecs import FORMATS, arrowguard, codec_named, registry
from stream_em.streams.codecs.registry import NoSchemaError, SchemaRegistry

NAMES = ("a", "b", "c")
X = np.random.default_rng(0).normal(size=(200, 3)) * 10.0 ** np.random.default_rng(1).integers(-30, 30, (200, 3))
X[::7, 1] = np.nan
X[5] = np.nan
X[6] = [0.1, -0.0, 5e-324]
X[7] = [1e100, -1e100, 12345678901234567890.0]
SCHEMA = {"type": "record", "name": "R", "fields": [{"name": name, "type": ["null", "double"]} for name in NAMES]}


# Messages as others write them, none by our own encode


def as_json(row, names=NAMES):
    return json.dumps({n: None if math.isnan(x) else x for n, x in zip(names, row, strict=True)}).encode()


def as_json_array(row):
    return json.dumps([None if math.isnan(x) else x for x in row]).encode()


def as_csv(row):
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["" if math.isnan(x) else repr(x) for x in row])
    return line.getvalue().encode()


def as_msgpack(row, names=NAMES):
    pairs = (
        (n.encode(), b"\xc0" if math.isnan(x) else struct.pack(">Bd", 0xCB, x)) for n, x in zip(names, row, strict=True)
    )
    return bytes([0x80 + len(row)]) + b"".join(bytes([0xA0 + len(name)]) + name + value for name, value in pairs)


def as_msgpack_array(row):
    cells = (b"\xc0" if math.isnan(x) else struct.pack(">Bd", 0xCB, x) for x in row)
    return bytes([0x90 + len(row)]) + b"".join(cells)


def as_arrow(*rows, names=NAMES, new=pa.ipc.new_stream, compression=None):
    columns = [pa.array(column, pa.float64(), from_pandas=True) for column in zip(*rows, strict=True)]
    return in_arrow(pa.table(columns, list(names)), new, compression)


def in_arrow(table, new=pa.ipc.new_stream, compression=None):
    sink = io.BytesIO()
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=150)
    return sink.getvalue()


def as_avro(row, names=NAMES):
    return in_avro(SCHEMA, {n: None if math.isnan(x) else x for n, x in zip(names, row, strict=True)})


def in_avro(schema, record, id=1):
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), record)
    return struct.pack(">BI", 0, id) + body.getvalue()


WRITERS = {
    "json": as_json,
    "json-array": as_json_array,
    "csv": as_csv,
    "msgpack": as_msgpack,
    "float32": lambda row: struct.pack(f"<{len(row)}f", *row),
    "float64": lambda row: struct.pack(f"<{len(row)}d", *row),
    "arrow": as_arrow,
    "avro": as_avro,
}
NAMED = ["json", "msgpack", "arrow", "avro"]
ONE_EACH = [format for format in FORMATS if format != "arrow"]


class Schemas:
    """A registry without a network."""

    def __init__(self, *schemas):
        self.schemas = dict(enumerate(schemas or [SCHEMA], start=1))

    def schema(self, id):
        if id not in self.schemas:
            raise NoSchemaError(f"no schema {id}")
        return self.schemas[id]

    def register(self, subject, schema):
        self.schemas[77] = schema
        return 77


def codec(format, fields=NAMES, few=None, schemas=None):
    made = codec_named(format, fields, (schemas or Schemas()) if format == "avro" else None)
    if few is not None and format not in ("arrow", "avro"):
        made._format.few = few
    return made


def expected(format, values=X):
    if format != "float32":
        return values
    return np.where(np.abs(values) < 1e38, values, 1.0).astype(np.float32).astype(np.float64)


def messages_of(format, values=X):
    return [WRITERS[format](row) for row in expected(format, values).tolist()]


def bits(values):
    """Return (n, d) values so that equal ones are the same to the last bit, and NaN is NaN."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64).tolist()


def decoded(format, messages, **options):
    found = codec(format, **options).decode(messages)
    return [(i, *row) for i, row in zip(found.message.tolist(), bits(found.values), strict=True)], found.unreadable


def reason(format, message, **options):
    found = codec(format, **options).decode([message])
    assert len(found.values) == 0
    ((index, why),) = found.unreadable
    assert index == 0
    assert "\n" not in why
    assert not why.startswith((":", ",", " "))
    assert len(why) < 400
    return why


def refused(call):
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is read, and written


@pytest.mark.parametrize("format", FORMATS)
def test_what_others_write_is_read_exactly(format):
    values = expected(format)
    found = codec(format).decode(messages_of(format))
    assert bits(found.values) == bits(values)
    assert found.values.dtype == np.float64
    assert found.values.flags.c_contiguous
    assert found.values.flags.writeable
    assert (found.message.dtype, found.record.dtype) == (np.int64, np.int64)
    assert found.message.tolist() == list(range(len(values)))
    assert found.record.tolist() == [0] * len(values)
    assert found.unreadable == ()


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("format", FORMATS)
def test_decode_undoes_encode_bit_for_bit(format, d):
    values = expected(format)[:, :d]
    made = codec(format, NAMES[:d])
    messages = made.encode(values, NAMES[:d])
    assert bits(made.decode(messages).values) == bits(values)
    assert all(isinstance(message, bytes) for message in messages)
    assert len(messages) == (1 if format == "arrow" else len(values))
    assert made.encode(values[:0], NAMES[:d]) == []
    if format != "csv":
        assert json.loads(messages[0]) if "json" in format else messages[0]


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_comes_of_nothing(format):
    for fields in (NAMES, None):
        found = codec(format, fields).decode([])
        assert found.values.shape == (0, len(fields or ()))
        assert (len(found.message), len(found.record), found.unreadable) == (0, 0, ())


@pytest.mark.parametrize("format", NAMED)
def test_fields_are_chosen_by_name_in_the_order_asked_for(format):
    found = codec(format, ("c", "a")).decode(messages_of(format))
    assert bits(found.values) == bits(X[:, [2, 0]])


@pytest.mark.parametrize("format", FORMATS)
def test_fields_that_nobody_named_are_those_of_the_first_readable_message(format):
    made = codec(format, None)
    assert made.fields == ()
    found = made.decode([b"", b"\xc1?"])
    assert found.values.shape == (0, 0)
    assert [wrong.message for wrong in found.unreadable] == [0, 1]
    assert made.fields == ()
    found = made.decode([b"\xc1?", *messages_of(format)[:20]])
    assert made.fields == (NAMES if format in NAMED else ("x0", "x1", "x2"))
    assert bits(found.values) == bits(expected(format)[:20])
    assert found.message.tolist() == list(range(1, 21))


def test_a_message_that_is_not_all_numbers_does_not_decide_the_fields():
    made = codec("json", None)
    found = made.decode(
        [b"{}", b'{"a": 1, "note": "x"}', b'{"a": 1e300}', b'{"b": 2}', b'{"b": 3, "note": "x"}', b"{}"]
    )
    assert made.fields == ("b",)
    np.testing.assert_array_equal(found.values, [[2], [3], [np.nan]])
    assert "has no fields" in found.unreadable[0].reason
    assert "field 'note'" in found.unreadable[1].reason
    assert codec("csv", None).decode([b"a,b", b"1,2"]).message.tolist() == [1]


def test_a_field_that_a_schema_lacks():
    for format in ("arrow", "avro"):
        why = reason(format, messages_of(format)[0], fields=("a", "bb"))
        assert "there is no field 'bb'; did you mean 'b'? It has 'a', 'b', 'c'" in why
    for format in ("json", "msgpack"):
        values = codec(format, ("b", "zz")).decode(messages_of(format)[:2]).values
        np.testing.assert_array_equal(values, [[np.nan, np.nan], [X[1, 1], np.nan]])


def test_an_arrow_message_holds_many_records():
    rows = X.tolist()
    for new in (pa.ipc.new_stream, pa.ipc.new_file):
        for compression in (None, "zstd", "lz4"):
            wrong = [[1.0, math.inf, 1.0], [1.0, 2.0, 3.0], [1e300, math.inf, 1.0]]
            messages = [as_arrow(*rows, new=new, compression=compression), as_arrow(*wrong, new=new), as_arrow(rows[1])]
            found = codec("arrow").decode([*messages, in_arrow(pa.table({n: pa.array([], "i4") for n in NAMES}))])
            assert bits(found.values) == bits(np.concatenate([X, [[1.0, 2.0, 3.0]], X[1:2]]))
            assert found.message.tolist() == [0] * 200 + [1, 2]
            assert found.record.tolist() == [*range(200), 1, 0]
            assert [wrong.message for wrong in found.unreadable] == [1, 1]
            assert "record 0, field 'b': inf is infinite" in found.unreadable[0].reason
            assert "record 2, field 'a': 1e+300 is larger" in found.unreadable[1].reason


def test_number_types_of_arrow():
    columns = {
        "flag": pa.array([True, None, False]),
        "whole": pa.array([1, 2, None]),
        "small": pa.array([1, 2, 3], pa.int8()),
        "none": pa.nulls(3),
        "coded": pa.array([2.5, 2.5, None]).dictionary_encode(),
        "decimal": pa.array([Decimal("1.25"), None, Decimal("-3")], pa.decimal128(9, 2)),
        "half": pa.array([0.5, 1, None], pa.float16()),
        "note": pa.array(["x", None, "y"]),
    }
    fields = [name for name in columns if name != "note"]
    nan = np.nan
    rows = [[1, 1, 1, nan, 2.5, 1.25, 0.5], [nan, 2, 2, nan, 2.5, nan, 1], [0, nan, 3, nan, nan, -3, nan]]
    np.testing.assert_array_equal(codec("arrow", fields).decode([in_arrow(pa.table(columns))]).values, rows)
    assert "field 'note': holds string, not numbers" in reason("arrow", in_arrow(pa.table(columns)), fields=None)


def test_large_arrow_batches_are_sent_in_several_messages():
    values = np.random.default_rng(0).normal(size=(100_000, 2))
    made = codec("arrow", ("a", "b"))
    messages = made.encode(values, ("a", "b"))
    assert max(map(len, messages)) < 1_000_000
    np.testing.assert_array_equal(made.decode(messages).values, values)


def test_what_cannot_be_written():
    assert "1e+50 is too large for float32" in refused(lambda: codec("float32").encode(np.full((1, 3), 1e50), NAMES))
    assert "'x y': Avro names" in refused(lambda: codec("avro").encode(np.ones((1, 1)), ["x y"]))
    for format in FORMATS:
        assert "infinite" in refused(lambda format=format: codec(format).encode(np.full((1, 3), np.inf), NAMES))
        assert "3 features" in refused(lambda format=format: codec(format).encode(np.ones((1, 2)), NAMES))


def test_what_is_asked_for_must_make_sense():
    assert "no message format 'jsn'; did you mean 'json'?" in refused(lambda: codec_named("jsn", None))
    assert "json, json-array, csv, msgpack" in refused(lambda: codec_named("??", None))
    assert "list of names" in refused(lambda: codec_named("json", "ab"))
    assert "empty" in refused(lambda: codec_named("json", []))
    assert "'a'" in refused(lambda: codec_named("json", ["a", "a"]))
    assert "Unicode" in refused(lambda: codec_named("json", ["\ud800"]))
    assert "schema registry" in refused(lambda: codec_named("avro", None))
    assert codec_named("JSON", None).fields == ()


def test_without_fastavro(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    assert "pip install 'stream-em[kafka]'" in refused(lambda: codec("avro"))


# What a value may look like


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (b'{"a": 1, "b": true, "c": "2.5"}', [1, 1, 2.5]),
        (b'{"c": null, "a": " NA ", "x": {"a": [7]}}', [np.nan] * 3),
        (b' {"a": 1,\r\n "b": NaN, "c": -0.0}\n', [1, np.nan, -0.0]),
        (b'{"a": 1, "a": 2, "b": "x", "b": 3, "c": "1e5"}', [2, 3, 1e5]),
        (b'{"\\u0061": 1, "b": 1e-400, "c": 123456789012345678901234567890}', [1, 0, 123456789012345678901234567890.0]),
        (b'{"a": 1, "b": 2, "c": 3, "x": "}{", "y": "\\ud800"}', [1, 2, 3]),
        (b"{}", [np.nan] * 3),
    ],
)
@pytest.mark.parametrize("few", [1, 64])
def test_json_values(message, values, few):
    found = codec("json", few=few).decode([message] * 3 + [b'{"a": 1, "b": 2, "c": 3}'])
    assert bits(found.values) == bits(np.array([values] * 3 + [[1, 2, 3]], dtype=np.float64))


@pytest.mark.parametrize(
    ("format", "message", "values"),
    [
        ("json-array", b'[1, null, "2.5"]', [1, np.nan, 2.5]),
        ("json-array", b" [true, NaN, -0]\n", [1, np.nan, -0.0]),
        ("csv", b"1, 2 ,+3.5\r\n", [1, 2, 3.5]),
        ("csv", b'NA,"",nUlL', [np.nan] * 3),
        ("csv", b'"1.5",.5,1.\n', [1.5, 0.5, 1]),
        ("csv", b"-nan,1e-400,1E5", [np.nan, 0, 1e5]),
        ("msgpack", b"\x93\x01\xc0\xa32.5", [1, np.nan, 2.5]),
        ("msgpack", b"\x83\xa1a\xc3\xa1c\xff\xa1x\x81\x91\x01\x02", [1, np.nan, -1]),
        ("msgpack", b"\x82\xa1a\x01\xa1a\xcf" + b"\xff" * 8, [2.0**64, np.nan, np.nan]),
        (
            "msgpack",
            b"\xdc\x00\x03\xca\x3f\x80\x00\x00\xcb" + struct.pack(">d", math.nan) + b"\xd0\xff",
            [1, np.nan, -1],
        ),
    ],
)
def test_values_of_other_formats(format, message, values):
    for few in (1, 64):
        found = codec(format, few=few).decode([message, message, WRITERS[format]([1.0, 2.0, 3.0])])
        assert bits(found.values) == bits(np.array([values, values, [1, 2, 3]], dtype=np.float64))


def test_names_that_no_struct_may_have():
    for names in (('a"b', "c\\d"), ("a\nb", ""), ("é", "日本")):
        made = codec("msgpack", names)
        messages = made.encode(X[:20, :2], names)
        assert bits(made.decode(messages).values) == bits(X[:20, :2])
        assert bits(codec("msgpack", None).decode(messages[1:]).values) == bits(X[1:20, :2])
        assert bits(codec("json", names).decode(codec("json").encode(X[:20, :2], names) * 4).values[:20]) == bits(
            X[:20, :2]
        )


@pytest.mark.parametrize("format", FORMATS)
def test_infinite_and_huge_values_are_told_as_everywhere(format):
    if format in ("json", "json-array"):
        bad = [b'{"a": 1, "b": -Infinity, "c": 1}', b'{"a": 1, "b": 1e400, "c": 1}', b'{"a": 1, "b": "1e101", "c": 1}']
        bad = bad if format == "json" else [b"[1, -Infinity, 1]", b"[1, 1e400, 1]", b'[1, "1e101", 1]']
    else:
        values = [-math.inf, math.inf, 1e101] if format != "float32" else [-math.inf, math.inf, math.inf]
        bad = [WRITERS[format]([1.0, value, 1.0]) for value in values]
    good = messages_of(format)[8:12]
    for few in (1, 64):
        rows, unreadable = decoded(format, [*good, *bad, *good], few=few)
        assert [row[0] for row in rows] == [0, 1, 2, 3, 7, 8, 9, 10]
        prefix = "record 0, " if format == "arrow" else ""
        assert unreadable[0].reason.startswith(f"{prefix}field 'b': -inf is infinite; leave the field empty")
        assert unreadable[1].reason.startswith(f"{prefix}field 'b': inf is infinite")
        assert format == "float32" or "1e+101 is larger in magnitude than 1e+100" in unreadable[2].reason


@pytest.mark.parametrize(
    ("format", "message", "part"),
    [
        ("json", b'{"b": "abc"}', "field 'b': 'abc' is not a number; leave it empty if it is missing, or choose other"),
        ("json", b'{"b": [1]}', "field 'b': a nested list is not a number"),
        ("json", b'{"b": {"a": 1}}', "field 'b': a nested object is not a number"),
        ("json", b'{"a": 1', "broken JSON (Expecting ',' delimiter at column 8); write one whole object a message"),
        ("json", b'{"a": 1}{"a": 2}', "broken JSON (Extra data"),
        ("json", b"[1, 2, 3]", "is not a JSON object; write one object a message"),
        ("json", b"null", "'None' is not a JSON object"),
        ("json", b'{"a": 1, "x": "\xff"}', "byte 0xff is not UTF-8 text"),
        ("json", b'{"a": 1, "x": Inf}', "broken JSON"),
        ("json", b'{"x":' + b"[" * 100_000, "nested too deeply"),
        ("json", b'{"a": "' + b"1" * 300_000 + b'x"}', "'1111"),
        ("json-array", b"[1, 2]", "has 2 values for 3 fields"),
        ("json-array", b"[1, [2], 3]", "field 'b': a nested list"),
        ("json-array", b'{"a": 1}', "is not a JSON array; write one array a message"),
        ("json-array", b"[1,2,3],[4,5,6]", "broken JSON"),
        ("csv", b"1,2", "field 'c': the record has 2 of 3 fields"),
        ("csv", b"1,2,3,4", "the record has 4 of 3 fields, so 1 too many after field 'c'"),
        ("csv", b"1,2,3\n4,5,6", "has several lines; write one record a message"),
        ("csv", b"1,nan(5),3", "field 'b': 'nan(5)' is not a number"),
        ("csv", b'1,"2"3,3', "wrong quotes"),
        ("csv", b"\xef\xbb\xbf1,2,3", "field 'a': '\\ufeff1' is not a number"),
        ("csv", b"1,\xe9,3", "field 'b': '\\udce9' is not UTF-8 text; save it as UTF-8"),
        ("csv", b"\n", "is empty"),
        ("csv", b"1,2," + b"1" * 300_000 + b"x", "'1111"),
        ("msgpack", b"\x93\x01\x02", "damaged, cut short or of another format (Input data was truncated)"),
        ("msgpack", b"\x93\x01\x02\x03\x04", "trailing characters"),
        ("msgpack", b"\x92\x01\x02", "has 2 values for 3 fields"),
        ("msgpack", b"\x81\xa1b\x91\x01", "field 'b': a nested list"),
        ("msgpack", b"\x81\xa1b\xc4\x011", "field 'b': a value of type bytes is not a number"),
        ("msgpack", b"\x81\xa1b\xd6\xff\x00\x00\x00\x01", "field 'b': a value of type datetime is not a number"),
        ("msgpack", b"\x81\xa1b\xa3abc", "field 'b': 'abc' is not a number"),
        ("msgpack", b"\x2a", "damaged"),
        ("msgpack", b"\xdd\xff\xff\xff\xff", "truncated"),
        ("msgpack", b"\x81\xa1x" + b"\x91" * 100_000 + b"\x00", "recursion"),
        ("float32", b"123456789", "has 9 bytes, which is no whole number of float32 values"),
        ("float64", bytes(16), "has 2 float64 values for 3 fields"),
        ("arrow", b"ARROW1\x00\x00", "damaged, cut short or no Arrow IPC stream or file"),
        ("arrow", as_arrow(*X.tolist()) + b"more", "goes on after its end"),
        ("arrow", as_arrow(*X.tolist(), new=pa.ipc.new_file)[:-10], "cut short"),
        ("arrow", as_arrow([1.0, 2.0, 3.0, 4.0], names="abca"), "two columns are named 'a'"),
        ("avro", b"\x01\x00\x00\x00\x01\x00\x00\x00", "does not begin with a zero byte and the number of a schema"),
        ("avro", b"\x00\x00\x00\x00", "does not begin with a zero byte and the number of a schema"),
        (
            "avro",
            as_avro([1.0, 2.0, 3.0])[:-1],
            "does not fit schema 1; it is damaged, cut short or written with another schema",
        ),
        ("avro", as_avro([1.0, 2.0, 3.0]) + b"more", "has 4 bytes behind its record"),
        ("avro", b"\x00\x00\x00\x00\x09\x00", "no schema 9"),
        *((format, b"", "is empty") for format in FORMATS),
    ],
)
def test_what_is_wrong_is_told_in_one_line(format, message, part):
    began = time.monotonic()
    assert part in reason(format, message)
    assert time.monotonic() - began < 5
    good = messages_of(format)[8:12]
    for few in (1, 64):
        rows, unreadable = decoded(format, [*good, message, *good], few=few)
        assert [row[0] for row in rows] == [0, 1, 2, 3, 5, 6, 7, 8]
        assert [wrong.message for wrong in unreadable] == [4]
        assert part in unreadable[0].reason


def test_a_key_that_is_no_text_does_not_become_a_field():
    made = codec("json", None)
    assert "no valid Unicode text" in made.decode([b'{"\\ud800": 1}', *messages_of("json")]).unreadable[0].reason
    assert made.fields == NAMES


# Good and bad messages, mixed in any way


def surely_bad(format):
    """Make messages that cannot be taken for good ones of (a, b, c)."""
    other = st.sampled_from([m for name in FORMATS if name != format for m in messages_of(name)[8:11]])
    noise = st.binary(max_size=60).map(lambda data: b"\xc1" + data)
    good = st.sampled_from(messages_of(format)[8:11])
    if format == "csv":
        cut = good.map(lambda message: message[: message.rindex(b",")])
    else:
        cut = st.tuples(good, st.integers(1, 30)).map(lambda pair: pair[0][: -pair[1]])
    kinds = [noise, cut, st.just(b"")]
    # The bytes of three floats are three floats, whoever meant them.
    return st.one_of(*kinds, other.filter(lambda m: len(m) != 24 or format != "float64"))


@pytest.mark.parametrize("few", [1, 64])
@pytest.mark.parametrize("format", FORMATS)
def test_bad_messages_spoil_no_others(format, few):
    values = expected(format)
    good = messages_of(format)

    @settings(derandomize=True, max_examples=50, deadline=None)
    @given(items=st.lists(st.one_of(st.integers(0, 199), surely_bad(format)), max_size=40))
    def check(items):
        assume(not any(isinstance(m, bytes) and format.startswith("float") and len(m) == len(good[0]) for m in items))
        messages = [good[item] if isinstance(item, int) else item for item in items]
        found = codec(format, few=few).decode(messages)
        kept = [(i, item) for i, item in enumerate(items) if isinstance(item, int)]
        assert found.message.tolist() == [i for i, _ in kept]
        assert bits(found.values) == bits(values[[item for _, item in kept]].reshape(-1, 3))
        assert [w.message for w in found.unreadable] == [i for i, m in enumerate(items) if isinstance(m, bytes)]
        for _, why in found.unreadable:
            assert "\n" not in why
            assert "Traceback" not in why
            assert len(why) < 500

    check()


@pytest.mark.parametrize("format", FORMATS)
def test_any_bytes_are_either_records_or_unreadable(format):
    good = messages_of(format)[8]

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(
        noise=st.lists(st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "replace"))), max_size=5),
        damage=st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=4),
        fields=st.sampled_from([NAMES, None]),
    )
    def check(noise, damage, fields):
        changed = bytearray(good)
        for place, byte in damage:
            changed[place] = byte
        found = codec(format, fields).decode([*noise, bytes(changed), good])
        indices = [*found.message.tolist(), *(wrong.message for wrong in found.unreadable)]
        assert sorted(set(indices)) == list(range(len(noise) + 2)) or format == "arrow"
        assert np.isfinite(found.values[~np.isnan(found.values)]).all()
        assert (np.abs(found.values[~np.isnan(found.values)]) <= 1e100).all()
        assert fields is None or len(noise) + 1 in found.message
        assert all("\n" not in why for _, why in found.unreadable)

    check()


# Many at once are read as one by one


NUMBERS = [
    "1",
    "-0",
    "-0.0",
    "2.5e3",
    "1E-5",
    "5e-324",
    "1e400",
    "-1e101",
    "9007199254740993",
    "0" * 3,
    ".5",
    "1.",
    "+1",
]
NUMBERS += ["123456789012345678901234567890", "NaN", "-NaN", "Infinity", "Inf", "-inf", "nan", "1_0", "0x10", "true"]
JSON_VALUES = st.one_of(
    st.floats(-1e100, 1e100).map(repr),
    st.integers(-(2**80), 2**80).map(str),
    st.sampled_from(
        ["null", '"2.5"', '" NA "', '"x"', '""', "[]", "[1]", '{"a": 1}', "nul", '"}{"', '"\\ud83d"', '"Inf"']
    ),
    st.sampled_from(NUMBERS),
)
JSON_KEYS = st.sampled_from(["a", "b", "c", "\\u0061", "x", "é", ""])
SPACES = st.sampled_from(["", "", " ", "\t", "\r", "\n", "\v", "\0"])
ENDS = st.sampled_from(["", "", "", " ", "\n", "\r\n", "}", "]", "{", "[1]", '{"a":1}', ",", "\xff"])


def as_texts(opening, closing, item):
    inside = st.lists(st.tuples(SPACES, item).map("".join), max_size=4).map(",".join)
    return st.tuples(SPACES, inside, ENDS).map(lambda parts: opening.join(parts[:2]) + closing + parts[2])


CSV_CELLS = st.one_of(
    st.floats(-1e100, 1e100).map(repr),
    st.sampled_from(NUMBERS),
    st.sampled_from(
        ["", "NA", "null", "Null", " 1", "\t1 ", "\xa01", '"2"', '" 2 "', '""', '"1"2', '1"', "nan(1)", "x"]
    ),
)
TEXTS = {
    "json": as_texts("{", "}", st.tuples(JSON_KEYS, JSON_VALUES).map(lambda pair: f'"{pair[0]}":{pair[1]}')),
    "json-array": as_texts("[", "]", JSON_VALUES),
    "csv": st.tuples(st.lists(CSV_CELLS, min_size=1, max_size=4).map(",".join), ENDS).map("".join),
}
PACKED = st.sampled_from(
    [
        b"\xc0",
        b"\x01",
        b"\xff",
        b"\xc3",
        b"\xca\x3f\x80\x00\x00",
        b"\xa12",
        b"\xa1x",
        b"\x90",
        b"\x80",
        b"\xc1",
        b"\xc4\x011",
    ]
)
PACKED_MAPS = st.lists(
    st.tuples(st.sampled_from([b"\xa1a", b"\xa1b", b"\xa1x", b"\xa1\xff", b"\x01"]), PACKED), max_size=4
)
MESSAGES = {name: texts.map(lambda text: text.encode("latin-1", "replace")) for name, texts in TEXTS.items()}
MESSAGES["msgpack"] = st.one_of(
    PACKED_MAPS.map(lambda pairs: bytes([0x80 + len(pairs)]) + b"".join(map(b"".join, pairs))),
    st.lists(PACKED, max_size=4).map(lambda cells: bytes([0x90 + len(cells)]) + b"".join(cells)),
)


@pytest.mark.parametrize("format", MESSAGES)
def test_many_at_once_are_read_as_one_by_one(format):
    good = messages_of(format)[8:11]

    @settings(derandomize=True, max_examples=300, deadline=None)
    @given(
        messages=st.lists(st.one_of(MESSAGES[format], st.sampled_from(good)), max_size=6),
        fields=st.sampled_from([NAMES, ("b", "a", "x"), None]),
    )
    def check(messages, fields):
        together = codec(format, fields, few=1)
        apart = codec(format, fields, few=1)
        found = together.decode(messages)
        each = [apart.decode([message]) for message in messages]
        assert together.fields == apart.fields
        assert bits(found.values) == [row for one in each for row in bits(one.values)]
        assert [w.reason for w in found.unreadable] == [w.reason for one in each for w in one.unreadable]
        assert found.message.tolist() == [i for i, one in enumerate(each) if len(one.values)]

    check()


def test_a_few_bad_messages_do_not_make_all_slow(monkeypatch):
    from stream_em.streams.codecs import jsonformat

    parsed = []
    parse = jsonformat.JsonObjects.parse
    monkeypatch.setattr(jsonformat.JsonObjects, "parse", lambda *of: parsed.append(1) or parse(*of))
    messages = messages_of("json") * 25
    messages[1234] = messages[4321] = b'{"a": "x"}'
    found = codec("json").decode(messages)
    assert [wrong.message for wrong in found.unreadable] == [1234, 4321]
    assert len(parsed) < 4 * 64
    good = np.delete(np.tile(X, (25, 1)), [1234, 4321], axis=0)
    assert bits(found.values) == bits(good)
    parsed.clear()
    codec("json").decode(messages_of("json"))
    assert not parsed


# Messages that mean harm


def test_arrow_that_claims_more_than_a_message_may_hold(monkeypatch):
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    packed = as_arrow(*X.tolist(), compression="zstd")
    huge = packed.replace(struct.pack("<q", 150 * 8), struct.pack("<q", 1 << 50), 1)
    assert huge != packed
    assert "claims 1,125,899,9" in reason("arrow", huge)
    endless = in_arrow_batch(pa.nulls(12_345)).replace(struct.pack("<q", 12_345), struct.pack("<q", 10**12))
    assert "has 3,000,000,000,000 values" in reason("arrow", endless)
    monkeypatch.setattr(arrowguard, "MOST_BYTES", 10_000)
    zeros = np.zeros((150, 3))
    assert len(codec("arrow").decode([as_arrow(*zeros, compression="zstd")]).values) == 150
    assert "write messages of at most 10,000" in reason("arrow", as_arrow(*np.tile(zeros, (4, 1)), compression="zstd"))
    assert pool.max_memory() - before < 32 << 20


def in_arrow_batch(column):
    sink = io.BytesIO()
    batch = pa.RecordBatch.from_arrays([column] * 3, NAMES)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def test_arrow_that_points_outside_itself():
    outside = pa.DictionaryArray.from_arrays(pa.array([0, 99]), pa.array([1.5]), safe=False)
    assert "out of bounds" in reason("arrow", in_arrow_batch(outside)).lower()


def test_every_cut_of_an_arrow_message_is_noticed():
    for new in (pa.ipc.new_stream, pa.ipc.new_file):
        whole = as_arrow(*X.tolist(), new=new)
        found = codec("arrow").decode([whole[:size] for size in range(len(whole))])
        assert len(found.unreadable) == len(whole)


def avro_schema(*types):
    fields = [{"name": name, "type": kind} for name, kind in zip(NAMES, types, strict=False)]
    return {"type": "record", "name": "R", "fields": fields}


ITSELF = avro_schema("double", ["null", "R"])
EMPTY_ITEMS = avro_schema("double", {"type": "array", "items": {"type": "record", "name": "E", "fields": []}})
DOUBLING = avro_schema("null", "null")
for level in range(20):
    twice = [{"name": "a", "type": DOUBLING}, {"name": "b", "type": DOUBLING["name"]}]
    DOUBLING = {"type": "record", "name": f"D{level}", "fields": twice}


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        (ITSELF, "schema 1 contains itself"),
        (avro_schema("double", {"type": "array", "items": "null"}), "list of items without bytes"),
        (EMPTY_ITEMS, "list of items without bytes"),
        (DOUBLING, "more than 10,000 parts"),
        (avro_schema("double", json.loads('{"type":"array","items":' * 90 + '"int"' + "}" * 90)), "nested too deeply"),
        (avro_schema("double", "nonsense"), "schema 1 is broken (nonsense)"),
        ({"__fastavro_parsed": True, "__named_schemas": 5, **avro_schema("dubble")}, "schema 1 is broken"),
        ({"type": "record"}, "schema 1 is broken"),
        ("double", "schema 1 describes no record"),
        (None, "schema 1 is broken"),
        ([], "schema 1 describes no record"),
        (avro_schema(), "has no fields"),
    ],
)
def test_schemas_that_nothing_can_be_read_with(schema, part):
    poison = struct.pack(">BI", 0, 1) + bytes(8) + b"\x80\x80\x80\x80\x80\x80\x04" + b"\x02" * 100_000
    began = time.monotonic()
    assert part in reason("avro", poison, fields=None, schemas=Schemas(schema))
    assert time.monotonic() - began < 1


# Avro and its registry


def test_types_of_avro():
    money = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    schema = {
        "type": "record",
        "name": "R",
        "namespace": "n",
        "fields": [
            {"name": "a", "type": ["null", "boolean"]},
            {"name": "b", "type": "long"},
            {"name": "c", "type": ["string", "float", "null"]},
            {"name": "d", "type": ["null", money]},
            {"name": "e", "type": money | {"type": "fixed", "name": "F", "size": 4}},
            {"name": "f", "type": "F"},
            {"name": "g", "type": "null"},
            {"name": "color", "type": {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "plain", "type": "bytes"},
            {"name": "part", "type": {"type": "record", "name": "P", "fields": [{"name": "x", "type": "double"}]}},
            {"name": "many", "type": {"type": "array", "items": "double"}},
            {"name": "words", "type": ["null", "string"]},
        ],
    }
    rest = {"color": "RED", "at": 2**60, "plain": b"1", "part": {"x": 1.0}, "many": [1.0], "words": "x"}
    money = {"d": Decimal("-12.34"), "e": Decimal("0.01"), "f": Decimal("99.99")}
    rows = [
        {"a": True, "b": 2**40, "c": 0.5, **money, "g": None},
        {"a": None, "b": -1, "c": None, **money, "d": None, "g": None},
        {"a": False, "b": 0, "c": " 7 ", **money, "g": None},
        {"a": False, "b": 0, "c": "x", **money, "g": None},
    ]
    plain = json.loads(json.dumps(schema).replace("timestamp-millis", "unheard-of"))
    messages = [in_avro(plain, row | rest) for row in rows]
    made = codec("avro", list("abcdefg"), schemas=Schemas(schema))
    found = made.decode(messages)
    money_values = [-12.34, 0.01, 99.99]
    expected = [[1, 2.0**40, 0.5, *money_values, np.nan], [np.nan, -1, np.nan, np.nan, *money_values[1:], np.nan]]
    np.testing.assert_array_equal(found.values, [*expected, [0, 0, 7, *money_values, np.nan]])
    assert [w.reason for w in found.unreadable] == [reason("avro", messages[3], fields=("c",), schemas=Schemas(schema))]
    assert found.unreadable[0].reason.startswith("field 'c': 'x' is not a number")
    kinds = {"color": "enum", "at": "timestamp-millis", "plain": "bytes", "part": "record", "many": "array"}
    for field, kind in (kinds | {"words": "null or string"}).items():
        why = reason("avro", messages[0], fields=("b", field), schemas=Schemas(schema))
        assert f"field {field!r}: holds {kind}, not numbers; choose other fields" in why
    assert made.decode(messages[:1]).values.shape == (1, 7)
    assert codec("avro", ("at",), schemas=Schemas(plain)).decode(messages[:1]).values.tolist() == [[2.0**60]]


def test_schemas_change_from_message_to_message():
    other = {"type": "record", "name": "Other", "fields": [{"name": n, "type": "float"} for n in "cxa"]}
    without = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}
    schemas = Schemas(SCHEMA, other, without)
    messages = []
    for i in range(30):
        messages.append(in_avro(SCHEMA, {"a": i, "b": None, "c": 0.5}, 1))
        messages.append(in_avro(other, {"c": 0.25, "x": 9, "a": -i}, 2))
        messages.append(in_avro(without, {"a": 5}, 3))
        messages.append(struct.pack(">BI", 0, 44) + bytes(9))
    found = codec("avro", ("c", "a"), schemas=schemas).decode(messages)
    np.testing.assert_array_equal(found.values, [row for i in range(30) for row in ([0.5, i], [0.25, -i])])
    reasons = [(w.message % 4, w.reason) for w in found.unreadable]
    assert reasons == [(2, "schema 3: there is no field 'c'; it has 'a'"), (3, "no schema 44")] * 30


@contextlib.contextmanager
def http_server(answers):
    """Answer (method, path) with a status, headers and a body, or what a function makes of the request's body."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.command, self.path, self.headers.get("Authorization"), body))
            answer = answers.get((self.command, self.path), (404, {}, b'{"error_code": 40403, "message": "not found"}'))
            status, headers, content = answer(body) if callable(answer) else answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def holding(schema, **more):
    return 200, {}, json.dumps({"schema": json.dumps(schema), **more}).encode()


def test_avro_through_a_registry():
    registered = {}

    def register(body):
        schema = json.loads(body)["schema"]
        registered.setdefault(schema, len(registered) + 10)
        answers["GET", f"/schemas/ids/{registered[schema]}"] = 200, {}, json.dumps({"schema": schema}).encode()
        return 200, {}, json.dumps({"id": registered[schema]}).encode()

    answers = {("POST", "/subjects/rooms%2Fone-value/versions"): register}
    with http_server(answers) as (url, asked):
        made = codec_named("avro", NAMES, SchemaRegistry(url + "/", "me", "s3cret"), "rooms/one-value")
        messages = made.encode(X, NAMES) + made.encode(X, NAMES)
        assert bits(made.decode(messages).values) == bits(np.tile(X, (2, 1)))
        made.decode(messages)
        assert [(method, path) for method, path, _, _ in asked] == [
            ("POST", "/subjects/rooms%2Fone-value/versions"),
            ("GET", "/schemas/ids/10"),
        ]
        assert {who for _, _, who, _ in asked} == {"Basic " + base64.b64encode(b"me:s3cret").decode()}
    parsed = fastavro.parse_schema(json.loads(next(iter(registered))))
    row = fastavro.schemaless_reader(io.BytesIO(messages[5][5:]), parsed, None)
    assert row == {"a": None, "b": None, "c": None}
    assert messages[8][:5] == b"\x00\x00\x00\x00\x0a"


def test_a_schema_that_is_not_there_is_asked_for_once_a_minute(monkeypatch):
    with http_server({("GET", "/schemas/ids/1"): holding(SCHEMA)}) as (url, asked):
        made = codec_named("avro", NAMES, SchemaRegistry(url))
        fake = struct.pack(">BI", 0, 7) + bytes(30)
        messages = [fake, *messages_of("avro")[:5], fake, struct.pack(">BI", 0, 1 << 31)]
        for _ in range(3):
            found = made.decode(messages)
            assert bits(found.values) == bits(X[:5])
            assert [w.message for w in found.unreadable] == [0, 6, 7]
            assert f"schema registry {url} has no schema 7" in found.unreadable[0].reason
            assert "ids end at" in found.unreadable[2].reason
        assert sorted(path for _, path, _, _ in asked) == ["/schemas/ids/1", "/schemas/ids/7"]
        now = time.monotonic()
        monkeypatch.setattr(registry.time, "monotonic", lambda: now + 61)
        made.decode(messages)
        assert len(asked) == 3
        monkeypatch.setattr(registry, "_MOST_REMEMBERED", 2)
        for id in range(100, 110):
            with pytest.raises(NoSchemaError):
                made._format._registry.schema(id)
        assert len(made._format._registry._missing) <= 2


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (holding(SCHEMA, schemaType="PROTOBUF"), "schema 1 is PROTOBUF, not Avro"),
        (holding(SCHEMA, references=[{"name": "x"}]), "schema 1 refers to other schemas"),
        ((200, {}, b'{"schema": "{"}'), "schema 1 is broken: it is no JSON"),
        ((200, {}, json.dumps({"schema": "[" * 100_000}).encode()), "schema 1 is broken: it is no JSON"),
        (holding({"type": "record", "name": "R", "fields": [{"name": "a"}]}), "schema 1 is broken ('type')"),
    ],
)
def test_a_schema_that_is_of_no_use_is_the_fault_of_its_messages(answer, part):
    with http_server({("GET", "/schemas/ids/1"): answer, ("GET", "/schemas/ids/2"): holding(SCHEMA)}) as (url, asked):
        made = codec_named("avro", NAMES, SchemaRegistry(url))
        good = in_avro(SCHEMA, {"a": 1, "b": 2, "c": 3}, 2)
        for _ in range(2):
            found = made.decode([messages_of("avro")[0], good])
            assert found.values.tolist() == [[1, 2, 3]]
            assert part in found.unreadable[0].reason
        assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "error", "part"),
    [
        ((401, {}, b"{}"), OutsideError, "refuses access (HTTP 401); check user and password"),
        ((403, {}, b"{}"), OutsideError, "refuses access (HTTP 403)"),
        ((500, {}, b"{}"), OutsideError, "fails (HTTP 500)"),
        ((429, {}, b"{}"), OutsideError, "fails (HTTP 429)"),
        (
            (302, {"Location": "http://127.0.0.1:1/steal"}, b""),
            InputError,
            "does not answer as a registry does (HTTP 302)",
        ),
        ((404, {}, b"<html>"), InputError, "does not answer as a registry does (HTTP 404)"),
        ((200, {}, b"<html>"), InputError, "does not answer as a registry does (HTTP 200)"),
        ((200, {}, b"[" * 100_000), InputError, "does not answer as a registry does"),
        ((200, {}, b'{"schema": 5}'), InputError, "does not answer as a registry does"),
        ((200, {}, b" " * (2 << 20)), InputError, "answered more than 1 MB"),
        ((200, {"Content-Length": "nonsense"}, b"x"), InputError, "does not answer as a registry does"),
    ],
)
def test_a_registry_that_is_wrong_is_no_message_s_fault(answer, error, part):
    with http_server({("GET", "/schemas/ids/1"): answer}) as (url, asked):
        made = codec_named("avro", None, SchemaRegistry(url, "me", "s3cret"))
        for _ in range(2):
            with pytest.raises(error) as caught:
                made.decode([b"", *messages_of("avro")])
            assert part in str(caught.value)
            assert str(caught.value).startswith(f"schema registry {url}: ")
            assert "s3cret" not in f"{caught.value!r} {made._format._registry!r} {made._format._registry}"
            assert "\n" not in str(caught.value)
        assert made.fields == ()
        assert len(asked) == 2


def test_a_registry_that_cannot_be_reached(monkeypatch):
    with http_server({}) as (url, _):
        pass
    with pytest.raises(OutsideError, match=r"cannot be reached \(.*refused\); check the URL"):
        SchemaRegistry(url, "me", "s3cret").schema(1)

    def slowly(_):
        time.sleep(0.5)
        return holding(SCHEMA)

    with http_server({("GET", "/schemas/ids/1"): slowly}) as (url, _):
        patient, hasty = SchemaRegistry(url), SchemaRegistry(url, timeout=0.1)
        with pytest.raises(OutsideError, match="timed out"):
            hasty.schema(1)
        assert patient.schema(1) == SCHEMA
    with pytest.raises(OutsideError, match="cannot be reached"):
        SchemaRegistry(url.replace("http", "https")).schema(1)


def test_a_registry_refuses_a_schema():
    path = ("POST", "/subjects/stream_em.Record/versions")
    with http_server({path: (409, {}, b'{"error_code": 409, "message": "not\\ncompatible"}')}) as (url, _):
        made = codec_named("avro", NAMES, SchemaRegistry(url))
        assert "(not compatible); choose another subject" in refused(lambda: made.encode(X, NAMES))
    with http_server({path: (200, {}, b'{"id": "x"}')}) as (url, _):
        made = codec_named("avro", NAMES, SchemaRegistry(url))
        assert "does not answer as a registry does" in refused(lambda: made.encode(X, NAMES))


def test_urls_of_registries():
    for url in (
        "file:///etc/passwd",
        "ftp://x",
        "localhost:8081",
        "http://",
        "http://x:99999",
        "http://x?y",
        "http://[x",
    ):
        assert "http://host:8081" in refused(lambda url=url: SchemaRegistry(url))
    why = refused(lambda: SchemaRegistry("http://me:s3cret@host:8081"))
    assert "s3cret" not in why
    assert "settings of their own" in why
    assert "needs a user" in refused(lambda: SchemaRegistry("http://host", password="x"))

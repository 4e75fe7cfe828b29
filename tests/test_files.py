import csv
import gzip
import io
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_em.errors import InputError, OutsideError
from stream_em.streams import bytestream, lines
from stream_em.streams.ahead import read_ahead
from stream_em.streams.files import FileSource, open_source

NAMES = ("a", "b", "c")
X = np.random.default_rng(0).normal(size=(1000, 3))
X[::7, 1] = np.nan
X[5] = np.nan


def as_csv(values, names=NAMES, delimiter=","):
    text = io.StringIO()
    rows = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    rows.writerow(names)
    rows.writerows(["" if np.isnan(x) else repr(float(x)) for x in row] for row in values)
    return text.getvalue().encode()


def as_json(values, names=NAMES):
    rows = [{n: None if np.isnan(x) else float(x) for n, x in zip(names, r, strict=True)} for r in values]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_table(values, names=NAMES):
    return pa.table({name: pa.array(values[:, j], from_pandas=True) for j, name in enumerate(names)})


def as_arrow(values, new=pa.ipc.new_file):
    sink = io.BytesIO()
    with new(sink, as_table(values).schema) as writer:
        writer.write_table(as_table(values), max_chunksize=300)
    return sink.getvalue()


def as_parquet(values):
    sink = io.BytesIO()
    pa.parquet.write_table(as_table(values), sink, row_group_size=300)
    return sink.getvalue()


def as_feather(values):
    sink = io.BytesIO()
    pa.feather.write_feather(as_table(values), sink, compression="zstd", chunksize=300)
    return sink.getvalue()


def as_npy(values):
    sink = io.BytesIO()
    np.save(sink, values)
    return sink.getvalue()


def as_structured(values):
    return as_npy(np.array([tuple(row) for row in values], dtype=[(name, "<f8") for name in NAMES]))


CONTENTS = {
    "csv": as_csv(X),
    "tsv": as_csv(X, delimiter="\t"),
    "jsonl": as_json(X),
    "ndjson": as_json(X),
    "arrow": as_arrow(X),
    "arrows": as_arrow(X, pa.ipc.new_stream),
    "feather": as_feather(X),
    "ipc": as_arrow(X),
    "npy": as_npy(X),
    "parquet": as_parquet(X),
}
COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
READABLE = [(kind, end) for kind in CONTENTS for end in COMPRESS if kind != "parquet" or not end]


def write(folder, name, content):
    path = Path(folder) / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(source):
    return np.concatenate([block.values for block in source])


def failure(data, **options):
    with pytest.raises(InputError) as caught:
        list(open_source(data, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def in_pieces(path, piece_bytes, block_size=8192, fields=None, kind="csv"):
    return FileSource(
        [(str(path), kind)], fields=fields, block_size=block_size, has_header=None, piece_bytes=piece_bytes
    )


# What is read


@pytest.mark.parametrize(("kind", "end"), READABLE)
def test_every_format_gives_the_same_blocks(tmp_path, kind, end):
    path = write(tmp_path, f"x.{kind}{end}", COMPRESS[end](CONTENTS[kind]))
    source = open_source(path, block_size=300)
    assert source.fields == (("x0", "x1", "x2") if kind == "npy" else NAMES)
    blocks = list(source)
    assert [len(block) for block in blocks] == [300, 300, 300, 100]
    assert [block.position["record"] for block in blocks] == [300, 600, 900, 1000]
    for block in blocks:
        assert block.values.flags.c_contiguous
        assert block.values.flags.writeable
        assert block.values.flags.owndata
        assert block.position["file"] == str(path)
    np.testing.assert_array_equal(values(blocks), X)
    np.testing.assert_array_equal(values(source), X)
    assert source.bytes_read == 2 * source.n_bytes == 2 * path.stat().st_size


@pytest.mark.parametrize(("kind", "end"), [(kind, end) for kind, end in READABLE if kind != "npy"])
def test_fields_are_chosen_by_name_in_the_order_asked_for(tmp_path, kind, end):
    path = write(tmp_path, f"x.{kind}{end}", COMPRESS[end](CONTENTS[kind]))
    np.testing.assert_array_equal(values(open_source(path, fields=["c", "a"])), X[:, [2, 0]])


def test_numpy_arrays(tmp_path):
    vector = write(tmp_path, "v.npy", as_npy(np.arange(5)))
    np.testing.assert_array_equal(values(open_source(vector)), np.arange(5.0)[:, None])
    named = write(tmp_path, "s.npy.gz", gzip.compress(as_structured(X)))
    np.testing.assert_array_equal(values(open_source(named, fields=("b",))), X[:, 1:2])
    fortran = write(tmp_path, "f.npy", as_npy(np.asfortranarray(X)))
    np.testing.assert_array_equal(values(open_source(fortran, fields=["x2", "x0"])), X[:, [2, 0]])
    single = write(tmp_path, "f4.npy", as_npy(X.astype(np.float32)))
    np.testing.assert_array_equal(values(open_source(single)), X.astype(np.float32))
    assert open_source(single).n_records == 1000


def test_number_types_of_arrow(tmp_path):
    table = pa.table(
        {
            "flag": pa.array([True, None, False]),
            "whole": pa.array([1, 2, None]),
            "small": pa.array([1, 2, 3], pa.int8()),
            "none": pa.nulls(3),
            "coded": pa.array([2.5, 2.5, None]).dictionary_encode(),
        }
    )
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    expected = [[1, 1, 1, np.nan, 2.5], [np.nan, 2, 2, np.nan, 2.5], [0, np.nan, 3, np.nan, np.nan]]
    np.testing.assert_array_equal(values(open_source(tmp_path / "x.parquet")), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", [[1, 2]]),
        ("a,b\r\n1,2\r\n\r\n3,4", [[1, 2], [3, 4]]),
        ("\ufeffa,b\n1,2\n", [[1, 2]]),
        ("\n\na,b\n\n1,2\n\n", [[1, 2]]),
        ("a;b\n1;2\n", [[1, 2]]),
        ('"a","b"\n"1.5"," 2 "\n', [[1.5, 2]]),
        ("a,b\n1, \n+2,nUlL\n+nan,-nan\n", [[1, np.nan], [2, np.nan], [np.nan, np.nan]]),
        ("a,b\nNA,nan\nNaN,null\nNULL,\n", [[np.nan] * 2] * 3),
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        (",2\n3,NA\n", [[np.nan, 2], [3, np.nan]]),
        ('a\n""\n\n1\n', [[np.nan], [1]]),
    ],
)
def test_csv_dialects(tmp_path, text, expected):
    np.testing.assert_array_equal(values(open_source(write(tmp_path, "x.csv", text))), expected)


def test_header_is_told_or_seen(tmp_path):
    path = write(tmp_path, "x.csv", "1,2\n3,4\n")
    assert open_source(path).fields == ("x0", "x1")
    assert open_source(path, has_header=True).fields == ("1", "2")
    text = write(tmp_path, "y.csv", "a,b\n3,4\n")
    assert "line 1, field 'x0': 'a' is not a number" in failure(text, has_header=False)
    assert open_source(write(tmp_path, "z.csv", ",b\n1,2\n")).fields == ("x0", "b")


def test_text_columns_may_hold_line_ends_quotes_and_other_bytes(tmp_path):
    content = b'name,x\n"two\nlines, ""quoted""",1\n5" pipe,2\n6" pipe,3\n\xff\xfe,4\n'
    path = write(tmp_path, "x.csv", content)
    for piece_bytes in (1, 7, 20, None):
        assert values(in_pieces(path, piece_bytes, fields=["x"])).ravel().tolist() == [1, 2, 3, 4]


def test_json_values(tmp_path):
    text = '{"a": 1}\n\n {"b": true, "c": [1]}\n{"a": "2.5", "b": NaN}\r\n{"a": null, "b": 3, "d": {"e": 1}}'
    path = write(tmp_path, "x.jsonl", text)
    expected = [[1, np.nan], [np.nan, 1], [2.5, np.nan], [np.nan, 3]]
    np.testing.assert_array_equal(values(open_source(path, fields=["a", "b"])), expected)
    assert open_source(path).fields == ("a", "b", "c", "d")


# A piece is only a convenience


CELLS = st.one_of(
    st.floats(-1e100, 1e100).map(repr),
    st.sampled_from(["", "NA", "nan", " 1", "+1.5", '"2"', "null", '"3\n"', " ", '"4"']),
)
NOTES = st.sampled_from(["t", '"a ""b"""', '"x\ny"', '"p,q"', "", "é"])


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, NOTES, CELLS), min_size=1, max_size=12),
    newline=st.sampled_from(["\n", "\r\n"]),
    piece_bytes=st.integers(1, 200),
    block_size=st.integers(1, 5),
)
def test_any_piece_size_gives_the_same_csv_blocks(tmp_path_factory, rows, newline, piece_bytes, block_size):
    text = newline.join(["a,note,b", *(",".join(row) for row in rows), ""])
    path = write(tmp_path_factory.mktemp("csv"), "x.csv", text)
    whole = list(in_pieces(path, None, block_size, ["a", "b"]))
    pieces = list(in_pieces(path, piece_bytes, block_size, ["a", "b"]))
    assert [block.position["record"] for block in whole] == [block.position["record"] for block in pieces]
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    assert sum(map(len, whole)) == len(rows)


ROW = st.dictionaries(
    st.sampled_from(["a", "b", "note"]),
    st.one_of(st.none(), st.booleans(), st.floats(-1e100, 1e100), st.just("1"), st.integers(0, 2**70)),
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=12), piece_bytes=st.integers(1, 200), blank=st.booleans())
def test_any_piece_size_gives_the_same_json_blocks(tmp_path_factory, rows, piece_bytes, blank):
    rows = [{"a": 1.0, "b": None}, *rows]
    text = ("\n\n" if blank else "\n").join(json.dumps(row) for row in rows)
    path = write(tmp_path_factory.mktemp("json"), "x.jsonl", text)
    expected = [[np.nan if row.get(n) is None else float(row[n]) for n in "ab"] for row in rows]
    for size in (None, piece_bytes):
        np.testing.assert_array_equal(values(in_pieces(path, size, 5, ["a", "b"], "jsonl")), expected)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_line_of_a_million_characters(tmp_path, kind):
    long = "y" * 1_500_000
    text = f"a,b\n1,2\n3,{long}\n5,6\n" if kind == "csv" else f'{{"a":1}}\n{{"a":3,"b":"{long}"}}\n{{"a":5}}\n'
    path = write(tmp_path, f"x.{kind}", text)
    assert values(open_source(path, fields=["a"])).ravel().tolist() == [1, 3, 5]
    message = failure(path, fields=["b"])
    assert f"line {3 if kind == 'csv' else 2}, field 'b'" in message
    assert len(message) < 300


def test_memory_does_not_depend_on_the_length_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "PIECE_BYTES", 1 << 18)
    path = write(tmp_path, "x.csv.gz", gzip.compress(b"a,b\n" + b"1.25,2.5\n" * 1_500_000, 1))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    most_arrow = 0
    for block in open_source(path):
        assert block.values[0, 1] == 2.5
        most_arrow = max(most_arrow, pa.total_allocated_bytes() - before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20
    assert most_arrow < 6 << 20


def test_a_block_may_be_asked_to_hold_more_than_there_is(tmp_path):
    path = write(tmp_path, "x.npy", as_npy(np.arange(200_000.0)))
    (block,) = open_source(path, block_size=10**12)
    np.testing.assert_array_equal(block.values.ravel(), np.arange(200_000.0))
    assert block.values.flags.owndata


# Several files


def test_patterns_folders_and_lists(tmp_path):
    first = write(tmp_path, "1.csv", "a,b\n1,2\n")
    second = write(tmp_path, "2.jsonl", '{"b": 4, "a": 3}\n')
    write(tmp_path, "LICENSE", "text")
    write(tmp_path, ".hidden.csv", "")
    expected = [[1, 2], [3, 4]]
    np.testing.assert_array_equal(values(open_source(tmp_path)), expected)
    np.testing.assert_array_equal(values(open_source([second, str(first)], fields=["a", "b"])), expected[::-1])
    np.testing.assert_array_equal(values(open_source(f"{tmp_path}/[12].*")), expected)
    np.testing.assert_array_equal(values(open_source(tmp_path, format="csv")), [[1, 2]])


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "x.csv", "a\n1\n")
    assert values(open_source("~/x.csv")).tolist() == [[1]]


def test_lengths_are_known_where_they_are_cheap(tmp_path):
    for kind, known in [("parquet", 1000), ("arrow", 1000), ("npy", 1000), ("csv", None), ("arrows", None)]:
        path = write(tmp_path, f"x.{kind}", CONTENTS[kind])
        assert open_source(path).n_records == known
    paths = [tmp_path / "x.parquet", tmp_path / "x.arrow"]
    assert open_source(paths).n_records == 2000


def test_progress_never_falls_and_ends_at_the_size(tmp_path):
    path = write(tmp_path, "x.csv", as_csv(np.tile(X, (20, 1))))
    source = in_pieces(path, 1000, 100)
    seen = [source.bytes_read for _ in source]
    assert seen == sorted(seen)
    assert len(set(seen)) > 10
    assert source.bytes_read == source.n_bytes


def test_a_source_is_a_context(tmp_path):
    path = write(tmp_path, "x.csv", CONTENTS["csv"])
    with open_source(path) as source:
        assert next(iter(source)).fields == NAMES


# Standard input


@pytest.mark.parametrize("end", COMPRESS)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "npy", "arrow", "arrows"])
def test_standard_input_tells_its_format(monkeypatch, kind, end):
    content = io.BytesIO(COMPRESS[end](CONTENTS[kind]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    source = open_source("-", block_size=300)
    assert source.n_bytes is None
    assert len(source.fields) == 3
    np.testing.assert_array_equal(values(source), X)
    assert source.bytes_read > 0
    with pytest.raises(InputError, match="only once"):
        next(iter(source))


def test_a_pipe(tmp_path):
    script = (
        "from stream_em.streams.files import open_source\n"
        "from stream_em.streams.ahead import read_ahead\n"
        "import sys; assert 'pyarrow' not in sys.modules\n"
        "print(sum(block.values.sum() for block in read_ahead(open_source('-', fields=['b']))))"
    )
    text = b"a,b\n" + b"1,2\n" * 500_000
    done = subprocess.run([sys.executable, "-c", script], input=text, capture_output=True, check=True)
    assert done.stdout == b"1000000.0\n"
    assert done.stderr == b""


def test_a_named_pipe_is_read_once(tmp_path):
    path = tmp_path / "x.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(CONTENTS["csv"],))
    writer.start()
    source = open_source(path)
    assert source.fields == NAMES
    np.testing.assert_array_equal(values(source), X)
    writer.join()
    assert source.n_bytes is None
    with pytest.raises(InputError, match="only once"):
        next(iter(source))


def test_standard_input_that_cannot_be_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTENTS["parquet"])))
    assert "plain file" in failure("-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "standard input is empty" in failure("-")
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in failure("-")


# What is wrong is said in one line: where, what, and the mend


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("x.csv", "temp,b\n1,2\nabc,2\n", ["line 3, field 'temp': 'abc' is not a number", "--fields"]),
        ("x.csv", 'n,b\n"p\nq",1\n"r",z\n', ["line 2, field 'n': 'p\\nq' is not a number"]),
        ("x.csv", "a,b,c\n1,2,3\n1\n", ["line 3, field 'b'", "1 of 3 fields"]),
        ("x.csv", "a,b\n1,2,3\n", ["line 2", "3 of 2 fields", "after field 'b'", "','"]),
        ("x.csv", "a,b\n1,2\n\n1,-inf\n", ["line 4, field 'b'", "infinite"]),
        ("x.csv", "a,b\n1,1e400\n", ["line 2, field 'b'", "infinite"]),
        ("x.csv", "a,b\n1,-2e100\n", ["line 2, field 'b'", "larger in magnitude than 1e+100"]),
        ("x.csv", "a,b\n1_0,2\n", ["line 2, field 'a': '1_0'"]),
        ("x.csv", b"a,b\n1,\xe9\n", ["line 2, field 'b'", "not UTF-8"]),
        ("x.csv", b"a,\xe9\n1,2\n", ["line 1", "0xe9 is not UTF-8"]),
        ("x.csv", "a\n1\n".encode("utf-16"), ["UTF-16"]),
        ("x.csv", 'a,b\n1,2\n1,"2\n3,4\n', ["line 3", "never closed"]),
        ("x.csv", 'a,b\n1,"2"3,"4"\n', ["line 2"]),
        ("x.csv", 'a,"b\n1,2\n', ["line 1", "never closed"]),
        ("x.csv", "a,b,a\n1,2,3\n", ["line 1", "two columns are named 'a'"]),
        ("x.csv", "a\r1\r2\r", ["line 1", "carriage return"]),
        ("x.csv", "a,b\n", ["has a header but no records"]),
        ("x.csv", "\n\n", ["no records"]),
        ("x.csv", "", ["is empty"]),
        ("x.csv.gz", gzip.compress(b"", mtime=0), ["no records"]),
        ("x.jsonl", "\n", ["has no records"]),
        ("x.jsonl", '{"a": 1}\n{"a": 1\n', ["line 2", "broken JSON"]),
        ("x.jsonl", '{"a": 1}\n{"a": "p"}\n', ["line 2, field 'a': 'p' is not a number"]),
        ("x.jsonl", '{"a": 1}\n{"a": [1]}\n', ["line 2, field 'a'", "nested list"]),
        ("x.jsonl", '{"a": 1}\n{"a": 1e300}\n', ["line 2, field 'a'", "1e+100"]),
        ("x.jsonl", '{"a": 1}\n{"a": -Infinity}\n', ["line 2, field 'a'", "infinite"]),
        ("x.jsonl", "null\n" + '{"a": 1}\n', ["line 1", "not a JSON object"]),
        ("x.jsonl", '{"a": 1}null\n', ["line 1", "broken JSON"]),
        ("x.jsonl", '{"a": 1}{"a": 2}\n', ["line 1", "broken JSON"]),
        ("x.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', ["line 2", "UTF-8"]),
        ("x.jsonl", "[" * 100_000 + "\n", ["line 1", "nested too deeply"]),
        ("x.csv.gz", gzip.compress(as_csv(X), mtime=0)[:-500], ["damaged, cut short"]),
        ("x.csv.gz", b"hello hello", ["damaged"]),
        ("x.csv.zst", COMPRESS[".zst"](as_csv(X))[:-500], ["damaged, cut short"]),
        ("x.parquet", CONTENTS["parquet"][:-100], ["damaged"]),
        ("x.parquet.gz", gzip.compress(CONTENTS["parquet"], mtime=0), ["Parquet", "decompress"]),
        ("x.arrow", CONTENTS["arrow"][:-100], ["damaged"]),
        ("x.arrows", CONTENTS["arrows"][:-200], ["damaged"]),
        ("x.arrow", b"junkjunkjunkjunk", ["damaged"]),
        ("x.npy", CONTENTS["npy"][:-100], ["cut short", "1000 records"]),
        ("x.npy.gz", gzip.compress(CONTENTS["npy"][:-100], mtime=0), ["cut short", "1000 records"]),
        ("x.npy.gz", gzip.compress(as_npy(np.asfortranarray(X)), mtime=0), ["Fortran"]),
        ("x.npy", b"\x93NUMPY", ["damaged"]),
        ("x.npy", as_npy(np.zeros((0, 2))), ["has no records"]),
        ("x.npy", as_npy(np.zeros((2, 0))), ["at least one feature"]),
        ("x.npy", as_npy(np.zeros((2, 2, 2))), ["3 axes"]),
        ("x.npy", as_npy(np.array(["text"])), ["field 'x0'", "not numbers"]),
        ("x.npy", as_npy(np.array([1j])), ["field 'x0'", "not numbers"]),
        ("x.npy", as_npy(np.array([1, 2, np.inf])), ["record 2, field 'x0'", "infinite"]),
        ("x.parquet", as_parquet(np.array([[0, 1, 2], [0, -1e101, 2]])), ["record 1, field 'b'", "1e+100"]),
        ("x.arrow", as_arrow(np.array([[0, 1, 2], [0, 1, np.inf]])), ["record 1, field 'c'", "infinite"]),
        ("x.parquet", as_parquet(X[:0]), ["has no records"]),
        ("x.xls", "1", ["cannot tell the format", "--format", ".csv"]),
    ],
)
def test_bad_contents(tmp_path, name, content, parts):
    path = write(tmp_path, name, content)
    message = failure(path)
    assert message.startswith(str(path))
    for part in parts:
        assert part in message


def test_lines_are_counted_across_pieces(tmp_path):
    rows = ["a,b", *(f'{i},"{i}"' for i in range(500)), "", "x,1", *["1,2"] * 100]
    path = write(tmp_path, "x.csv", "\n".join(rows))
    for piece_bytes in (10, 333, None):
        with pytest.raises(InputError, match=r"line 503, field 'a': 'x'"):
            list(in_pieces(path, piece_bytes))


def test_text_columns_of_typed_formats(tmp_path):
    table = pa.table({"a": [1.0], "name": ["1"], "pair": [{"p": 1}]})
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    assert "field 'name': holds string, not numbers" in failure(tmp_path / "x.parquet")
    assert "field 'pair'" in failure(tmp_path / "x.parquet", fields=["pair"])
    assert values(open_source(tmp_path / "x.parquet", fields=["a"])).tolist() == [[1]]


def test_objects_are_never_unpickled(tmp_path):
    path = write(tmp_path, "x.npy", as_npy(np.array([1, 2])))
    np.save(path, np.array([{}, {}], dtype=object), allow_pickle=True)
    assert "not numbers" in failure(path)


def test_damage_inside_a_parquet_file(tmp_path):
    content = bytearray(CONTENTS["parquet"])
    content[4:2000] = b"\xff" * 1996
    assert "damaged" in failure(write(tmp_path, "x.parquet", bytes(content)))


def test_wrong_fields(tmp_path):
    path = write(tmp_path, "x.csv", "temperature,wind\n1,2\n")
    message = failure(path, fields=["temprature"])
    assert "did you mean 'temperature'?" in message
    assert "'wind'" in message
    wide = write(tmp_path, "y.csv", ",".join(f"column{i}" for i in range(500)) + "\n")
    assert len(failure(wide, fields=["zzz"])) < 400
    assert "a list of names" in failure(path, fields="wind")
    assert "empty" in failure(path, fields=[])
    assert "'wind'" in failure(path, fields=["wind", "wind"])
    other = write(tmp_path, "z.csv", "temperature,rain\n1,2\n")
    assert failure([path, other]).startswith(f"{other}: there is no field 'wind'")


def test_nothing_found(tmp_path, monkeypatch):
    path = write(tmp_path, "measured.csv", "a\n1\n")
    assert f"did you mean {path}?" in failure(tmp_path / "mesured.csv")
    assert "nor the folder" in failure(tmp_path / "no" / "x.csv")
    assert "no file matches" in failure(f"{tmp_path}/*.parquet")
    (tmp_path / "empty").mkdir()
    assert "no data files" in failure(tmp_path / "empty")
    assert "no data" in failure([])
    assert "no format 'xls'" in failure(path, format="xls")
    assert "block_size" in failure(path, block_size=0)
    empty = write(tmp_path, "a.csv", "")
    assert failure([path, empty]).startswith(f"{empty}: is empty")


@pytest.mark.parametrize(
    ("raised", "kind", "part"),
    [
        (PermissionError(13, "Permission denied"), InputError, "permission"),
        (OSError(5, "Input/output error"), OutsideError, "Input/output error"),
    ],
)
def test_failures_of_the_system(tmp_path, monkeypatch, raised, kind, part):
    path = write(tmp_path, "x.csv", "a\n1\n")

    def refuse(*_):
        raise raised

    monkeypatch.setattr(bytestream.io, "FileIO", refuse)
    with pytest.raises(kind, match=part) as caught:
        list(open_source(path))
    assert str(path) in str(caught.value)


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 20)
    path = write(tmp_path, "x.csv", b"a\n1\n" + b"2" * (3 << 20))
    with pytest.raises(InputError, match="line 3: no line end within 1 MB"):
        list(in_pieces(path, 1 << 16))


# Reading ahead


def running():
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_reading_ahead_keeps_the_order(tmp_path):
    source = open_source(write(tmp_path, "x.csv", CONTENTS["csv"]), block_size=10)
    np.testing.assert_array_equal(values(read_ahead(source, depth=2)), X)
    assert not running()


def test_reading_ahead_passes_errors_on(tmp_path):
    source = open_source(write(tmp_path, "x.csv", "a\n" + "1\n" * 10 + "x\n"), block_size=2)
    with pytest.raises(InputError, match="line 12"):
        list(read_ahead(source))
    assert not running()


def test_reading_ahead_ends_with_its_consumer(tmp_path):
    source = open_source(write(tmp_path, "x.csv", CONTENTS["csv"]), block_size=10)
    ahead = read_ahead(source, depth=1)
    assert len(next(ahead)) == 10
    ahead.close()
    assert not running()

    def consume():
        for _ in read_ahead(source):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert not running()


def test_a_slow_pipe_is_read_as_it_comes(tmp_path):
    fifo = tmp_path / "records.csv"
    os.mkfifo(fifo)
    blocks = []

    def write():
        with fifo.open("wb", buffering=0) as pipe:
            pipe.write(b"a,b\n" + b"1,2\n" * 12)
            while len(blocks) < 2:
                time.sleep(0.01)
            pipe.write(b"3,4\n" * 3)

    writer = threading.Thread(target=write)
    writer.start()
    for block in open_source(fifo, block_size=5):
        blocks.append(len(block))
    writer.join()
    assert blocks == [5, 5, 5]

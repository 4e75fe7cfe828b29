"""A source that goes on at a position gives bitwise what one that was never interrupted gives from there."""

import gzip
import json
import os
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_files import COMPRESS, CONTENTS, READABLE, X, as_csv, as_json, as_npy, as_structured, write

from stream_em.errors import InputError
from stream_em.streams.files import FileSource, open_source


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.values.tobytes() == other.values.tobytes()
        assert one.values.shape == other.values.shape
        assert one.position == other.position
        assert one.fields == other.fields
        assert one.places["file"] == other.places["file"]
        np.testing.assert_array_equal(one.places["record"], other.places["record"])
        assert one.rejected == other.rejected


def through_json(position):
    return json.loads(json.dumps(position))


def check_every_position(open_again):
    """Go on with a new source at every position, and compare all blocks from there."""
    blocks = list(open_again())
    for number, block in enumerate(blocks, start=1):
        source = open_again()
        source.seek(through_json(block.position))
        same(list(source), blocks[number:])
    return blocks


def pieces_of(paths, piece_bytes, **options):
    files = [(str(path), path.name.split(".")[1]) for path in paths]
    return lambda: FileSource(
        files, **{"fields": None, "block_size": 100, "has_header": None, **options}, piece_bytes=piece_bytes
    )


@pytest.mark.parametrize(("kind", "end"), READABLE)
def test_every_format_goes_on_anywhere(tmp_path, kind, end):
    paths = [write(tmp_path, f"{n}.{kind}{end}", COMPRESS[end](CONTENTS[kind])) for n in range(2)]
    blocks = check_every_position(lambda: open_source(paths, block_size=170, passes=2))
    assert [len(block) for block in blocks] == 4 * [*[170] * 5, 150]
    assert [block.position["pass"] for block in blocks] == [0] * 12 + [1] * 12
    np.testing.assert_array_equal(blocks[1].places["record"], np.arange(170, 340))
    assert blocks[1].position["file"] == blocks[1].places["file"] == str(paths[0])


@pytest.mark.parametrize(
    "content",
    [as_npy(np.asfortranarray(X)), as_structured(X), gzip.compress(as_structured(X), mtime=0), as_npy(np.arange(50))],
)
def test_kinds_of_arrays(tmp_path, content):
    path = write(tmp_path, "x.npy.gz" if content.startswith(b"\x1f\x8b") else "x.npy", content)
    check_every_position(lambda: open_source(path, block_size=97))


@pytest.mark.parametrize("piece_bytes", [1, 100, 1000, 5000])
@pytest.mark.parametrize("end", COMPRESS)
def test_text_goes_on_from_any_piece(tmp_path, end, piece_bytes):
    table = write(tmp_path, f"x.csv{end}", COMPRESS[end](b"\xef\xbb\xbf" + as_csv(X[:300])))
    objects = write(tmp_path, f"y.jsonl{end}", COMPRESS[end](as_json(X[:300])))
    check_every_position(pieces_of([table, objects, table], piece_bytes, block_size=29))


CELL = st.sampled_from(["1", "2.5", "", "NA", '"3"', " 4 "])
NOTE = st.sampled_from(["t", '"two\nlines"', '"a ""b""\n\n"', "é", ""])
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\r\n\n"])


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, NOTE, CELL, ENDS), min_size=1, max_size=12),
    header=st.sampled_from(["a,note,b\n", "\n\na,note,b\r\n\n", ""]),
    piece_bytes=st.integers(1, 100),
    block_size=st.integers(1, 5),
    compressed=st.booleans(),
    on_error=st.sampled_from(["fail", "skip"]),
)
def test_any_csv_goes_on_anywhere(tmp_path_factory, rows, header, piece_bytes, block_size, compressed, on_error):
    text = (header + "".join(f"{a},{note},{b}{end}" for a, note, b, end in rows)).encode()
    path = write(
        tmp_path_factory.mktemp("csv"), f"x.csv{'.gz' * compressed}", gzip.compress(text) if compressed else text
    )
    fields = ["a", "b"] if header else ["x0", "x2"]
    options = {"fields": fields, "block_size": block_size, "has_header": bool(header), "on_error": on_error}
    blocks = check_every_position(pieces_of([path], piece_bytes, **options))
    for block in blocks:
        assert block.position["record"] % block_size == 0 or block is blocks[-1]
        assert len(block) + len(block.rejected) <= block_size
    if on_error == "fail":
        assert sum(map(len, blocks)) == len(rows)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    rows=st.lists(st.sampled_from(['{"a": 1}', '{"a": null, "b": "2"}', "", " ", "oops", '{"b": 1e300}']), max_size=15),
    piece_bytes=st.integers(1, 100),
    block_size=st.integers(1, 5),
    newline=st.booleans(),
)
def test_any_json_lines_go_on_anywhere(tmp_path_factory, rows, piece_bytes, block_size, newline):
    text = "\n".join(['{"a": 1, "b": 2}', *rows]) + "\n" * newline
    path = write(tmp_path_factory.mktemp("json"), "x.jsonl", text)
    blocks = check_every_position(pieces_of([path], piece_bytes, block_size=block_size, on_error="skip"))
    assert sum(len(block) + len(block.rejected) for block in blocks) == 1 + sum(bool(row.strip()) for row in rows)


# The limit


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow", "npy"])
@pytest.mark.parametrize("limit", [1, 299, 300, 301, 1000, 1001, 1500])
def test_a_limit_cuts_and_the_rest_is_cut_as_ever(tmp_path, kind, limit):
    paths = [write(tmp_path, f"{n}.{kind}", CONTENTS[kind]) for n in range(2)]
    whole = list(open_source(paths, block_size=300))
    source = open_source(paths, block_size=300)
    source.seek(None, limit)
    begun = list(source)
    assert sum(map(len, begun)) == limit
    source = open_source(paths, block_size=300)
    source.seek(through_json(begun[-1].position))
    rest = list(source)
    ends = {(block.position["file"], block.position["record"]) for block in whole}
    assert all((block.position["file"], block.position["record"]) in ends for block in rest)
    joined = np.concatenate([block.values for block in (*begun, *rest)])
    assert joined.tobytes() == np.concatenate([block.values for block in whole]).tobytes()


def test_a_limit_counts_rejected_records_and_only_once(tmp_path):
    path = write(tmp_path, "x.csv", "a\n1\nx\n3\n4\n")
    source = open_source(path, on_error="skip")
    source.seek(None, 2)
    (block,) = source
    assert block.values.tolist() == [[1]]
    assert block.position["record"] == 2
    assert sum(map(len, source)) == 3
    source.seek(None, 0)
    assert list(source) == []
    with pytest.raises(InputError, match="limit"):
        source.seek(None, -1)


def test_iterating_again_starts_again(tmp_path):
    source = open_source(write(tmp_path, "x.csv", CONTENTS["csv"]), block_size=300)
    blocks = list(source)
    source.seek(blocks[1].position)
    same(list(source), blocks[2:])
    same(list(source), blocks)
    source.seek(blocks[1].position)
    source.seek(None)
    same(list(source), blocks)


# What is counted


def test_passes(tmp_path):
    path = write(tmp_path, "x.csv", "a\n1\n2\n")
    blocks = list(open_source([path, path], passes=3))
    assert [block.position["pass"] for block in blocks] == [0, 0, 1, 1, 2, 2]
    check_every_position(lambda: open_source([path, path], passes=3))


def test_passes_need_files(tmp_path, monkeypatch):
    for wrong in (0, -1):
        with pytest.raises(InputError, match="passes must be at least 1"):
            open_source(write(tmp_path, "x.csv", "a\n1\n"), passes=wrong)
    with pytest.raises(InputError, match="standard input: can be read only once"):
        open_source("-", passes=2)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "arrow", "npy"])
def test_lag_and_progress_go_on_too(tmp_path, kind):
    content = CONTENTS[kind.split(".")[0]]
    paths = [write(tmp_path, f"{n}.{kind}", gzip.compress(content) if "gz" in kind else content) for n in range(2)]
    source = open_source(paths, block_size=100, passes=2)
    total = 2 * source.n_bytes
    assert source.lag == (total, "bytes")
    blocks = list(source)
    assert source.lag == (0, "bytes")
    again = open_source(paths, block_size=100, passes=2)
    again.seek(blocks[24].position)
    iterator = iter(again)
    next(iterator)
    assert again.bytes_read >= 1.2 * source.n_bytes
    assert again.lag[0] <= 0.8 * source.n_bytes
    list(iterator)
    assert again.bytes_read == total
    assert again.lag == (0, "bytes")


def test_stop_ends_the_iteration(tmp_path):
    source = open_source(write(tmp_path, "x.csv", CONTENTS["csv"]), block_size=10)
    iterator = iter(source)
    block = next(iterator)
    stopper = threading.Thread(target=source.stop)
    stopper.start()
    stopper.join()
    assert list(iterator) == []
    source.commit(block.position)
    source.seek(block.position)
    assert sum(map(len, source)) == 990
    source.close()


# What has changed since


def refusal(source, position):
    with pytest.raises(InputError) as caught:
        source.seek(position)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "csv.zst", "jsonl", "parquet", "arrow", "npy", "npy.gz"])
def test_a_file_that_changed_is_refused(tmp_path, kind):
    base, _, end = kind.partition(".")
    compress = COMPRESS[f".{end}" if end else ""]
    path = write(tmp_path, f"x.{kind}", compress(CONTENTS[base]))
    position = list(open_source(path, block_size=300))[1].position
    other = {"csv": as_csv, "jsonl": as_json, "npy": as_npy}.get(base)
    changes = [path.read_bytes()[: len(path.read_bytes()) // 2]]
    if other is not None:
        changes.append(compress(other(-X)))
        changes.append(compress(other(X[:300])))
    for content in changes:
        path.write_bytes(content)
        message = refusal(_quietly(path), through_json(position))
        assert str(path) in message
        assert "--fresh" in message or "damaged" in message
    path.unlink()
    write(tmp_path, "y.csv", "a\n1\n")
    message = refusal(open_source(tmp_path / "y.csv"), position)
    assert "not among the source's files" in message
    assert "--fresh" in message


def _quietly(path):
    return FileSource([(str(path), path.name.split(".")[1])], fields=None, block_size=300, has_header=None)


def test_a_file_that_is_gone_is_refused(tmp_path):
    path = write(tmp_path, "x.csv", CONTENTS["csv"])
    source = open_source(path, block_size=300)
    position = next(iter(source)).position
    path.unlink()
    message = refusal(source, position)
    assert message.startswith(f"{path}: is missing")
    assert "--fresh" in message


def test_a_parquet_file_of_the_same_size_with_other_contents(tmp_path):
    path = write(tmp_path, "x.npy", as_npy(X))
    position = next(iter(open_source(path, block_size=300))).position
    path.write_bytes(as_npy(-X))
    message = refusal(open_source(path), position)
    assert "its contents are others" in message
    assert "put the file back" in message


def test_a_line_file_that_grew_is_read_on(tmp_path):
    for kind, make in (("csv", as_csv), ("jsonl", as_json)):
        path = write(tmp_path, f"x.{kind}", make(X[:450]))
        position = list(open_source(path, block_size=200))[-1].position
        assert position["record"] == 450
        path.write_bytes(make(X))
        source = open_source(path, block_size=200)
        source.seek(through_json(position))
        blocks = list(source)
        assert [block.position["record"] for block in blocks] == [600, 800, 1000]
        np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), X[450:])


WRONG = [
    [],
    "text",
    {},
    {"file": 3},
    {"record": -1},
    {"record": True},
    {"record": 2.0},
    {"record": None},
    {"pass": "0"},
    {"pass": 7},
    {"pass": None},
    {"again": 1},
    {"again": []},
    {"byte": -5},
    {"byte": 10**30},
    {"line": 0},
    {"after": -1},
    {"after": 10**30},
    {"tail": "xyz"},
    {"tail": 5},
    {"tail": "deadbeef"},
    {"until": 0},
    {"until": 10**30},
    {"until_tail": "deadbeef"},
    {"size": "1"},
    {"size": 1},
    {"fingerprint": 1},
    {"fingerprint": "deadbeef"},
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow", "npy"])
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_malformed_positions_are_refused(tmp_path, kind, wrong):
    path = write(tmp_path, f"x.{kind}", CONTENTS[kind])
    source = open_source(path, block_size=300)
    position = list(source)[1].position
    if isinstance(wrong, dict) and wrong and not (set(wrong) - {"again"} <= set(position)):
        return
    whole = {**position, **wrong} if isinstance(wrong, dict) and wrong else wrong
    assert "--fresh" in refusal(source, whole)
    same(list(source), list(open_source(path, block_size=300)))
    if isinstance(wrong, dict) and wrong and "again" not in wrong:
        without = {key: value for key, value in position.items() if key not in wrong}
        assert "--fresh" in refusal(source, without)


def test_a_position_beyond_the_records_of_its_piece(tmp_path):
    path = write(tmp_path, "x.csv", "a\n1\n2\n")
    source = open_source(path)
    (block,) = source
    source.seek({**block.position, "after": 5, "record": 5})
    with pytest.raises(InputError, match="3 records fewer than were read"):
        list(source)


def test_pipes_do_not_go_back(tmp_path, monkeypatch):
    fifo = tmp_path / "x.csv"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(CONTENTS["csv"],))
    writer.start()
    source = open_source(fifo)
    assert source.lag is None
    blocks = list(source)
    writer.join()
    assert "save it to a file" in refusal(source, through_json(blocks[0].position))
    read, write_end = os.pipe()
    os.write(write_end, b"a\n1\n2\n")
    os.close(write_end)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        source = open_source("-")
        source.seek(None, 1)
        (block,) = source
        assert block.position["record"] == 1
        assert block.places["file"] == "-"
        assert source.lag is None
        assert "standard input" in refusal(source, block.position)


def test_a_resume_reads_only_the_rest_of_a_parquet_file(tmp_path):
    path = tmp_path / "x.parquet"
    pa.parquet.write_table(pa.table({"a": np.arange(100_000.0)}), path, row_group_size=10_000)
    content = bytearray(path.read_bytes())
    position = list(open_source(path, block_size=1000))[89].position
    source = open_source(path, block_size=1000)
    # Damage in the skipped row groups is not seen, so they are not read.
    content[8192:20_000] = b"\xff" * (20_000 - 8192)
    path.write_bytes(bytes(content))
    source.seek(position)
    np.testing.assert_array_equal(np.concatenate([block.values for block in source]).ravel(), np.arange(90_000, 1e5))

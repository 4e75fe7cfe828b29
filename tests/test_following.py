"""A growing file is followed through waiting, rotation and truncation, and gone on with at any position it had."""

import json
import os
import threading
import time
from contextlib import closing, contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import refusal, through_json

from stream_em.errors import InputError
from stream_em.streams import files, following
from stream_em.streams.files import FileSource, open_source

DEADLINE_SECONDS = 30


@pytest.fixture(autouse=True, scope="module")
def _waits_are_short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "POLL_SECONDS", 0.01)
        yield


def give_a_block_at_each_look(patch):
    """Let a test do without clock and threads."""
    patch.setattr(following, "POLL_SECONDS", 0)
    patch.setattr(files, "SIGN_OF_LIFE_SECONDS", 0)


@pytest.fixture
def stepwise(monkeypatch):
    give_a_block_at_each_look(monkeypatch)


def write(path, text):
    path.write_text(text)
    return path


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def rotate(path, old, text=""):
    path.rename(path.with_name(old))
    path.write_text(text)


def follow(path, **options):
    return open_source(path, follow=True, **options)


def resumed(path, block, **options):
    source = follow(path, **options)
    source.seek(through_json(block.position))
    return source


def what_there_is(iterator):
    """Take blocks until a few looks in a row have found nothing; leave out those that say nothing."""
    blocks, silent = [], 0
    while silent < 5:
        block = next(iterator)
        said = len(block) or block.notes or block.rejected
        silent = 0 if said else silent + 1
        blocks += [block] if said else []
    return blocks


def read(source):
    with closing(iter(source)) as iterator:
        return what_there_is(iterator)


def rows(blocks):
    return [row for block in blocks for row in block.values.tolist()]


def column(blocks):
    return [row[0] for row in rows(blocks)]


def numbers(blocks):
    return [number for block in blocks if len(block) for number in block.places["record"].tolist()]


def notes(blocks):
    return [note.kind for block in blocks for note in block.notes]


class Thread(threading.Thread):
    """Reads a source until it is stopped and keeps what came and after how long."""

    def __init__(self, source):
        super().__init__(daemon=True)
        self.source = source
        self.blocks = []
        self.seconds = []
        self.error = None

    def run(self):
        started = time.monotonic()
        try:
            for block in self.source:
                self.seconds.append(time.monotonic() - started)
                self.blocks.append(block)
        except InputError as error:
            self.error = error

    def wait_for(self, condition):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert self.error is None
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.002)

    def ended(self):
        self.join(DEADLINE_SECONDS)
        return not self.is_alive()


@contextmanager
def reading(source):
    thread = Thread(source)
    thread.start()
    try:
        yield thread
    finally:
        source.stop()
        assert thread.ended()


def line_of(kind, a, b):
    return {"csv": f"{a},{b}\n", "tsv": f"{a}\t{b}\n", "jsonl": json.dumps({"a": a, "b": b}) + "\n"}[kind]


# What is appended


@pytest.mark.parametrize(
    ("kind", "header"), [("csv", "a,b\n"), ("csv", ""), ("tsv", "a\tb\n"), ("tsv", ""), ("jsonl", "")]
)
def test_lines_appended_later_are_read_once_and_in_order(tmp_path, kind, header):
    path = write(tmp_path / f"x.{kind}", header + line_of(kind, 0, 0))
    with reading(follow(path)) as thread:
        for count in range(1, 6):
            thread.wait_for(lambda n=count: len(rows(thread.blocks)) == n)
            append(path, line_of(kind, count, -count))
        thread.wait_for(lambda: len(rows(thread.blocks)) == 6)
    assert rows(thread.blocks) == [[n, -n] for n in range(6)]
    assert numbers(thread.blocks) == list(range(6))
    assert thread.source.fields == (("a", "b") if header or kind == "jsonl" else ("x0", "x1"))
    assert thread.error is None


def test_a_writer_that_does_not_wait_for_the_reader(tmp_path):
    path = write(tmp_path / "x.csv", "a\n")
    with reading(follow(path, block_size=7)) as thread, open(path, "a") as file:
        for count in range(2000):
            file.write(f"{count}\n")
            if count % 13 == 0:
                file.flush()
        file.flush()
        thread.wait_for(lambda: sum(map(len, thread.blocks)) == 2000)
    assert column(thread.blocks) == numbers(thread.blocks) == list(range(2000))


def test_blocks_end_at_multiples_of_their_size_and_where_lines_end_for_now(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n" + "1\n" * 7)
    with closing(iter(follow(path, block_size=3))) as iterator:
        assert [block.position["record"] for block in what_there_is(iterator)] == [3, 6, 7]
        append(path, "1\n" * 6)
        assert [block.position["record"] for block in what_there_is(iterator)] == [9, 12, 13]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_last_line_waits_until_it_is_finished(tmp_path, stepwise, kind):
    path = write(tmp_path / f"x.{kind}", line_of(kind, 1, 2))
    text = line_of(kind, 34, 56) + line_of(kind, 78, 90)
    with closing(iter(follow(path))) as iterator:
        assert rows(what_there_is(iterator)) == [[1, 2]]
        for letter in text[:-1]:
            append(path, letter)
            assert rows([next(iterator)]) in ([], [[34, 56]])
        assert what_there_is(iterator) == []
        append(path, text[-1])
        assert rows(what_there_is(iterator)) == [[78, 90]]


def test_a_quoted_line_end_does_not_finish_a_record(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", 'a,note\n1,t\n2,"two\nlines')
    with closing(iter(follow(path, fields=["a"]))) as iterator:
        assert column(what_there_is(iterator)) == [1]
        append(path, '\n\n"\n3,"\n"')
        assert column(what_there_is(iterator)) == [2]
        append(path, "\n")
        assert column(what_there_is(iterator)) == [3]


@pytest.mark.parametrize("fields", [None, ["b"]])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_without_a_line_at_first(tmp_path, kind, fields):
    path = write(tmp_path / f"x.{kind}", "")
    lines = ["\n\r\n", "a,", "b\n", "\n", "1,", "2\n"] if kind == "csv" else ["\n", '{"a": 1', ', "b": 2', "}\n"]
    with reading(follow(path, fields=fields)) as thread:
        for text in lines:
            append(path, text)
            time.sleep(0.02)
            assert rows(thread.blocks) == [] or text is lines[-1]
        thread.wait_for(lambda: rows(thread.blocks))
    assert rows(thread.blocks) == [[1, 2]] if fields is None else [[2]]


def test_the_fields_wait_for_the_first_line(tmp_path):
    path = write(tmp_path / "x.csv", "a,")
    source = follow(path)
    found = []
    thread = threading.Thread(target=lambda: found.append(source.fields), daemon=True)
    thread.start()
    append(path, "b\n1,2\n")
    thread.join(DEADLINE_SECONDS)
    assert found == [("a", "b")]
    assert source.bytes_read == 0
    assert source.lag == (8, "bytes")


def test_a_limit_ends_the_iteration(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n2\n")
    source = follow(path)
    source.seek(None, 3)
    with closing(iter(source)) as iterator:
        assert column(what_there_is(iterator)) == [1, 2]
        rotate(path, "x.csv.1", "3\n4\n")
        assert column(iterator) == [3]


# Rotation and truncation


@pytest.mark.parametrize("header", ["a,b\n", ""])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_rotated_file_and_then_the_new_one(tmp_path, stepwise, kind, header):
    header = "" if kind == "jsonl" else header.replace(",", "\t" if kind == "tsv" else ",")
    path = write(tmp_path / f"x.{kind}", (header and "b,a\n".replace(",", header[1])) + line_of(kind, 1, 2))
    source = follow(path)
    with closing(iter(source)) as iterator:
        (first,) = what_there_is(iterator)
        rotate(path, "old", header + line_of(kind, 3, 4) + line_of(kind, 5, 6))
        (second,) = what_there_is(iterator)
        append(path, line_of(kind, 7, 8))
        (third,) = what_there_is(iterator)
    assert first.fields == second.fields == source.fields
    assert rows([first]) == [[1, 2]]
    assert rows([second, third]) == ([[4, 3], [6, 5], [8, 7]] if header else [[3, 4], [5, 6], [7, 8]])
    assert numbers([first, second, third]) == [0, 0, 1, 2]
    assert {block.places["file"] for block in (first, second, third)} == {str(path)}
    (note,) = second.notes
    assert note.kind == "rotated"
    assert note.detail == f"{path} is another file now; the old one was read to its end"
    assert first.notes == third.notes == ()


@pytest.mark.parametrize("text", ["5,6\n", "\n5,6\n\n7,8\n"])
def test_a_new_file_without_the_header_has_the_columns_of_the_old_one(tmp_path, stepwise, text):
    path = write(tmp_path / "x.csv", "a,b\n1,2\n")
    with closing(iter(follow(path, fields=["b"]))) as iterator:
        what_there_is(iterator)
        rotate(path, "x.csv.1", "b,a\n3,4\n")
        assert column(what_there_is(iterator)) == [3]
        rotate(path, "x.csv.2", text)
        assert column(what_there_is(iterator)) == [float(line[0]) for line in text.split()]


def test_a_new_file_that_lacks_a_field(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a,b\n1,2\n")
    with closing(iter(follow(path))) as iterator:
        what_there_is(iterator)
        rotate(path, "x.csv.1", "a,c\n3,4\n")
        with pytest.raises(InputError, match="there is no field 'b'"):
            what_there_is(iterator)


def test_in_json_lines_a_new_file_may_begin_with_a_line_that_lacks_a_field(tmp_path, stepwise):
    path = write(tmp_path / "x.jsonl", '{"a": 1, "b": 2}\n')
    with closing(iter(follow(path))) as iterator:
        first = what_there_is(iterator)
        rotate(path, "x.jsonl.1", '{"b": 4}\n')
        (second,) = what_there_is(iterator)
    np.testing.assert_array_equal(second.values, [[np.nan, 4]])
    assert rows(read(resumed(path, first[-1]))) == [pytest.approx([np.nan, 4], nan_ok=True)]


def test_what_is_written_to_the_old_file_before_the_new_one_is_seen(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    old = tmp_path / "x.csv.1"
    with closing(iter(follow(path))) as iterator:
        what_there_is(iterator)
        path.rename(old)
        append(old, "2\n")
        assert column(what_there_is(iterator)) == [2]
        append(old, "3\n")
        write(path, "a\n10\n")
        append(old, "4\n")
        assert column([next(iterator)]) == [3, 4]
        # The new one may have been seen by now, and the writer of the old one still be at work.
        append(old, "5\n")
        blocks = what_there_is(iterator)
    assert column(blocks) == [5, 10]
    assert notes(blocks) == ["rotated"]


def test_the_last_line_of_a_rotated_file_may_lack_its_end(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n2")
    with closing(iter(follow(path))) as iterator:
        assert column(what_there_is(iterator)) == [1]
        rotate(path, "x.csv.1", "a\n3\n")
        blocks = what_there_is(iterator)
    assert column(blocks) == [2, 3]
    assert [block.places["record"].tolist() for block in blocks] == [[1], [0]]


@pytest.mark.parametrize("text", ["", "a\n", "a\n\n", "\n", "a"])
def test_a_file_without_records_may_be_rotated(tmp_path, stepwise, text):
    path = write(tmp_path / "x.csv", "a\n1\n")
    with closing(iter(follow(path))) as iterator:
        what_there_is(iterator)
        for count in range(3):
            rotate(path, f"x.csv.{count}", text)
            (block,) = what_there_is(iterator)
            assert len(block) == 0
            assert notes([block]) == ["rotated"]
        append(path, "\na\n2\n" if text in ("", "\n") else "\n2\n")
        (block,) = what_there_is(iterator)
        assert column([block]) == [2]
        assert numbers([block]) == [0]


def test_a_file_without_records_may_be_rotated_at_the_start(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n")
    with closing(iter(follow(path))) as iterator:
        next(iterator)
        rotate(path, "x.csv.1", "a\n2\n")
        assert column(what_there_is(iterator)) == [2]


def test_a_new_file_that_is_filled_and_rotated_between_two_looks(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    with closing(iter(follow(path))) as iterator:
        what_there_is(iterator)
        for count, text in enumerate(["a\n2\n", "3\n", "4"]):
            rotate(path, f"x.csv.{2 * count}")
            assert notes(what_there_is(iterator)) == ["rotated"]
            append(path, text)
            rotate(path, f"x.csv.{2 * count + 1}", "a\n9\n")
            blocks = what_there_is(iterator)
            assert column(blocks) == [count + 2, 9]
            assert notes(blocks) == ["rotated"]


def test_a_new_file_that_is_away_again_when_the_old_one_was_read(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    with closing(iter(follow(path))) as iterator:
        blocks = what_there_is(iterator)
        path.rename(tmp_path / "x.csv.1")
        away = write(tmp_path / "new", "a\n2\n").rename(path)
        blocks += [next(iterator)]
        away.rename(tmp_path / "new")
        for _ in range(5):
            blocks += [next(iterator)]
        away = (tmp_path / "new").rename(path)
        blocks += what_there_is(iterator)
    assert column(blocks) == [1, 2]
    for block in blocks[:-1]:
        assert column(read(resumed(path, block))) == [2]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_truncated_file_is_read_from_its_start(tmp_path, stepwise, kind):
    header = "a,b\n" if kind == "csv" else ""
    path = write(tmp_path / f"x.{kind}", header + line_of(kind, 1, 2) * 3 + "1")
    with closing(iter(follow(path))) as iterator:
        assert rows(what_there_is(iterator)) == [[1, 2]] * 3
        os.truncate(path, 0)
        (block,) = what_there_is(iterator)
        assert (len(block), block.position["record"]) == (0, 0)
        (note,) = block.notes
        assert note.kind == "truncated"
        assert note.detail == f"{path} became shorter than what was read of it; it is read again from its start"
        append(path, line_of(kind, 3, 4))
        (block,) = what_there_is(iterator)
        assert rows([block]) == [[3, 4]]
        assert numbers([block]) == [0]
        assert block.notes == ()
        os.truncate(path, 0)
        blocks = [next(iterator)]
        append(path, header + line_of(kind, 5, 6))
        blocks += what_there_is(iterator)
        assert rows(blocks) == [[5, 6]]
        assert notes(blocks) == ["truncated"]
    check_every_position(path, blocks)


@pytest.mark.parametrize("text", ["", "a\n", "a"])
def test_a_file_without_records_may_be_truncated(tmp_path, stepwise, text):
    path = write(tmp_path / "x.csv", text)
    with closing(iter(follow(path, fields=["a"]))) as iterator:
        assert what_there_is(iterator) == []
        os.truncate(path, 0)
        assert notes(what_there_is(iterator)) == (["truncated"] if text == "a\n" else [])
        append(path, "a\n1\n")
        assert column(what_there_is(iterator)) == [1]


def test_two_rotations_while_nobody_looked(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    write(tmp_path / "x.csv.0", "a\n0\n")
    os.utime(tmp_path / "x.csv.0", (1, 1))
    with closing(iter(follow(path))) as iterator:
        blocks = what_there_is(iterator)
        rotate_twice(path)
        blocks += what_there_is(iterator)
    assert column(blocks) == [1, 2, 4]
    check_middle_is_named(blocks, path)
    check_middle_is_named(read(resumed(path, blocks[0])), path)


def test_a_rotated_file_that_is_being_compressed_was_read_all_the_same(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    with closing(iter(follow(path))) as iterator:
        what_there_is(iterator)
        rotate(path, "x.csv.1", "a\n2\n")
        write(tmp_path / "x.csv.1.gz", "half of it")
        soon = time.time() + 10
        os.utime(tmp_path / "x.csv.1.gz", (soon, soon))
        (tmp_path / "x.csv.now").symlink_to(path)
        (block,) = what_there_is(iterator)
    assert "not read" not in block.notes[0].detail


def rotate_twice(path):
    append(path, "2\n")
    rotate(path, "x.csv.2", "a\n3\n")
    # Times of files are coarse.
    long_ago = time.time() - 10
    os.utime(path.with_name("x.csv.2"), (long_ago, long_ago))
    rotate(path, "x.csv.1", "a\n4\n")


def check_middle_is_named(blocks, path):
    assert column(blocks)[-2:] == [2, 4]
    (note,) = [note for block in blocks for note in block.notes]
    assert note.kind == "rotated"
    assert note.detail.endswith(f"; not read: {path}.1")


# Going on at a position


def check_every_position(path, blocks, **options):
    """Go on with a new source at every position, and compare what comes with what came then."""
    for number, block in enumerate(blocks, start=1):
        rest = read(resumed(path, block, **options))
        assert rows(rest) == rows(blocks[number:])
        assert numbers(rest) == numbers(blocks[number:])
        assert all(one.fields == block.fields for one in rest)
        assert notes(rest) == notes(blocks[number:])


@pytest.mark.parametrize("header", ["a,b\n", ""])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_going_on_anywhere_when_the_file_has_grown_and_was_rotated(tmp_path, stepwise, kind, header):
    header = "" if kind == "jsonl" else header.replace(",", "\t" if kind == "tsv" else ",")
    path = write(tmp_path / f"x.{kind}", header)
    options = {"block_size": 3}
    if not header:
        append(path, line_of(kind, -1, -1))
    with closing(iter(follow(path, **options))) as iterator:
        blocks = what_there_is(iterator) if not header else []
        for count in range(3):
            append(path, "".join(line_of(kind, 10 * count + n, n) for n in range(4)))
            blocks += what_there_is(iterator)
        check_every_position(path, blocks, **options)
        append(path, line_of(kind, 40, 0) * 2 + line_of(kind, 50, 0)[:-1])
        rotate(path, "old")
        # The new file is empty still, and then without a header.
        blocks += what_there_is(iterator)
        check_every_position(path, blocks, **options)
        append(path, line_of(kind, 60, 0) * 4)
        blocks += what_there_is(iterator)
        check_every_position(path, blocks, **options)
    assert len(rows(blocks)) == 19 + (not header)


def test_going_on_keeps_the_fields_and_the_columns_of_files_before(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a,b\n1,2\n")
    with closing(iter(follow(path))) as iterator:
        blocks = what_there_is(iterator)
        rotate(path, "x.csv.3", "b,c,a\n4,0,3\n")
        blocks += what_there_is(iterator)
        check_every_position(path, blocks)
        position = blocks[-1]
        rotate(path, "x.csv.2", "6,0,5\n8,0,7\n")
        blocks += what_there_is(iterator)
        append(path, "10,0,9\n")
        blocks += what_there_is(iterator)
    assert rows(blocks) == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    check_every_position(path, blocks[1:])
    assert rows(read(resumed(path, position, fields=["b", "a"]))) == [[6, 5], [8, 7], [10, 9]]


def test_going_on_where_a_file_was_truncated(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n2\n")
    with closing(iter(follow(path))) as iterator:
        (before,) = what_there_is(iterator)
        os.truncate(path, 0)
        blocks = what_there_is(iterator)
        check_every_position(path, blocks)
        append(path, "3\n")
        blocks += what_there_is(iterator)
        check_every_position(path, blocks)
    message = refusal(follow(path), through_json(before.position))
    assert message.startswith(f"{path}: has changed since the snapshot")


def test_going_on_in_the_middle_of_lines_and_quotes(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", '\ufeff\na,note\n1,"\n"\n\n2,"two\nlines"\n3')
    options = {"fields": ["a"], "block_size": 1}
    with closing(iter(follow(path, **options))) as iterator:
        blocks = what_there_is(iterator)
        append(path, ',"x"\n4,"\n')
        blocks += what_there_is(iterator)
        append(path, '"\n5,"ab')
        blocks += what_there_is(iterator)
    assert column(blocks) == [1, 2, 3, 4]
    check_every_position(path, blocks, **options)


def test_going_on_with_a_rotated_file_before_there_is_a_new_one(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    (block,) = read(follow(path))
    source = resumed(path, block)
    path.rename(tmp_path / "x.csv.1")
    source.seek(through_json(block.position))
    append(tmp_path / "x.csv.1", "2\n")
    with closing(iter(source)) as iterator:
        blocks = what_there_is(iterator)
        write(path, "a\n3\n")
        blocks += what_there_is(iterator)
    assert column(blocks) == [2, 3]
    assert notes(blocks) == ["rotated"]


def test_going_on_when_the_old_file_is_gone(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    (block,) = read(follow(path))
    (tmp_path / "elsewhere").mkdir()
    path.rename(tmp_path / "elsewhere" / "x.csv")
    message = refusal(follow(write(path, "a\n1\n2\n")), through_json(block.position))
    assert message.startswith(f"{path}: is another file than at the snapshot")
    assert "the old one is not in its folder under any name" in message
    assert "--fresh" in message


@pytest.mark.parametrize("change", [(2, b"7"), (4, b"77\n"), (0, b"c\n"), (5, b"\n2")])
def test_going_on_when_the_text_before_was_changed(tmp_path, stepwise, change):
    path = write(tmp_path / "x.csv", "a\n1\n2\n3\n")
    (block,) = read(follow(path))
    with open(path, "r+b") as file:
        file.seek(change[0])
        file.write(change[1])
    append(path, "4\n")
    message = refusal(follow(path), through_json(block.position))
    assert message.startswith(f"{path}: has changed since the snapshot")
    path.rename(tmp_path / "x.csv.1")
    write(path, "a\n1\n2\n3\n")
    assert "is another file" in refusal(follow(path), through_json(block.position))


WRONG = [
    [],
    {},
    {"file": "other.csv"},
    {"inode": None},
    {"inode": "1"},
    {"inode": 1},
    {"columns": "ab"},
    {"columns": [1]},
    {"fields": {}},
    {"fields": [None]},
    {"record": -1},
    {"after": 7},
    {"byte": None},
    {"until": 10**30},
    {"tail": 3},
    {"until_tail": "deadbeef"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_malformed_positions_are_refused(tmp_path, stepwise, wrong):
    path = write(tmp_path / "x.csv", "a\n1\n")
    (block,) = read(follow(path))
    source = follow(path)
    assert "--fresh" in refusal(source, {**block.position, **wrong} if wrong else wrong)
    assert column(read(source)) == [1]


def test_a_run_that_follows_and_one_that_ends_go_on_where_the_other_stopped(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    (block,) = read(follow(path))
    append(path, "2\n")
    source = open_source(path)
    source.seek(through_json(block.position))
    (block,) = source
    assert column([block]) == [2]
    append(path, "3\n")
    (block,) = read(resumed(path, block))
    assert column([block]) == [3]
    assert numbers([block]) == [2]


# The end, and signs of life


def test_stop_ends_the_iteration_until_it_is_sought_again(tmp_path):
    path = write(tmp_path / "x.csv", "a\n1\n")
    source = follow(path)
    with reading(source) as thread:
        thread.wait_for(lambda: thread.blocks)
        source.stop()
        assert thread.ended()
        append(path, "2\n")
        assert source.lag == (2, "bytes")
    assert list(source) == []
    source.seek(thread.blocks[-1].position)
    with reading(source) as again:
        again.wait_for(lambda: again.blocks)
    assert column(again.blocks) == [2]
    assert source.lag == (0, "bytes")


@pytest.mark.parametrize("text", ["", "\n", "a,"])
@pytest.mark.parametrize("fields", [None, ["a"]])
def test_stop_ends_the_iteration_before_there_is_a_line(tmp_path, text, fields):
    source = follow(write(tmp_path / "x.csv", text), fields=fields)
    with reading(source) as thread:
        time.sleep(0.05)
        assert thread.is_alive()
        source.stop()
        assert thread.ended()
    assert thread.blocks == []
    assert thread.error is None
    if fields is None:
        with pytest.raises(InputError, match=r"x\.csv: has no line yet"):
            _ = source.fields


def test_a_block_without_records_comes_once_a_second(tmp_path):
    empty = follow(write(tmp_path / "x.csv", ""), fields=["a", "b"])
    quiet = follow(write(tmp_path / "y.csv", "a\n1\n"))
    with reading(empty) as one, reading(quiet) as other:
        one.wait_for(lambda: len(one.blocks) >= 2)
        other.wait_for(lambda: len(other.blocks) >= 2)
    assert one.seconds[1] >= 2
    assert other.seconds[1] >= 1
    for thread in (one, other):
        assert len(thread.blocks[-1]) == 0
        assert thread.blocks[-1].notes == thread.blocks[-1].rejected == ()
    assert one.blocks[-1].fields == ("a", "b")
    assert one.blocks[-1].values.shape == (0, 2)
    assert one.blocks[-1].position is None
    assert other.blocks[1].position == other.blocks[0].position


# Unusable lines


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("x.csv", "{},{}\n", ["1\n", "1,2,3\n", "one,2\n", '"1,2\n', "1e200,2\n"]),
        ("x.tsv", "{}\t{}\n", ["1\n", "1\t2\t3\n", "one\t2\n"]),
        ("x.jsonl", '{{"a": {}, "b": {}}}\n', ["oops\n", "3\n", '{"a": 1, "b": [2]}\n', '{"a": 1, \n']),
    ],
)
def test_unusable_lines(tmp_path, stepwise, name, good, bad):
    path = write(tmp_path / name, good.format(0, 0))
    kept = 1
    source = follow(path, on_error="skip")
    strict = iter(follow(path))
    what_there_is(strict)
    with closing(iter(source)) as iterator:
        blocks = what_there_is(iterator)
        for text in bad:
            append(path, text + good.format(kept, kept))
            blocks += what_there_is(iterator)
            kept += 1
        rotate(path, "old", good.format(kept, kept) + bad[0])
        blocks += what_there_is(iterator)
    assert column(blocks) == list(range(kept + 1))
    rejected = [wrong for block in blocks for wrong in block.rejected]
    assert [wrong.content.decode() + "\n" for wrong in rejected] == [*bad, bad[0]]
    assert rejected[0].place == {"file": str(path), "line": 2}
    assert rejected[-1].place == {"file": str(path), "line": 2}
    for number, block in enumerate(blocks, start=1):
        rest = read(resumed(path, block, on_error="skip"))
        assert rows(rest) == rows(blocks[number:])
        assert said_of_rejected(rest) == said_of_rejected(blocks[number:])
    with closing(strict), pytest.raises(InputError, match="line 2"):
        what_there_is(strict)


def said_of_rejected(blocks):
    return [(wrong.place, wrong.content) for block in blocks for wrong in block.rejected]


def test_an_unusable_line_names_its_place_after_going_on(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    (block,) = read(follow(path))
    append(path, "2\n\nthree\n")
    with pytest.raises(InputError, match=r"x\.csv, line 5, field 'a': 'three' is not a number"):
        read(resumed(path, block))


# How much waits


def test_lag_and_progress(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "")
    source = follow(path, fields=["a"])
    assert source.lag == (0, "bytes")
    append(path, "a\n1\n")
    assert source.lag == (4, "bytes")
    with closing(iter(source)) as iterator:
        what_there_is(iterator)
        assert source.lag == (0, "bytes")
        append(path, "10\n")
        assert source.lag == (3, "bytes")
        path.rename(tmp_path / "x.csv.1")
        assert source.lag == (3, "bytes")
        write(path, "a\n11\n")
        assert source.lag == (8, "bytes")
        what_there_is(iterator)
        assert source.lag == (0, "bytes")
        assert source.bytes_read == 4 + 3 + 5
        append(path, "12")
        assert source.lag == (2, "bytes")
        os.truncate(path, 0)
        what_there_is(iterator)
        assert source.lag == (0, "bytes")
        append(path, "a")
        assert source.lag == (1, "bytes")
    assert source.lag == (1, "bytes")
    assert source.n_bytes == 1


def test_lag_counts_what_was_not_taken_yet(tmp_path):
    path = write(tmp_path / "x.csv", "a\n" + "1\n" * 100)
    source = FileSource([(str(path), "csv")], fields=None, block_size=10, has_header=None, piece_bytes=20, follow=True)
    with closing(iter(source)) as iterator:
        lags = []
        for _ in range(10):
            next(iterator)
            lags.append(source.lag[0])
    assert lags == sorted(lags, reverse=True)
    assert lags[0] >= 160
    assert lags[-1] == 0


def test_lag_of_a_file_that_was_rotated_while_nobody_looked(tmp_path, stepwise):
    path = write(tmp_path / "x.csv", "a\n1\n")
    (block,) = read(follow(path))
    append(path, "2\n")
    rotate(path, "x.csv.1", "a\n3\n4\n")
    source = resumed(path, block, block_size=1)
    with closing(iter(source)) as iterator:
        next(iterator)
        assert source.lag == (6, "bytes")
        what_there_is(iterator)
        assert source.lag == (0, "bytes")


# What is refused


def test_what_cannot_be_followed_is_refused(tmp_path):
    path = write(tmp_path / "x.csv", "a\n1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("x.parquet", "x.npy", "x.arrow", "x.csv.gz", "x.jsonl.zst"):
        write(tmp_path / name, "a\n1\n")
    for data, options, what in [
        ([path, path], {}, "only one file can be followed, not 2; name one"),
        (tmp_path / "pipe.csv", {}, "is a pipe, which is read as it comes anyway; do not follow it"),
        ("-", {}, "standard input: is a pipe, .*; do not follow it"),
        (tmp_path / "x.parquet", {}, "only plain text can be followed.*; write it so, or do not follow it"),
        (tmp_path / "x.npy", {}, "only plain text can be followed"),
        (tmp_path / "x.arrow", {}, "only plain text can be followed"),
        (tmp_path / "x.csv.gz", {}, "only plain text can be followed, csv, tsv or jsonl, not compressed"),
        (tmp_path / "x.jsonl.zst", {}, "only plain text can be followed, csv, tsv or jsonl, not compressed"),
        (path, {"passes": 2}, "is followed and has no end, so passes must be 1, not 2"),
    ]:
        with pytest.raises(InputError, match=what) as caught:
            follow(data, **options)
        assert "\n" not in str(caught.value)


# Anything may happen

TEXT = st.text("0123456789\n", min_size=1, max_size=8)
EVENTS = st.one_of(
    st.tuples(st.just("write"), TEXT),
    st.tuples(st.just("look"), st.integers(1, 4)),
    st.tuples(st.just("rotate"), st.tuples(st.one_of(st.just(""), TEXT), st.sampled_from(["", "a\n", "a\n5"]))),
    st.tuples(st.just("interrupt"), st.none()),
)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(events=st.lists(EVENTS, min_size=5, max_size=40), block_size=st.integers(1, 4))
def test_whatever_happens_every_line_is_read_once_and_in_order(tmp_path_factory, events, block_size):
    path = write(tmp_path_factory.mktemp("any") / "x.csv", "a\n0\n")
    with pytest.MonkeyPatch.context() as patch:
        give_a_block_at_each_look(patch)
        places, blocks = told(path, events, block_size)
    lines = [line for place in places for line in place.read_text().split() if line != "a"]
    assert column(blocks) == [float(line) for line in lines]
    assert notes(blocks) == ["rotated"] * (len(places) - 1)


def told(path, events, block_size):
    """Let the events happen, and return the files that were there and all blocks."""
    places = [path]
    iterator = iter(follow(path, block_size=block_size))
    blocks = what_there_is(iterator)
    for event, argument in events:
        if event == "write":
            append(path, argument)
        elif event == "look":
            blocks += [next(iterator) for _ in range(argument)]
        elif event == "interrupt":
            iterator.close()
            iterator = iter(resumed(path, blocks[-1], block_size=block_size))
        else:
            # A file that is rotated away before it was seen is lost, so each is seen first.
            blocks += what_there_is(iterator)
            late, begin = argument
            places[-1] = path.rename(path.with_name(f"x.csv.{len(places)}"))
            append(places[-1], late)
            places.append(write(path, begin))
    blocks += what_there_is(iterator)
    iterator.close()
    append(path, "\n")
    return places, blocks + read(resumed(path, blocks[-1], block_size=block_size))

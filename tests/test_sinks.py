"""Sinks: whatever is killed and flushed whenever, the bytes are those of one undisturbed writer."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as sem
from stream_em.learning.state import Event
from stream_em.sinks import sink_for
from stream_em.sinks.interface import n_rows
from stream_em.sinks.single import writing_rows
from stream_em.sinks.tables import event_rows, log_likelihood_rows, parameter_rows, posterior_rows, rejected_rows
from stream_em.streams.records import Rejected

KINDS = ("jsonl", "csv", "parquet")
ROWS_PER_FILE = 50


def rows(begin, end, file='a,b\n"c" é'):
    numbers = np.arange(begin, end)
    scores = np.where(numbers % 7 == 0, np.nan, np.sqrt(numbers))
    return {"file": file if begin % 2 else "plain", "record": numbers, "score": scores}


def made(kind, folder):
    return sink_for(kind, Path(folder) / "out", ROWS_PER_FILE)


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def write_all(sink, lengths, begin=0):
    for length in lengths:
        sink.write(rows(begin, begin + length))
        begin += length


@pytest.mark.parametrize("kind", KINDS)
@given(
    lengths=st.lists(st.integers(0, 70), min_size=1, max_size=8),
    flushed=st.sets(st.integers(0, 8)),
    chosen=st.integers(0, 8),
    killed_at=st.integers(0, 8),
    flush_before_kill=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_writer_killed_anywhere_leaves_what_an_undisturbed_one_does(
    kind, lengths, flushed, chosen, killed_at, flush_before_kill
):
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as broken:
        sink = made(kind, whole)
        sink.open(None)
        write_all(sink, lengths)
        sink.flush()
        sink.close()
        first = made(kind, broken)
        first.open(None)
        positions = [(0, None)]
        done = 0
        for i, length in enumerate(lengths[:killed_at]):
            write_all(first, [length], done)
            done += length
            if i in flushed:
                positions.append((i + 1, json.loads(json.dumps(first.flush()))))
        if flush_before_kill:
            first.flush()
        first.close()
        index, position = positions[chosen % len(positions)]
        second = made(kind, broken)
        second.open(position)
        write_all(second, lengths[index:], sum(lengths[:index]))
        second.flush()
        second.close()
        assert bytes_of(broken) == bytes_of(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_reads_back(kind, tmp_path):
    sink = made(kind, tmp_path)
    sink.open(None)
    write_all(sink, [30, 1, 70, 19])
    sink.flush()
    sink.close()
    records, scores = np.arange(120), rows(0, 120)["score"]
    if kind == "jsonl":
        lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
        assert [line["record"] for line in lines] == records.tolist()
        assert lines[0]["score"] is None
        assert lines[40]["file"] == 'a,b\n"c" é'
        return
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = (
        pq.read_table(tmp_path / "out")
        if kind == "parquet"
        else pyarrow.csv.read_csv(tmp_path / "out", parse_options=options)
    )
    np.testing.assert_array_equal(table["record"], records)
    np.testing.assert_array_equal(table["score"].to_numpy(), scores)
    assert table["file"][40].as_py() == 'a,b\n"c" é'
    if kind == "parquet":
        parts = sorted((tmp_path / "out").iterdir())
        assert [path.name for path in parts] == [f"part-{i:09}.parquet" for i in range(3)]
        assert [pq.read_metadata(path).num_rows for path in parts] == [50, 50, 20]


WRITER = """
import os, signal, sys
import numpy as np
sys.path.insert(0, {tests!r})
from test_sinks import made, write_all
sink = made({kind!r}, {folder!r})
sink.open(None)
write_all(sink, [60])
print(sink.flush(), flush=True)
write_all(sink, [60] * 10, 60)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_is_really_killed(kind, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code = WRITER.format(tests=str(Path(__file__).parent), kind=kind, folder=str(broken))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    position = json.loads(done.stdout.replace("'", '"'))
    for folder, begin, at in ((whole, 0, None), (broken, 60, position)):
        sink = made(kind, folder)
        sink.open(at)
        write_all(sink, [60] * 12 if not begin else [60] * 11, begin)
        sink.flush()
        sink.close()
    assert bytes_of(broken) == bytes_of(whole)


ENDLESS = """
import json, sys
sys.path.insert(0, {tests!r})
from test_sinks import made, write_all
sink = made({kind!r}, {folder!r})
sink.open(None)
for i in range(10**9):
    write_all(sink, [30], 30 * i)
    if i % 4 == 3:
        print(json.dumps([i + 1, sink.flush()]), flush=True)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_killed_while_it_writes_goes_on_from_any_flush(kind, tmp_path):
    code = ENDLESS.format(tests=str(Path(__file__).parent), kind=kind, folder=str(tmp_path / "broken"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        flushed = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.kill()
    for blocks, position in reversed(flushed):
        for folder, begin, at in ((tmp_path / "whole", 0, None), (tmp_path / "broken", blocks, position)):
            sink = made(kind, folder)
            sink.open(at)
            write_all(sink, [30] * (23 - begin), 30 * begin)
            sink.flush()
            sink.close()
        assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "whole")


FILLER = """
import json, resource, signal, sys
sys.path.insert(0, {tests!r})
from test_sinks import made, write_all
from stream_em.errors import OutsideError
import pyarrow.csv, pyarrow.parquet
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = made({kind!r}, {folder!r})
sink.open(None)
write_all(sink, [40])
print(json.dumps(sink.flush()))
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
for _ in range(2):
    try:
        write_all(sink, [40] * 100, 40)
        sink.flush()
    except OutsideError as error:
        print(error)
sink.close()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_full_is_said_in_one_line_and_can_be_gone_on_from(kind, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code = FILLER.format(tests=str(Path(__file__).parent), kind=kind, folder=str(broken))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    position, *said = done.stdout.splitlines()
    assert len(said) == 2
    assert all("cannot be written: File too large" in line and str(broken) in line for line in said)
    for folder, begin, at in ((whole, 0, None), (broken, 40, json.loads(position))):
        sink = made(kind, folder)
        sink.open(at)
        write_all(sink, [40] * (5 if not begin else 4), begin)
        sink.flush()
        sink.close()
    assert bytes_of(broken) == bytes_of(whole)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_no_flush_vouches_for_half_a_line(kind, tmp_path, monkeypatch):
    sink = made(kind, tmp_path)
    sink.open(None)
    write_all(sink, [10])
    write, answers = os.write, iter([7])

    def half(file, content):
        n = next(answers, None)
        if n is None:
            raise OSError(28, "No space left on device")
        return write(file, content[:n])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(sem.OutsideError, match="No space left"):
        write_all(sink, [10], 10)
    monkeypatch.undo()
    with pytest.raises(sem.OutsideError, match="No space left"):
        sink.flush()
    sink.close()


def test_no_flush_passes_over_a_part_that_could_not_be_written(tmp_path):
    sink = made("parquet", tmp_path)
    sink.open(None)
    obstacle = tmp_path / "out" / ".part-000000000.parquet.partial"
    obstacle.mkdir()
    write_all(sink, [50])
    with pytest.raises(sem.OutsideError, match="Is a directory"):
        sink.flush()
    obstacle.rmdir()
    with pytest.raises(sem.OutsideError, match="Is a directory"):
        sink.flush()
    sink.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_that_is_replaced_is_noticed(kind, tmp_path):
    sink = made(kind, tmp_path)
    sink.open(None)
    write_all(sink, [120])
    sink.flush()
    out = tmp_path / "out"
    out.rename(tmp_path / "moved")
    if kind == "parquet":
        out.mkdir()
    else:
        out.write_bytes((tmp_path / "moved").read_bytes())
    write_all(sink, [10], 120)
    with pytest.raises(sem.OutsideError, match="deleted or replaced"):
        sink.flush()
    sink.close()


def test_a_part_that_was_shortened_or_damaged_is_refused(tmp_path):
    sink = made("parquet", tmp_path)
    sink.open(None)
    write_all(sink, [120])
    position = sink.flush()
    sink.close()
    first, last = (tmp_path / "out" / f"part-00000000{number}.parquet" for number in (0, 2))
    good = first.read_bytes()
    for bad in (last.read_bytes(), good[:20], b""):
        first.write_bytes(bad)
        with pytest.raises(sem.InputError, match=r"part-000000000.*--fresh"):
            made("parquet", tmp_path).open(position)
    first.write_bytes(good)
    content = last.read_bytes()
    last.write_bytes(content[:4] + b"\xff" * 36 + content[40:])
    with pytest.raises(sem.InputError, match=r"part-000000002.*--fresh"):
        made("parquet", tmp_path).open(position)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_path_cannot_be_is_said_in_one_line(kind, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(sem.InputError, match="needs a folder there"):
        sink_for(kind, tmp_path / "file" / "out").open(None)
    with pytest.raises(sem.OutsideError, match="File name too long"):
        sink_for(kind, tmp_path / ("x" * 300)).open(None)
    with pytest.raises(sem.InputError, match="another type"):
        sink_for(kind, tmp_path / "out").open({"bytes": 1} if kind == "parquet" else {"rows": 1})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(sem.InputError, match="choose another path"):
        sink_for(kind, tmp_path / "pipe").open(None)
    sink = sink_for(kind, tmp_path / "a" / "b" / "out")
    sink.open(None)
    sink.write({"x": np.zeros(1)})
    sink.flush()
    sink.close()
    sink.close()
    assert bytes_of(tmp_path / "a")


def test_rows_that_do_not_go_together_are_refused(tmp_path):
    sink = made("parquet", tmp_path)
    sink.open(None)
    sink.write({"n": [1]})
    with pytest.raises(TypeError, match="Cannot cast"):
        sink.write({"n": [2.5]})
    with pytest.raises(ValueError, match="columns"):
        sink.write({"m": [2]})
    sink.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_that_vanishes_is_noticed(kind, tmp_path):
    sink = made(kind, tmp_path / "there")
    sink.open(None)
    write_all(sink, [10])
    sink.flush()
    (tmp_path / "there").rename(tmp_path / "gone")
    with pytest.raises(sem.OutsideError, match=r"deleted|No such file"):
        sink.flush()
    sink.close()


@pytest.mark.parametrize("kind", KINDS)
def test_less_than_was_written_is_refused(kind, tmp_path):
    sink = made(kind, tmp_path)
    sink.open(None)
    write_all(sink, [120])
    position = sink.flush()
    sink.close()
    victim = sorted(path for path in tmp_path.rglob("*") if path.is_file())[-1]
    victim.write_bytes(victim.read_bytes()[:20])
    with pytest.raises(sem.InputError, match="--fresh"):
        made(kind, tmp_path).open(position)
    victim.unlink()
    with pytest.raises(sem.InputError, match="--fresh"):
        made(kind, tmp_path).open(position)


def test_another_number_of_rows_a_file_is_refused(tmp_path):
    sink = made("parquet", tmp_path)
    sink.open(None)
    write_all(sink, [10])
    position = sink.flush()
    sink.close()
    with pytest.raises(sem.InputError, match=r"rows_per_file is 7"):
        sink_for("parquet", tmp_path / "out", 7).open(position)


def test_paths_of_another_kind_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(sem.InputError, match="is a file"):
        sink_for("parquet", tmp_path / "file").open(None)
    with pytest.raises(sem.InputError, match="is a folder"):
        sink_for("csv", tmp_path).open(None)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_rows_of_each_kind():
    places = {"file": "x", "record": np.arange(2)}
    assert list(posterior_rows(places, np.zeros(2), np.zeros((2, 3)))) == [
        "file", "record", "log_likelihood", "posterior_0", "posterior_1", "posterior_2",
    ]  # fmt: skip
    assert list(log_likelihood_rows(places, np.zeros(2))) == ["file", "record", "log_likelihood"]
    params = sem.GaussianMixture.params_type(np.array([0.5, 0.5]), np.zeros((2, 1)), np.ones((2, 1, 1)))
    flat = parameter_rows(7.0, params, flat=True)
    assert list(flat) == [
        "count",
        "weights_0",
        "weights_1",
        "means_0_0",
        "means_1_0",
        "covariances_0_0_0",
        "covariances_1_0_0",
    ]
    assert parameter_rows(7.0, params, flat=False)["means"] == [[[0.0], [0.0]]]
    assert n_rows(flat) == 1
    assert event_rows([Event(3.0, "reseeded", "x")]) == {"count": [3.0], "kind": ["reseeded"], "detail": ["x"]}
    letters = rejected_rows([Rejected({"line": 3}, "why", b"\xff\x00"), Rejected({"line": 4}, "why", "é".encode())])
    assert letters["text"] == [None, "é"]
    assert letters["base64"] == ["/wA=", None]
    with pytest.raises(ValueError, match="differ in length"):
        n_rows({"a": np.zeros(2), "b": np.zeros(3)})


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_one_file_takes_its_name_when_it_is_whole(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    path.write_text("before")
    with pytest.raises(RuntimeError), writing_rows(path) as write:  # noqa: PT012
        write(rows(0, 5))
        raise RuntimeError("stopped")
    assert path.read_text() == "before"
    with writing_rows(path) as write:
        write(rows(0, 5))
        write(rows(5, 9))
    assert os.listdir(tmp_path) == [path.name]
    if suffix == ".parquet":
        assert pq.read_table(path)["record"].to_pylist() == list(range(9))
    else:
        assert sum(map(len, [path.read_text().splitlines()])) >= 9
    with pytest.raises(sem.InputError, match=r"ends in [.]csv"), writing_rows(tmp_path / "out.txt"):
        pass

"""The loop: every record once into statistics and outputs, whatever happens in between."""

import json
import sqlite3
import threading
import time

import numpy as np
import pytest
from models import CASES

import stream_em as sem
from stream_em.config import Run, SinkSection, Snapshots
from stream_em.learning.store import Progress, SnapshotStore, read
from stream_em.pipeline.loop import ErrorRate, Pipeline
from stream_em.pipeline.outputs import Output
from stream_em.runs.folder import RunFolder, set_run_aside
from stream_em.runs.journal import Journal, read_journal
from stream_em.sinks import sink_for
from stream_em.sinks.deadletters import DeadLetterFile
from stream_em.streams.records import Note, Rejected

CASE = next(case for case in CASES if case.name == "mixture-diag")
X = CASE.draw(np.random.default_rng(0), 4000)


class MemorySource:
    """Records of an array as a source: blocks of 100, some unusable ones if asked, a stop where asked."""

    fields = ("a", "b", "c")
    lag = (7, "records")
    trouble = None
    error = sem.InputError

    def __init__(self, X, bad=(), notes=None, wait_at=None, fail_at=None):
        self.X, self.bad, self.notes, self.wait_at, self.fail_at = X, set(bad), notes or {}, wait_at, fail_at
        self.begin, self.end = 0, len(X)
        self.committed = []
        self.stopped = threading.Event()

    def seek(self, position, limit=None):
        self.begin = 0 if position is None else position["record"]
        self.end = len(self.X) if limit is None else min(len(self.X), self.begin + limit)

    def __iter__(self):
        for begin in range(self.begin, self.end, 100):
            if begin == self.fail_at:
                raise self.error(f"memory, record {begin}: spoilt")
            while begin == self.wait_at and not self.stopped.is_set():
                time.sleep(0.01)
                yield sem.Block(np.empty((0, 3)), self.fields, {"record": begin})
            if self.stopped.is_set():
                return
            end = min(begin + 100, self.end)
            numbers = np.array([i for i in range(begin, end) if i not in self.bad], dtype=np.int64)
            rejected = tuple(
                Rejected({"record": i}, f"record {i} is bad", b"\xff") for i in range(begin, end) if i in self.bad
            )
            places = {"from": "memory", "record": numbers}
            notes = tuple(self.notes.get(begin, ()))
            values = np.ascontiguousarray(self.X[numbers])
            yield sem.Block(values, self.fields, {"record": end}, places=places, rejected=rejected, notes=notes)

    def commit(self, position):
        self.committed.append(position["record"])

    def stop(self):
        self.stopped.set()

    def close(self):
        self.stopped.set()


SECTIONS = [
    SinkSection("posteriors", "parquet", rows_per_file=700),
    SinkSection("log-likelihoods", "csv"),
    SinkSection("parameters", "jsonl", every_records=500),
    SinkSection("events", "jsonl"),
]


def opened(folder_path, source, sections=SECTIONS, limit=None, dead_letters=True, **more):
    folder = RunFolder(folder_path, keep=3)
    journal = Journal(folder.journal_path)
    snapshot, refused = folder.store.newest()
    progress = snapshot.progress if snapshot else Progress()
    learner = snapshot.learner if snapshot else sem.Learner(CASE.model, starts=2, refresh_every=100)
    source.seek(progress.source, limit)
    outputs = [
        Output(
            section,
            sink_for(
                section.type, folder_path / section.file, section.rows_per_file if section.type == "parquet" else 1
            ),
        )
        for section in sections
    ]
    for output in outputs:
        output.sink.open(progress.sinks.get(output.file))
    letters = None
    if dead_letters:
        letters = DeadLetterFile(folder_path / "dead-letter.jsonl")
        letters.open(progress.sinks.get("dead-letter.jsonl"))
    journal.begin(progress.records)
    settings = {"snapshots": Snapshots(every_records=1000), "error_rate": ErrorRate(0.5, 1000)} | more
    pipeline = Pipeline(
        learner,
        source,
        outputs=outputs,
        dead_letters=letters,
        folder=folder,
        journal=journal,
        progress=progress,
        limit=limit,
        **settings,
    )
    pipeline.begun_with(snapshot, refused)
    return pipeline


def outputs_of(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name.startswith("part-") or path.suffix in (".csv", ".jsonl")
    }


def run(folder, source, **more):
    pipeline = opened(folder, source, **more)
    try:
        return pipeline.run(), pipeline
    finally:
        pipeline.close()


BAD = range(50, 4000, 250)


def test_a_run_cut_anywhere_gives_what_an_uncut_one_gives(tmp_path):
    _, whole = run(tmp_path / "whole", MemorySource(X, BAD, {1200: [Note("rotated", "for the test")]}))
    for limits in ([100] * 39, [700, 1300, 900], [3900]):
        folder = tmp_path / f"cut-{len(limits)}"
        for limit in limits:
            outcome, _ = run(folder, MemorySource(X, BAD, {1200: [Note("rotated", "for the test")]}), limit=limit)
            assert outcome.ended == "limit"
        outcome, last = run(folder, MemorySource(X, BAD, {1200: [Note("rotated", "for the test")]}))
        assert outcome.ended == "end"
        assert last.progress.records == 4000
        assert last.progress.rejected == len(BAD)
        for ours, theirs in zip(last.learner.state, whole.learner.state, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert outputs_of(folder) == outputs_of(tmp_path / "whole")


def test_outputs_say_what_scoring_before_learning_says(tmp_path):
    import pyarrow.parquet as pq

    run(tmp_path, MemorySource(X, BAD))
    table = pq.read_table(tmp_path / "posteriors").to_pydict()
    numbers = np.array([i for i in range(4000) if i not in BAD])
    np.testing.assert_array_equal(table["record"], numbers)
    assert set(table["from"]) == {"memory"}
    learner = sem.Learner(CASE.model, starts=2, refresh_every=100)
    posterior = np.empty((len(numbers), 2))
    expected = learner.learn(X[numbers], posterior=posterior)
    np.testing.assert_allclose(table["log_likelihood"], expected, rtol=1e-9)
    np.testing.assert_allclose(np.transpose([table["posterior_0"], table["posterior_1"]]), posterior, atol=1e-9)
    letters = [json.loads(line) for line in (tmp_path / "dead-letter.jsonl").read_text().splitlines()]
    assert [letter["place"]["record"] for letter in letters] == list(BAD)
    assert letters[0] == {"place": {"record": 50}, "reason": "record 50 is bad", "text": None, "base64": "/w=="}
    counts = [json.loads(line)["count"] for line in (tmp_path / "parameters.jsonl").read_text().splitlines()]
    assert counts == [n - sum(bad < n for bad in BAD) for n in range(1000, 4001, 500)]


def test_after_a_crash_what_was_written_beyond_the_snapshot_is_cut(tmp_path):
    run(tmp_path / "whole", MemorySource(X, BAD))
    crashed = opened(tmp_path / "crashed", MemorySource(X, BAD))

    def crash(status):
        if status.records == 2500:
            for output in crashed.outputs:
                output.sink.flush()
            raise RuntimeError("a bug")

    crashed.on_tick = crash
    with pytest.raises(RuntimeError):
        crashed.run()
    crashed.close()
    _, last = run(tmp_path / "crashed", MemorySource(X, BAD))
    assert last.status.session_records == 2000
    assert outputs_of(tmp_path / "crashed") == outputs_of(tmp_path / "whole")


def test_a_sink_that_is_left_out_for_a_while_keeps_what_it_wrote(tmp_path):
    run(tmp_path, MemorySource(X), limit=1000)
    before = outputs_of(tmp_path)
    run(tmp_path, MemorySource(X), limit=1000, sections=SECTIONS[:1])
    run(tmp_path, MemorySource(X), limit=1000)
    after = outputs_of(tmp_path)
    assert after["log-likelihoods.csv"].startswith(before["log-likelihoods.csv"])
    assert after["log-likelihoods.csv"].count(b"\n") == 2001


def test_a_damaged_snapshot_is_said_and_the_one_before_it_used(tmp_path):
    run(tmp_path / "whole", MemorySource(X, BAD))
    run(tmp_path / "run", MemorySource(X, BAD), limit=2700)
    newest = SnapshotStore(tmp_path / "run" / "snapshots").paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-20])
    _, pipeline = run(tmp_path / "run", MemorySource(X, BAD))
    assert pipeline.status.session_records == 2000
    events = read_journal(tmp_path / "run" / "journal.db", "events")
    assert [event["kind"] for event in events if event["kind"].startswith("s")] == ["snapshot-refused"]
    assert newest.name in next(event["detail"] for event in events if event["kind"] == "snapshot-refused")
    assert outputs_of(tmp_path / "run") == outputs_of(tmp_path / "whole")


def test_a_snapshot_under_another_name_is_passed_over_and_good_ones_stay(tmp_path):
    run(tmp_path, MemorySource(X), limit=2000)
    store = SnapshotStore(tmp_path / "snapshots")
    wrong = tmp_path / "snapshots" / "999999999999.safetensors"
    wrong.write_bytes(store.paths()[0].read_bytes())
    _, pipeline = run(tmp_path, MemorySource(X))
    assert pipeline.status.session_records == 2000
    assert [path.stem for path in store.paths()] == ["000000002000", "000000003000", "000000004000", wrong.stem]
    refused = [e["detail"] for e in read_journal(tmp_path / "journal.db", "events") if e["kind"] == "snapshot-refused"]
    assert ["unlike its name" in detail for detail in refused] == [True]


def test_when_no_snapshot_is_good_nothing_begins_anew(tmp_path):
    run(tmp_path, MemorySource(X), limit=1000)
    for path in SnapshotStore(tmp_path / "snapshots").paths():
        path.write_bytes(b"")
    with pytest.raises(sem.InputError, match="no snapshot can be used"):
        opened(tmp_path, MemorySource(X))


def test_snapshots_come_by_records_and_by_time_and_the_last_ones_stay(tmp_path):
    source = MemorySource(X)
    run(tmp_path / "records", source)
    assert source.committed == [1000, 2000, 3000, 4000]
    assert [read(path).progress.records for path in SnapshotStore(tmp_path / "records/snapshots").paths()] == [
        2000,
        3000,
        4000,
    ]
    now = [0.0]

    def clock():
        now[0] += 1.0
        return now[0]

    source = MemorySource(X)
    run(tmp_path / "time", source, snapshots=Snapshots(every_seconds=20), clock=clock)
    assert len(source.committed) > 4
    source = MemorySource(X)
    run(tmp_path / "end", source, snapshots=Snapshots(every_seconds=1e6))
    assert source.committed == [4000]


def test_a_stop_finishes_the_block_and_saves(tmp_path):
    pipeline = opened(tmp_path, MemorySource(X, wait_at=1500), snapshots=Snapshots(every_seconds=1e6))
    stopper = threading.Timer(0.3, pipeline.stop)
    stopper.start()
    begin = time.monotonic()
    outcome = pipeline.run()
    assert time.monotonic() - begin < 5
    pipeline.close()
    assert outcome.ended == "stopped"
    assert read(SnapshotStore(tmp_path / "snapshots").paths()[-1]).progress.records == 1500
    assert read_journal(tmp_path / "journal.db", "sessions")[-1]["outcome"] == "stopped"


def test_bad_data_stop_the_run_after_what_came_before_was_saved(tmp_path):
    with pytest.raises(sem.InputError, match="record 2300: spoilt"):
        run(tmp_path, MemorySource(X, fail_at=2300))
    assert read(SnapshotStore(tmp_path / "snapshots").paths()[-1]).progress.records == 2300
    assert "spoilt" in read_journal(tmp_path / "journal.db", "events")[-1]["detail"]
    run(tmp_path / "whole", MemorySource(X))
    run(tmp_path, MemorySource(X))
    assert outputs_of(tmp_path / "whole") == {
        name: content for name, content in outputs_of(tmp_path).items() if not name.startswith("whole")
    }


def test_a_source_that_fails_loses_nothing_that_was_learned(tmp_path):
    source = MemorySource(X, fail_at=2300)
    source.error = sem.OutsideError
    with pytest.raises(sem.OutsideError, match="record 2300: spoilt"):
        run(tmp_path, source)
    assert read(SnapshotStore(tmp_path / "snapshots").paths()[-1]).progress.records == 2300
    assert read_journal(tmp_path / "journal.db", "sessions")[-1]["outcome"] == "failed"


def test_too_many_unusable_records_stop_the_run(tmp_path):
    with pytest.raises(sem.InputError, match=r"600 of the last 1,000 records cannot be used.*record 2599 is bad"):
        run(tmp_path, MemorySource(X, range(2000, 3000)))
    assert read(SnapshotStore(tmp_path / "snapshots").paths()[-1]).progress.records == 2500
    half = range(0, 4000, 2)
    outcome, pipeline = run(tmp_path / "half", MemorySource(X, half))
    assert pipeline.status.rejected == 2000
    assert outcome.records == 4000


def test_the_run_folder_belongs_to_one_process(tmp_path):
    pipeline = opened(tmp_path, MemorySource(X))
    with pytest.raises(sem.InputError, match="another process"):
        RunFolder(tmp_path)
    with pytest.raises(sem.InputError, match="another process"):
        set_run_aside(tmp_path)
    pipeline.close()
    RunFolder(tmp_path).close()


def test_a_fresh_run_keeps_the_old_one(tmp_path):
    run(tmp_path / "run", MemorySource(X), limit=1000)
    before = outputs_of(tmp_path / "run")
    asides = [set_run_aside(tmp_path / "run")]
    assert set_run_aside(tmp_path / "run") is None
    run(tmp_path / "run", MemorySource(X), limit=2000)
    asides.append(set_run_aside(tmp_path / "run"))
    assert len(set(asides)) == 2
    assert outputs_of(asides[0]) == before


def test_the_folder_deleted_under_a_run_is_noticed(tmp_path):
    pipeline = opened(tmp_path / "run", MemorySource(X))

    def vanish(status):
        if status.records == 1500:
            (tmp_path / "run").rename(tmp_path / "elsewhere")

    pipeline.on_tick = vanish
    with pytest.raises(sem.OutsideError, match="the run folder is gone"):
        pipeline.run()
    pipeline.close()
    assert read(SnapshotStore(tmp_path / "elsewhere/snapshots").paths()[-1]).progress.records == 1000


def test_a_journal_locked_by_another_process_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("stream_em.runs.journal._PATIENCE_SECONDS", 0.2)
    pipeline = opened(tmp_path, MemorySource(X))
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)

    def lock(status):
        if status.records == 1500 and not other.in_transaction:
            other.execute("BEGIN IMMEDIATE")

    pipeline.on_tick = lock
    with pytest.raises(sem.OutsideError, match=r"journal.*locked.*another process"):
        pipeline.run()
    pipeline.close()
    other.close()
    run(tmp_path, MemorySource(X))
    assert read(SnapshotStore(tmp_path / "snapshots").paths()[-1]).progress.records == 4000


def test_the_journal_tells_how_learning_went(tmp_path):
    run(tmp_path, MemorySource(X, BAD), limit=2500, run=Run(journal_every_seconds=1e-9))
    run(tmp_path, MemorySource(X, BAD), run=Run(journal_every_seconds=1e-9))
    journal = tmp_path / "journal.db"
    refreshes = read_journal(journal, "refreshes")
    assert [row["records"] for row in refreshes] == sorted({row["records"] for row in refreshes})
    assert refreshes[-1]["records"] == 4000
    assert set(json.loads(refreshes[-1]["params"])) == {"weights", "means", "covariances"}
    learner = sem.Learner(CASE.model, starts=2, refresh_every=100)
    scores = learner.learn(X[[i for i in range(4000) if i not in BAD]])
    mean = np.nanmean(scores[-90:])
    assert refreshes[-1]["log_likelihood"] == pytest.approx(mean, abs=0.6)
    assert [row["records"] for row in read_journal(journal, "sessions")] == [0, 2500]
    assert [row["records"] for row in read_journal(journal, "snapshots")] == [1000, 2000, 2500, 3000, 4000]
    kinds = [row["kind"] for row in read_journal(journal, "events")]
    assert kinds.count("resumed") == 1
    assert "rejected" in kinds


def test_the_journal_is_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr("stream_em.runs.journal.MOST_REFRESHES", 100)
    journal = Journal(tmp_path / "journal.db")
    journal.begin(0)
    for i in range(1000):
        journal.refreshed(i, 0, -1.0, "{}")
    journal.close()
    kept = [row["records"] for row in read_journal(tmp_path / "journal.db", "refreshes")]
    assert 50 <= len(kept) <= 100
    assert kept[-40:] == list(range(960, 1000))
    assert kept[0] == 0


def test_what_no_output_asks_for_is_not_made(tmp_path):
    pipeline = opened(tmp_path, MemorySource(X), sections=[], dead_letters=False)
    learn = pipeline.learner.learn
    given = []
    pipeline.learner.learn = lambda block, posterior=None: given.append(posterior) or learn(block)
    pipeline.run()
    pipeline.close()
    assert set(given) == {None}
    assert outputs_of(tmp_path) == {}

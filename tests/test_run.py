"""`stream-em run` and the commands around it, as a person uses them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stream_em as sem
from stream_em.learning.store import SnapshotStore, read
from stream_em.runs.journal import read_journal

STREAM_EM = str(Path(sys.executable).parent / "stream-em")
CONFIGS = Path(__file__).parents[1] / "configs"
RNG = np.random.default_rng(0)
X = np.where(RNG.random((30_000, 1)) < 0.3, RNG.normal(-5, 1, (30_000, 2)), RNG.normal([5, 9], [2, 0.5], (30_000, 2)))
CONFIG = """
[source]
type = "files"
path = "{data}"
block_size = 1000
[model]
type = "gaussian-mixture"
covariance_type = "diag"
[learner]
starts = 2
[run]
folder = "{folder}"
"""


@pytest.fixture
def fails(run):
    """Run a command that fails; return the last line it says."""

    def fails(*arguments, code=2):
        actual, out, err = run(*arguments)
        assert (actual, out) == (code, ""), err
        last = err.splitlines()[-1]
        assert last.startswith("stream-em: error: ")
        assert "Traceback" not in err
        return last

    return fails


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    np.savetxt(path, X, delimiter=",", header="height,width", comments="", fmt="%.5f")
    return path


@pytest.fixture
def config(tmp_path, data):
    path = tmp_path / "c.toml"
    path.write_text(CONFIG.format(data=data, folder=tmp_path / "run"))
    return path


def shown(run, place):
    code, out, err = run("show", place, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def logged(err):
    return [json.loads(line) for line in err.splitlines() if line.startswith("{")]


def test_a_run_learns_what_a_learner_does_and_goes_on_where_it_stopped(run, config, data, tmp_path):
    code, out, err = run("run", config, "--max-records", 12_345)
    assert (code, out) == (0, "")
    said = logged(err)
    assert [line["event"] for line in said] == ["started", "ended"]
    assert said[-1]["why"] == "limit"
    assert shown(run, tmp_path / "run")["count"] == 12_345
    code, _, err = run("run", config)
    assert code == 0
    assert "resumed" in [line["event"] for line in logged(err)]
    whole = shown(run, tmp_path / "run")
    assert whole["count"] == 30_000
    assert whole["positions"]["source"]["record"] == 30_000
    learner = sem.Learner(sem.GaussianMixture(covariance_type="diag"), starts=2)
    for block in sem.open_source(data, block_size=1000):
        learner.learn(block)
    np.testing.assert_allclose(whole["params"]["means"], learner.params.means, rtol=1e-6)
    code, _, err = run("run", config)
    assert code == 0
    assert logged(err)[-1]["records"] == 0
    kept = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert kept == ["config.toml", "journal.db", "lock", "snapshots"]


def test_fit_into_a_folder_is_a_run_that_can_be_gone_on_with(run, data, tmp_path):
    code, _, err = run("fit", data, "--covariance-type", "diag", "--starts", 2, "--out", tmp_path / "fitted", "--quiet")
    assert (code, err) == (0, "")
    before = shown(run, tmp_path / "fitted")
    with data.open("a") as file:
        file.write("".join(f"{x},{y}\n" for x, y in X[:500]))
    code, _, err = run("run", tmp_path / "fitted" / "config.toml")
    assert code == 0, err
    assert shown(run, tmp_path / "fitted")["count"] == before["count"] + 500


def test_fresh_keeps_the_old_run_aside(run, config, tmp_path):
    run("run", config, "--max-records", 5000)
    code, _, err = run("run", config, "--max-records", 3000, "--fresh")
    assert code == 0
    aside = next(tmp_path.glob("run.aside-*"))
    assert str(aside) in err
    assert shown(run, tmp_path / "run")["count"] == 3000
    assert shown(run, aside)["count"] == 5000


def test_a_config_that_contradicts_the_run_is_refused(run, fails, config, data, tmp_path):
    run("run", config, "--max-records", 2000)
    said = fails("run", config, "--set", "model.n_components=3")
    assert "model.n_components: is 3, but this run has learned with 2; set it back, or start anew with --fresh" in said
    assert "learner.seed: is 1" in fails("run", config, "--set", "learner.seed=1")
    assert "model.type" in fails("run", config, "--set", "model.type=hidden-markov")
    assert "source.fields: are width" in fails("run", config, "--set", 'source.fields=["width"]')
    text = data.read_text()
    data.write_text(text.replace("\n", "\n\n", 1)[: len(text)])
    assert "--fresh" in fails("run", config)
    data.unlink()
    fails("run", config)
    data.write_text(text)
    assert run("run", config)[0] == 0


def test_a_sink_never_overwrites_what_another_wrote(run, fails, config, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("precious")
    config.write_text(config.read_text() + f'[[sinks]]\nwhat = "events"\ntype = "csv"\npath = "{mine}"\n')
    assert "was not written by this run" in fails("run", config)
    assert mine.read_text() == "precious"
    mine.unlink()
    assert run("run", config)[0] == 0
    assert run("run", config)[0] == 0
    config.write_text(config.read_text().replace(str(mine), "../out.csv"))
    assert "leads out of the run folder" in fails("run", config)


def test_a_deleted_store_is_not_taken_for_a_new_run(run, fails, config, tmp_path):
    run("run", config, "--max-records", 2000)
    shutil.rmtree(tmp_path / "run" / "snapshots")
    assert "snapshots of this run are gone" in fails("run", config)


def started(*arguments, **more):
    process = subprocess.Popen([STREAM_EM, *map(str, arguments)], stderr=subprocess.PIPE, text=True, **more)
    line = process.stderr.readline()
    assert '"started"' in line, line
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_stops_a_following_run_cleanly(number, code, run, config, data, tmp_path):
    process = started("run", config, "--set", "source.follow=true", "--set", "snapshots.every_records=1000")
    with data.open("a") as file:
        file.write("1.0,2.0\n")
    deadline = time.monotonic() + 60
    while not SnapshotStore(tmp_path / "run/snapshots").paths():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    begin = time.monotonic()
    assert process.wait(30) == code
    assert time.monotonic() - begin < 10
    process.stderr.close()
    count = shown(run, tmp_path / "run")["count"]
    assert 0 < count <= 30_001
    # The rest of the file is learned by the next run, each record once.
    assert run("run", config, "--until-end", "--set", "source.follow=true")[0] == 0
    assert shown(run, tmp_path / "run")["count"] == 30_001


def test_a_second_signal_exits_at_once(config, tmp_path):
    fifo = tmp_path / "pipe.csv"
    os.mkfifo(fifo)
    with (
        subprocess.Popen(
            [STREAM_EM, "run", str(config), "--set", f"source.path={fifo}"], stderr=subprocess.PIPE
        ) as process,
        fifo.open("w") as writer,
    ):
        writer.write("height,width\n1,2\n3,4\n")
        writer.flush()
        process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, 128 + signal.SIGTERM)


def test_two_processes_cannot_share_a_folder(fails, config, data):
    process = started("run", config, "--set", "source.follow=true")
    try:
        assert "another process runs in this folder" in fails("run", config)
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


def test_metrics_are_served_while_it_runs(config):
    process = started("run", config, "--set", "source.follow=true", "--set", "serve.port=0")
    try:
        address = json.loads(process.stderr.readline())["address"]
        for _ in range(100):
            text = urllib.request.urlopen(f"{address}/metrics", timeout=5).read().decode()
            if "stream_em_records_total 30000.0" in text:
                break
            time.sleep(0.1)
        assert "stream_em_records_total 30000.0" in text
        assert urllib.request.urlopen(f"{address}/readyz", timeout=5).status == 200
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stderr.close()


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(run, config, tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small tmpfs needs root and mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        text = config.read_text() + '[snapshots]\nevery_records = 2000\n[[sinks]]\nwhat = "posteriors"\ntype = "csv"\n'
        config.write_text(text.replace(str(tmp_path / "run"), str(disk / "run")))
        code, _, err = run("run", config)
        assert code == 3, err
        assert "No space left" in err.splitlines()[-1]
        assert err.splitlines()[-1].startswith("stream-em: error: ")
        good = read(SnapshotStore(disk / "run/snapshots").paths()[-1]).progress.records
        assert 0 < good < 30_000
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert run("run", config)[0] == 0
        assert shown(run, disk / "run")["count"] == 30_000
        lines = (disk / "run/posteriors.csv").read_text().splitlines()
        assert len(lines) == 30_001
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_read_only_folder_is_one_line(run, config, tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a read-only mount needs root and mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        config.write_text(config.read_text().replace(str(tmp_path / "run"), str(disk / "run")))
        assert run("run", config, "--max-records", 3000)[0] == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        code, out, err = run("run", config)
        assert (code, out, err.count("\n")) == (3, "", 1), err
        assert "Read-only" in err
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert run("run", config)[0] == 0
        assert shown(run, disk / "run")["count"] == 30_000
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "runs/x"], "the run folder comes first: stream-em snapshots RUN verify"),
        (["restore", "runs/x", "1"], "the run folder comes first: stream-em snapshots RUN restore NAME"),
        (["runs/x", "verfy"], "there is no action 'verfy'; there are list, verify, restore"),
    ],
)
def test_snapshots_told_in_another_order(fails, arguments, said):
    assert fails("snapshots", *arguments) == f"stream-em: error: snapshots: {said}"


def test_snapshots_are_listed_verified_and_restored(run, fails, config, tmp_path):
    config.write_text(
        config.read_text() + '[snapshots]\nevery_records = 5000\n[[sinks]]\nwhat = "posteriors"\nrows_per_file = 4000\n'
    )
    run("run", config)
    code, out, _ = run("snapshots", tmp_path / "run")
    assert code == 0
    assert "000000010000" in out
    assert "30,000" in out
    parts = {path.name: path.read_bytes() for path in (tmp_path / "run/posteriors").iterdir()}
    whole = shown(run, tmp_path / "run")
    code, out, _ = run("snapshots", tmp_path / "run", "restore", "000000015000")
    assert code == 0
    assert shown(run, tmp_path / "run")["count"] == 15_000
    assert run("run", config)[0] == 0
    assert shown(run, tmp_path / "run")["params"] == whole["params"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "run/posteriors").iterdir()} == parts
    assert run("snapshots", tmp_path / "run", "verify")[0] == 0
    newest = SnapshotStore(tmp_path / "run/snapshots").paths()[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    assert "damaged" in run("snapshots", tmp_path / "run")[1]
    code, out, err = run("snapshots", tmp_path / "run", "verify")
    assert code == 2
    assert newest.name in err
    assert "there is no snapshot 'x'" in fails("snapshots", tmp_path / "run", "restore", "x")
    assert "no snapshots" in fails("snapshots", tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_score_writes_what_the_learner_says(suffix, run, config, data, tmp_path):
    run("run", config)
    out = tmp_path / f"scores{suffix}"
    code, said, err = run("score", tmp_path / "run", data, "--out", out)
    assert (code, said, err) == (0, "", "")
    learner = sem.load(SnapshotStore(tmp_path / "run/snapshots").paths()[-1])
    values = np.concatenate([block.values for block in sem.open_source(data)])
    if suffix == ".parquet":
        table = pq.read_table(out)
    elif suffix == ".csv":
        table = pa.csv.read_csv(out)
    else:
        table = pa.Table.from_pylist([json.loads(line) for line in out.read_text().splitlines()])
    np.testing.assert_allclose(table["log_likelihood"], learner.log_likelihood(values), rtol=1e-9)
    np.testing.assert_allclose(table["posterior_1"], learner.posterior(values)[:, 1], atol=1e-9)
    np.testing.assert_array_equal(table["record"], np.arange(30_000))


def test_score_of_a_chain_carries_the_state_from_block_to_block(run, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, X)
    model = sem.HiddenMarkov(covariance_type="diag")
    params = sem.HiddenMarkov.params_type(
        np.array([0.5, 0.5]),
        np.array([[0.99, 0.01], [0.02, 0.98]]),
        np.array([[-5.0, -5], [5, 9]]),
        np.full((2, 2), 4.0),
    )
    sem.Learner(model, params=params).save(tmp_path / "m.safetensors")
    run("score", tmp_path / "m.safetensors", path, "--out", tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    fresh = sem.Learner(model, params=params)
    np.testing.assert_allclose(table["log_likelihood"], fresh.log_likelihood(X), rtol=1e-9)
    np.testing.assert_allclose(table["posterior_0"], fresh.posterior(X)[:, 0], atol=1e-9)


def test_score_onto_the_screen_is_csv(run, config, data, tmp_path):
    run("run", config)
    code, out, err = run("score", tmp_path / "run", data)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].replace('"', "") == "file,record,log_likelihood,posterior_0,posterior_1"
    assert len(lines) == 30_001


def test_the_config_for_files_runs(run, tmp_path, monkeypatch):
    path = CONFIGS / "file.toml"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    np.savetxt("data/a.csv", X[:3000], delimiter=",", header="x0,x1", comments="")
    with open("data/a.csv", "a") as file:
        file.write("1,what\n")
    # In a process of its own: it turns the compiler off.
    checked = subprocess.run([STREAM_EM, "check", path], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    code, _, err = run("run", path, "--until-end", "--set", "model.covariance_type=diag")
    assert code == 0, err
    assert shown(run, tmp_path / "runs" / path.stem)["count"] == 3000
    assert "what" in (tmp_path / "runs" / path.stem / "dead-letter.jsonl").read_text()
    assert read_journal(tmp_path / "runs" / path.stem / "journal.db", "sessions")[0]["outcome"] == "end"


def test_secrets_do_not_reach_the_disk(run, fails, config, data, tmp_path, monkeypatch):
    monkeypatch.setenv("HIDDEN_PLACE", str(data.parent / "s3cret"))
    (data.parent / "s3cret").mkdir()
    data.rename(data.parent / "s3cret" / "data.csv")
    config.write_text(config.read_text().replace(str(data), "${HIDDEN_PLACE}/data.csv"))
    code, _, err = run("run", config)
    assert code == 0
    assert "s3cret" not in err
    assert "s3cret" not in (tmp_path / "run/config.toml").read_text()
    (data.parent / "s3cret" / "data.csv").unlink()
    said = fails("run", config, "--fresh")
    assert "s3cret" not in said
    assert "${HIDDEN_PLACE}" in said


def test_secrets_in_errors_do_not_reach_the_journal(run, fails, config, data, tmp_path, monkeypatch):
    hidden = tmp_path / "s3cret"
    hidden.mkdir()
    monkeypatch.setenv("HIDDEN_PLACE", str(hidden))
    lines = data.read_text().splitlines()
    lines[2500] = "what,1"
    (hidden / "data.csv").write_text("\n".join(lines))
    config.write_text(config.read_text().replace(str(data), "${HIDDEN_PLACE}/data.csv"))
    assert "${HIDDEN_PLACE}/data.csv" in fails("run", config)
    events = read_journal(tmp_path / "run" / "journal.db", "events")
    (failed,) = [event["detail"] for event in events if event["kind"] == "failed"]
    assert failed.startswith("${HIDDEN_PLACE}/data.csv")
    code, _, err = run("run", config, "--set", "source.on_error=skip")
    assert code == 0
    assert "s3cret" not in err
    assert "rejected" in [event["kind"] for event in read_journal(tmp_path / "run" / "journal.db", "events")]
    for event in read_journal(tmp_path / "run" / "journal.db", "events"):
        assert "s3cret" not in event["detail"]


def test_what_a_sink_was_begun_with_stays(run, fails, config, tmp_path):
    text = config.read_text()
    for type, changed, said in (
        ("csv", 'what = "log-likelihoods"\ntype = "csv"', "what is 'log-likelihoods', but this run has written"),
        ("jsonl", 'what = "log-likelihoods"\ntype = "jsonl"', "what is 'log-likelihoods'"),
        ("parquet", 'what = "log-likelihoods"\ntype = "parquet"', "what is 'log-likelihoods'"),
        ("csv", 'what = "posteriors"\ntype = "jsonl"', "type is 'jsonl', but this run has written 'csv'"),
    ):
        config.write_text(f'{text}[[sinks]]\nwhat = "posteriors"\ntype = "{type}"\npath = "out"\n')
        assert run("run", config, "--max-records", 2000, "--fresh")[0] == 0
        config.write_text(f'{text}[[sinks]]\n{changed}\npath = "out"\n')
        line = fails("run", config, "--max-records", 2000)
        assert said in line
        assert "into out; set it back, choose another path or topic, or start anew with --fresh" in line
        config.write_text(f'{text}[[sinks]]\nwhat = "posteriors"\ntype = "{type}"\npath = "out"\n')
        assert run("run", config, "--max-records", 2000)[0] == 0


def test_warm_compiles_the_model_of_a_config(run, config):
    code, out, _ = run("warm", config)
    assert code == 0
    assert "gaussian-mixture diag: " in out

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

import stream_em as sem
from stream_em import cli
from stream_em.cli import learning
from stream_em.cli.summary import as_json
from stream_em.models import all_models

STREAM_EM = str(Path(sys.executable).parent / "stream-em")
RNG = np.random.default_rng(0)
X = np.where(RNG.random((3000, 1)) < 0.3, RNG.normal(-5, 1, (3000, 2)), RNG.normal([5, 9], [2, 0.5], (3000, 2)))
# All fits are of one shape of model, so that its machine code is made once.
DIAG = ("--covariance-type", "diag", "--starts", "2")


@pytest.fixture
def fails(run):
    """Run a command that fails with one line; return that line."""

    def fails(*arguments, code=2):
        actual, out, err = run(*arguments)
        assert (actual, out) == (code, "")
        assert err.startswith("stream-em: error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err

    return fails


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    np.savetxt(path, X, delimiter=",", header="height,width", comments="")
    return path


@pytest.fixture
def model(tmp_path, data, run):
    path = tmp_path / "model.safetensors"
    assert run("fit", data, *DIAG, "--out", path, "--quiet") == (0, "", "")
    return path


def shown(run, *arguments):
    code, out, err = run("show", *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out, parse_constant=pytest.fail)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["fit", "--help"], ["--version"]])
def test_help_imports_nothing_slow(arguments):
    code = (
        "import sys; from stream_em import cli\n"
        f"try: cli.main({arguments})\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, {'numba', 'numpy', 'pyarrow', 'scipy', 'river'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 set()"
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [["fot"], ["fit"], ["fit", "x.csv", "--components", "many"], ["show", "--x"]])
def test_usage_errors_are_one_line(fails, arguments):
    fails(*arguments)


def test_fit_prints_what_show_prints(run, data, tmp_path):
    code, out, err = run("fit", data, *DIAG, "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    assert "height" in out
    assert "records a second" in out
    code, table, _ = run("show", tmp_path / "run")
    assert code == 0
    assert [line for line in table.splitlines() if "±" in line] == [line for line in out.splitlines() if "±" in line]
    assert os.listdir(tmp_path / "run/snapshots") == ["000000003000.safetensors"]


def test_json_tells_what_load_gives(run, model):
    learner = sem.load(model)
    seen = shown(run, model)
    assert list(seen)[:6] == ["model", "count", "log_likelihood", "params", "positions", "created"]
    assert seen["model"] == "gaussian-mixture"
    assert seen["count"] == learner.count == 3000
    assert seen["log_likelihood"] == learner.mean_log_likelihood
    assert seen["fields"] == ["height", "width"]
    assert seen["created"].startswith("20")
    for name, value in learner.params._asdict().items():
        assert np.array_equal(seen["params"][name], value)
    averaged = shown(run, model, "--averaged")["params"]
    assert np.array_equal(averaged["means"], learner.averaged_params.means)
    assert averaged != seen["params"]


def test_fit_equals_the_library(run, data):
    code, out, _ = run("fit", data, *DIAG, "--set", "covariance_prior=0.5", "--stepsize", "half-life:500", "--json")
    assert code == 0
    learner = sem.Learner(
        sem.GaussianMixture(covariance_type="diag", covariance_prior=0.5),
        stepsize=sem.Stepsize.constant(half_life=500),
        starts=2,
    )
    for block in sem.open_source(data):
        learner.learn(block)
    told = json.loads(out)
    assert told["records"] == 3000
    assert told["created"] is None
    assert told | {"params": 0} | json.loads(as_json(learner, False)) == told


def test_what_was_left_out_is_shown(run, tmp_path):
    X = np.random.default_rng(2).normal(size=(3000, 2))
    X[1000:1010] += 1000.0
    np.save(tmp_path / "data.npy", X)
    code, out, _ = run("fit", tmp_path / "data.npy", *DIAG, "--robust", "10", "--out", tmp_path / "run")
    assert code == 0
    assert re.search(r"left out +10 records more", out)
    seen = shown(run, tmp_path / "run")
    assert (seen["left_out"], seen["count"]) == (10, 2990)
    assert seen["settings"]["learner"]["robust"] == 10.0
    assert "left out: 10 records so far" in run("show", tmp_path / "run")[1]


@pytest.mark.parametrize("suffix", ["parquet", "npy"])
def test_formats_give_the_same_model(run, data, model, tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    if suffix == "npy":
        np.save(path, X)
    else:
        pa.parquet.write_table(pa.table({"height": X[:, 0], "width": X[:, 1]}), path)
    code, out, _ = run("fit", path, *DIAG, "--json")
    assert code == 0
    assert json.loads(out)["params"] == shown(run, model)["params"]


def test_standard_input(data, run, model):
    command = [STREAM_EM, "fit", "-", *DIAG, "--json"]
    done = subprocess.run(command, input=data.read_bytes(), capture_output=True, check=True)
    assert done.stderr == b""
    assert json.loads(done.stdout)["params"] == shown(run, model)["params"]


def test_passes_and_fields_and_settings(run, data):
    code, out, _ = run(
        *("fit", data, *DIAG, "--passes", "3", "--fields", "width, height", "--components", "3"),
        *("--set", "frozen=weights,covariances", "--block-size", "700", "--json"),
    )
    told = json.loads(out)
    assert code == 0
    assert told["count"] == told["records"] == 9000
    assert told["fields"] == ["width", "height"]
    assert told["settings"]["model"]["frozen"] == ["weights", "covariances"]
    assert len(told["params"]["means"]) == 3


def test_many_fields_are_told_in_part(run, tmp_path):
    np.save(tmp_path / "wide.npy", RNG.normal(size=(600, 9)))
    code, out, _ = run("fit", tmp_path / "wide.npy", *DIAG)
    assert code == 0
    assert "4 more fields" in out
    assert "x4" in out
    assert "x5" not in out


@pytest.mark.parametrize("records", [[[1.0, 2.0]], [[3.0, 3.0]] * 40, [[1.0, np.nan], [2.0, 5.0], [np.nan, 4.0]]])
def test_few_or_equal_records(run, tmp_path, records):
    np.save(tmp_path / "few.npy", np.array(records))
    code, out, err = run("fit", tmp_path / "few.npy", *DIAG, "--components", "5", "--out", tmp_path / "m.safetensors")
    assert (code, err) == (0, "")
    assert "none yet" in out
    seen = shown(run, tmp_path / "m.safetensors")
    assert seen["count"] == len(records)
    assert seen["log_likelihood"] is None
    assert np.isfinite(np.array(seen["params"]["covariances"], dtype=float)).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "gausian-mixture"], "did you mean gaussian-mixture?"),
        (["--fields", "height,widht"], "width"),
        (["--fields", ""], "field"),
        (["--set", "covariance_piror=1"], "did you mean covariance_prior?"),
        (["--set", "covariance_prior=much"], "covariance_prior=much: "),
        (["--set", "covariance_prior"], "key=value"),
        (["--covariance-type", "round"], "'round'"),
        (["--components", "0"], "n_components must be at least 1"),
        (["--stepsize", "quick"], "polynomial:0.6"),
        (["--stepsize", "constant:2"], "at most 1"),
        (["--starts", "0"], "starts"),
        (["--passes", "0"], "--passes"),
        (["--format", "xls"], "formats are"),
        (["--block-size", "0"], "block_size"),
    ],
)
def test_wrong_options(fails, data, arguments, said):
    assert said in fails("fit", data, *arguments)


@pytest.mark.parametrize("content", [None, "", "height,width\n", "height,width\n1,x\n"])
def test_wrong_data(fails, tmp_path, content):
    path = tmp_path / "wrong.csv"
    if content is not None:
        path.write_text(content)
    assert "wrong.csv" in fails("fit", path, *DIAG)


def test_standard_input_has_one_pass(fails):
    assert "--passes" in fails("fit", "-", "--passes", "2")


def test_wrong_places_to_save(fails, data, model, tmp_path, run):
    before = data.read_bytes()
    assert "is a file" in fails("fit", data, *DIAG, "--out", data)
    assert data.read_bytes() == before
    fails("fit", data, *DIAG, "--out", data / "x", code=3)
    fails("fit", data, *DIAG, "--out", data / "x.safetensors", code=3)
    (tmp_path / "run/snapshots").mkdir(parents=True)
    assert "no snapshots" in fails("show", tmp_path / "run")
    model.rename(tmp_path / "run/snapshots/000000003000.safetensors")
    assert "another run" in fails("fit", data, *DIAG, "--out", tmp_path / "run")
    assert shown(run, tmp_path / "run") == shown(run, tmp_path / "run/snapshots/000000003000.safetensors")


def test_models_without_their_meaning(fails, model, data, tmp_path):
    content = model.read_bytes()
    flipped = bytearray(content)
    flipped[-5] ^= 1
    later = content.replace(b'"format_version":"1"', b'"format_version":"7"')
    assert later != content
    files = {"half": content[: len(content) // 2], "flipped": bytes(flipped), "later": later, "empty": b""}
    said = dict.fromkeys(files, b"")
    for name, wrong in files.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(wrong)
        said[name] = fails("show", path)
        assert str(path) in said[name]
    assert "damaged" in said["half"]
    assert "damaged" in said["flipped"]
    assert "upgrade" in said["later"]
    save_file({"theta": np.zeros(3)}, tmp_path / "foreign.safetensors")
    assert "not a model of stream_em" in fails("show", tmp_path / "foreign.safetensors")
    assert "data.csv" in fails("show", data)
    assert "no such" in fails("show", tmp_path / "absent")


def test_an_interrupt_saves_what_was_learned(run, data, tmp_path, monkeypatch):
    learn = sem.Learner.learn

    def learn_then_interrupt(learner, block, posterior=None):
        if learner.count == 1000:
            signal.raise_signal(signal.SIGINT)
        return learn(learner, block)

    monkeypatch.setattr(sem.Learner, "learn", learn_then_interrupt)
    monkeypatch.setattr(learning, "compile_kernels", lambda *_: 0.0)
    code, out, err = run("fit", data, *DIAG, "--block-size", "500", "--out", tmp_path / "run")
    assert (code, out) == (130, "")
    assert err.endswith("stream-em: interrupted\n")
    monkeypatch.undo()
    assert shown(run, tmp_path / "run")["count"] == 1500


def test_bugs_show_their_traceback(monkeypatch):
    monkeypatch.setattr(learning, "compile_kernels", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo"])


def test_a_closed_pipe_is_quiet():
    command = f"{STREAM_EM} models | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_models_are_listed(run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    assert "gaussian-mixture" in out
    assert "full, tied, diag, spherical" in out


def test_a_terminal_sees_progress(monkeypatch, data):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(SystemExit):
        cli.main(["fit", str(data), *DIAG, "--json"])
    assert "3,000 records" in terminal.getvalue()


def test_fit_watches_for_drift_and_lets_new_starts_challenge(run, tmp_path):
    path, moved = tmp_path / "moves.csv", X + 4.0
    np.savetxt(path, np.vstack([X] * 4 + [moved] * 2), delimiter=",", header="height,width", comments="")
    code, out, _ = run("fit", path, *DIAG, "--drift")
    assert code == 0
    assert "records: drift: level" in out
    assert " replaced: " in out
    assert "challenger" not in out
    code, out, _ = run("fit", path, *DIAG, "--restart-every", 5000, "--quiet", "--out", tmp_path / "m.safetensors")
    events = sem.load(tmp_path / "m.safetensors").events
    entered = [event.at for event in events if event.detail == "fresh 1: every 5,000 records"]
    assert entered == [5500, 10_500, 15_500]  # counted from the end of the warm-up on


def test_warm_takes_every_model(run, monkeypatch):
    taken = []

    def constructed(model, robust):
        sem.Learner(model, robust=robust)
        taken.append(model.name)
        return 0.0

    monkeypatch.setattr(learning, "compile_kernels", constructed)
    for name in ("compile_unmixer", "compile_convolutive"):
        monkeypatch.setattr(learning, name, lambda: 0.0)
    code, out, err = run("warm")
    assert (code, err) == (0, "")
    assert set(taken) == set(all_models())
    assert out.count(": 0.0 s") == len(taken) + 1


def test_wide_parameters_are_cut_and_single_ones_told(run, tmp_path):
    wide, signal = tmp_path / "wide.csv", tmp_path / "signal.csv"
    np.savetxt(wide, RNG.poisson(5.0, (600, 20)), fmt="%d", delimiter=",")
    np.savetxt(signal, np.cos(0.3 * np.arange(5000)) + 0.1 * RNG.normal(size=5000))
    _, out, _ = run("fit", wide, "--model", "nonnegative-factorization", "--starts", 1)
    assert "12 more columns: --json has all" in out
    _, out, _ = run("fit", signal, "--model", "superimposed-sinusoids")
    assert re.search(r"noise +0\.0[01]", out)

"""What compilation promises: cached for the next process, one signature, never stale, the same without it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stream_em.kernels import dispatch

SCRIPT = """
import json, sys
import numpy as np
from numba.core import event
class Count(event.Listener):
    n = 0
    def on_start(self, event): Count.n += 1
    def on_end(self, event): pass
event.register("numba:compile", Count())
import stream_em as sem
from stream_em.em import expect, maximise, online_em
from models import ALL_CASES, OTHER_CASES
case = next(case for case in ALL_CASES + OTHER_CASES if case.name == sys.argv[1])
X = case.draw(np.random.default_rng(0), 300)
X[::7, 0] = np.nan
learner = sem.Learner(case.model, warmup=100, starts=1, refresh_every=50)
inputs = [X, X.astype(np.float32), np.asfortranarray(X), X[::2], X.tolist()]
inputs[1].flags.writeable = False
frozen = X.copy()
frozen.flags.writeable = False
for values in [*inputs, frozen]:
    learner.learn(values)
learner.posterior(X)
print(json.dumps({
    "compiled": Count.n,
    "signatures": [len(getattr(kernel, "signatures", [])) for kernel in (expect, maximise, online_em)],
    "theta": learner.state.theta.tolist(),
}))
"""


def run(name, **environment):
    """Run the script in a new process and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    "name",
    [
        "mixture-full",
        "mixture-diag",
        "chain-full",
        "chain-diag",
        "unmixing-block",
        "unmixing-mixture",
        "kullback-leibler",
        "sinusoids",
    ],
)
def test_compiled_code_is_cached_unique_and_the_same_without_compilation(name):
    run(name)
    second = run(name)
    assert second["compiled"] == 0
    assert second["signatures"] == [1, 1, 1]
    plain = run(name, NUMBA_DISABLE_JIT="1")
    assert plain["compiled"] == 0
    np.testing.assert_allclose(plain["theta"], second["theta"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mixture-full", "chain-full"])
def test_the_number_of_threads_does_not_change_the_result(name):
    one, two = (run(name, OPENBLAS_NUM_THREADS=n, OMP_NUM_THREADS=n) for n in "12")
    assert one["theta"] == two["theta"]


def test_an_edited_source_has_another_cache_folder(tmp_path, monkeypatch):
    copy = tmp_path / "stream_em"
    shutil.copytree(dispatch.PACKAGE, copy)
    monkeypatch.setattr(dispatch, "PACKAGE", copy)
    before = dispatch.source_digest()
    assert before == dispatch.source_digest()
    for edited in ("em.py", "kernels/linalg.py", "emissions/quadratic.py", "models/mixture.py"):
        path = copy / edited
        path.write_text(path.read_text() + "\n")
        assert dispatch.source_digest() != before
        before = dispatch.source_digest()


def test_the_cache_folder_can_be_chosen_and_need_not_be_writable(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAM_EM_CACHE_DIR", str(tmp_path / "cache"))
    assert dispatch.cache_folder().startswith(str(tmp_path))
    (tmp_path / "file").touch()
    monkeypatch.setenv("STREAM_EM_CACHE_DIR", str(tmp_path / "file"))
    assert not dispatch.cache_folder().startswith(str(tmp_path / "file"))


def test_a_folder_that_cannot_be_written_is_copied_once(tmp_path, monkeypatch):
    kept = tmp_path / "image" / dispatch.source_digest() / "kernels_0"
    kept.mkdir(parents=True)
    (kept / "f.nbc").write_bytes(b"machine code")
    kept.parent.chmod(0o555)
    monkeypatch.setenv("STREAM_EM_CACHE_DIR", str(tmp_path / "image"))
    monkeypatch.setattr(dispatch.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(dispatch.os, "access", lambda path, mode: False)
    copy = Path(dispatch.cache_folder())
    assert copy.is_relative_to(tmp_path / f"stream_em-{os.getuid()}")
    assert copy.stat().st_mode & 0o777 == 0o700
    assert (copy / "kernels_0" / "f.nbc").read_bytes() == b"machine code"
    (copy / "kernels_0" / "g.nbc").touch()
    assert dispatch.cache_folder() == str(copy)
    assert (copy / "kernels_0" / "g.nbc").exists()
    assert [path.name for path in copy.parent.iterdir()] == [copy.name], "nothing half-copied is left"


@pytest.mark.parametrize("spoil", ["link", "open", "file"])
def test_code_is_not_loaded_from_where_others_can_write(tmp_path, monkeypatch, spoil):
    home = tmp_path / f"stream_em-{os.getuid()}"
    if spoil == "link":
        (tmp_path / "theirs").mkdir()
        home.symlink_to(tmp_path / "theirs")
    elif spoil == "open":
        home.mkdir()
        home.chmod(0o777)
    else:
        home.touch()
    monkeypatch.setenv("STREAM_EM_CACHE_DIR", str(tmp_path / "image"))
    monkeypatch.setattr(dispatch.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(dispatch.os, "access", lambda path, mode: False)
    chosen = Path(dispatch.cache_folder())
    assert not chosen.is_relative_to(home)
    assert chosen.stat().st_mode & 0o077 == 0


def test_generic_chooses_by_type_and_falls_back_to_its_body():
    from typing import NamedTuple

    class Left(NamedTuple):
        value: int

    class Right(NamedTuple):
        value: int

    @dispatch.generic
    def doubled(model):
        """Return twice the value."""
        return 2 * model.value

    @doubled.register(Left)
    def _(model):
        return -2 * model.value

    @dispatch.kernel
    def call(model):
        return doubled(model)

    assert (doubled(Left(1)), doubled(Right(1))) == (-2, 2)
    assert (call(Left(1)), call(Right(1))) == (-2, 2)
    assert doubled.__doc__ == "Return twice the value."

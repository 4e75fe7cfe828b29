"""A run that is killed again and again, beside one that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from stream_em.learning.snapshot import read_snapshot
from stream_em.learning.store import SnapshotStore

STREAM_EM = str(Path(sys.executable).parent / "stream-em")
BLOCK = 2000
TEXTS = ("positions", "model_settings", "events", "fields", "tournament", "drift")

CONFIG = """
[source]
type = "files"
path = "{data}"
block_size = {block}
on_error = "dead-letter"

[model]
type = "gaussian-mixture"
n_components = 3
covariance_type = "diag"

[learner]
starts = 2

[drift]
false_alarm_every = 1e7

[snapshots]
every_records = {every}
every_seconds = 0.07
keep = 3

[[sinks]]
what = "posteriors"
type = "parquet"
rows_per_file = 30000

[[sinks]]
what = "log-likelihoods"
type = "csv"

[[sinks]]
what = "parameters"
type = "jsonl"
every_records = 20000

[[sinks]]
what = "events"
type = "csv"
"""


def write_data(path: Path, n: int) -> None:
    """Write n records of three clusters, which move at a third and move back at two; one in a thousand is unusable."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [5.0, 5.0], [0.0, 9.0]])[rng.integers(0, 3, n)]
    centres[n // 3 : 2 * n // 3] += [3.0, -2.0]
    lines = [f"{x:.4f},{y:.4f}\n" for x, y in centres + rng.normal(size=(n, 2))]
    for i in range(700, n, 1000):
        lines[i] = f"{i},what\n"
    path.write_text("x,y\n" + "".join(lines))


def write_config(path: Path, data: Path, n: int) -> None:
    """Write the config of the run."""
    path.write_text(CONFIG.format(data=data, block=BLOCK, every=max(BLOCK, n // 20)))


def command(config: Path, folder: Path) -> list[str]:
    """Return the command that runs a config in a folder."""
    return [STREAM_EM, "run", str(config), "--set", f"run.folder={folder}", "--set", "run.log_every_seconds=1000"]


def undisturbed(config: Path, folder: Path) -> float:
    """Run to the end; return the seconds from the first log line to the end."""
    with subprocess.Popen(command(config, folder), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        begin = time.perf_counter()
        rest = process.stderr.read()
    assert process.returncode == 0, rest
    return time.perf_counter() - begin


def killed(config: Path, folder: Path, seconds: float, rng: random.Random) -> bool:
    """Start the run and kill it at a random moment; return whether it was killed before it had ended."""
    log = folder.with_suffix(".log")
    with log.open("ab") as stderr, subprocess.Popen(command(config, folder), stderr=stderr) as process:
        if rng.random() < 0.9:
            size = log.stat().st_size
            while log.stat().st_size == size and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.random() * seconds)
        else:
            time.sleep(rng.random() * 2.0)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        code = process.wait()
    assert code in (0, -signal.SIGKILL), log.read_text()
    return code != 0


def contents(folder: Path) -> dict[str, bytes]:
    """Return what a run has learned and written: the arrays of its newest snapshot, and all sink files."""
    newest = SnapshotStore(folder / "snapshots").paths()[-1]
    metadata, tensors = read_snapshot(newest)
    found = {f"array {name}": array.tobytes() for name, array in tensors.items()}
    found |= {f"text {name}": metadata[name].encode() for name in TEXTS}
    for path in sorted(folder.rglob("*")):
        kept = path.relative_to(folder).parts[0]
        if path.is_file() and kept not in ("snapshots", "journal.db", "journal.db-wal", "journal.db-shm", "lock"):
            found[str(path.relative_to(folder))] = path.read_bytes()
    found.pop("config.toml")
    return found

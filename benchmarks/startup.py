"""How long a process takes to come up, and whether the second one compiles anything."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.rows import Row, seconds
from benchmarks.samples import mixture_params, mixture_records

STREAM_EM = str(Path(sys.executable).with_name("stream-em"))

COUNT_COMPILED = """
import sys
from numba.core import event
from stream_em.cli import main
with event.install_recorder("numba:compile") as recorder:
    try:
        main(sys.argv[1:])
    except SystemExit as end:
        code = end.code
print(sum(entry.is_start for _, entry in recorder.buffer))
sys.exit(code)
"""


def run(quick: bool) -> Iterator[Row]:
    """Yield the wall times of fresh processes."""
    rounds = 1 if quick else 7
    nothing = wall([sys.executable, "-c", "pass"], rounds)
    imported = wall([sys.executable, "-c", "import stream_em"], rounds)
    yield Row("import stream_em", imported, None, None, "", "s", "whole process")
    note = f"whole process; Python alone {nothing:.3f} s"
    yield Row("stream-em --help", wall([STREAM_EM, "--help"], rounds), None, None, "<= 0.4", "s", note)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.csv"
        X = mixture_records(mixture_params(3, 4, spread=2.0), 1000)
        np.savetxt(path, X, delimiter=",", header="a,b,c,d", comments="")
        fit = ["fit", str(path), "--components", "3", "--quiet"]
        if not quick:
            compiled(fit)  # fills the cache, if nothing has yet
        again = compiled(fit)
        taken = wall([STREAM_EM, *fit], rounds)
    yield Row("stream-em fit, second process", taken, None, None, "<= 3", "s", "whole process; 1,000 records of CSV")
    yield Row("compilations in the second process", again, None, None, "<= 0", "", "numba:compile events")


def wall(command: list[str], rounds: int) -> float:
    """Return the median wall time of a command."""
    return median(seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(rounds))


def compiled(arguments: list[str]) -> int:
    """Return how many functions a fresh process compiles for a command."""
    command = [sys.executable, "-c", COUNT_COMPILED, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])

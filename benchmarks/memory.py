"""Peak memory of `stream-em fit` on a short and on a long file."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import Row
from benchmarks.samples import mixture_params, mixture_records

K, D, PIECE = 3, 4, 250_000

# A small process in between, because Linux counts the memory of the process that starts another as the other's.
LAUNCH = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run(quick: bool) -> Iterator[Row]:
    """Yield the ratio of the two peaks."""
    short, long = (10_000, 100_000) if quick else (1_000_000, 20_000_000)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "short.parquet", Path(folder) / "long.parquet"
        write(paths[0], short)
        if not quick:
            fit_megabytes(paths[0])  # compiles, if nothing has yet
        write(paths[1], long)
        less, more = (fit_megabytes(path) for path in paths)
        size = paths[1].stat().st_size / 1e6
    note = f"{long:,} records ({size:.0f} MB of Parquet, K={K} D={D}) against {short:,}"
    yield Row("peak memory of fit, long : short", more, less, more / less, "<= 1.1", "MB", note)


def write(path: Path, n: int) -> None:
    """Write a Parquet file piece by piece."""
    params = mixture_params(K, D, spread=2.0)
    with pq.ParquetWriter(path, pa.schema([(f"x{d}", pa.float64()) for d in range(D)])) as writer:
        for begin in range(0, n, PIECE):
            records = mixture_records(params, min(PIECE, n - begin), seed=begin)
            writer.write_table(pa.table({f"x{d}": records[:, d] for d in range(D)}))


def fit_megabytes(path: Path) -> float:
    """Return the peak memory of one fit, in a process of its own."""
    fit = [str(Path(sys.executable).with_name("stream-em")), "fit", str(path), "--components", str(K), "--quiet"]
    done = subprocess.run([sys.executable, "-c", LAUNCH, *fit], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024

"""From a file to a learned model, against reading the file and doing nothing; Arrow may use all cores."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

import stream_em as sem
from benchmarks.rows import Row, alternated
from benchmarks.samples import mixture_params, mixture_records
from stream_em.streams.ahead import read_ahead

K, D = 3, 16


def run(quick: bool) -> Iterator[Row]:
    """Yield Parquet against two ways of only reading it, and CSV against our own reading."""
    n, rounds = (5000, 1) if quick else (1_000_000, 5)
    before = pa.cpu_count()
    pa.set_cpu_count(os.cpu_count() or 1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            parquet, csv = Path(folder) / "records.parquet", Path(folder) / "records.csv"
            write(n, parquet, csv)
            learn(parquet)
            yield compared("Parquet, learned : pyarrow reads", parquet, read_with_pyarrow, n, rounds, "<= 2")
            yield compared("Parquet, learned : we read", parquet, read, n, rounds, "<= 2")
            yield compared("CSV, learned : pyarrow reads", csv, read_with_pyarrow, n, rounds)
            yield compared("CSV, learned : we read", csv, read, n, rounds)
            pa.set_cpu_count(1)
            yield compared("Parquet, learned : pyarrow reads, one thread", parquet, read_with_pyarrow, n, rounds)
            yield compared("CSV, learned : pyarrow reads, one thread", csv, read_with_pyarrow, n, rounds)
    finally:
        pa.set_cpu_count(before)


def write(n: int, parquet: Path, csv: Path, seed: int = 1) -> None:
    """Write the same records, of four decimals as sensors send them, in both formats."""
    records = np.round(mixture_records(mixture_params(K, D, spread=2.0), n, seed), 4)
    table = pa.table({f"x{d}": records[:, d] for d in range(D)})
    pq.write_table(table, parquet)
    pyarrow.csv.write_csv(table, csv)


def compared(name: str, path: Path, reader: Callable[[Path], None], n: int, rounds: int, goal: str = "") -> Row:
    """Return records a second of learning and of reading, and how many times as long learning takes."""
    learning, reading = alternated(lambda: learn(path), lambda: reader(path), rounds)
    note = f"{n:,} records K={K} D={D}, {path.stat().st_size / 1e6:.0f} MB, Arrow on {pa.cpu_count()} thread(s)"
    ratio = median(learning) / median(reading)
    return Row(name, n / median(learning), n / median(reading), ratio, goal, "records/s", f"times as long; {note}")


def learn(path: Path) -> None:
    """Learn a mixture from a file, warm-up included."""
    learner = sem.Learner(sem.GaussianMixture(K))
    for block in read_ahead(sem.open_source(path)):
        learner.learn(block)
    learner.start()


def read(path: Path) -> None:
    """Read all blocks of a file, as for learning."""
    for _ in sem.open_source(path):
        pass


def read_with_pyarrow(path: Path) -> None:
    """Decode all records of a file, and leave them as Arrow's columns."""
    if path.suffix == ".csv":
        with pyarrow.csv.open_csv(path) as batches:
            for _ in batches:
                pass
    else:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches():
                pass

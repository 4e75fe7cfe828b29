"""Rows into one file by its suffix, or as CSV onto standard output: nothing to resume."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stream_em.errors import InputError
from stream_em.sinks.disk import writing
from stream_em.sinks.interface import Rows, as_list, n_rows
from stream_em.sinks.lines import csv_lines, json_lines


@contextmanager
def writing_rows(path: Path | None) -> Iterator[Callable[[Rows], None]]:
    """Give a function that writes rows; the file takes its name at the end, when it is whole.

    Raises `InputError` for a suffix other than .csv, .jsonl, .parquet, and `OutsideError` if the disk refuses.
    """
    if path is None:
        yield _encoded(csv_lines, sys.stdout.buffer.write)
        return
    if path.suffix not in (".csv", ".jsonl", ".parquet"):
        raise InputError(f"{path}: name a file that ends in .csv, .jsonl or .parquet")
    temporary = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                if path.suffix == ".parquet":
                    with _parquet(file) as write:
                        yield write
                else:
                    yield _encoded(csv_lines if path.suffix == ".csv" else json_lines, file.write)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _encoded(encode: Callable[[Rows, bool], bytes], put: Callable[[bytes], object]) -> Callable[[Rows], None]:
    first = [True]

    def write(rows: Rows) -> None:
        put(encode(rows, first[0]))
        first[0] = False

    return write


@contextmanager
def _parquet(file: Any) -> Iterator[Callable[[Rows], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writers: list[Any] = []

    def write(rows: Rows) -> None:
        n = n_rows(rows)
        columns = {
            name: pa.array(column if isinstance(column, np.ndarray) else as_list(column, n))
            for name, column in rows.items()
        }
        table = pa.table(columns)
        if not writers:
            writers.append(pq.ParquetWriter(file, table.schema))
        writers[0].write_table(table)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()

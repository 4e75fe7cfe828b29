"""A sink of Parquet files in a folder, each of the same number of rows.

A Parquet file cannot be appended to, so the rows of the open part wait in memory. A flush writes them as they are,
whole, and later ones replace that file until the part is full. So what a part holds depends on its rows only.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from stream_em.errors import InputError, OutsideError
from stream_em.sinks.disk import is_there, make_folder, sync_folder, writing
from stream_em.sinks.interface import Rows, n_rows, part_of
from stream_em.sinks.parquetfile import PARTIAL, check_part, read_part, write_part


class ParquetSink:
    """Files part-000000000.parquet, … of `rows_per_file` rows in the folder `path`; the last has fewer.

    A full part is written by a thread of its own, at most one behind.
    """

    def __init__(self, path: Path, rows_per_file: int = 131_072) -> None:
        self.path = path
        self.rows_per_file = rows_per_file
        self._rows = 0
        self._kept = 0
        self._columns: dict[str, Any] = {}
        self._folder = -1
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="parquet-sink")
        self._written: Future[None] | None = None

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on at a position, or begin anew if it is None; raises `InputError` if less is there than was written."""
        rows = part_of(position, "rows", self.path)
        if position is not None and position["rows_per_file"] != self.rows_per_file:
            raise InputError(
                f"sinks: rows_per_file is {self.rows_per_file}, but {self.path} was begun with"
                f" {position['rows_per_file']}; set it back, or start anew with --fresh"
            )
        part, count = divmod(rows, self.rows_per_file)
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise InputError(f"{self.path}: is a file; a Parquet sink is a folder: choose another path for it")
            for number in range(part):
                check_part(self._part(number), self.rows_per_file)
            columns, whole = read_part(self._part(part), count) if count else ({}, True)
            make_folder(self.path)
            for path in self.path.iterdir():
                beyond = path.name.startswith("part-") and path.name > self._part(part).name
                if beyond or path.name.endswith(PARTIAL) or (path == self._part(part) and not count):
                    path.unlink()
            sync_folder(self.path)
            self._folder = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._columns, self._rows = {}, rows
        for name, column in columns.items():
            self._add(name, column, 0, count, 0)
        self._kept = rows if whole else -1

    def write(self, rows: Rows) -> None:
        """Add rows; raises `OutsideError` if the disk refuses."""
        n, begin = n_rows(rows), 0
        if self._columns and self._columns.keys() != rows.keys():
            raise ValueError(f"columns {list(rows)}, after rows with {list(self._columns)}")
        while begin < n:
            filled = self._rows % self.rows_per_file
            end = min(n, begin + self.rows_per_file - filled)
            for name, column in rows.items():
                self._add(name, column, begin, end, filled)
            self._rows += end - begin
            if self._rows % self.rows_per_file == 0:
                self._wait()
                path = self._part(self._rows // self.rows_per_file - 1)
                self._written = self._writer.submit(
                    write_part, path, self._columns, self.rows_per_file, self.rows_per_file
                )
                self._columns, self._kept = {}, self._rows
            begin = end

    def flush(self) -> dict[str, Any]:
        """Make all rows durable and return the position after them; raises `OutsideError` if the folder is gone."""
        if not is_there(self.path, self._folder):
            raise OutsideError(f"{self.path}: was deleted or replaced while it was written; put it back")
        self._wait()
        if self._rows != self._kept:
            part, count = divmod(self._rows, self.rows_per_file)
            write_part(self._part(part), self._columns, count, self.rows_per_file)
            self._kept = self._rows
        return {"rows": self._rows, "rows_per_file": self.rows_per_file}

    def close(self) -> None:
        """Let go of rows and folder."""
        self._writer.shutdown()
        self._columns = {}
        folder, self._folder = self._folder, -1
        if folder >= 0:
            with suppress(OSError):
                os.close(folder)

    def _wait(self) -> None:
        """Wait for the part that is being written, and raise what went wrong with it."""
        if self._written is not None:
            # One that failed stays, so that no later flush passes over the part that is missing.
            self._written.result()
            self._written = None

    def _part(self, number: int) -> Path:
        return self.path / f"part-{number:09}.parquet"

    def _add(self, name: str, column: Any, begin: int, end: int, filled: int) -> None:
        """Copy rows of a column to where they belong in the open part; a text is kept once for all rows in a run."""
        if not isinstance(column, str) and isinstance(column[0], float | int):
            column = np.asarray(column)
        if isinstance(column, np.ndarray):
            if name not in self._columns:
                self._columns[name] = np.empty(self.rows_per_file, dtype=column.dtype)
            np.copyto(self._columns[name][filled : filled + end - begin], column[begin:end], casting="same_kind")
            return
        runs = self._columns.setdefault(name, [])
        for value, count in [(column, end - begin)] if isinstance(column, str) else [(v, 1) for v in column[begin:end]]:
            if runs and runs[-1][0] == value:
                runs[-1][1] += count
            else:
                runs.append([value, count])

"""A sink that appends lines to one file; its position is a number of bytes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stream_em.errors import InputError, OutsideError
from stream_em.sinks.disk import is_there, make_folder, sync_folder, writing
from stream_em.sinks.interface import Rows, part_of


class AppendedSink:
    """Lines in one file; `encode(rows, first)` gives their bytes, with a header if they are the `first`."""

    def __init__(self, path: Path, encode: Callable[[Rows, bool], bytes]) -> None:
        self.path = path
        self._encode = encode
        self._file = -1
        self._bytes = 0
        self._failed: OutsideError | None = None

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on at a position, or begin anew if it is None; raises `InputError` if less is there than was written."""
        self._bytes = part_of(position, "bytes", self.path)
        with self._writing():
            if self.path.exists() and not self.path.is_file():
                what = "a folder" if self.path.is_dir() else "no regular file"
                raise InputError(f"{self.path}: is {what}; choose another path for the sink")
            there = self.path.stat().st_size if self.path.exists() else 0
            if there < self._bytes:
                raise InputError(
                    f"{self.path}: holds {there:,} bytes, but the run had written {self._bytes:,};"
                    " put it back, or start anew with --fresh"
                )
            make_folder(self.path.parent)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._file, self._bytes)
            os.lseek(self._file, self._bytes, os.SEEK_SET)
            sync_folder(self.path.parent)

    def write(self, rows: Rows) -> None:
        """Add rows; raises `OutsideError` if the disk refuses."""
        content = memoryview(self._encode(rows, self._bytes == 0))
        with self._writing():
            while content:
                written = os.write(self._file, content)
                self._bytes += written
                content = content[written:]

    def flush(self) -> dict[str, Any]:
        """Make all rows durable and return the position after them; raises `OutsideError` if the file is gone."""
        with self._writing():
            os.fsync(self._file)
        if not is_there(self.path, self._file):
            raise OutsideError(f"{self.path}: was deleted or replaced while it was written; put it back")
        return {"bytes": self._bytes}

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):
                os.close(file)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn failures of the disk into `OutsideError`, now and ever after.

        Half a line may be there, or pages that the kernel gave up: no later flush may vouch for them.
        """
        if self._failed is not None:
            raise self._failed
        try:
            with writing(self.path):
                yield
        except OutsideError as error:
            self._failed = error
            raise

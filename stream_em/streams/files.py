"""Files as a source of blocks, read in pieces and never whole."""

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.bytestream import display
from stream_em.streams.cells import check_fields, check_unique
from stream_em.streams.formats import Reader, checked_format, format_named, is_regular, open_reader
from stream_em.streams.paths import Data, find_files
from stream_em.streams.records import Block, first_unusable, unusable_reason

_FIRST_ROWS = 1 << 16


def open_source(
    data: Data,
    *,
    fields: Sequence[str] | None = None,
    format: str | None = None,
    block_size: int = 8192,
    has_header: bool | None = None,
) -> "FileSource":
    """Open a path, a pattern, a folder, a list of these, or "-" (standard input) as a source of blocks.

    `fields` chooses columns by name, in the order given; None takes all columns of the first file. `format`
    overrules the suffix. `has_header` is for CSV: None looks whether the first line holds only numbers.
    A folder gives all files in it with a known suffix, sorted by name. Raises `InputError` naming the place.
    """
    if block_size < 1:
        raise InputError(f"block_size must be at least 1, not {block_size}")
    if isinstance(fields, str):
        raise InputError(f"fields must be a list of names, not the text {fields!r}")
    if fields is not None:
        if not fields:
            raise InputError("fields is empty; name at least one, or leave it out to take all")
        check_unique(fields, "fields")
    kind = None if format is None else format_named(format)
    files = [(path, checked_format(path, kind)) for path in find_files(data, kind)]
    return FileSource(files, fields=fields, block_size=block_size, has_header=has_header)


class FileSource:
    """Blocks of exactly `block_size` records, fewer only at the end of a file; iterating again starts again.

    A block's `position` is {"file": path, "record": number of the next record in that file, from 0}.
    Made by `open_source`; also a context manager.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, str | None]],
        *,
        fields: Sequence[str] | None,
        block_size: int,
        has_header: bool | None,
        piece_bytes: int | None = None,
    ) -> None:
        self._files = list(files)
        self._fields = None if fields is None else tuple(fields)
        self._block_size = block_size
        self._has_header = has_header
        self._piece_bytes = piece_bytes
        self._used: set[str] = set()
        self._first: Reader | None = None
        self._reading: Reader | None = None
        self._bytes_done = 0
        self._bytes_shown = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the columns: those asked for, or else all of the first file."""
        if self._fields is None:
            path, format = self._files[0]
            reader = self._open(path, format)
            if is_regular(path):
                reader.close()
            else:
                # A pipe cannot be opened again, so the iteration goes on with this reader.
                self._first = reader
            self._fields = _checked(reader.columns, reader, path)
        return self._fields

    @property
    def n_records(self) -> int | None:
        """The number of records of all files if their headers or footers tell, else None."""
        total = 0
        for path, format in self._files:
            if format not in ("parquet", "arrow", "npy") or not is_regular(path):
                return None
            reader = open_reader(path, format)
            reader.close()
            if reader.n_records is None:
                return None
            total += reader.n_records
        return total

    @property
    def n_bytes(self) -> int | None:
        """The size of all files as they lie on the disk; None for standard input and pipes."""
        paths = [path for path, _ in self._files]
        return sum(os.path.getsize(path) for path in paths) if all(map(is_regular, paths)) else None

    @property
    def bytes_read(self) -> int:
        """The bytes consumed so far over all passes; each whole pass adds `n_bytes`. Never falls."""
        reading = self._reading
        # Another thread may be between two files; the maximum keeps a progress bar from stepping back.
        self._bytes_shown = max(self._bytes_shown, self._bytes_done + (reading.bytes_read if reading else 0))
        return self._bytes_shown

    def __iter__(self) -> Iterator[Block]:
        for path, format in self._files:
            reader, self._first = self._first or self._open(path, format), None
            self._reading = reader
            consumed = None
            try:
                self._fields = _checked(self._fields or reader.columns, reader, path)
                yield from self._blocks(reader, path, self._fields)
                consumed = os.path.getsize(path) if is_regular(path) else None
            finally:
                self._reading = None
                self._bytes_done += reader.bytes_read if consumed is None else consumed
                reader.close()

    def close(self) -> None:
        """Close what is open."""
        for reader in (self._first, self._reading):
            if reader is not None:
                reader.close()
        self._first = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, path: str, format: str | None) -> Reader:
        if path in self._used and not is_regular(path):
            raise InputError(
                f"{display(path)}: can be read only once; save it to a file to make several passes over it"
            )
        self._used.add(path)
        return open_reader(path, format, has_header=self._has_header, piece_bytes=self._piece_bytes)

    def _blocks(self, reader: Reader, path: str, fields: tuple[str, ...]) -> Iterator[Block]:
        done = 0
        for values in _in_blocks(reader.pieces(fields), self._block_size, len(fields)):
            wrong = first_unusable(values)
            if wrong is not None:
                row, column = wrong
                reason = unusable_reason(values[wrong])
                raise InputError(f"{display(path)}, record {done + row}, field {fields[column]!r}: {reason}")
            done += len(values)
            yield Block(values, fields, {"file": path, "record": done}, checked=True)
        if done == 0:
            raise _empty(reader, path)


def _checked(fields: tuple[str, ...], reader: Reader, path: str) -> tuple[str, ...]:
    """Return `fields` if the file has all of them; raise `InputError` if it has not, or holds nothing."""
    if not reader.columns:
        raise _empty(reader, path)
    check_fields(fields, reader.columns, display(path))
    return fields


def _empty(reader: Reader, path: str) -> InputError:
    return InputError(f"{display(path)}: {reader.empty_message}; write records, or leave the file out")


def _in_blocks(
    pieces: Iterator[list[npt.NDArray[Any]]] | Iterator[list[npt.NDArray[Any]] | npt.NDArray[Any]],
    block_size: int,
    width: int,
) -> Iterator[FloatArray]:
    """Cut pieces of any length into (block_size, width) records in their own memory; the last is shorter."""
    # A block may be asked to hold more than there is, so a long one grows with what comes.
    rows = min(block_size, _FIRST_ROWS)
    block = np.empty((rows, width))
    filled = 0
    for piece in pieces:
        length = len(piece[0]) if isinstance(piece, list) else len(piece)
        start = 0
        while start < length:
            count = min(length - start, len(block) - filled)
            _copy(piece, slice(start, start + count), block[filled : filled + count])
            start += count
            filled += count
            if filled == block_size:
                yield block
                block = np.empty((rows, width))
                filled = 0
            elif filled == len(block):
                longer = np.empty((min(2 * filled, block_size), width))
                longer[:filled] = block
                block = longer
    if filled:
        yield block[:filled].copy()


def _copy(piece: list[npt.NDArray[Any]] | npt.NDArray[Any], rows: slice, records: FloatArray) -> None:
    if isinstance(piece, list):
        for j, column in enumerate(piece):
            records[:, j] = column[rows]
    else:
        records[:] = piece[rows]

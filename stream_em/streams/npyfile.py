"""NumPy files in pieces: mapped into memory, or read from start to end if compressed or piped."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from stream_em.errors import InputError
from stream_em.streams.blocks import Piece
from stream_em.streams.bytestream import ByteStream, blame, is_regular
from stream_em.streams.cells import numbered_names
from stream_em.streams.positions import origin_of

_PIECE_BYTES = 8 << 20


class NpyReader:
    """One .npy file: a vector or matrix with columns x0, x1, ..., or a structured array with named ones."""

    empty_message = "has no records"
    sample_rate: float | None = None

    def __init__(self, stream: ByteStream, *, seekable: bool) -> None:
        self._stream = stream
        self._seekable = seekable
        self._first = 0
        self._mapped_done = 0
        self._origin = origin_of(stream.path, is_regular(stream.path))
        with blame(stream.path):
            shape, self._fortran, self._dtype = _header(stream)
        if len(shape) not in (1, 2) or (self._dtype.names and len(shape) != 1):
            raise InputError(
                f"{stream.name}: is an array with {len(shape)} axes; save (records, features), or records with names"
            )
        if not self._dtype.names and math.prod(shape[1:]) == 0:
            raise InputError(f"{stream.name}: records need at least one feature; the array is {shape}")
        self._shape = shape
        self.n_records: int | None = shape[0]
        self.columns = self._dtype.names or numbered_names(math.prod(shape[1:]))
        if not (seekable or len(shape) == 1 or not self._fortran):
            raise InputError(
                f"{stream.name}: its columns lie one after the other (Fortran order), so records cannot be"
                " read in pieces; save np.ascontiguousarray of it, or do not compress it"
            )

    @property
    def bytes_read(self) -> int:
        """The bytes taken from the file so far."""
        return self._stream.bytes_read + self._mapped_done

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def go_to(self, position: dict[str, Any]) -> int:
        """Go on at a position; records before it are not looked at."""
        self._first = self._origin.check(position, self.n_records)
        return 0

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece]:
        """Yield the chosen fields of the next records, as columns or as (n, d) records."""
        self._check_types(fields)
        every = tuple(fields) == self.columns
        for rows in self._mapped() if self._seekable else self._streamed():
            if self._dtype.names:
                yield Piece([rows[field] for field in fields], self._origin)
            else:
                matrix = rows.reshape(len(rows), -1)
                columns = matrix if every else [matrix[:, self.columns.index(field)] for field in fields]
                yield Piece(columns, self._origin)

    @property
    def _rows(self) -> int:
        return max(1, _PIECE_BYTES // self._record_bytes)

    @property
    def _record_bytes(self) -> int:
        return self._dtype.itemsize * math.prod(self._shape[1:])

    def _mapped(self) -> Iterator[npt.NDArray[Any]]:
        path, start = self._stream.path, self._stream.delivered
        order = "F" if self._fortran else "C"
        expected = start + self._shape[0] * self._record_bytes
        if os.path.getsize(path) < expected:
            raise self._cut_short()
        if self._shape[0] == 0:
            return
        with blame(path):
            records: npt.NDArray[Any] = np.memmap(
                path, dtype=self._dtype, mode="r", offset=start, shape=self._shape, order=cast("Any", order)
            )
        self._mapped_done = self._first * self._record_bytes
        for first in range(self._first, len(records), self._rows):
            piece = records[first : first + self._rows]
            self._mapped_done += len(piece) * self._record_bytes
            yield piece

    def _streamed(self) -> Iterator[npt.NDArray[Any]]:
        if self._first:
            self._stream.go_to(self._stream.delivered + self._first * self._record_bytes)
        left = self._shape[0] - self._first
        while left:
            count = min(left, self._rows)
            data = self._stream.read(count * self._record_bytes)
            if len(data) < count * self._record_bytes:
                raise self._cut_short()
            yield np.frombuffer(data, dtype=self._dtype).reshape(count, *self._shape[1:])
            left -= count

    def _cut_short(self) -> InputError:
        return InputError(
            f"{self._stream.name}: is cut short: its header promises {self._shape[0]} records; fetch or write it again"
        )

    def _check_types(self, fields: Sequence[str]) -> None:
        for field in fields:
            kind = self._dtype[field] if self._dtype.names else self._dtype
            if kind.kind not in "biuf" or kind.shape:
                raise InputError(
                    f"{self._stream.name}, field {field!r}: holds {kind}, not numbers;"
                    " save an array of floats, or choose other fields with --fields"
                )


def _header(stream: ByteStream) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    # np.lib.format only reads from what it is given.
    file = cast("IO[bytes]", stream)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the npy format")

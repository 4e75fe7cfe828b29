"""Parquet and Arrow IPC in pieces of some megabytes."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_em.errors import InputError
from stream_em.streams.blocks import Piece
from stream_em.streams.bytestream import ByteStream, blame, display, is_regular
from stream_em.streams.cells import check_unique
from stream_em.streams.positions import Fingerprint, origin_of

PIECE_VALUES = 1 << 21
"""Values decoded at once (16 MB): decoding fewer costs more a record."""

_BUFFER_BYTES = 1 << 20
_IPC_MAGIC = b"ARROW1"


class ParquetReader:
    """One Parquet file."""

    empty_message = "has no records"
    sample_rate: float | None = None

    def __init__(self, path: str) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self._done = 0
        self._size = os.path.getsize(path)
        self._origin = Fingerprint(path)
        with blame(path):
            # Without a buffer size Arrow would read whole column chunks, that is, possibly the whole file.
            self._file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            self.n_records: int | None = self._file.metadata.num_rows
            self._schema = self._file.schema_arrow
        self.columns = tuple(self._schema.names)
        check_unique(self.columns, display(path))

    @property
    def bytes_read(self) -> int:
        """The share of the file's bytes that the records read so far stand for."""
        return self._size * self._done // max(self.n_records or 0, 1)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def go_to(self, position: dict[str, Any]) -> int:
        """Go on at a position; whole row groups before it are not read."""
        self._done = self._origin.check(position, self.n_records)
        return 0

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece]:
        """Yield the chosen fields of the next records as columns."""
        check_types(self._schema, fields, display(self._path))
        with blame(self._path):
            groups, skip = self._groups_from(self._done)
            batches = self._file.iter_batches(_rows_of_a_piece(fields), row_groups=groups, columns=list(fields))
        for batch in _rest(_blamed(self._path, batches), skip):
            self._done += batch.num_rows
            yield Piece(_as_columns(batch, fields), self._origin)

    def _groups_from(self, record: int) -> tuple[list[int], int]:
        """Return the row groups that are to be read from a record on, and how many of their records are not."""
        metadata = self._file.metadata
        first = 0
        while first < metadata.num_row_groups and metadata.row_group(first).num_rows <= record:
            record -= metadata.row_group(first).num_rows
            first += 1
        return list(range(first, metadata.num_row_groups)), record


class ArrowReader:
    """One Arrow IPC file or stream; a file is a magic word before a stream, so both are read as streams."""

    empty_message = "has no records"
    sample_rate: float | None = None

    def __init__(self, stream: ByteStream, *, seekable: bool) -> None:
        import pyarrow as pa

        self._stream = stream
        self._done = 0
        self._origin = origin_of(stream.path, is_regular(stream.path))
        self.n_records: int | None = None
        if stream.peek(len(_IPC_MAGIC)) == _IPC_MAGIC:
            stream.read(8)
            if seekable:
                with blame(stream.path), pa.OSFile(stream.path) as file:
                    self.n_records = pa.ipc.open_file(file).count_rows()
        with blame(stream.path):
            self._batches = pa.ipc.open_stream(pa.PythonFile(stream, mode="r"))
        self.columns = tuple(self._batches.schema.names)
        check_unique(self.columns, stream.name)

    @property
    def bytes_read(self) -> int:
        """The bytes taken from the file so far."""
        return self._stream.bytes_read

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def go_to(self, position: dict[str, Any]) -> int:
        """Go on at a position; batches before it are passed over."""
        self._done = self._origin.check(position, self.n_records)
        return 0

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece]:
        """Yield the chosen fields of the next records as columns."""
        check_types(self._batches.schema, fields, self._stream.name)
        rows = _rows_of_a_piece(fields)
        for batch in _rest(_blamed(self._stream.path, self._batches), self._done):
            for start in range(0, batch.num_rows, rows):
                yield Piece(_as_columns(batch.slice(start, rows), fields), self._origin)


def _rows_of_a_piece(fields: Sequence[str]) -> int:
    return max(1, PIECE_VALUES // len(fields))


def _blamed(path: str, batches: Any) -> Iterator[Any]:
    iterator = iter(batches)
    while True:
        with blame(path):
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch


def _rest(batches: Iterator[Any], skip: int) -> Iterator[Any]:
    """Leave out the first `skip` records."""
    for batch in batches:
        if skip < batch.num_rows:
            yield batch.slice(skip)
        skip -= min(skip, batch.num_rows)


def check_types(schema: Any, fields: Sequence[str], name: str) -> None:
    """Raise `InputError` for a field that does not hold numbers; `name` is what the message calls the whole."""
    import pyarrow.types as kinds

    for field in fields:
        kind = schema.field(field).type
        value = kind.value_type if kinds.is_dictionary(kind) else kind
        numeric = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal, kinds.is_null)
        if not any(is_kind(value) for is_kind in numeric):
            raise InputError(f"{name}, field {field!r}: holds {value}, not numbers; choose other fields with --fields")


def _as_columns(batch: Any, fields: Sequence[str]) -> list[npt.NDArray[Any]]:
    return [as_numpy(batch.column(field)) for field in fields]


def as_numpy(column: Any) -> npt.NDArray[Any]:
    """View a column as numpy, copied only where nulls become NaN or Arrow's type has no numpy twin."""
    import pyarrow as pa

    if not (pa.types.is_integer(column.type) and column.null_count == 0):
        column = column.cast(pa.float64(), safe=False)
    values: npt.NDArray[Any] = np.asarray(column.to_numpy(zero_copy_only=False))
    return values

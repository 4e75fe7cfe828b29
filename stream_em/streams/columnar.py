"""Parquet and Arrow IPC in pieces of some megabytes."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_em.errors import InputError
from stream_em.streams.bytestream import ByteStream, blame, display
from stream_em.streams.cells import check_unique

PIECE_VALUES = 1 << 21
"""Values decoded at once (16 MB): decoding fewer costs more a record."""

_BUFFER_BYTES = 1 << 20
_IPC_MAGIC = b"ARROW1"


class ParquetReader:
    """One Parquet file."""

    empty_message = "has no records"

    def __init__(self, path: str) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self._done = 0
        self._size = os.path.getsize(path)
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

    def pieces(self, fields: Sequence[str]) -> Iterator[list[npt.NDArray[Any]]]:
        """Yield the chosen fields of the next records as columns."""
        _check_types(self._schema, fields, display(self._path))
        with blame(self._path):
            batches = self._file.iter_batches(_rows_of_a_piece(fields), columns=list(fields))
        for batch in _blamed(self._path, batches):
            self._done += batch.num_rows
            yield _as_columns(batch, fields)


class ArrowReader:
    """One Arrow IPC file or stream; a file is a magic word before a stream, so both are read as streams."""

    empty_message = "has no records"

    def __init__(self, stream: ByteStream, *, seekable: bool) -> None:
        import pyarrow as pa

        self._stream = stream
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

    def pieces(self, fields: Sequence[str]) -> Iterator[list[npt.NDArray[Any]]]:
        """Yield the chosen fields of the next records as columns."""
        _check_types(self._batches.schema, fields, self._stream.name)
        rows = _rows_of_a_piece(fields)
        for batch in _blamed(self._stream.path, self._batches):
            for start in range(0, batch.num_rows, rows):
                yield _as_columns(batch.slice(start, rows), fields)


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


def _check_types(schema: Any, fields: Sequence[str], name: str) -> None:
    import pyarrow.types as kinds

    for field in fields:
        kind = schema.field(field).type
        value = kind.value_type if kinds.is_dictionary(kind) else kind
        numeric = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal, kinds.is_null)
        if not any(is_kind(value) for is_kind in numeric):
            raise InputError(f"{name}, field {field!r}: holds {value}, not numbers; choose other fields with --fields")


def _as_columns(batch: Any, fields: Sequence[str]) -> list[npt.NDArray[Any]]:
    return [_as_numpy(batch.column(field)) for field in fields]


def _as_numpy(column: Any) -> npt.NDArray[Any]:
    """View a column as numpy, copied only where nulls become NaN or Arrow's type has no numpy twin."""
    import pyarrow as pa

    if not (pa.types.is_integer(column.type) and column.null_count == 0):
        column = column.cast(pa.float64(), safe=False)
    values: npt.NDArray[Any] = np.asarray(column.to_numpy(zero_copy_only=False))
    return values

"""One Parquet file of a sink: written whole or not at all, and read back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stream_em.errors import InputError
from stream_em.sinks.disk import sync_folder, writing

PARTIAL = ".partial"
BATCH = 131_072


def write_part(path: Path, columns: dict[str, Any], count: int, rows_per_file: int) -> None:
    """Write the first `count` rows as one durable file that takes its name when it is whole.

    A column is an array, or the runs [text, length] of equal texts. Raises `OutsideError` if the disk refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = [_as_arrow(column, count) for column in columns.values()]
    # Columns that cannot be null take half the time to encode; NaN is a number here.
    fields = [
        pa.field(name, array.type, nullable=not isinstance(column, np.ndarray))
        for (name, column), array in zip(columns.items(), arrays, strict=True)
    ]
    temporary = path.with_name(f".{path.name}{PARTIAL}")
    with writing(path):
        with temporary.open("wb") as file:
            pq.write_table(
                pa.Table.from_arrays(arrays, schema=pa.schema(fields)),
                file,
                row_group_size=rows_per_file,
                write_batch_size=BATCH,
                # Probabilities and log-likelihoods have no pattern that a codec or statistics would find.
                compression="none",
                write_statistics=False,
                use_dictionary=[field.name for field in fields if pa.types.is_dictionary(field.type)],
                column_encoding={
                    field.name: "DELTA_BINARY_PACKED" for field in fields if pa.types.is_int64(field.type)
                },
                store_schema=False,
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)


def read_part(path: Path, count: int) -> tuple[dict[str, Any], bool]:
    """Return the first `count` rows of a file, numbers as arrays and texts as lists, and whether these were all.

    Raises `InputError` if the file is missing, damaged or has fewer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(path):
        table = pq.read_table(path)
    if len(table) < count:
        raise lacks_rows(path)
    columns = {}
    for name, column in zip(table.column_names, table.slice(0, count).columns, strict=True):
        numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        columns[name] = column.to_numpy() if numeric else column.to_pylist()
    return columns, len(table) == count


def check_part(path: Path, count: int) -> None:
    """Raise `InputError` unless a file is there and says that it has `count` rows."""
    import pyarrow.parquet as pq

    with _reading(path):
        there = pq.read_metadata(path).num_rows
    if there != count:
        raise lacks_rows(path)


def lacks_rows(path: Path) -> InputError:
    """Return the error for a file that has less than was written, or nothing that can be read."""
    return InputError(f"{path}: damaged, or lacks rows that were written; put it back, or start anew with --fresh")


def _as_arrow(column: Any, count: int) -> Any:
    import pyarrow as pa

    if isinstance(column, np.ndarray):
        return pa.array(column[:count])
    values = pa.array([value for value, _ in column])
    if pa.types.is_string(values.type):
        values = values.dictionary_encode()
    return values.take(pa.array(np.repeat(np.arange(len(column)), [length for _, length in column])))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # What the disk refuses has a number; what Arrow cannot make sense of has none.
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            raise
        raise lacks_rows(path) from None

"""Rows as lines of text."""

import math
from typing import Any

import msgspec
import numpy as np

from stream_em.sinks.interface import Rows, as_list, n_rows

_ENCODER = msgspec.json.Encoder()


def json_lines(rows: Rows, first: bool) -> bytes:
    """Return one JSON object a row; NaN and infinities are null."""
    n = n_rows(rows)
    columns = [as_list(column, n) for column in rows.values()]
    return _ENCODER.encode_lines([dict(zip(rows, row, strict=True)) for row in zip(*columns, strict=True)])


def csv_lines(rows: Rows, first: bool) -> bytes:
    """Return one line a row, NaN as an empty cell; a header before the first."""
    import pyarrow as pa
    import pyarrow.csv

    n = n_rows(rows)
    columns = {name: _csv_column(column, n) for name, column in rows.items()}
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(columns), sink, pyarrow.csv.WriteOptions(include_header=first))
    return bytes(sink.getvalue())


def _csv_column(column: Any, n: int) -> Any:
    import pyarrow as pa

    if isinstance(column, np.ndarray):
        return pa.array(column, from_pandas=True)
    values = as_list(column, n)
    return pa.array([None if isinstance(value, float) and math.isnan(value) else value for value in values])

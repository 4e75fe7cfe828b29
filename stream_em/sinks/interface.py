"""What every sink does, and the rows it takes."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.errors import InputError

Rows = dict[str, FloatArray | IntArray | str | list[Any]]
"""Columns of equal length; a plain text is one that all rows share."""


class Sink(Protocol):
    """A file or folder that grows by rows and can be cut back to where it was.

    `flush` makes everything durable and gives the position that a snapshot keeps. After a crash `open` with any earlier
    position cuts what lies beyond it, so that the rows written again make the output whole: the same bytes as if
    nothing had happened, whenever it was flushed. All methods raise `OutsideError` if the disk refuses.
    """

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on at a position, or begin anew if it is None; raises `InputError` if less is there than was written."""
        ...

    def write(self, rows: Rows) -> None:
        """Add rows."""
        ...

    def flush(self) -> dict[str, Any]:
        """Make all rows durable and return the position after them."""
        ...

    def close(self) -> None:
        """Let go of the file; nothing is flushed."""
        ...


def part_of(position: dict[str, Any] | None, key: str, path: Path) -> int:
    """Return a number of a position, 0 at the start; raises `InputError` if a sink of another type made it."""
    if position is None:
        return 0
    if key not in position:
        raise InputError(f"{path}: the run wrote it as another type of sink; set type back, or start anew with --fresh")
    return int(position[key])


def n_rows(rows: Rows) -> int:
    """Return the number of rows; columns that are all texts make one."""
    lengths = {len(column) for column in rows.values() if not isinstance(column, str)}
    if len(lengths) > 1:
        raise ValueError(f"columns differ in length: {sorted(lengths)}")
    return lengths.pop() if lengths else 1


def as_list(column: Any, n: int) -> list[Any]:
    """Return a column as n Python values."""
    if isinstance(column, str):
        return [column] * n
    return column.tolist() if isinstance(column, np.ndarray) else list(column)

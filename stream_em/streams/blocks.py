"""Pieces of any length, as readers give them, cut into blocks at the same records wherever reading began."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.bytestream import display
from stream_em.streams.records import LARGEST, Rejected, first_unusable, unusable_reason

_FIRST_ROWS = 1 << 16

Columns = list[npt.NDArray[Any]] | npt.NDArray[Any]


class Origin(Protocol):
    """Where a piece begins in its file."""

    def position(self, after: int) -> dict[str, Any]:
        """Return the keys by which its reader finds the record that is `after` records behind the start again."""
        ...


class Unusable(NamedTuple):
    """A record that a reader could not use: its row in the piece, its line, why, and its bytes."""

    row: int
    line: int
    reason: str
    content: bytes


class Piece(NamedTuple):
    """Consecutive records as d columns or one (n, d) array; rows of unusable ones are NaN."""

    columns: Columns
    origin: Origin
    unusable: Sequence[Unusable] = ()

    @property
    def n_records(self) -> int:
        """The number of records, unusable ones too."""
        return len(self.columns[0]) if isinstance(self.columns, list) else len(self.columns)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some (n, d) consecutive records of a file from number `first` on, still with the rows of unusable ones."""

    values: FloatArray
    first: int
    unusable: Sequence[Unusable]
    origin: Origin
    after: int

    @property
    def end(self) -> int:
        """The number of the next record."""
        return self.first + len(self.values)


class Cutter:
    """Cuts a file's pieces where the number of a record is a multiple of `block_size`, and at `last`.

    The first `skip` records of the first pieces were read before; the one after them has the number `record`.
    """

    def __init__(self, width: int, block_size: int, record: int, skip: int, last: int | None) -> None:
        self._width = width
        self._block_size = block_size
        self._last = last
        self.record = record
        self.skip = skip
        self._block = np.empty((0, width))
        self._filled = 0
        self._unusable: list[Unusable] = []

    def stretches(self, pieces: Iterator[Piece | None]) -> Iterator[Stretch | None]:
        """Yield (n, width) records in their own memory; where a piece is None, what there is, and then None."""
        origin: Origin | None = None
        after = 0
        for piece in pieces:
            if piece is None:
                if origin is not None and self._filled:
                    yield self._taken(origin, after)
                yield None
                continue
            length = piece.n_records
            origin, after = piece.origin, min(self.skip, length)
            self.skip -= after
            bad = iter(piece.unusable)
            wrong = next(bad, None)
            while wrong is not None and wrong.row < after:
                wrong = next(bad, None)
            while after < length:
                start, after = after, after + self._copy(piece.columns, after, length)
                while wrong is not None and wrong.row < after:
                    self._unusable.append(wrong._replace(row=wrong.row - after + self._filled))
                    wrong = next(bad, None)
                self.record += after - start
                if self.record == self._last or self.record % self._block_size == 0:
                    yield self._taken(origin, after)
                if self.record == self._last:
                    return
        if origin is not None and self._filled:
            yield self._taken(origin, after)

    def _copy(self, columns: Columns, start: int, length: int) -> int:
        """Fill the block from record `start` of a piece, and return how many records went in."""
        whole = self._block_size - (self.record - self._filled) % self._block_size
        if self._last is not None:
            whole = min(whole, self._last - self.record + self._filled)
        if self._filled == len(self._block):
            # A block may be asked to hold more than there is, so a long one grows with what comes.
            longer = np.empty((min(max(2 * self._filled, _FIRST_ROWS), whole), self._width))
            longer[: self._filled] = self._block[: self._filled]
            self._block = longer
        count = min(length - start, len(self._block) - self._filled)
        records = self._block[self._filled : self._filled + count]
        if isinstance(columns, list):
            for j, column in enumerate(columns):
                records[:, j] = column[start : start + count]
        else:
            records[:] = columns[start : start + count]
        self._filled += count
        return count

    def _taken(self, origin: Origin, after: int) -> Stretch:
        values = self._block if self._filled == len(self._block) else self._block[: self._filled].copy()
        stretch = Stretch(values, self.record - self._filled, self._unusable, origin, after)
        self._block, self._filled, self._unusable = np.empty((0, self._width)), 0, []
        return stretch


def without_unusable(
    stretch: Stretch, path: str, fields: Sequence[str], lenient: bool
) -> tuple[FloatArray, npt.NDArray[np.int64], tuple[Rejected, ...]]:
    """Return the usable records, (n, d), their numbers in the file, (n,), and the others.

    Raises `InputError` for the first value that is infinite or above 1e100, unless `lenient`.
    """
    values = stretch.values
    numbers = np.arange(stretch.first, stretch.end)
    rejected = {
        wrong.row: Rejected({"file": path, "line": wrong.line}, wrong.reason, wrong.content)
        for wrong in stretch.unusable
    }
    if first_unusable(values) is not None:
        for row in np.flatnonzero((np.abs(values) > LARGEST).any(axis=1)).tolist():
            column = int(np.argmax(np.abs(values[row]) > LARGEST))
            place = f"{display(path)}, record {stretch.first + row}, field {fields[column]!r}"
            reason = f"{place}: {unusable_reason(values[row, column])}"
            if not lenient:
                raise InputError(reason)
            rejected[row] = Rejected(
                {"file": path, "record": stretch.first + row}, reason, _as_json(values[row], fields)
            )
    if not rejected:
        return values, numbers, ()
    rows = sorted(rejected)
    usable = np.ascontiguousarray(np.delete(values, rows, axis=0))
    return usable, np.delete(numbers, rows), tuple(rejected[row] for row in rows)


def _as_json(record: FloatArray, fields: Sequence[str]) -> bytes:
    """Write a record as JSON, which knows no infinity: that is a text, and a missing value null."""
    cells = (None if np.isnan(x) else str(x) if np.isinf(x) else x for x in record.tolist())
    return json.dumps(dict(zip(fields, cells, strict=True)), ensure_ascii=False).encode()

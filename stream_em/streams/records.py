"""The block of records that travels through the package, and the one place where arrays become records."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.errors import InputError

LARGEST = 1e100
"""Magnitudes above this are bad input: their squares and products would leave the range of float64."""


class Rejected(NamedTuple):
    """A record that could not be used, where it came from, why, and its original bytes; a message's key and headers."""

    place: dict[str, str | int]
    reason: str
    content: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Note(NamedTuple):
    """Something that happened to a source and that its reader should know: a file was rotated, a broker was away."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive records of a stream.

    `values` is (n, d) float64, C-ordered and writeable, NaN where a value is missing, never infinite.
    `fields` names the columns. `position` is where reading goes on after this block (JSON-compatible; its
    keys belong to the source). `weights` is (n,) non-negative, or None when every record counts once. `timestamps` (n,)
    says when each record happened, in seconds since 1970, NaN where that is unknown, or is None. `checked`
    says that a source has looked at every value already. `places` says where each record came from, as columns: (n,)
    numbers, or one text that all share. `rejected` are the records among these that could not be used, `notes` what
    happened to the source meanwhile. A block without records may come with either, or with nothing: a sign of life.

    >>> block = Block(np.array([[1.0, np.nan], [3.0, 4.0]]), fields=("height", "width"), weights=np.array([1.0, 2.0]))
    >>> len(block)
    2
    """

    values: FloatArray
    fields: tuple[str, ...] = ()
    position: dict[str, Any] | None = None
    weights: FloatArray | None = None
    checked: bool = False
    places: Mapping[str, str | IntArray] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[Note, ...] = ()
    timestamps: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.values)


class Source(Protocol):
    """What blocks come from: files, a broker, memory. Iterating again starts again, where the source can."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the columns of every block."""
        ...

    @property
    def sample_rate(self) -> float | None:
        """The samples a second if the records are those of a signal and it says so, else None."""
        ...

    @property
    def lag(self) -> tuple[int, str] | None:
        """How much is known to wait beyond what was read, and in what unit ("bytes", "records"); None if unknown."""
        ...

    @property
    def trouble(self) -> str | None:
        """What keeps records from coming, if anything: a broker that is away."""
        ...

    def probe(self) -> str:
        """Say in words what would be read; raises `InputError` or `OutsideError` if it cannot be."""
        ...

    def __iter__(self) -> Iterator[Block]: ...

    def seek(self, position: dict[str, Any] | None, limit: int | None = None) -> None:
        """Let the next iteration go on at a position that a block had (None: the start), for `limit` records at most.

        Raises `InputError` if what was read there before is gone or has changed.
        """
        ...

    def commit(self, position: dict[str, Any]) -> None:
        """Be told that everything before `position` is safe and will never be asked for again."""
        ...

    def stop(self) -> None:
        """End the iteration soon, even if it waits for records that are still to come; any thread may call it."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def as_records(values: Any, n_features: int | None = None) -> FloatArray:
    """Give `values` as (n, n_features) float64, C-ordered and writeable; a vector is n records of one.

    Raises `InputError`, naming record and column, for anything that is not a number, infinite or above 1e100
    in magnitude, for more than two axes, and for a width other than `n_features`.

    >>> as_records([[1, 2], [3, None]])
    array([[ 1.,  2.],
           [ 3., nan]])
    """
    checked = isinstance(values, Block) and values.checked
    if isinstance(values, Block):
        values = values.values
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex values; give real and imaginary part as two features")
        records = np.require(np.asarray(values, dtype=np.float64), requirements=["C", "W", "A"])
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"records must be numbers in a rectangular array: {reason}") from None
    if records.ndim == 1:
        records = records.reshape(-1, 1)
    if records.ndim != 2:
        raise InputError(f"records must have two axes (records, features), not {records.ndim}")
    if n_features is not None and records.shape[1] != n_features:
        raise InputError(f"each record must have {n_features} features, not {records.shape[1]}")
    if records.shape[1] == 0:
        raise InputError("records need at least one feature")
    wrong = None if checked else first_unusable(records)
    if wrong is not None:
        row, column = wrong
        raise InputError(f"record {row}, column {column}: {unusable_reason(records[row, column])}")
    return records


def first_unusable(records: FloatArray) -> tuple[int, int] | None:
    """Return (row, column) of the first value that is infinite or too large, or None."""
    if records.size == 0:
        return None
    # fmax/fmin pass over NaN (missing), so two reductions without a temporary settle the common case.
    largest = np.fmax.reduce(records, axis=None)
    smallest = np.fmin.reduce(records, axis=None)
    if not (largest > LARGEST or smallest < -LARGEST):
        return None
    row, column = np.argwhere(np.abs(records) > LARGEST)[0]
    return int(row), int(column)


def unusable_reason(value: float) -> str:
    """Say why a value cannot be learned from, and what to do about it."""
    what = "is infinite" if np.isinf(value) else f"is larger in magnitude than {LARGEST:g}"
    return f"{value:g} {what}; leave the field empty if the value is missing"

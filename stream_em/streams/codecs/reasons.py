"""Why a message cannot be used, without where it was: its reader knows that and puts it in front."""

from collections.abc import Iterable, Sequence

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.cells import shortened
from stream_em.streams.records import LARGEST, as_records, first_unusable, unusable_reason

EMPTY = "is empty"
MEND = "leave it empty if it is missing, or choose other fields"
NO_FIELDS = "has no fields, and which there should be is not known yet; name them, or leave the message out"


def reason_of(error: InputError) -> str:
    """Return what an error says behind a place that was the empty text."""
    return str(error).lstrip(",: ")


def damaged(error: Exception) -> InputError:
    """Return the error about a message that a library cannot read."""
    what = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"is damaged, cut short or of another format ({what}); check what wrote it")


def check_text(names: Iterable[str]) -> None:
    """Raise `InputError` for a name that no file and no library could hold: half of a surrogate pair."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"the name {shortened(name)} is no valid Unicode text; rename the field") from None


def unusable_rows(values: FloatArray, fields: Sequence[str]) -> dict[int, str]:
    """Return the rows of (n, d) values that hold something infinite or above 1e100, and why."""
    if first_unusable(values) is None:
        return {}
    wrong = np.abs(values) > LARGEST
    rows = np.flatnonzero(wrong.any(axis=1)).tolist()
    columns = wrong[rows].argmax(axis=1).tolist()
    return {
        row: f"field {fields[column]!r}: {unusable_reason(values[row, column])}"
        for row, column in zip(rows, columns, strict=True)
    }


def encodable(values: FloatArray, fields: Sequence[str]) -> FloatArray:
    """Return (n, d) records that messages can hold; raises `InputError` for others, and for names that none can."""
    check_text(fields)
    return as_records(values, len(fields))

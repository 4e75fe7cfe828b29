"""What a cell of text means, and how messages name places: the slow and exact side of reading."""

import difflib
import math
import re
from collections.abc import Iterable, Sequence

from stream_em.errors import InputError
from stream_em.streams.records import LARGEST, unusable_reason

# No digit can be matched in two ways: a long text of digits would otherwise take quadratic time to refuse.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_MISSING = frozenset({"", "na", "nan", "+nan", "-nan", "null"})
_INFINITE = frozenset({"inf", "infinity"})

MEND = "leave it empty if it is missing, or choose other fields with --fields"


def number(cell: str, place: str, mend: str = MEND) -> float:
    """Return the number in a cell, NaN where it is missing.

    Raises `InputError`, beginning with `place`, for text and for values that are infinite or above 1e100.
    """
    text = cell.strip()
    if text.lower() in _MISSING:
        return math.nan
    if _NUMBER.fullmatch(text):
        return usable(float(text), place)
    if text.lower().lstrip("+-") in _INFINITE:
        return usable(-math.inf if text.startswith("-") else math.inf, place)
    if any("\udc80" <= letter <= "\udcff" for letter in text):
        raise InputError(f"{place}: {shortened(cell)} is not UTF-8 text; save it as UTF-8")
    raise InputError(f"{place}: {shortened(cell)} is not a number; {mend}")


def usable(value: float, place: str) -> float:
    """Return `value`; raise `InputError`, beginning with `place`, if it is infinite or above 1e100."""
    if abs(value) > LARGEST:
        raise InputError(f"{place}: {unusable_reason(value)}")
    return value


def looks_like_number(cell: str) -> bool:
    """Tell whether a cell could be a value: a number, or missing."""
    text = cell.strip()
    return bool(_NUMBER.fullmatch(text)) or text.lower() in _MISSING


def shortened(cell: str) -> str:
    """Quote a cell for a message, in one line and not too long."""
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")


def numbered_names(count: int) -> tuple[str, ...]:
    """Name columns that have no names: x0, x1, ..."""
    return tuple(f"x{i}" for i in range(count))


def check_unique(names: Sequence[str], place: str) -> None:
    """Raise `InputError` if two names are the same."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{place}: two columns are named {name!r}; rename one of them")
        seen.add(name)


def check_chosen(fields: Sequence[str] | None) -> None:
    """Raise `InputError` for fields that choose nothing: none, the same one twice, or one text; None chooses all."""
    if isinstance(fields, str):
        raise InputError(f"fields must be a list of names, not the text {fields!r}")
    if fields is not None:
        if not fields:
            raise InputError("fields is empty; name at least one, or leave it out to take all")
        check_unique(fields, "fields")


def check_fields(fields: Iterable[str], columns: Sequence[str], place: str) -> None:
    """Raise `InputError`, offering the nearest name, if a field is not among the columns."""
    for field in fields:
        if field not in columns:
            near = difflib.get_close_matches(field, columns, n=1)
            offer = f"did you mean {near[0]!r}? It has" if near else "it has"
            raise InputError(f"{place}: there is no field {field!r}; {offer} {listed(columns)}")


def listed(names: Sequence[str], most: int = 8) -> str:
    """Enumerate names for a message, leaving out the middle of a long list."""
    shown = [shortened(name) for name in names]
    if len(shown) > most:
        shown = [*shown[: most - 1], f"... ({len(names)} in all)", shown[-1]]
    return ", ".join(shown)

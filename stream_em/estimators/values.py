"""The values and times of records as users of river give them."""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Any

from stream_em.errors import InputError
from stream_em.streams.records import LARGEST, unusable_reason

NAN = float("nan")
NO_TIME = (
    "stepsize: a half-life in time needs the time of each record, in seconds or as a datetime: learn_one(x, t=...)"
)


def numbers(names: Sequence[Hashable], row: Sequence[Any]) -> list[float]:
    """Return the values of a record as numbers, NaN for None; raises `InputError`, naming the feature."""
    found = []
    for name, value in zip(names, row, strict=True):
        try:
            number = NAN if value is None else float(value)
        except (TypeError, ValueError):
            raise InputError(f"feature {name!r} is not a number: {value!r}") from None
        if abs(number) > LARGEST:
            raise InputError(f"feature {name!r}: {unusable_reason(number)}")
        found.append(number)
    return found


def seconds(time: Any) -> float:
    """Return a time in seconds since 1970."""
    if time is None:
        raise InputError(NO_TIME)
    try:
        return float(time.timestamp() if isinstance(time, datetime) else time)
    except (TypeError, ValueError):
        raise InputError(f"t must be seconds or a datetime, not {time!r}") from None

"""JSON: an object or a flat array a message."""

import re
from collections.abc import Sequence
from itertools import repeat
from operator import itemgetter, methodcaller

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.cells import numbered_names, shortened
from stream_em.streams.codecs.reasons import MEND, NO_FIELDS
from stream_em.streams.codecs.single import Row
from stream_em.streams.jsonlines import json_in, object_in, parse_fast, value_of

_FEW = 64
_MOST_BRACKETS = 100
"""Messages with more are parsed one by one: Python refuses deep nesting, pyarrow does not."""

_trimmed = methodcaller("strip", b" \t\r\n")
_first = itemgetter(slice(1))
_last = itemgetter(slice(-1, None))
_ARROWS_OWN = re.compile(rb"[:,\[\s](?:-NaN|-?Inf(?!inity))")
_NEGATIVE_ZERO = re.compile(rb"-0(?![.\deE])")
_ENCODER = msgspec.json.Encoder()


class JsonObjects:
    """One object a message; a key that is not there is a missing value, of a repeated one the last counts."""

    few = _FEW

    def parse_all(self, messages: Sequence[bytes], fields: tuple[str, ...]) -> FloatArray | None:
        """Parse messages as lines of one text, if each is certain to be one line and one whole object."""
        lines = list(map(_trimmed, messages))
        # A line end between } and { can only be one between two objects, so that none can run over into the next.
        if set(map(_first, lines)) != {b"{"} or set(map(_last, lines)) != {b"}"}:
            return None
        data = b"\n".join(lines) + b"\n"
        if data.count(b"\n") != len(lines) or b"\r" in data or b"\0" in data:
            return None
        brackets = data.count(b"{") + (data.count(b"[") if b"[" in data else 0)
        if brackets > len(lines) + _MOST_BRACKETS or not _is_text(data):
            return None
        # One letter is looked for at many times the speed of three.
        suspect = (b"I" in data and b"Inf" in data) or (b"N" in data and b"-NaN" in data)
        if suspect and _ARROWS_OWN.search(data):
            return None
        columns = parse_fast(data, fields)
        return None if columns is None else np.column_stack(columns)

    def parse(self, message: bytes, fields: tuple[str, ...]) -> tuple[tuple[str, ...], Row]:
        """Parse one object."""
        found = object_in(message, "", "object a message")
        names = fields or tuple(found)
        if not names:
            raise InputError(NO_FIELDS)
        return names, [value_of(found.get(name), f"field {name!r}", MEND) for name in names]

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Write NaN as null."""
        return as_lines([dict(zip(fields, row, strict=True)) for row in values.tolist()])


class JsonArrays:
    """One flat array a message."""

    few = 4

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(list[list[float | None]])

    def parse_all(self, messages: Sequence[bytes], fields: tuple[str, ...]) -> FloatArray | None:
        """Parse messages as elements of one array, if each is certain to be one flat array."""
        arrays = list(map(_trimmed, messages))
        if set(map(_first, arrays)) != {b"["} or set(map(_last, arrays)) != {b"]"}:
            return None
        data = b",".join(arrays)
        if not data.count(b"[") == data.count(b"]") == len(arrays) or _NEGATIVE_ZERO.search(data):
            return None
        try:
            rows = self._decoder.decode(b"[" + data + b"]")
        except msgspec.MsgspecError:
            return None
        return np.array(rows, dtype=np.float64) if set(map(len, rows)) == {len(fields)} else None

    def parse(self, message: bytes, fields: tuple[str, ...]) -> tuple[tuple[str, ...], Row]:
        """Parse one array."""
        found = json_in(message, "", "array a message")
        if not isinstance(found, list):
            raise InputError(f"{shortened(str(found))} is not a JSON array; write one array a message")
        return row_of(found, fields)

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Write NaN as null."""
        return as_lines(values.tolist())


def row_of(found: Sequence[object], fields: tuple[str, ...]) -> tuple[tuple[str, ...], Row]:
    """Return the fields (x0, x1, ... if none were given) and numbers of an array of values."""
    names = fields or numbered_names(len(found))
    if not names:
        raise InputError(NO_FIELDS)
    if len(found) != len(names):
        raise InputError(f"has {len(found)} values for {len(names)} fields; write one for each, null if it is missing")
    places = (f"field {name!r}" for name in names)
    return names, list(map(value_of, found, places, repeat(MEND)))


def as_lines(rows: list[dict[str, float]] | list[list[float]]) -> list[bytes]:
    """Return each row as JSON; that of NaN is null, of any other float the shortest text that gives it back."""
    return _ENCODER.encode_lines(rows).splitlines()


def _is_text(data: bytes) -> bool:
    """Tell whether all of it is UTF-8: Arrow looks only at what it needs."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

"""How the records of an Avro schema become rows of numbers."""

from collections.abc import Callable
from math import inf
from operator import itemgetter
from typing import Any, NamedTuple

from stream_em.errors import InputError
from stream_em.streams.cells import check_fields
from stream_em.streams.codecs.avroschema import RecordSchema
from stream_em.streams.codecs.reasons import MEND, NO_FIELDS
from stream_em.streams.codecs.single import Row
from stream_em.streams.jsonlines import value_of

_NUMBERS = frozenset({"boolean", "int", "long", "float", "double"})
_TIMES = ("date", "time", "local-timestamp")
_LARGEST_SCALE = 400


class Choice:
    """The fields of one schema that are wanted, all if none are named; raises `InputError` if it cannot give them."""

    def __init__(self, schema: RecordSchema, fields: tuple[str, ...], name: str) -> None:
        self.schema, self.name = schema.parsed, name
        self.fields = fields or tuple(schema.fields)
        if not self.fields:
            raise InputError(NO_FIELDS)
        check_fields(self.fields, list(schema.fields), name)
        self._columns = [(field, _column(schema.fields[field], schema.named)) for field in self.fields]
        for field, column in self._columns:
            if not column.is_numeric:
                raise InputError(f"field {field!r}: holds {column.words}, not numbers; choose other fields")
        self.row: Callable[[dict[str, Any]], Row] = self._exactly
        if len(self.fields) > 1 and all(column.is_plain for _, column in self._columns):
            self.row = itemgetter(*self.fields)

    def _exactly(self, record: dict[str, Any]) -> Row:
        return [value_of(_undone(record[field], column), f"field {field!r}", MEND) for field, column in self._columns]


class _Column(NamedTuple):
    """What a field holds: in words, whether that can be a number, and whether fastavro gives nothing but numbers.

    A decimal comes as bytes, and has a scale.
    """

    words: str
    is_numeric: bool
    is_plain: bool
    scale: int | None


def _column(kind: Any, named: dict[str, Any]) -> _Column:
    branches = [named.get(each, each) if isinstance(each, str) else each for each in _branches(kind)]
    is_plain = [each == "null" or _is_number(each) for each in branches]
    scales = [scale for scale in map(_decimal_scale, branches) if scale is not None]
    return _Column(
        " or ".join(dict.fromkeys(map(_words, branches))) or "nothing",
        bool(scales) or any(map(_is_number, branches)) or all(is_plain),
        all(is_plain),
        scales[0] if scales else None,
    )


def _branches(kind: Any) -> list[Any]:
    return kind if isinstance(kind, list) else [kind]


def _words(kind: Any) -> str:
    """Say what a type is: its logical type if it has one."""
    return str(kind.get("logical", kind["type"]) if isinstance(kind, dict) else kind)


def _is_number(kind: Any) -> bool:
    name = kind["type"] if isinstance(kind, dict) else kind
    return name in _NUMBERS and not _words(kind).startswith(_TIMES)


def _decimal_scale(kind: Any) -> int | None:
    """Return the scale if a type is a decimal, and one that a float can hold."""
    if not isinstance(kind, dict) or kind.get("logical") != "decimal" or kind["type"] not in ("bytes", "fixed"):
        return None
    scale = kind.get("scale", 0)
    return scale if type(scale) is int and 0 <= scale <= _LARGEST_SCALE else None


def _undone(value: object, column: _Column) -> object:
    """Return the number that a decimal's bytes stand for, and any other value as it is."""
    if not isinstance(value, bytes) or column.scale is None:
        return value
    try:
        return int.from_bytes(value, "big", signed=True) / 10**column.scale
    except OverflowError:
        return inf

"""JSON lines in pieces: pyarrow parses a piece; a piece that it refuses is read again line by line."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.blocks import Piece, Unusable
from stream_em.streams.bytestream import ByteStream
from stream_em.streams.cells import MEND, number, shortened, usable
from stream_em.streams.lines import Text, TextPiece
from stream_em.streams.positions import whole
from stream_em.streams.records import first_unusable

LOOKED_AT = 1000
"""So many records at the start of a file decide which fields there are."""

_LONGEST_LOOK = 16 << 20
_PARALLEL_BYTES = 1 << 18
_RUN_ON = re.compile(rb"\}(?:\s*null|[ \t]*\{)")


class JsonLinesReader:
    """One file of JSON objects, one a line; `columns` are the keys of its first 1000 records.

    If these are not yet there, as in a file that is `followed`, or all unusable, the `expected` ones are columns too.
    """

    n_records: int | None = None
    sample_rate: float | None = None
    empty_message = "has no records"

    def __init__(
        self,
        stream: ByteStream,
        *,
        piece_bytes: int | None = None,
        lenient: bool = False,
        followed: bool = False,
        expected: Sequence[str] = (),
    ) -> None:
        self._stream = stream
        self._lenient = lenient
        self._text = Text(stream, quoted=False, piece_bytes=piece_bytes)
        head: list[TextPiece] = []
        keys: dict[str, None] = {}
        looked_at = looked_bytes = 0
        for piece in self._text:
            if piece is None:
                continue
            head.append(piece)
            for row in self._objects(piece):
                keys.update(dict.fromkeys({} if isinstance(row, Unusable) else row[1]))
                looked_at += 1
                if looked_at >= LOOKED_AT:
                    break
            looked_bytes += len(piece.data)
            if looked_at >= LOOKED_AT or looked_bytes > _LONGEST_LOOK or (followed and looked_at):
                break
        if looked_at and not keys:
            self.empty_message = f"has no fields in its first {looked_at:,} records; name them with --fields"
        if looked_at and (followed or not keys):
            keys.update(dict.fromkeys(expected))
        self.columns = tuple(keys)
        self._pieces: Iterable[TextPiece | None] = chain(head, self._text)

    @property
    def bytes_read(self) -> int:
        """The bytes taken from the file so far."""
        return self._stream.bytes_read

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def go_to(self, position: dict[str, Any]) -> int:
        """Go on at the start of the piece in which a position is, and return how many records lie between."""
        after = whole(position, "after")
        self._text.go_to(position)
        self._pieces = self._text
        return after

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece | None]:
        """Yield the chosen fields of the next records.

        Raises `InputError` naming line and field, if not `lenient`.
        """
        for piece in self._pieces:
            if piece is None:
                yield None
                continue
            columns = parse_fast(piece.data, fields)
            if columns is None or any(first_unusable(column[:, None]) for column in columns):
                yield self._parse_exactly(piece, fields)
            else:
                yield Piece(columns, piece)

    def _parse_exactly(self, piece: TextPiece, fields: Sequence[str]) -> Piece:
        records: list[list[float]] = []
        unusable: list[Unusable] = []
        for row in self._objects(piece, fields):
            if isinstance(row, Unusable):
                unusable.append(row._replace(row=len(records)))
                records.append([math.nan] * len(fields))
            else:
                records.append(row[0])
        return Piece(np.array(records, dtype=np.float64).reshape(-1, len(fields)), piece, unusable)

    def _objects(
        self, piece: TextPiece, fields: Sequence[str] = ()
    ) -> Iterator[tuple[list[float], dict[str, Any]] | Unusable]:
        """Yield the values of the fields and the object for each line that is not blank."""
        for count, ended in enumerate(piece.data.split(b"\n"), start=piece.line):
            if not ended.strip():
                continue
            place = f"{self._stream.name}, line {count}"
            try:
                row = object_in(ended, place)
                yield [value_of(row.get(field), f"{place}, field {field!r}") for field in fields], row
            except InputError as error:
                if not self._lenient:
                    raise
                yield Unusable(0, count, str(error), ended.removesuffix(b"\r"))


def json_in(text: bytes, place: str, wanted: str = "object a line") -> Any:
    """Parse one text, every number as a float; raises `InputError`, beginning with `place`, if it is broken."""
    try:
        return json.loads(text.decode("utf-8"), parse_int=float)
    except UnicodeDecodeError as error:
        byte = text[error.start]
        raise InputError(f"{place}: byte 0x{byte:02x} is not UTF-8 text; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        what = f"{error.msg} at column {error.colno}"
        raise InputError(f"{place}: broken JSON ({what}); write one whole {wanted}") from None
    except RecursionError:
        raise InputError(f"{place}: JSON nested too deeply; write one flat {wanted}") from None


def object_in(text: bytes, place: str, wanted: str = "object a line") -> dict[str, Any]:
    """Parse one object; raises `InputError`, beginning with `place`, if it is broken or something else."""
    row = json_in(text, place, wanted)
    if not isinstance(row, dict):
        raise InputError(f"{place}: {shortened(str(row))} is not a JSON object; write one {wanted}")
    return row


def parse_fast(data: bytes, fields: Sequence[str]) -> list[FloatArray] | None:
    """Return (n,) values of each field in n lines of JSON, or None if some line must be looked at on its own."""
    import pyarrow as pa
    import pyarrow.json

    # pyarrow crashes on a first line `null` and reads several objects in one line; both go the exact way.
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if not data.startswith(b"{") or data.count(b"\n{") + 1 != lines or _RUN_ON.search(data):
        return None
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(data),
            read_options=pyarrow.json.ReadOptions(block_size=_PARALLEL_BYTES),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=pa.schema([(field, pa.float64()) for field in fields]),
                unexpected_field_behavior="ignore",
            ),
        )
    except pa.ArrowInvalid:
        return None
    return [table[field].to_numpy() for field in fields] if len(table) == lines else None


def value_of(value: object, place: str, mend: str = MEND) -> float:
    """Return a parsed value as a number; raises `InputError`, beginning with `place`, if it cannot be one."""
    if value is None:
        return math.nan
    if isinstance(value, bool | float | int):
        return usable(float(value), place)
    if isinstance(value, str):
        return number(value, place, mend)
    nested: dict[type, str] = {list: "a nested list", dict: "a nested object"}
    what = nested.get(type(value), f"a value of type {type(value).__name__}")
    raise InputError(f"{place}: {what} is not a number; {mend}")

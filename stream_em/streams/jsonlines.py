"""JSON lines in pieces: pyarrow parses a piece; a piece that it refuses is read again line by line."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.bytestream import ByteStream
from stream_em.streams.cells import MEND, number, shortened, usable
from stream_em.streams.lines import TextPiece, text_pieces
from stream_em.streams.records import first_unusable

LOOKED_AT = 1000
"""So many records at the start of a file decide which fields there are."""

_LONGEST_LOOK = 16 << 20
_PARALLEL_BYTES = 1 << 18
_RUN_ON = re.compile(rb"\}(?:\s*null|[ \t]*\{)")


class JsonLinesReader:
    """One file of JSON objects, one a line; `columns` are the keys of its first 1000 records."""

    n_records: int | None = None
    empty_message = "has no records"

    def __init__(self, stream: ByteStream, *, piece_bytes: int | None = None) -> None:
        self._stream = stream
        pieces = text_pieces(stream, quoted=False, piece_bytes=piece_bytes)
        head: list[TextPiece] = []
        keys: dict[str, None] = {}
        looked_at = looked_bytes = 0
        for piece in pieces:
            head.append(piece)
            for _, row in self._objects(piece):
                keys.update(dict.fromkeys(row))
                looked_at += 1
                if looked_at >= LOOKED_AT:
                    break
            looked_bytes += len(piece.data)
            if looked_at >= LOOKED_AT or looked_bytes > _LONGEST_LOOK:
                break
        self.columns = tuple(keys)
        self._pieces = chain(head, pieces)

    @property
    def bytes_read(self) -> int:
        """The bytes taken from the file so far."""
        return self._stream.bytes_read

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def pieces(self, fields: Sequence[str]) -> Iterator[list[FloatArray] | FloatArray]:
        """Yield the chosen fields of the next records, as columns or as (n, d) records.

        Raises `InputError` naming line and field.
        """
        for piece in self._pieces:
            columns = _parse_fast(piece.data, fields)
            if columns is None or any(first_unusable(column[:, None]) for column in columns):
                yield self._parse_exactly(piece, fields)
            else:
                yield columns

    def _parse_exactly(self, piece: TextPiece, fields: Sequence[str]) -> FloatArray:
        records = [
            [_value(row.get(field), f"{self._stream.name}, line {line}, field {field!r}") for field in fields]
            for line, row in self._objects(piece)
        ]
        return np.array(records, dtype=np.float64).reshape(-1, len(fields))

    def _objects(self, piece: TextPiece) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield line number and object for each line that is not blank."""
        for line, text in enumerate(piece.data.split(b"\n"), start=piece.line):
            if text.strip():
                yield line, self._object(text, f"{self._stream.name}, line {line}")

    def _object(self, text: bytes, place: str) -> dict[str, Any]:
        try:
            row = json.loads(text.decode("utf-8"), parse_int=float)
        except UnicodeDecodeError as error:
            byte = text[error.start]
            raise InputError(f"{place}: byte 0x{byte:02x} is not UTF-8 text; save the file as UTF-8") from None
        except json.JSONDecodeError as error:
            what = f"{error.msg} at column {error.colno}"
            raise InputError(f"{place}: broken JSON ({what}); write one whole object a line") from None
        except RecursionError:
            raise InputError(f"{place}: JSON nested too deeply; write one flat object a line") from None
        if not isinstance(row, dict):
            raise InputError(f"{place}: {shortened(str(row))} is not a JSON object; write one object a line")
        return row


def _parse_fast(data: bytes, fields: Sequence[str]) -> list[FloatArray] | None:
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


def _value(value: object, place: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool | float):
        return usable(float(value), place)
    if isinstance(value, str):
        return number(value, place)
    raise InputError(f"{place}: a nested {'list' if isinstance(value, list) else 'object'} is not a number; {MEND}")

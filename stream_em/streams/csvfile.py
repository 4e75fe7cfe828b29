"""CSV in pieces: pyarrow parses a piece at C++ speed; a piece it refuses is read again exactly."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.blocks import Piece, Unusable
from stream_em.streams.bytestream import ByteStream
from stream_em.streams.cells import MEND, check_unique, looks_like_number, number, numbered_names
from stream_em.streams.lines import LONGEST_LINE, Text, TextPiece
from stream_em.streams.positions import whole
from stream_em.streams.records import first_unusable

_NULLS = ["", "NA", "na", "null", "NULL", "Null"]


class CsvReader:
    """One CSV file: `columns` from its header (or `names`, or x0, x1, ...), then its records in pieces.

    For a `lenient` reader a record is one line, so a stray quote spoils only its own line, and a quoted field cannot
    hold a line end.
    """

    n_records: int | None = None
    sample_rate: float | None = None

    def __init__(
        self,
        stream: ByteStream,
        *,
        delimiter: str | None = None,
        has_header: bool | None = None,
        piece_bytes: int | None = None,
        lenient: bool = False,
        names: Sequence[str] = (),
    ) -> None:
        self._stream = stream
        self._lenient = lenient
        self._text = Text(stream, quoted=not lenient, piece_bytes=piece_bytes)
        first = self._first_record()
        self._delimiter = delimiter or _sniff(first.data)
        place = f"{stream.name}, line {first.line}"
        cells = _header_cells(first, self._delimiter, place)
        if has_header is None:
            has_header = not all(looks_like_number(cell) for cell in cells)
        self.empty_message = "has a header but no records" if has_header else "has no records"
        numbered = numbered_names(len(cells))
        if has_header:
            self.columns = tuple(" ".join(c.split()) or x for c, x in zip(cells, numbered, strict=True))
            check_unique(self.columns, place)
        else:
            self.columns = tuple(names) if len(names) == len(cells) else numbered
            self._text.unread(first)
        self._first_byte = first.byte + len(first.data) if has_header else first.byte

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
        if whole(position, "byte") or not self._first_byte:
            self._text.go_to(position)
        return after

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece | None]:
        """Yield the chosen fields of the next records.

        Raises `InputError` naming line and field, if not `lenient`.
        """
        for piece in self._text:
            if piece is None:
                yield None
                continue
            columns = parse_fast(piece.data, self.columns, fields, self._delimiter, self._lenient)
            if columns is None or any(first_unusable(column[:, None]) for column in columns):
                with long_fields():
                    parsed = self._parse_lines(piece, fields) if self._lenient else self._parse_exactly(piece, fields)
                yield parsed
            else:
                yield Piece(columns, piece)

    def _first_record(self) -> TextPiece:
        """Take the first record that is not blank."""
        for piece in self._text:
            start = 0
            while piece is not None and start < len(piece.data):
                end = _record_end(piece.data, start)
                if piece.data[start:end].strip():
                    self._text.unread(piece.cut(end))
                    return piece.cut(start, end)
                start = end
        raise InputError(f"{self._stream.name}: has no records, only blank lines; check what wrote it")

    def _parse_exactly(self, piece: TextPiece, fields: Sequence[str]) -> Piece:
        """Read a piece with Python's csv module: what this accepts is what the format is."""
        text = piece.data.decode("utf-8", "surrogateescape")
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True)
        chosen = [(self.columns.index(field), field) for field in fields]
        records: list[list[float]] = []
        while True:
            place = f"{self._stream.name}, line {piece.line + rows.line_num}"
            row = _next_row(rows, place)
            if row is None:
                break
            if row:
                records.append(values_in(row, self.columns, chosen, self._delimiter, place))
        return Piece(np.array(records, dtype=np.float64).reshape(-1, len(fields)), piece)

    def _parse_lines(self, piece: TextPiece, fields: Sequence[str]) -> Piece:
        """Read each line of a piece on its own, and mark those that cannot be used."""
        chosen = [(self.columns.index(field), field) for field in fields]
        records: list[list[float]] = []
        unusable: list[Unusable] = []
        for count, ended in enumerate(piece.data.split(b"\n"), start=piece.line):
            line = ended.removesuffix(b"\r")
            if not line:
                continue
            place = f"{self._stream.name}, line {count}"
            try:
                row = cells_in(line, self._delimiter, place)
                records.append(values_in(row, self.columns, chosen, self._delimiter, place))
            except InputError as error:
                unusable.append(Unusable(len(records), count, str(error), line))
                records.append([math.nan] * len(fields))
        return Piece(np.array(records, dtype=np.float64).reshape(-1, len(fields)), piece, unusable)


def parse_fast(
    data: bytes, columns: Sequence[str], fields: Sequence[str], delimiter: str, lenient: bool
) -> list[FloatArray] | None:
    """Return (n,) values of each field in n lines, or None if some line must be looked at on its own."""
    import pyarrow as pa
    import pyarrow.csv

    quotes = data.count(b'"')
    if not data or quotes % 2:
        return None
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(column_names=columns),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=quotes > 0 and not lenient),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(fields, pa.float64()),
                include_columns=list(fields),
                null_values=_NULLS,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if lenient and not _is_line_by_line(data, quotes, len(table)):
        return None
    return [column.to_numpy() for column in table.columns]


def cells_in(line: bytes, delimiter: str, place: str) -> list[str]:
    """Take one line apart; raises `InputError`, beginning with `place`, for wrong quotes."""
    rows = csv.reader([line.decode("utf-8", "surrogateescape")], delimiter=delimiter, strict=True)
    return _next_row(rows, place) or []


def values_in(
    row: list[str],
    columns: Sequence[str],
    chosen: Sequence[tuple[int, str]],
    delimiter: str,
    place: str,
    mend: str = MEND,
) -> list[float]:
    """Return the chosen cells, each an index and a field, as numbers.

    Raises `InputError`, beginning with `place`, unless there is one cell for each column and all chosen are numbers.
    """
    width = len(columns)
    counts = f"the record has {len(row)} of {width} fields"
    if len(row) < width:
        raise InputError(f"{place}, field {columns[len(row)]!r}: {counts}; write every field, a missing one as empty")
    if len(row) > width:
        raise InputError(
            f"{place}: {counts}, so {len(row) - width} too many after field {columns[-1]!r};"
            f" quote a field that contains {delimiter!r}"
        )
    return [number(row[j], f"{place}, field {field!r}", mend) for j, field in chosen]


@contextmanager
def long_fields() -> Iterator[None]:
    """Let Python's csv module read cells as long as the longest line."""
    usual_limit = csv.field_size_limit(LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(usual_limit)


def _is_line_by_line(data: bytes, quotes: int, n_rows: int) -> bool:
    """Tell whether pyarrow took each line for a row: no quoted line end joined two, no carriage return split one."""
    if data.count(b"\r") != data.count(b"\r\n"):
        return False
    return not quotes or n_rows == sum(map(bool, data.splitlines()))


def _next_row(rows: Iterator[list[str]], place: str) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        what = "a quote is opened and never closed" if "end of data" in str(error) else f"wrong quotes ({error})"
        raise InputError(f"{place}: {what}; close the quote, and double a quote inside a quoted field") from None


def _header_cells(first: TextPiece, delimiter: str, place: str) -> list[str]:
    try:
        text = first.data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = first.data[error.start]
        raise InputError(f"{place}: byte 0x{byte:02x} is not UTF-8 text; save it as UTF-8") from None
    if "\r" in text:
        raise InputError(f"{place}: lines end with a bare carriage return; save the file with line feeds")
    cells = _next_row(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), place)
    return cells or [""]


def _record_end(data: bytes, start: int) -> int:
    """Return where the record that begins at `start` ends: after the first line end outside quotes."""
    end, quotes = start, 0
    while True:
        newline = data.find(b"\n", end)
        if newline < 0:
            return len(data)
        quotes += data.count(b'"', end, newline)
        end = newline + 1
        if quotes % 2 == 0:
            return end


def _sniff(header: bytes) -> str:
    return ";" if b";" in header and b"," not in header else ","

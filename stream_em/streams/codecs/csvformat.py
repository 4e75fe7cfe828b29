"""CSV: one line a message, without a header."""

import re
from collections.abc import Sequence
from operator import methodcaller

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.cells import numbered_names
from stream_em.streams.codecs.jsonformat import as_lines
from stream_em.streams.codecs.reasons import EMPTY, MEND
from stream_em.streams.codecs.single import Row
from stream_em.streams.csvfile import cells_in, long_fields, parse_fast, values_in

_without_end = methodcaller("rstrip", b"\r\n")
_ODD_QUOTE = re.compile(rb'[^,\n]"[^,\n]')
_LONG = 100_000


class CsvLines:
    """One line a message; a line end behind it does not matter."""

    few = 64

    def parse_all(self, messages: Sequence[bytes], fields: tuple[str, ...]) -> FloatArray | None:
        """Parse messages as lines of one file."""
        lines = list(map(_without_end, messages))
        data = b"\n".join(lines) + b"\n"
        if data.count(b"\n") != len(lines) or b"\r" in data:
            return None
        # pyarrow passes over a byte order mark, and reads nan(1) and "1"2 as numbers.
        if data.startswith(b"\xef\xbb\xbf") or b"(" in data or (b'"' in data and _ODD_QUOTE.search(data)):
            return None
        columns = parse_fast(data, fields, fields, ",", lenient=True)
        return None if columns is None or len(columns[0]) != len(lines) else np.column_stack(columns)

    def parse(self, message: bytes, fields: tuple[str, ...]) -> tuple[tuple[str, ...], Row]:
        """Parse one line."""
        line = _without_end(message)
        if not line:
            raise InputError(EMPTY)
        if b"\n" in line or b"\r" in line:
            raise InputError("has several lines; write one record a message")
        if len(line) > _LONG:
            with long_fields():
                cells = cells_in(line, ",", "")
        else:
            cells = cells_in(line, ",", "")
        names = fields or numbered_names(len(cells))
        return names, values_in(cells, names, list(enumerate(names)), ",", "", MEND)

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Write NaN as an empty cell."""
        # A line that is only an empty cell would be an empty message.
        return [array[1:-1].replace(b"null", b"") or b'""' for array in as_lines(values.tolist())]

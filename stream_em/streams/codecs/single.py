"""The formats of one record a message: many messages parsed at once, and one by one where that fails."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.codecs.interface import Decoded, Unreadable
from stream_em.streams.codecs.reasons import EMPTY, check_text, encodable, reason_of, unusable_rows

Row = Sequence[float | None]


class Format(Protocol):
    """How one record is written in one message."""

    few: int
    """So few messages are parsed one by one: a common parse of them would cost as much."""

    def parse_all(self, messages: Sequence[bytes], fields: tuple[str, ...]) -> FloatArray | None:
        """Return (n, d) values, or None if any message may be one that `parse` refuses or reads in another way."""
        ...

    def parse(self, message: bytes, fields: tuple[str, ...]) -> tuple[tuple[str, ...], Row]:
        """Return the fields and (d,) values of a message that is not empty; without fields, all that it has.

        Raises `InputError` with the reason behind an empty place. What it accepts is what the format is.
        """
        ...

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Return a message for each of (n, d) checked records."""
        ...


class SingleCodec:
    """The codec of a format of one record a message."""

    several = False

    def __init__(self, format: Format, fields: tuple[str, ...]) -> None:
        self._format = format
        self.fields = fields

    def decode(self, messages: Sequence[bytes]) -> Decoded:
        """Return the records of all messages."""
        reasons: dict[int, str] = {}
        fields, start = self.fields, 0
        while not fields and start < len(messages):
            try:
                fields = self._fields_of(messages[start])
            except InputError as error:
                reasons[start] = reason_of(error)
                start += 1
        values = np.full((len(messages), len(fields)), np.nan)
        if fields:
            self._fill(values, messages, fields, start, reasons)
            reasons |= unusable_rows(values, fields)
        self.fields = fields
        usable = np.ones(len(messages), dtype=np.bool_)
        usable[list(reasons)] = False
        return Decoded(
            values[usable] if reasons else values,
            np.flatnonzero(usable),
            np.zeros(len(messages) - len(reasons), dtype=np.int64),
            tuple(Unreadable(index, reasons[index]) for index in sorted(reasons)),
        )

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Return one message a record."""
        return self._format.encode(encodable(values, fields), fields)

    def _fields_of(self, message: bytes) -> tuple[str, ...]:
        """Return all fields of a message; raises `InputError` unless it is usable with all of them."""
        if not message:
            raise InputError(EMPTY)
        fields, row = self._format.parse(message, ())
        check_text(fields)
        for reason in unusable_rows(np.array([row], dtype=np.float64), fields).values():
            raise InputError(reason)
        return fields

    def _fill(
        self,
        values: FloatArray,
        messages: Sequence[bytes],
        fields: tuple[str, ...],
        start: int,
        reasons: dict[int, str],
    ) -> None:
        """Write the values of the messages from `start` on into their rows; halve what fails until few are left."""
        spans = [(start, len(messages))]
        while spans:
            begin, end = spans.pop()
            if end - begin <= self._format.few:
                self._fill_exactly(values, messages, fields, range(begin, end), reasons)
                continue
            found = self._format.parse_all(messages[begin:end], fields)
            if found is not None:
                values[begin:end] = found
            else:
                middle = (begin + end) // 2
                spans += [(middle, end), (begin, middle)]

    def _fill_exactly(
        self,
        values: FloatArray,
        messages: Sequence[bytes],
        fields: tuple[str, ...],
        which: range,
        reasons: dict[int, str],
    ) -> None:
        rows: list[Row] = []
        readable: list[int] = []
        for index in which:
            try:
                if not messages[index]:
                    raise InputError(EMPTY)
                rows.append(self._format.parse(messages[index], fields)[1])
                readable.append(index)
            except InputError as error:
                reasons[index] = reason_of(error)
        if rows:
            values[readable] = np.array(rows, dtype=np.float64)

"""A source one column of which says when its records happened, in seconds since 1970."""

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from stream_em.errors import InputError
from stream_em.streams.records import Block, Source


class TimedSource:
    """The blocks of another source, with its column `time` as their `timestamps`.

    The column is not among the values, unless it is one of the `fields` that were asked for.
    """

    def __init__(self, source: Source, time: str, fields: Sequence[str] | None) -> None:
        self.source = source
        self._time = time
        self._learned = fields is not None and time in fields
        self.seek = source.seek
        self.commit = source.commit
        self.stop = source.stop
        self.close = source.close
        self.probe = source.probe

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the columns of every block; raises `InputError` if the time is not there, or all there is."""
        return self._left(self.source.fields)

    @property
    def sample_rate(self) -> float | None:
        """The samples a second of a signal."""
        return self.source.sample_rate

    @property
    def lag(self) -> tuple[int, str] | None:
        """How much is known to wait beyond what was read."""
        return self.source.lag

    @property
    def trouble(self) -> str | None:
        """What keeps records from coming, if anything."""
        return self.source.trouble

    def __iter__(self) -> Generator[Block, None, None]:
        for block in self.source:
            yield self._split(block) if block.fields else block

    def _split(self, block: Block) -> Block:
        fields = self._left(block.fields)
        column = block.fields.index(self._time)
        timestamps = np.ascontiguousarray(block.values[:, column])
        values = block.values if self._learned else np.delete(block.values, column, axis=1)
        return replace(block, values=values, fields=fields, timestamps=timestamps)

    def _left(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        if self._time not in fields:
            raise InputError(f"source.time: there is no column {self._time!r}; there are {', '.join(fields)}")
        left = fields if self._learned else tuple(name for name in fields if name != self._time)
        if not left:
            raise InputError(f"source.time: {self._time!r} is the only column; nothing is left to learn from")
        return left


def read_fields(fields: Sequence[str] | None, time: str | None) -> list[str] | None:
    """Return the columns that must be read for these fields and a column of times."""
    if fields is None or time is None or time in fields:
        return None if fields is None else list(fields)
    return [*fields, time]

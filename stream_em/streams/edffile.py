"""EDF and BDF, with or without annotations (which are not read), in pieces."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stream_em.errors import InputError
from stream_em.streams.blocks import Piece
from stream_em.streams.bytestream import blame, display
from stream_em.streams.cells import check_unique
from stream_em.streams.positions import Fingerprint
from stream_em.streams.signals import PIECE_VALUES


class EdfReader:
    """One recording in physical units; columns are the labels of its signals.

    Signals that are read together must have one sampling rate; that of `expected` columns is told beforehand.
    """

    empty_message = "has no samples"

    def __init__(self, path: str, expected: Sequence[str] = ()) -> None:
        self._path = path
        self._name = display(path)
        self._done = 0
        self._size = os.path.getsize(path)
        self._origin = Fingerprint(path)
        try:
            import pyedflib
        except ImportError:
            raise InputError(
                f"{self._name}: reading EDF or BDF needs the package pyedflib;"
                " install it with pip install 'stream-em[edf]'"
            ) from None
        with blame(path):
            self._file: Any = pyedflib.EdfReader(path, pyedflib.DO_NOT_READ_ANNOTATIONS, pyedflib.CHECK_FILE_SIZE)
        self.columns = tuple(" ".join(label.split()) for label in self._file.getSignalLabels())
        self._lengths = [int(n) for n in self._file.getNSamples()]
        self._rates = [float(rate) for rate in self._file.getSampleFrequencies()]
        check_unique(self.columns, self._name)
        likely = [i for i, column in enumerate(self.columns) if not expected or column in expected]
        same = len({self._rates[i] for i in likely}) == 1
        self.n_records: int | None = self._lengths[likely[0]] if same else None
        self.sample_rate: float | None = self._rates[likely[0]] if same else None

    @property
    def bytes_read(self) -> int:
        """The share of the file's bytes that the samples read so far stand for."""
        return self._size * self._done // max(self.n_records or 0, 1)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def go_to(self, position: dict[str, Any]) -> int:
        """Go on at a position; samples before it are not looked at."""
        self._done = self._origin.check(position, self.n_records)
        return 0

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece]:
        """Yield the chosen signals of the next samples as columns; raises `InputError` if their rates differ."""
        chosen = [self.columns.index(field) for field in fields]
        rates = {field: self._rates[i] for field, i in zip(fields, chosen, strict=True)}
        if len(set(rates.values())) > 1:
            told = ", ".join(f"{field!r} {rate:g}" for field, rate in list(rates.items())[:8])
            raise InputError(
                f"{self._name}: its signals have different sampling rates ({told} a second);"
                " choose those of one rate with --fields"
            )
        self.sample_rate, self.n_records = self._rates[chosen[0]], self._lengths[chosen[0]]
        count = max(1, PIECE_VALUES // len(chosen))
        while self._done < self.n_records:
            n = min(count, self.n_records - self._done)
            with blame(self._path):
                columns = [np.asarray(self._file.readSignal(i, self._done, n)) for i in chosen]
            self._done += n
            yield Piece(columns, self._origin)

"""EDF and BDF, with or without annotations (which are not read), in pieces."""

import io
import os
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from stream_em.errors import InputError
from stream_em.streams.blocks import Piece
from stream_em.streams.bytestream import blame, display
from stream_em.streams.cells import check_unique
from stream_em.streams.positions import Fingerprint
from stream_em.streams.signals import PIECE_VALUES

_N_RECORDS = slice(236, 244)
_N_SIGNALS = slice(252, 256)


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
        with blame(path), open(path, "rb") as file:
            self._header = _header(file)
            self._is_bdf = self._header[:1] == b"\xff"
            self._record_bytes = _samples_in_record(self._header) * (3 if self._is_bdf else 2)
            said = int(self._header[_N_RECORDS])
            signals = self._parsed(b"").signals
        there = self._size - len(self._header)
        self._n_records, rest = divmod(there, self._record_bytes)
        if rest or said not in (-1, self._n_records):
            raise InputError(
                f"{self._name}: is cut short, or too long: its header promises {said:,} data records of"
                f" {self._record_bytes:,} bytes, {there / self._record_bytes:,.1f} are there; fetch or write it again"
            )
        self.columns = tuple(" ".join(signal.label.split()) for signal in signals)
        check_unique(self.columns, self._name)
        self._in_record = [int(signal.samples_per_data_record) for signal in signals]
        self._rates = [float(signal.sampling_frequency) for signal in signals]
        likely = [i for i, column in enumerate(self.columns) if not expected or column in expected]
        same = len({self._rates[i] for i in likely}) == 1
        self.n_records: int | None = self._n_records * self._in_record[likely[0]] if same else None
        self.sample_rate: float | None = self._rates[likely[0]] if same else None

    @property
    def bytes_read(self) -> int:
        """The share of the file's bytes that the samples read so far stand for."""
        return self._size * self._done // max(self.n_records or 0, 1)

    def close(self) -> None:
        """Do nothing: the file is closed when its pieces end."""

    def go_to(self, position: dict[str, Any]) -> int:
        """Go on at a position; data records before it are not read."""
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
        in_record = self._in_record[chosen[0]]
        self.sample_rate, self.n_records = self._rates[chosen[0]], self._n_records * in_record
        first, skip = divmod(self._done, in_record)
        at_once = max(1, PIECE_VALUES * 2 // self._record_bytes)
        with blame(self._path), open(self._path, "rb") as file:
            file.seek(len(self._header) + first * self._record_bytes)
            while data := file.read(at_once * self._record_bytes):
                signals = self._parsed(data).signals
                columns = [np.asarray(signals[i].data)[skip:] for i in chosen]
                skip = 0
                self._done += len(columns[0])
                yield Piece(columns, self._origin)

    def _parsed(self, data: bytes) -> Any:
        """Return some data records as if they were a file of their own: a BDF is otherwise read whole."""
        try:
            import edfio
        except ImportError:
            raise InputError(
                f"{self._name}: reading EDF or BDF needs the package edfio;"
                " install it with pip install 'stream-em[edf]'"
            ) from None
        count = f"{len(data) // self._record_bytes:<8}".encode()
        header = self._header[: _N_RECORDS.start] + count + self._header[_N_RECORDS.stop :]
        read = edfio.read_bdf if self._is_bdf else edfio.read_edf
        recording: Any = read(io.BytesIO(header + data), header_encoding="latin-1")
        if recording.reserved[:5] in ("EDF+D", "BDF+D"):
            raise InputError(
                f"{self._name}: is discontinuous ({recording.reserved[:5]}): it has gaps in time; write each part of"
                " it as a file of its own"
            )
        return recording


def _header(file: IO[bytes]) -> bytes:
    """Return the header, which has 256 bytes and then as many for each signal; raises `ValueError` if there is none."""
    head = file.read(256)
    if head[:8].strip() != b"0" and head[:8] != b"\xffBIOSEMI":
        raise ValueError("it does not begin as an EDF or BDF")
    more = 256 * int(head[_N_SIGNALS])
    header = head + file.read(more)
    if more <= 0 or len(header) < 256 + more:
        raise ValueError("its header is not whole")
    return header


def _samples_in_record(header: bytes) -> int:
    """Return the samples of a data record, of all signals together; annotations count, too."""
    n = int(header[_N_SIGNALS])
    at = 256 + 216 * n
    samples = sum(int(header[at + 8 * i : at + 8 * i + 8]) for i in range(n))
    if samples <= 0:
        raise ValueError("its data records are empty")
    return samples

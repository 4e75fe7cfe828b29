"""WAV, FLAC and what else libsndfile reads, in pieces."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stream_em.errors import InputError
from stream_em.streams.blocks import Piece
from stream_em.streams.bytestream import blame, display
from stream_em.streams.positions import Fingerprint
from stream_em.streams.signals import PIECE_VALUES, channel_names, soundfile_for

_LOSSY = ("OGG", "MP3")
_DATA_SIZE = re.compile(r"^(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_SIZE = 0x7FFF_0000
"""What was written into a pipe names about this size, or double, because it was not known yet."""


class AudioReader:
    """One recording with channels ch1, ch2, …; integer samples stand for the numbers from −1 to 1."""

    empty_message = "has no samples"

    def __init__(self, path: str) -> None:
        self._path = path
        self._name = display(path)
        self._done = 0
        self._size = os.path.getsize(path)
        self._origin = Fingerprint(path)
        soundfile = soundfile_for(f"{self._name}: reading audio")
        self._failure: type[Exception] = soundfile.SoundFileError
        with self._blamed():
            self._file: Any = soundfile.SoundFile(path)
        for said, there in _DATA_SIZE.findall(self._file.extra_info):
            if int(there) < int(said) < _UNKNOWN_SIZE:
                self._file.close()
                raise self._cut_short(f"its header promises {int(said):,} bytes of samples, {int(there):,} are there")
        self.n_records: int | None = self._file.frames
        self.sample_rate: float | None = float(self._file.samplerate)
        self.columns = channel_names(self._file.channels)

    @property
    def bytes_read(self) -> int:
        """The share of the file's bytes that the samples read so far stand for."""
        return self._size * self._done // max(self.n_records or 0, 1)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def go_to(self, position: dict[str, Any]) -> int:
        """Go on at a position; a lossy coding is decoded from the start, as decoders need what was before."""
        record = self._origin.check(position, self.n_records)
        if self._file.format in _LOSSY:
            return record
        with self._blamed():
            self._done = self._file.seek(record)
        return 0

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece]:
        """Yield the chosen channels of the next samples as (n, d)."""
        chosen = [self.columns.index(field) for field in fields]
        every = tuple(fields) == self.columns
        frames = max(1, PIECE_VALUES // len(self.columns))
        total = self.n_records or 0
        while self._done < total:
            with self._blamed():
                samples = self._file.read(frames, dtype="float64", always_2d=True)
            if len(samples) == 0:
                raise self._cut_short(f"its header promises {total:,} samples, {self._done:,} are there")
            self._done += len(samples)
            yield Piece(samples if every else samples[:, chosen], self._origin)

    def _cut_short(self, what: str) -> InputError:
        return InputError(f"{self._name}: is cut short: {what}; fetch or write it again")

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        try:
            with blame(self._path):
                yield
        except self._failure as error:
            what = " ".join(str(getattr(error, "error_string", error)).split())[:200]
            raise InputError(
                f"{self._name}: is damaged, cut short or of another format ({what}); write or fetch it again"
            ) from error

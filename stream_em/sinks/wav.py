"""Sources as sound: a folder with a WAV file of each, cut back after a crash like every sink."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.sinks.appended import AppendedSink
from stream_em.sinks.disk import make_folder, writing
from stream_em.sinks.interface import Rows, n_rows, part_of

HEADER_BYTES = 58
_BYTES = 4
_IEEE_FLOAT = 3
_LARGEST = 2**32 - 1


class WavFile(AppendedSink):
    """One channel of float32 samples, which are never clipped.

    It is not written by libsndfile, which stamps a float WAV with the time of writing: equal runs would differ. Above
    4 GiB the header says the greatest length there is, which readers take for "until the end".
    """

    def __init__(self, path: Path, sample_rate: int) -> None:
        super().__init__(path, self._encoded)
        self._rate = sample_rate

    def write_samples(self, samples: FloatArray) -> None:
        """Add samples (n,); NaN becomes silence. Raises `OutsideError` if the disk refuses."""
        self.write({"samples": samples})

    def flush(self) -> dict[str, Any]:
        """Write the length into the header, make all samples durable and return the position after them."""
        if self._bytes:
            with self._writing():
                os.pwrite(self._file, header(self._rate, self._bytes - HEADER_BYTES), 0)
        return super().flush()

    def _encoded(self, rows: Rows, first: bool) -> bytes:
        samples = np.nan_to_num(np.asarray(rows["samples"], dtype=np.float64), nan=0.0).astype("<f4").tobytes()
        return header(self._rate, len(samples)) + samples if first else samples


class WavSink:
    """Files NAME.wav in the folder `path`, one for each column of real numbers.

    Raises `InputError` for a sampling rate that WAV cannot hold.
    """

    def __init__(self, path: Path, sample_rate: float) -> None:
        self.path = path
        self._rate = checked_rate(sample_rate)
        self._files: dict[str, WavFile] = {}
        self._frames = 0

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on at a position, or begin anew if it is None; raises `InputError` if less is there than was written."""
        frames = part_of(position, "frames", self.path)
        with writing(self.path):
            make_folder(self.path)
        for name in () if position is None else position["names"]:
            self._opened(name, {"bytes": HEADER_BYTES + _BYTES * frames})
        self._frames = frames

    def write(self, rows: Rows) -> None:
        """Add the columns of real numbers; raises `OutsideError` if the disk refuses."""
        self._frames += n_rows(rows)
        for name, column in rows.items():
            if isinstance(column, np.ndarray) and column.dtype.kind == "f":
                file = self._files.get(name) or self._opened(name, None)
                file.write_samples(np.asarray(column, dtype=np.float64))

    def flush(self) -> dict[str, Any]:
        """Make all samples durable and return the position after them; raises `OutsideError` if a file is gone."""
        for file in self._files.values():
            file.flush()
        return {"frames": self._frames, "names": list(self._files)}

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _opened(self, name: str, where: dict[str, Any] | None) -> WavFile:
        file = WavFile(self.path / f"{name}.wav", self._rate)
        file.open(where)
        self._files[name] = file
        return file


def checked_rate(sample_rate: float) -> int:
    """Return the rate, a whole number; raises `InputError` for one that a WAV file cannot hold."""
    if not (1 <= sample_rate * _BYTES <= _LARGEST and sample_rate == round(sample_rate)):
        raise InputError(
            f"sample_rate: of a WAV file is a whole number from 1 to {_LARGEST // _BYTES:,}, not {sample_rate:g};"
            " resample, or write Parquet"
        )
    return round(sample_rate)


def header(sample_rate: int, data_bytes: int) -> bytes:
    """Return the header of a WAV file with one channel of float32 samples."""
    size = min(data_bytes, _LARGEST - HEADER_BYTES)
    described = struct.pack("<HHIIHHH", _IEEE_FLOAT, 1, sample_rate, sample_rate * _BYTES, _BYTES, 8 * _BYTES, 0)
    return b"".join(
        (
            struct.pack("<4sI4s4sI", b"RIFF", HEADER_BYTES - 8 + size, b"WAVE", b"fmt ", len(described)),
            described,
            struct.pack("<4sII4sI", b"fact", 4, size // _BYTES, b"data", size),
        )
    )

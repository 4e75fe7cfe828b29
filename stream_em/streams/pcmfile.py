"""Raw PCM in pieces: a file, a named pipe or standard input that holds samples and nothing else."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.blocks import Piece
from stream_em.streams.bytestream import ByteStream, is_regular
from stream_em.streams.formats import codec_of
from stream_em.streams.positions import origin_of
from stream_em.streams.signals import PIECE_VALUES, Pcm, channel_names

_BYTES = {"uint8": 1, "int16": 2, "int24": 3, "int32": 4, "float32": 4, "float64": 8}


class PcmReader:
    """The samples of one stream; of a pipe those that are there by now."""

    empty_message = "has no samples"

    def __init__(self, stream: ByteStream, pcm: Pcm) -> None:
        self._stream = stream
        self._pcm = pcm
        self._frame_bytes = pcm.channels * _BYTES[pcm.dtype]
        self._first = 0
        regular = is_regular(stream.path)
        self._origin = origin_of(stream.path, regular)
        self.columns = channel_names(pcm.channels)
        self.sample_rate: float | None = pcm.sample_rate
        self.n_records: int | None = None
        if regular and codec_of(stream.path) is None:
            self.n_records = stream.size() // self._frame_bytes

    @property
    def bytes_read(self) -> int:
        """The bytes taken from the file so far."""
        return self._stream.bytes_read

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def go_to(self, position: dict[str, Any]) -> int:
        """Go on at a position; samples before it are not looked at."""
        self._first = self._origin.check(position, self.n_records)
        return 0

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece]:
        """Yield the chosen channels of the next samples as (n, d)."""
        if self._first:
            self._stream.go_to(self._first * self._frame_bytes)
        chosen = [self.columns.index(field) for field in fields]
        every = tuple(fields) == self.columns
        size = max(1, PIECE_VALUES // self._pcm.channels) * self._frame_bytes
        rest = b""
        while data := self._stream.read_ready(size - len(rest)):
            data = rest + data
            whole = len(data) - len(data) % self._frame_bytes
            rest = data[whole:]
            if whole:
                samples = decoded(data[:whole], self._pcm)
                yield Piece(samples if every else samples[:, chosen], self._origin)
        if rest:
            raise InputError(
                f"{self._stream.name}: ends with {len(rest)} bytes of a sample that has {self._frame_bytes}: it is not"
                f" {self._pcm.channels} channels of {self._pcm.dtype}, or cut short; check channels and dtype"
            )


def decoded(data: bytes, pcm: Pcm) -> FloatArray:
    """Return the samples (n, channels) of whole frames; integers are divided by half their range.

    >>> decoded(bytes([0, 0, 0x80, 0, 0, 0x40]), Pcm(8000, 2, "int24"))
    array([[-1. ,  0.5]])
    """
    values: FloatArray
    if pcm.dtype == "uint8":
        values = (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    elif pcm.dtype == "int24":
        # The three bytes become the upper ones of an int32, which keeps the sign.
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0] / 2.0**31
    else:
        raw = np.frombuffer(data, np.dtype(pcm.dtype).newbyteorder("<"))
        with np.errstate(invalid="ignore"):  # a signalling NaN makes numpy warn when it is converted
            values = raw.astype(np.float64)
        if raw.dtype.kind == "i":
            values /= 2.0 ** (8 * raw.dtype.itemsize - 1)
    return values.reshape(-1, pcm.channels)

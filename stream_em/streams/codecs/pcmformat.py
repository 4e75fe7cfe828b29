"""Raw samples, some of all channels a message: blocks of a signal as sound cards give them."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.codecs.interface import Decoded, Unreadable
from stream_em.streams.codecs.reasons import EMPTY, encodable, unusable_rows
from stream_em.streams.pcmfile import decoded
from stream_em.streams.signals import Pcm

_ENCODED_VALUES = 1 << 16
_LARGEST = 1.0 - 2.0**-15


class PcmCodec:
    """The codec of little-endian int16 (which stand for the numbers from −1 to 1) or float32, frame after frame.

    A frame has one value of each field; a message does not tell how many there are, so they must be named.
    """

    several = True

    def __init__(self, kind: Literal["int16", "float32"], fields: tuple[str, ...]) -> None:
        if not fields:
            raise InputError(f"message format pcm-{kind} does not tell its channels; name one of fields for each")
        self.fields = fields
        self._pcm = Pcm(1.0, len(fields), kind)
        self._type = np.dtype(kind).newbyteorder("<")
        self._frame_bytes = self._type.itemsize * len(fields)

    def decode(self, messages: Sequence[bytes]) -> Decoded:
        """Return the samples of all messages."""
        whole = [len(message) > 0 and len(message) % self._frame_bytes == 0 for message in messages]
        unreadable = [
            Unreadable(index, self._reason(message))
            for index, (message, good) in enumerate(zip(messages, whole, strict=True))
            if not good
        ]
        readable = [message for message, good in zip(messages, whole, strict=True) if good]
        values = decoded(b"".join(readable), self._pcm)
        lengths = [len(message) // self._frame_bytes for message in readable]
        came_from = np.repeat(np.flatnonzero(whole), lengths)
        numbers = np.concatenate([np.arange(n) for n in lengths]) if lengths else np.empty(0, dtype=np.int64)
        wrong = unusable_rows(values, self.fields)
        for row, reason in wrong.items():
            unreadable.append(Unreadable(int(came_from[row]), f"record {numbers[row]}, {reason}"))
        if wrong:
            rows = list(wrong)
            values, came_from, numbers = (np.delete(x, rows, axis=0) for x in (values, came_from, numbers))
        return Decoded(values, came_from, numbers, tuple(sorted(unreadable, key=lambda each: each.message)))

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Return as many messages as keep each below Kafka's usual limit; raises `InputError` for values too large."""
        values = encodable(values, fields)
        if self._type.kind == "i":
            if np.isnan(values).any() or (values.size and not -1.0 <= values.min() <= values.max() <= _LARGEST):
                raise InputError("int16 samples are numbers from -1 to 1, none missing; send pcm-float32")
            values = np.round(values * 2.0**15)
        elif values.size and np.fmax.reduce(np.abs(values), axis=None) > np.finfo(np.float32).max:
            raise InputError("there are values too large for float32; send float64 or arrow")
        rows = max(1, _ENCODED_VALUES // len(fields))
        return [values[start : start + rows].astype(self._type).tobytes() for start in range(0, len(values), rows)]

    def _reason(self, message: bytes) -> str:
        if not message:
            return EMPTY
        return (
            f"has {len(message):,} bytes, which is no whole number of samples of {len(self.fields)} channels"
            f" ({self._frame_bytes} bytes); check fields and format"
        )

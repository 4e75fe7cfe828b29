"""Raw little-endian floats, d of them a message."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.cells import numbered_names
from stream_em.streams.codecs.single import Row


class Floats:
    """The bytes of float32 or float64 values; NaN is missing."""

    few = 4

    def __init__(self, kind: Literal["float32", "float64"]) -> None:
        self._kind = kind
        self._type = np.dtype(kind).newbyteorder("<")

    def parse_all(self, messages: Sequence[bytes], fields: tuple[str, ...]) -> FloatArray | None:
        """Take messages as one array, if all have the right length."""
        if set(map(len, messages)) != {len(fields) * self._type.itemsize}:
            return None
        return self._values(b"".join(messages)).reshape(-1, len(fields))

    def parse(self, message: bytes, fields: tuple[str, ...]) -> tuple[tuple[str, ...], Row]:
        """Take one message."""
        count, rest = divmod(len(message), self._type.itemsize)
        if rest:
            raise InputError(f"has {len(message):,} bytes, which is no whole number of {self._kind} values")
        names = fields or numbered_names(count)
        if count != len(names):
            raise InputError(f"has {count:,} {self._kind} values for {len(names)} fields; write one for each")
        return names, self._values(message).tolist()

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Write the bytes of each row; raises `InputError` for a value that float32 cannot hold."""
        if self._kind == "float32" and values.size:
            largest = np.fmax.reduce(np.abs(values), axis=None)
            if largest > np.finfo(np.float32).max:
                raise InputError(f"{largest:g} is too large for float32; write float64")
        data = values.astype(self._type).tobytes()
        size = len(fields) * self._type.itemsize
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _values(self, data: bytes) -> FloatArray:
        # A signalling NaN makes numpy warn when it is converted.
        with np.errstate(invalid="ignore"):
            return np.frombuffer(data, self._type).astype(np.float64)

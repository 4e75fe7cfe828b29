"""MessagePack: a map or a flat array a message."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.codecs.jsonformat import row_of
from stream_em.streams.codecs.reasons import MEND, NO_FIELDS, damaged
from stream_em.streams.codecs.single import Row
from stream_em.streams.jsonlines import value_of

_ENCODER = msgspec.msgpack.Encoder()
_ANY = msgspec.msgpack.Decoder()
_NIL = msgspec.Raw(b"\xc0")


class MsgPack:
    """A map or an array; values are kept raw until it is known that they are wanted and not nested."""

    few = 4

    def __init__(self) -> None:
        self._array = msgspec.msgpack.Decoder(list[msgspec.Raw])
        self._map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
        self._fast: _Fast | None = None

    def parse_all(self, messages: Sequence[bytes], fields: tuple[str, ...]) -> FloatArray | None:
        """Decode messages into tuples or structs of numbers, if all have the kind of the first and nothing else."""
        fast = self._decoders(fields)
        try:
            if _is_array(messages[0]):
                rows = list(map(fast.array.decode, messages))
            elif fast.struct is not None:
                rows = list(map(fast.row, map(fast.struct.decode, messages)))
            else:
                return None
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return np.array(rows, dtype=np.float64).reshape(len(messages), len(fields))

    def parse(self, message: bytes, fields: tuple[str, ...]) -> tuple[tuple[str, ...], Row]:
        """Decode one message."""
        if _is_array(message):
            return row_of(list(map(_value, _decoded(self._array, message))), fields)
        raw = self._decoders(fields).raw if fields else None
        if raw is None:
            pairs = _decoded(self._map, message)
            names = fields or tuple(pairs)
            cells = [pairs.get(name, _NIL) for name in names]
        else:
            found = _decoded(raw, message)
            names = fields
            cells = [getattr(found, f"f{j}") for j in range(len(names))]
        if not names:
            raise InputError(NO_FIELDS)
        return names, [value_of(_value(cell), f"field {name!r}", MEND) for name, cell in zip(names, cells, strict=True)]

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Write maps, with NaN as nil."""
        rows = ([None if x != x else x for x in row] for row in values.tolist())
        return [_ENCODER.encode(dict(zip(fields, row, strict=True))) for row in rows]

    def _decoders(self, fields: tuple[str, ...]) -> "_Fast":
        if self._fast is None or self._fast.fields != fields:
            self._fast = _Fast(fields)
        return self._fast


class _Fast:
    """Decoders that know the fields."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self.array = msgspec.msgpack.Decoder(tuple[(float | None,) * len(fields)])  # type: ignore[misc]
        self.struct = _struct(fields, float | None, np.nan)
        self.raw = _struct(fields, msgspec.Raw, _NIL)
        self.row: Callable[[Any], Any] = attrgetter(*(f"f{j}" for j in range(len(fields))))


def _struct(fields: tuple[str, ...], kind: Any, default: Any) -> msgspec.msgpack.Decoder[Any] | None:
    """Return a decoder of maps into structs with attributes f0, f1, ...; None for names that msgspec does not allow."""
    members = [(f"f{j}", kind, default) for j in range(len(fields))]
    names = {f"f{j}": name for j, name in enumerate(fields)}
    try:
        return msgspec.msgpack.Decoder(msgspec.defstruct("Record", members, rename=names, gc=False))
    except ValueError:
        return None


def _is_array(message: bytes) -> bool:
    return bool(message) and (message[0] & 0xF0 == 0x90 or message[0] in (0xDC, 0xDD))


def _is_map(message: bytes) -> bool:
    return message[0] & 0xF0 == 0x80 or message[0] in (0xDE, 0xDF)


def _value(raw: msgspec.Raw) -> object:
    """Return what one value is, an empty list or dict for any: what is in it does not matter."""
    data = bytes(raw)
    if _is_array(data):
        return []
    return {} if _is_map(data) else _decoded(_ANY, data)


def _decoded(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    """Decode some bytes; raises `InputError` with a reason."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise damaged(error) from None

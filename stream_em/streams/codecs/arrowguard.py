"""What an Arrow IPC message claims to hold, read from its metadata before anything is allocated for it.

Arrow's C++ checks that its metadata is well formed, but believes any size that a compressed buffer names.
"""

import struct

from stream_em.errors import InputError

MOST_VALUES = 1 << 22
"""Values (32 MB) that one message may hold."""
MOST_BYTES = 1 << 28
"""Bytes that all buffers of one message, wanted or not, may decompress to."""

_MAGIC = b"ARROW1"
_DICTIONARY, _BATCH = 2, 3


def checked_stream(message: bytes) -> tuple[memoryview, int]:
    """Return the stream in a message, and how many records it claims.

    Raises `InputError` if it does not end as a stream or file must, or claims more than a message may hold.
    """
    is_file = message.startswith(_MAGIC)
    try:
        end, records, size = _walked(message, 8 if is_file else 0)
    except (struct.error, _Malformed):
        raise InputError("is damaged, cut short or no Arrow IPC stream or file; check what wrote it") from None
    if not message.endswith(_MAGIC) if is_file else end != len(message):
        raise InputError(f"{'is cut short' if is_file else 'goes on after its end'}; check what wrote it")
    if size > MOST_BYTES:
        raise InputError(f"claims {size:,} bytes when decompressed; write messages of at most {MOST_BYTES:,}")
    return memoryview(message)[8 if is_file else 0 : end], records


class _Malformed(Exception):  # noqa: N818 - never leaves this file
    """The metadata is not what it must be."""


def _walked(message: bytes, at: int) -> tuple[int, int, int]:
    """Return where a stream that begins at `at` ends, its records, and the bytes that its buffers decompress to."""
    records = size = 0
    while True:
        mark, length = struct.unpack_from("<Ii", message, at)
        at += 8
        if mark != 0xFFFFFFFF or length < 0:
            raise _Malformed
        if length == 0:
            return at, records, size
        metadata = message[at : at + length]
        header = _Table(metadata, *struct.unpack_from("<I", metadata))
        body_length = header.number(3, "q")
        kind = header.number(1, "B")
        at += length
        if len(metadata) < length or not 0 <= body_length <= len(message) - at:
            raise _Malformed
        if kind in (_DICTIONARY, _BATCH):
            batch = header.table(2)
            if kind == _DICTIONARY:
                batch = batch.table(1)
            rows = batch.number(0, "q")
            if rows < 0:
                raise _Malformed
            records += rows if kind == _BATCH else 0
            if batch.has(3) or b"experimental_compression" in metadata:
                size += _decompressed(message, at, body_length, batch)
        at += body_length


def _decompressed(message: bytes, start: int, length: int, batch: "_Table") -> int:
    """Return the bytes to which the buffers of a batch claim to decompress; each begins with that number."""
    size = 0
    for offset, stored in batch.pairs(2):
        if min(offset, stored) < 0 or offset + stored > length:
            raise _Malformed
        if stored >= 8:
            (claimed,) = struct.unpack_from("<q", message, start + offset)
            size += claimed if claimed >= 0 else stored - 8
    return size


class _Table:
    """A table of a flatbuffer; slots are numbered as the fields of Arrow's Message.fbs, unions taking two."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._slots = at - self._read("i", at)

    def has(self, slot: int) -> bool:
        """Tell whether a field is there."""
        return self._place(slot) is not None

    def number(self, slot: int, code: str) -> int:
        """Return a number, 0 if it is not there."""
        place = self._place(slot)
        return 0 if place is None else self._read(code, place)

    def table(self, slot: int) -> "_Table":
        """Return the table that a field points to."""
        return _Table(self._data, self._pointed(slot))

    def pairs(self, slot: int) -> list[tuple[int, int]]:
        """Return a vector of structs of two int64, () if it is not there."""
        if not self.has(slot):
            return []
        start = self._pointed(slot)
        count = self._read("I", start)
        return list(struct.iter_unpack("<qq", self._data[start + 4 : start + 4 + 16 * count]))

    def _pointed(self, slot: int) -> int:
        place = self._place(slot)
        if place is None:
            raise _Malformed
        return place + self._read("I", place)

    def _place(self, slot: int) -> int | None:
        if 4 + 2 * slot >= self._read("H", self._slots):
            return None
        offset = self._read("H", self._slots + 4 + 2 * slot)
        return self._at + offset if offset else None

    def _read(self, code: str, place: int) -> int:
        if place < 0:
            raise _Malformed
        number: int = struct.unpack_from(f"<{code}", self._data, place)[0]
        return number

"""Where reading goes on: positions that outlive the process, and how a file that changed since is told."""

import os
import zlib
from collections.abc import Sequence
from typing import Any

from stream_em.errors import InputError
from stream_em.streams.bytestream import blame, display

TAIL_BYTES = 256
_END_BYTES = 4096
_CHECKSUM_DIGITS = frozenset("0123456789abcdef")


def tail_of(before: bytes) -> str:
    """Return the checksum by which the bytes before a place are known again."""
    return f"{zlib.crc32(before[-TAIL_BYTES:]):08x}"


class Fingerprint:
    """How a whole file is known again: its size, and a checksum of its first and last 4 KiB."""

    def __init__(self, path: str) -> None:
        self._path = path
        with blame(path), open(path, "rb") as file:
            self._size = os.fstat(file.fileno()).st_size
            checksum = zlib.crc32(file.read(_END_BYTES))
            file.seek(max(0, self._size - _END_BYTES))
            self._checksum = f"{zlib.crc32(file.read(_END_BYTES), checksum):08x}"

    def position(self, after: int) -> dict[str, Any]:
        """Return the keys of a position, the same everywhere in the file."""
        return {"size": self._size, "fingerprint": self._checksum}

    def check(self, position: dict[str, Any], n_records: int | None) -> int:
        """Return the number of the record at a position; raises `InputError` if the file has changed since."""
        size, checksum = whole(position, "size"), checksum_in(position, "fingerprint")
        record = whole(position, "record")
        if (size, checksum) != (self._size, self._checksum):
            raise changed(self._path, "its contents are others")
        if n_records is not None and record > n_records:
            raise changed(self._path, f"it has {n_records:,} records, and {record:,} were read")
        return record


class Unrepeatable:
    """The place in a stream that can be read only once."""

    def position(self, after: int) -> dict[str, Any]:
        """Return the keys of a position: none."""
        return {}

    def check(self, position: dict[str, Any], n_records: int | None) -> int:
        """Raise `InputError`: there is no way back."""
        raise malformed("it is in a stream that cannot be read again", position)


def origin_of(path: str, regular: bool) -> Fingerprint | Unrepeatable:
    """Return what tells places in a file of a whole-file format."""
    return Fingerprint(path) if regular else Unrepeatable()


def whole(position: dict[str, Any], key: str, least: int = 0) -> int:
    """Return the whole number under a key; raises `InputError` if there is none or it is below `least`."""
    value = position.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise malformed(f"{key!r} must be a whole number from {least}", position)
    return value


def checksum_in(position: dict[str, Any], key: str) -> str:
    """Return the checksum under a key; raises `InputError` if there is none."""
    value = position.get(key)
    if not isinstance(value, str) or len(value) != 8 or not _CHECKSUM_DIGITS.issuperset(value):
        raise malformed(f"{key!r} must be a checksum of eight hexadecimal digits", position)
    return value


def names_in(position: dict[str, Any], key: str) -> list[str]:
    """Return the names under a key, none if it is not there; raises `InputError` if they are no list of names."""
    value = position.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise malformed(f"{key!r} must be a list of names", position)
    return value


def path_in(position: object, paths: Sequence[str]) -> str:
    """Return the file of a position; raises `InputError` if it is none, or not among `paths`."""
    if not isinstance(position, dict):
        raise malformed("it must be an object", position)
    path = position.get("file")
    if not isinstance(path, str):
        raise malformed("'file' must be a path", position)
    if path not in paths:
        raise InputError(
            f"{display(path)}: is not among the source's files any more, and the snapshot stopped in it;"
            " put the file back, or start anew with --fresh"
        )
    return path


def check_there(path: str, position: dict[str, Any], compressed: bool) -> None:
    """Raise `InputError` if a file is gone, or clearly has another size than a position in it says."""
    if not os.path.exists(path):
        raise InputError(
            f"{display(path)}: is missing, and the snapshot stopped in it; put the file back,"
            " or start anew with --fresh"
        )
    size = os.path.getsize(path)
    if "size" in position and size != whole(position, "size"):
        raise changed(path, f"it had {position['size']:,} bytes and has {size:,}")
    if "until" in position and not compressed and size < whole(position, "until"):
        raise changed(path, f"{position['until']:,} bytes of it were read, and it has only {size:,}")


def changed(path: str, what: str) -> InputError:
    """Return the error about a file that is not what it was."""
    return InputError(
        f"{display(path)}: has changed since the snapshot: {what}; put the file back, or start anew with --fresh"
    )


def malformed(what: str, position: object) -> InputError:
    """Return the error about a position that no source has written."""
    shown = ascii(position)
    shown = shown if len(shown) <= 200 else shown[:197] + "..."
    return InputError(
        f"the source's position in the snapshot is malformed: {what}, in {shown}; start anew with --fresh"
    )

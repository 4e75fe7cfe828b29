"""The file formats by suffix, and what every reader of one file has in common."""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from stream_em.errors import InputError
from stream_em.streams.bytestream import CODECS, STDIN, ByteStream, blame, display

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".npy": "npy",
}
_FORMATS = {suffix.removeprefix("."): format for suffix, format in _SUFFIXES.items()}


class Reader(Protocol):
    """One opened file: its columns, and once, from start to end, its records in pieces of some megabytes.

    A piece is a list of d columns or one (n, d) array. `bytes_read` counts bytes as they lie on the disk.
    `empty_message` says what is wrong with a file in which there are no records.
    """

    columns: tuple[str, ...]
    n_records: int | None
    empty_message: str

    @property
    def bytes_read(self) -> int:
        """The bytes consumed so far."""
        ...

    def pieces(
        self, fields: Sequence[str]
    ) -> Iterator[list[npt.NDArray[Any]]] | Iterator[list[npt.NDArray[Any]] | npt.NDArray[Any]]:
        """Yield the chosen fields of the next records."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def format_named(name: str) -> str:
    """Give the format that a user calls `name` ("ndjson" is "jsonl"); raises `InputError` if unknown."""
    format = _FORMATS.get(name.lower().removeprefix("."))
    if format is None:
        raise InputError(f"there is no format {name!r}; formats are {', '.join(sorted(set(_FORMATS.values())))}")
    return format


def known_suffixes() -> list[str]:
    """List the suffixes of data files."""
    return list(_SUFFIXES)


def suffix_format(path: str) -> str | None:
    """Tell the format of a file from its name, looking behind .gz and .zst; None if it does not show."""
    stem, last = os.path.splitext(path.lower())
    if last in CODECS:
        last = os.path.splitext(stem)[1]
    return _SUFFIXES.get(last)


def is_regular(path: str) -> bool:
    """Tell whether `path` can be opened again and again: neither standard input nor a pipe."""
    if path == STDIN:
        return False
    with blame(path):
        return stat.S_ISREG(os.stat(path).st_mode)


def checked_format(path: str, format: str | None) -> str | None:
    """Give the format of a path, None for standard input that must be looked at.

    Raises `InputError` for an unknown suffix, an empty file, and formats that cannot be read from a stream.
    """
    found = format or suffix_format(path)
    if found is None and path != STDIN:
        raise InputError(
            f"{display(path)}: cannot tell the format from the suffix; name it with --format, or use one of"
            f" {', '.join(known_suffixes())} (also with .gz or .zst)"
        )
    regular = is_regular(path)
    if regular and os.path.getsize(path) == 0:
        raise InputError(f"{display(path)}: is empty (0 bytes); remove it or write it again")
    if found == "parquet" and (not regular or _codec(path)):
        raise InputError(
            f"{display(path)}: Parquet is read from its end, so it must be a plain file, neither piped nor in"
            " .gz or .zst (it is compressed inside); save or decompress it first"
        )
    return found


def open_reader(
    path: str, format: str | None, *, has_header: bool | None = None, piece_bytes: int | None = None
) -> Reader:
    """Open one file; `format` is what `checked_format` gave. Raises `InputError` if it is damaged."""
    if format == "parquet":
        from stream_em.streams.columnar import ParquetReader

        return ParquetReader(path)
    stream = ByteStream(path, _codec(path))
    try:
        return _open_stream(stream, format or _sniffed(stream), has_header, piece_bytes)
    except BaseException:
        stream.close()
        raise


def _open_stream(stream: ByteStream, format: str, has_header: bool | None, piece_bytes: int | None) -> Reader:
    seekable = is_regular(stream.path) and _codec(stream.path) is None
    if format == "arrow":
        from stream_em.streams.columnar import ArrowReader

        return ArrowReader(stream, seekable=seekable)
    if format == "npy":
        from stream_em.streams.npyfile import NpyReader

        return NpyReader(stream, seekable=seekable)
    if format == "jsonl":
        from stream_em.streams.jsonlines import JsonLinesReader

        return JsonLinesReader(stream, piece_bytes=piece_bytes)
    from stream_em.streams.csvfile import CsvReader

    delimiter = "\t" if format == "tsv" else None
    return CsvReader(stream, delimiter=delimiter, has_header=has_header, piece_bytes=piece_bytes)


def _codec(path: str) -> str | None:
    return CODECS.get(os.path.splitext(path.lower())[1])


def _sniffed(stream: ByteStream) -> str:
    """Tell the format of standard input from its first bytes; CSV if nothing speaks against it."""
    head = stream.peek(8).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PAR1"):
        checked_format(stream.path, "parquet")
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    return "jsonl" if head.startswith(b"{") else "csv"

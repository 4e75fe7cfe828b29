"""The file formats by suffix, and what every reader of one file has in common."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from stream_em.errors import InputError
from stream_em.streams.blocks import Piece
from stream_em.streams.bytestream import CODECS, STDIN, ByteStream, display, is_regular
from stream_em.streams.signals import SAMPLED_FORMATS, Pcm, checked_pcm

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
    ".wav": "audio",
    ".flac": "audio",
    ".ogg": "audio",
    ".aiff": "audio",
    ".aif": "audio",
    ".edf": "edf",
    ".bdf": "edf",
    ".pcm": "pcm",
    ".raw": "pcm",
}
_FORMATS = {suffix.removeprefix("."): format for suffix, format in _SUFFIXES.items()} | {"audio": "audio"}


class Reader(Protocol):
    """One opened file: its columns, and once, from start or a position to the end, its records in pieces.

    `bytes_read` counts bytes as they lie on the disk. `sample_rate` is that of a signal whose samples the records are,
    in samples a second, or else None.
    `empty_message` says what is wrong with a file in which there are no records.
    """

    columns: tuple[str, ...]
    n_records: int | None
    sample_rate: float | None
    empty_message: str

    @property
    def bytes_read(self) -> int:
        """The bytes consumed so far."""
        ...

    def go_to(self, position: dict[str, Any]) -> int:
        """Let `pieces` begin at or before a position, and return how many records before it they then hold.

        Raises `InputError` if the file has changed since.
        """
        ...

    def pieces(self, fields: Sequence[str]) -> Iterator[Piece] | Iterator[Piece | None]:
        """Yield the chosen fields of the next records; None after waiting for more of a file that is followed."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class ReaderOptions(NamedTuple):
    """How text is read, and raw samples.

    A `lenient` reader marks records that it cannot use instead of raising, and takes each line for a record.
    """

    has_header: bool | None = None
    piece_bytes: int | None = None
    lenient: bool = False
    pcm: Pcm | None = None


DEFAULT_OPTIONS = ReaderOptions()


class Visit(NamedTuple):
    """A file that is about to be read from `record` on; its reader begins `skip` records earlier.

    `keys` belong to the positions of all its records.
    """

    reader: Reader
    path: str
    keys: dict[str, Any]
    record: int = 0
    skip: int = 0


def format_named(name: str) -> str:
    """Give the format that a user calls `name` ("ndjson" is "jsonl"); raises `InputError` if unknown."""
    format = _FORMATS.get(name.lower().removeprefix("."))
    if format is None:
        raise InputError(f"there is no format {name!r}; formats are {', '.join(sorted(set(_FORMATS.values())))}")
    return format


def is_sampled(path: str, format: str | None) -> bool:
    """Tell whether records are samples of a signal, as its format or else its name says."""
    found = suffix_format(path) if format is None else _FORMATS.get(format.lower().removeprefix("."))
    return found in SAMPLED_FORMATS


def known_suffixes() -> list[str]:
    """List the suffixes of data files."""
    return list(_SUFFIXES)


def suffix_format(path: str) -> str | None:
    """Tell the format of a file from its name, looking behind .gz and .zst; None if it does not show."""
    stem, last = os.path.splitext(path.lower())
    if last in CODECS:
        last = os.path.splitext(stem)[1]
    return _SUFFIXES.get(last)


def checked_format(path: str, format: str | None, may_be_empty: bool = False, raw: bool = False) -> str | None:
    """Give the format of a path, None for standard input that must be looked at; raw PCM if it was described (`raw`).

    Raises `InputError` for an unknown suffix, an empty file, and formats that cannot be read from a stream.
    """
    found = format or suffix_format(path) or ("pcm" if raw else None)
    if raw and found != "pcm":
        raise InputError(
            f"{display(path)}: sample_rate, channels and dtype describe raw PCM, and this is {found}; leave them out"
        )
    if found is None and path != STDIN:
        raise InputError(
            f"{display(path)}: cannot tell the format from the suffix; name it with --format, or use one of"
            f" {', '.join(known_suffixes())} (also with .gz or .zst)"
        )
    regular = is_regular(path)
    if regular and os.path.getsize(path) == 0 and not may_be_empty:
        raise InputError(f"{display(path)}: is empty (0 bytes); remove it or write it again")
    if found == "parquet" and (not regular or codec_of(path)):
        raise InputError(
            f"{display(path)}: Parquet is read from its end, so it must be a plain file, neither piped nor in"
            " .gz or .zst (it is compressed inside); save or decompress it first"
        )
    if found in ("audio", "edf") and (not regular or codec_of(path)):
        raise InputError(
            f"{display(path)}: {found} must be a plain file, neither piped nor in .gz or .zst; save or decompress it"
            " first, or pipe raw samples (--format pcm, with --sample-rate and --channels)"
        )
    return found


def open_reader(
    path: str, format: str | None, options: ReaderOptions = DEFAULT_OPTIONS, expected: Sequence[str] = ()
) -> Reader:
    """Open one file; `format` is what `checked_format` gave. Raises `InputError` if it is damaged."""
    if format == "parquet":
        from stream_em.streams.columnar import ParquetReader

        return ParquetReader(path)
    if format == "audio":
        from stream_em.streams.audiofile import AudioReader

        return AudioReader(path)
    if format == "edf":
        from stream_em.streams.edffile import EdfReader

        return EdfReader(path, expected)
    stream = ByteStream(path, codec_of(path))
    try:
        found = format or _sniffed(stream)
        seekable = is_regular(path) and codec_of(path) is None
        if found == "arrow":
            from stream_em.streams.columnar import ArrowReader

            return ArrowReader(stream, seekable=seekable)
        if found == "npy":
            from stream_em.streams.npyfile import NpyReader

            return NpyReader(stream, seekable=seekable)
        if found == "pcm":
            from stream_em.streams.pcmfile import PcmReader

            return PcmReader(stream, checked_pcm(options.pcm, stream.name))
        return open_text(stream, found, options, expected)
    except BaseException:
        stream.close()
        raise


def open_text(
    stream: ByteStream,
    format: str,
    options: ReaderOptions,
    expected: Sequence[str] = (),
    names: Sequence[str] = (),
    followed: bool = False,
) -> Reader:
    """Open a stream of lines; in JSON lines, `expected` fields need not be there yet.

    A CSV without a header has the columns `names` if there are as many.
    """
    has_header, piece_bytes, lenient = options[:3]
    if format == "jsonl":
        from stream_em.streams.jsonlines import JsonLinesReader

        return JsonLinesReader(stream, piece_bytes=piece_bytes, lenient=lenient, followed=followed, expected=expected)
    from stream_em.streams.csvfile import CsvReader

    delimiter = "\t" if format == "tsv" else None
    return CsvReader(
        stream, delimiter=delimiter, has_header=has_header, piece_bytes=piece_bytes, lenient=lenient, names=names
    )


def empty_error(reader: Reader, path: str) -> InputError:
    """Return the error about a file that holds nothing."""
    return InputError(f"{display(path)}: {reader.empty_message}; write records, or leave the file out")


def codec_of(path: str) -> str | None:
    """Tell from its name how a file is compressed, if it is."""
    return CODECS.get(os.path.splitext(path.lower())[1])


def _sniffed(stream: ByteStream) -> str:
    """Tell the format of standard input from its first bytes; CSV if nothing speaks against it."""
    head = stream.peek(8).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PAR1"):
        checked_format(stream.path, "parquet")
    if head.startswith((b"RIFF", b"fLaC", b"OggS", b"FORM")):
        checked_format(stream.path, "audio")
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    return "jsonl" if head.startswith(b"{") else "csv"

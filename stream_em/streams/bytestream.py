"""The bytes of one file or of standard input: decompressed, counted, failures said in one line."""

import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from stream_em.errors import InputError, OutsideError

STDIN = "-"
PATIENCE_SECONDS = 0.05
_DISCARDED_BYTES = 1 << 20
CODECS = {".gz": "gzip", ".zst": "zstd"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


def display(path: str) -> str:
    """Give the name by which messages call a path; it never breaks a line."""
    if path == STDIN:
        return "standard input"
    return path if path.isprintable() else repr(path)


@contextmanager
def blame(path: str) -> Iterator[None]:
    """Turn failures while `path` is read into `InputError` (damaged, forbidden) or `OutsideError` (disk)."""
    try:
        yield
    except (InputError, OutsideError):
        raise
    except FileNotFoundError:
        raise InputError(f"{display(path)}: there is no such file") from None
    except PermissionError:
        raise InputError(f"{display(path)}: may not be read (permission denied); check its owner and mode") from None
    except (OSError, ValueError, EOFError, NotImplementedError) as error:
        # Arrow and zlib report damaged contents as OSError too, but only the operating system sets errno.
        if isinstance(error, OSError) and error.errno is not None:
            raise OutsideError(f"{display(path)}: reading failed: {error.strerror}; check the disk") from error
        what = " ".join(str(error).split())[:200]
        raise InputError(
            f"{display(path)}: is damaged, cut short or of another format ({what}); write or fetch it again"
        ) from error


def is_regular(path: str) -> bool:
    """Tell whether `path` can be opened again and again: neither standard input nor a pipe."""
    if path == STDIN:
        return False
    with blame(path):
        return stat.S_ISREG(os.stat(path).st_mode)


class ByteStream:
    """The decompressed bytes of `path` ("-" is standard input), read once from start to end."""

    complete = True
    """Whether the end, once reached, is the end of the last line too."""
    delivered: int
    """The decompressed bytes before the place where reading goes on."""
    _ahead: bytes
    _raw: "_Counted"
    _source: "_Counted | IO[bytes]"

    def __init__(self, path: str, codec: str | None = None) -> None:
        self.path = path
        self.name = display(path)
        self._codec = codec
        self._open()

    @property
    def bytes_read(self) -> int:
        """The bytes taken from the file so far, as they lie on the disk (compressed)."""
        return self._raw.count

    @property
    def closed(self) -> bool:
        """Whether `close` was called; Arrow asks."""
        return self._raw.closed

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        if len(data) < size:
            with blame(self.path):
                data += self._source.read(size - len(data))
        self.delivered += len(data)
        return data

    def read_ready(self, size: int, least: int = 1) -> bytes:
        """Return up to `size` bytes, at least `least` unless at the end: what a slow pipe holds by now."""
        if self._ahead or self._source is not self._raw:
            return self.read(size)
        with blame(self.path):
            data = self._raw.read(size, least)
        self.delivered += len(data)
        return data

    def wait_for_more(self) -> bool:
        """Tell, at the end, whether more may come after all; a stream that is followed waits a moment."""
        return False

    def go_to(self, offset: int) -> None:
        """Go on at this offset in decompressed bytes, or at the end if that comes first; not for pipes."""
        if self._source is not self._raw and offset < self.delivered:
            self._raw.close()
            self._open()
        with blame(self.path):
            if self._source is self._raw:
                self._ahead = b""
                self.delivered = self._raw.go_to(offset)
        while self.delivered < offset and self.read(min(_DISCARDED_BYTES, offset - self.delivered)):
            pass

    def size(self) -> int:
        """Return the file's size now, as it lies on the disk, even if it has another name by now."""
        return os.fstat(self._raw.fileno()).st_size

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without taking them."""
        with blame(self.path):
            self._ahead += self._source.read(max(0, size - len(self._ahead)))
        return self._ahead[:size]

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._raw.close()

    def _open(self) -> None:
        self.delivered = 0
        self._ahead = b""
        with blame(self.path):
            self._raw = _Counted(_standard_input() if self.path == STDIN else io.FileIO(self.path))
            self._source = self._raw
            codec = self._codec_of_stdin() if self.path == STDIN else self._codec
            if codec is not None:
                import pyarrow as pa

                self._source = pa.CompressedInputStream(pa.PythonFile(self._raw, mode="r"), codec)

    def _codec_of_stdin(self) -> str | None:
        head = self._raw.peek(4)
        if not head:
            raise InputError("standard input is empty; pipe records into it")
        return next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)


class _Counted:
    """A raw file that counts what was read and fills a read, as pipes do not, unless told to wait for less."""

    def __init__(self, raw: IO[bytes] | io.RawIOBase) -> None:
        self._raw = raw
        self._ahead = b""
        self.count = 0
        self.closed = False

    def read(self, size: int, least: int | None = None) -> bytes:
        parts = [self._ahead[:size]]
        self._ahead = self._ahead[size:]
        missing = size - len(parts[0])
        most_missing = 0 if least is None else size - least
        while missing > 0 and (missing > most_missing or self._ready()) and (part := self._raw.read(missing)):
            parts.append(part)
            missing -= len(part)
            self.count += len(part)
        return b"".join(parts)

    def peek(self, size: int) -> bytes:
        self._ahead = self.read(size)
        return self._ahead

    def go_to(self, offset: int) -> int:
        self._ahead = b""
        self.count = self._raw.seek(min(offset, os.fstat(self.fileno()).st_size))
        return self.count

    def fileno(self) -> int:
        return self._raw.fileno()

    def _ready(self) -> bool:
        """Whether more comes within a moment; a file that cannot say counts as ready."""
        try:
            return bool(select.select([self.fileno()], [], [], PATIENCE_SECONDS)[0])
        except (OSError, ValueError):
            return True

    def close(self) -> None:
        self.closed = True
        self._raw.close()


def _standard_input() -> IO[bytes] | io.RawIOBase:
    if sys.stdin is None:
        raise InputError("standard input is closed; pipe records into it or name a file")
    try:
        # Not sys.stdin.buffer: a thread that waits inside its lock would abort the interpreter's exit.
        return io.FileIO(os.dup(sys.stdin.fileno()))
    except io.UnsupportedOperation:
        return sys.stdin.buffer

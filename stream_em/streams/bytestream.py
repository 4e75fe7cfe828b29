"""The bytes of one file or of standard input: decompressed, counted, failures said in one line."""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from stream_em.errors import InputError, OutsideError

STDIN = "-"
PATIENCE_SECONDS = 0.05
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


class ByteStream:
    """The decompressed bytes of `path` ("-" is standard input), read once from start to end."""

    def __init__(self, path: str, codec: str | None = None) -> None:
        self.path = path
        self.name = display(path)
        self.delivered = 0
        with blame(path):
            self._raw = _Counted(_standard_input() if path == STDIN else io.FileIO(path))
            self._source: _Counted | IO[bytes] = self._raw
            self._ahead = b""
            if path == STDIN:
                codec = self._codec_of_stdin()
            if codec is not None:
                import pyarrow as pa

                self._source = pa.CompressedInputStream(pa.PythonFile(self._raw, mode="r"), codec)

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

    def read_ready(self, size: int) -> bytes:
        """Return up to `size` bytes, at least one unless at the end: what a slow pipe holds, not waiting for more."""
        if self._ahead or self._source is not self._raw:
            return self.read(size)
        with blame(self.path):
            data = self._raw.read(size, wait=False)
        self.delivered += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without taking them."""
        with blame(self.path):
            self._ahead += self._source.read(max(0, size - len(self._ahead)))
        return self._ahead[:size]

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._raw.close()

    def _codec_of_stdin(self) -> str | None:
        head = self._raw.peek(4)
        if not head:
            raise InputError("standard input is empty; pipe records into it")
        return next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)


class _Counted:
    """A raw file that counts what was read and fills a read, as pipes do not, unless told not to wait."""

    def __init__(self, raw: IO[bytes] | io.RawIOBase) -> None:
        self._raw = raw
        self._ahead = b""
        self.count = 0
        self.closed = False

    def read(self, size: int, wait: bool = True) -> bytes:
        parts = [self._ahead[:size]]
        self._ahead = self._ahead[size:]
        missing = size - len(parts[0])
        while missing > 0 and (wait or missing == size or self._ready()) and (part := self._raw.read(missing)):
            parts.append(part)
            missing -= len(part)
            self.count += len(part)
        return b"".join(parts)

    def peek(self, size: int) -> bytes:
        self._ahead = self.read(size)
        return self._ahead

    def _ready(self) -> bool:
        """Whether more comes within a moment; a file that cannot say counts as ready."""
        try:
            return bool(select.select([self._raw.fileno()], [], [], PATIENCE_SECONDS)[0])
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

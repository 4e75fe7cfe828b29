"""Text in pieces: raw bytes cut at line ends, so that memory does not depend on the length of a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stream_em.errors import InputError
from stream_em.streams.bytestream import ByteStream
from stream_em.streams.positions import TAIL_BYTES, changed, checksum_in, malformed, tail_of, whole

PIECE_BYTES = 4 << 20
LONGEST_LINE = 64 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Whole lines of a text file; `line` is the number of the first one, from 1.

    `byte` is its offset in decompressed bytes, `before` are up to 256 bytes before it.
    """

    data: bytes
    line: int
    byte: int = 0
    before: bytes = b""

    def cut(self, start: int, end: int | None = None) -> "TextPiece":
        """Return the lines between two offsets, which are line starts."""
        before = (self.before + self.data[max(0, start - TAIL_BYTES) : start])[-TAIL_BYTES:]
        line = self.line + self.data.count(b"\n", 0, start)
        return TextPiece(self.data[start:end], line, self.byte + start, before)

    def position(self, after: int) -> dict[str, Any]:
        """Return the keys of the position that is `after` records after the start of this piece."""
        return {
            "byte": self.byte,
            "line": self.line,
            "after": after,
            "tail": tail_of(self.before),
            "until": self.byte + len(self.data),
            "until_tail": tail_of(self.data),
        }


class Text:
    """The lines of a stream in pieces of about `piece_bytes`; with `quoted`, never cut inside quotes.

    Where a piece ends depends on nothing but where it starts, so reading that goes on there cuts the same pieces.
    Iterating goes on where the last iteration stopped. Raises `InputError` for a line (or quoted field) of more than
    64 MB.
    """

    def __init__(self, stream: ByteStream, *, quoted: bool, piece_bytes: int | None = None) -> None:
        self._stream = stream
        self._quoted = quoted
        self._size = piece_bytes or PIECE_BYTES
        self._ahead = b""
        self._byte = 0
        self._line = 1
        self._before = b""

    def __iter__(self) -> Iterator[TextPiece | None]:
        """Yield pieces; None after having waited for more of a stream that is followed."""
        wanted = self._size
        while True:
            ended = False
            if len(self._ahead) < wanted:
                # Whole lines that are there already must not wait for more from a slow pipe.
                least = 0 if _last_cut(self._ahead, self._quoted) else 1
                fresh = self._stream.read_ready(wanted - len(self._ahead), least)
                ended = not fresh
                # Kept at once: a consumer that stops here loses nothing.
                self._ahead += fresh
            data = self._ahead[:wanted]
            cut = _last_cut(data, self._quoted)
            if not cut and ended:
                if self._stream.wait_for_more():
                    yield None
                    continue
                if not (data and self._stream.complete):
                    return
                cut = len(data)
            if cut:
                wanted = self._size
                if self._byte == 0 and self._skip_mark():
                    continue
                piece = TextPiece(data[:cut], self._line, self._byte, self._before)
                self._advance(data, cut)
                yield piece
            elif len(data) > LONGEST_LINE:
                raise self._too_long()
            elif len(data) == wanted:
                # Reading as much again as already waits keeps a very long line linear in its length.
                wanted *= 2

    def unread(self, piece: TextPiece) -> None:
        """Give back a piece that was the last one taken, so that the next one begins with it."""
        self._ahead = piece.data + self._ahead
        self._byte, self._line, self._before = piece.byte, piece.line, piece.before

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on at the start of the piece in which a position is; raises `InputError` if the text has changed since."""
        byte, line, until = (whole(position, key, least) for key, least in (("byte", 0), ("line", 1), ("until", 0)))
        tail, until_tail = checksum_in(position, "tail"), checksum_in(position, "until_tail")
        if not whole(position, "after") <= whole(position, "record"):
            raise malformed("'after' is more than 'record'", position)
        if not 0 <= until - byte <= 2 * LONGEST_LINE:
            raise malformed("'until' is before 'byte' or far behind it", position)
        self._stream.go_to(max(0, byte - TAIL_BYTES))
        before = self._stream.read(min(byte, TAIL_BYTES))
        data = self._stream.read(until - byte)
        if self._stream.delivered < until:
            raise changed(
                self._stream.path, f"{until:,} bytes of it were read, and it has only {self._stream.delivered:,}"
            )
        if tail_of(before) != tail or tail_of(data) != until_tail:
            raise changed(self._stream.path, f"the text before byte {until:,} is another")
        self._ahead, self._byte, self._line, self._before = data, byte, line, before

    def _skip_mark(self) -> bool:
        """Pass over a byte order mark at the start of a file, and tell whether there was one."""
        if self._ahead.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(f"{self._stream.name}: is UTF-16 text; save it as UTF-8")
        marked = self._ahead.startswith(_BOM)
        if marked:
            self._advance(self._ahead, len(_BOM))
        return marked

    def _advance(self, data: bytes, cut: int) -> None:
        """Go `cut` bytes on; `data` is how what is ahead begins."""
        self._ahead = self._ahead[cut:]
        self._byte += cut
        self._line += data.count(b"\n", 0, cut)
        self._before = (self._before + data[max(0, cut - TAIL_BYTES) : cut])[-TAIL_BYTES:]

    def _too_long(self) -> InputError:
        hint = " or a quote that is opened and never closed" if self._quoted else ""
        return InputError(
            f"{self._stream.name}, line {self._line}: no line end within {LONGEST_LINE >> 20} MB;"
            f" look for a wrong format{hint}"
        )


def _last_cut(data: bytes, quoted: bool) -> int:
    """Return the end of the last line that is outside quotes, or 0."""
    cut = data.rfind(b"\n") + 1
    if not quoted:
        return cut
    quotes = data.count(b'"', 0, cut)
    while cut and quotes % 2:
        earlier = data.rfind(b"\n", 0, cut - 1) + 1
        quotes -= data.count(b'"', earlier, cut)
        cut = earlier
    return cut

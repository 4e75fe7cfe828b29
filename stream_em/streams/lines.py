"""Text in pieces: raw bytes cut at line ends, so that memory does not depend on the length of a file."""

from collections.abc import Iterator
from dataclasses import dataclass

from stream_em.errors import InputError
from stream_em.streams.bytestream import ByteStream

PIECE_BYTES = 4 << 20
LONGEST_LINE = 64 << 20


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Whole lines of a text file; `line` is the number of the first one, from 1."""

    data: bytes
    line: int


def text_pieces(stream: ByteStream, *, quoted: bool, piece_bytes: int | None = None) -> Iterator[TextPiece]:
    """Cut a stream at line ends into pieces of about `piece_bytes`; with `quoted`, never inside quotes.

    Raises `InputError` for a line (or quoted field) of more than 64 MB.
    """
    size = piece_bytes or PIECE_BYTES
    line, rest = 1, stream.read(3)
    if rest[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{stream.name}: is UTF-16 text; save it as UTF-8")
    rest = rest.removeprefix(b"\xef\xbb\xbf")
    # Reading as much again as already waits keeps a very long line linear in its length.
    while fresh := stream.read_ready(max(size, len(rest))):
        data = rest + fresh
        cut = _last_cut(data, quoted)
        if cut == 0 and len(data) > LONGEST_LINE:
            hint = " or a quote that is opened and never closed" if quoted else ""
            raise InputError(
                f"{stream.name}, line {line}: no line end within {LONGEST_LINE >> 20} MB; look for a wrong format{hint}"
            )
        if cut:
            yield TextPiece(data[:cut], line)
            line += data.count(b"\n", 0, cut)
        rest = data[cut:]
    if rest:
        yield TextPiece(rest, line)


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

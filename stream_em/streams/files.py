"""Files as a source of blocks, read in pieces and never whole."""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from stream_em.arrays import IntArray
from stream_em.errors import InputError
from stream_em.streams.blocks import Cutter, Stretch, without_unusable
from stream_em.streams.bytestream import display
from stream_em.streams.cells import check_chosen, check_fields
from stream_em.streams.following import Follower, Moved, check_followable
from stream_em.streams.formats import Reader, ReaderOptions, Visit, checked_format, empty_error, format_named
from stream_em.streams.paths import Data, find_files
from stream_em.streams.positions import changed, names_in, whole
from stream_em.streams.records import Block, Note
from stream_em.streams.signals import Pcm, check_same_channels, check_same_rate, pcm_of
from stream_em.streams.visits import FileList

ON_ERROR = ("fail", "skip", "dead-letter")
SIGN_OF_LIFE_SECONDS = 1.0


def open_source(
    data: Data,
    *,
    fields: Sequence[str] | None = None,
    format: str | None = None,
    block_size: int = 8192,
    has_header: bool | None = None,
    passes: int = 1,
    follow: bool = False,
    on_error: str = "fail",
    sample_rate: float | None = None,
    channels: int | None = None,
    dtype: str | None = None,
) -> "FileSource":
    """Open a path, a pattern, a folder, a list of these, or "-" (standard input) as a source of blocks.

    `fields` chooses columns by name, in the order given; None takes all columns of the first file. `format`
    overrules the suffix. `has_header` is for CSV: None looks whether the first line holds only numbers.
    A folder gives all files in it with a known suffix, sorted by name. One iteration goes `passes` times through all
    files. With `follow`, one growing text file is read as it grows, rotated or not, until `stop` is called.
    `sample_rate`, `channels` and `dtype` ("int16" unless told) say how samples lie in raw PCM.

    `on_error` says what an unusable record does: "fail" raises; "skip" and "dead-letter" both put it among the
    block's `rejected`, and then a CSV record is one line, so that a stray quote spoils only its own line. Raises
    `InputError` naming the place.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w+", suffix=".csv") as file:
    ...     file.writelines(["height,width\\n", "1,2\\n", "3,\\n"])
    ...     file.flush()
    ...     for block in open_source(file.name):
    ...         print(block.fields, block.values.tolist())
    ('height', 'width') [[1.0, 2.0], [3.0, nan]]
    """
    if block_size < 1:
        raise InputError(f"block_size must be at least 1, not {block_size}")
    if passes < 1:
        raise InputError(f"passes must be at least 1, not {passes}")
    if on_error not in ON_ERROR:
        raise InputError(f"on_error must be one of {', '.join(ON_ERROR)}, not {on_error!r}")
    check_chosen(fields)
    kind = None if format is None else format_named(format)
    pcm = pcm_of(sample_rate, channels, dtype)
    files = [(path, checked_format(path, kind, follow, pcm is not None)) for path in find_files(data, kind)]
    return FileSource(
        files,
        fields=fields,
        block_size=block_size,
        has_header=has_header,
        passes=passes,
        follow=follow,
        on_error=on_error,
        pcm=pcm,
    )


class FileSource:
    """Blocks that end where a record's number is a multiple of `block_size`, and at the end of a file.

    Iterating again starts again. A block's `position` is {"file": path, "record": number of the next record in that
    file, from 0, "pass": from 0} and what the file's format needs to go on there and to see whether the file has
    changed; its `places` are {"file": path, "record": (n,) numbers}. The files of a signal are one after the other in
    time: "sample" is the number of the next over all of them, and `timestamps` are seconds since the first one. Made by
    `open_source`; also a context manager.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, str | None]],
        *,
        fields: Sequence[str] | None,
        block_size: int,
        has_header: bool | None,
        piece_bytes: int | None = None,
        passes: int = 1,
        follow: bool = False,
        on_error: str = "fail",
        pcm: Pcm | None = None,
    ) -> None:
        self._fields = None if fields is None else tuple(fields)
        self._takes_all = fields is None
        self._block_size = block_size
        self._lenient = on_error != "fail"
        self._stopped = threading.Event()
        self._rate: float | None = None
        self._samples_before = 0
        options = ReaderOptions(has_header, piece_bytes, self._lenient, pcm)
        self._files: FileList | Follower
        if follow:
            self._files = Follower(*check_followable(files, passes), options, self._stopped)
        else:
            self._files = FileList(files, passes, options)
        self._start: dict[str, Any] | None = None
        self._limit: int | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the columns: those asked for, or else all of the first file."""
        if self._fields is None:
            self._fields = self._files.columns()
        return self._fields

    @property
    def sample_rate(self) -> float | None:
        """The samples a second if the records are those of a signal, else None."""
        if self._rate is None:
            self._rate = self._files.sample_rate(self._fields or ())
        return self._rate

    @property
    def n_records(self) -> int | None:
        """The number of records of all files if their headers or footers tell, else None."""
        return self._files.n_records

    @property
    def n_bytes(self) -> int | None:
        """The size of all files as they lie on the disk; None for standard input and pipes."""
        return self._files.n_bytes

    @property
    def bytes_read(self) -> int:
        """The bytes consumed so far over all passes; each whole pass adds `n_bytes`. Never falls."""
        return self._files.bytes_read

    @property
    def lag(self) -> tuple[int, str] | None:
        """The bytes that this iteration has not read yet; None for standard input and pipes."""
        left = self._files.bytes_left
        return None if left is None else (left, "bytes")

    trouble = None
    """Files are there or an error: nothing is waited for."""

    def probe(self) -> str:
        """Return the fields; raises `InputError` if the files cannot be read. Pipes are not touched."""
        return "standard input or a pipe" if self.n_bytes is None else ", ".join(self.fields)

    def seek(self, position: dict[str, Any] | None, limit: int | None = None) -> None:
        """Let the next iteration go on at a position that a block had, for at most `limit` records, rejected too.

        Raises `InputError` if the position's file is gone or has changed since, for pipes, and if it is no position.
        """
        if limit is not None and limit < 0:
            raise InputError(f"limit must not be negative, and is {limit}")
        self._files.seek(position)
        if position is not None and self._fields is None:
            self._fields = tuple(names_in(position, "fields")) or None
        self._stopped.clear()
        self._start, self._limit = position, limit

    def commit(self, position: dict[str, Any]) -> None:
        """Do nothing: files stay where they are."""

    def stop(self) -> None:
        """End the iteration at its next block, or while it waits for a file to grow; until `seek` is called."""
        self._stopped.set()

    def __iter__(self) -> Generator[Block, None, None]:
        start, limit = self._start, self._limit
        self._start = self._limit = None
        return self._iterate(start, limit)

    def close(self) -> None:
        """Close what is open."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _iterate(self, position: dict[str, Any] | None, limit: int | None) -> Generator[Block, None, None]:
        notes: tuple[Note, ...] = ()
        shown = time.monotonic()
        if limit == 0:
            return
        if position is not None and self._fields is None:
            # The columns are those of the first file, which need not be the one that reading goes on in.
            self._fields = self._files.columns()
        self._samples_before = _samples_before(position)
        with closing(self._files.visits(position, self._fields or ())) as visits:
            for visit in visits:
                if isinstance(visit, Moved):
                    position, notes = visit.position, (*notes, visit.note)
                    continue
                for stretch in [None] if visit is None else self._stretches(visit, limit):
                    if self._stopped.is_set():
                        return
                    now = time.monotonic()
                    if visit is not None and stretch is not None:
                        block = self._block(visit, stretch, notes)
                        position = block.position
                        limit = None if limit is None else limit - len(stretch.values)
                    elif self._fields is not None and (notes or now - shown >= SIGN_OF_LIFE_SECONDS):
                        block = Block(np.empty((0, len(self._fields))), self._fields, position, notes=notes)
                    else:
                        continue
                    shown, notes = now, ()
                    yield block
                    if limit == 0:
                        return

    def _stretches(self, visit: Visit, limit: int | None) -> Iterator[Stretch | None]:
        """Yield a file's records up to the limit; raises `InputError` for fewer than before, or none ever to come."""
        reader = visit.reader
        fields = self._fields = _checked(self._fields or reader.columns, reader, visit.path)
        if reader.sample_rate is not None:
            self._rate = check_same_rate(self._rate, reader.sample_rate, visit.path)
            if self._takes_all:
                check_same_channels(fields, reader.columns, visit.path)
        last = None if limit is None else visit.record + limit
        cutter = Cutter(len(fields), self._block_size, visit.record, visit.skip, last)
        yield from cutter.stretches(reader.pieces(fields))
        if self._stopped.is_set():
            return
        if cutter.skip:
            raise changed(visit.path, f"it has {cutter.skip:,} records fewer than were read")
        if cutter.record == 0 and isinstance(self._files, FileList):
            raise empty_error(reader, visit.path)
        self._samples_before += cutter.record

    def _block(self, visit: Visit, stretch: Stretch, notes: tuple[Note, ...]) -> Block:
        fields = self._fields or ()
        values, numbers, rejected = without_unusable(stretch, visit.path, fields, self._lenient)
        position = {
            "file": visit.path,
            "record": stretch.end,
            **visit.keys,
            **stretch.origin.position(stretch.after),
        }
        places: dict[str, str | IntArray] = {"file": visit.path, "record": numbers}
        block = Block(values, fields, position, checked=True, places=places, rejected=rejected, notes=notes)
        if self._rate is None:
            return block
        position["sample"] = self._samples_before + stretch.end
        return replace(block, timestamps=(self._samples_before + numbers) / self._rate)


def _samples_before(position: dict[str, Any] | None) -> int:
    """Return how many samples lie in files before that of a position."""
    if position is None or "sample" not in position:
        return 0
    return whole(position, "sample", whole(position, "record")) - whole(position, "record")


def _checked(fields: tuple[str, ...], reader: Reader, path: str) -> tuple[str, ...]:
    """Return `fields` if the file has all of them; raise `InputError` if it has not, or holds nothing."""
    if not reader.columns:
        raise empty_error(reader, path)
    check_fields(fields, reader.columns, display(path))
    return fields

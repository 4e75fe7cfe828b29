"""A list of files, visited one after the other, pass after pass, from the start or from a position on."""

import os
from collections.abc import Generator, Sequence
from typing import Any

from stream_em.errors import InputError
from stream_em.streams.bytestream import STDIN, display, is_regular
from stream_em.streams.formats import Reader, ReaderOptions, Visit, codec_of, empty_error, open_reader
from stream_em.streams.positions import check_there, malformed, path_in, whole
from stream_em.streams.signals import SAMPLED_FORMATS


class FileList:
    """Files with their formats (None: look), each read from start to end, all of them `passes` times."""

    def __init__(self, files: Sequence[tuple[str, str | None]], passes: int, options: ReaderOptions) -> None:
        self._files = list(files)
        self._passes = passes
        self._options = options
        self._used: set[str] = set()
        self._first: Reader | None = None
        self._sought: Visit | None = None
        self._reading: Reader | None = None
        self._bytes_before = 0
        self._bytes_done = 0
        self._bytes_shown = 0
        seen: dict[str, int] = {}
        self._places: list[tuple[str, int]] = []
        for path, _ in files:
            # A file may be named more than once; the position tells which time it was.
            seen[path] = seen.get(path, -1) + 1
            self._places.append((path, seen[path]))
            if passes > 1 and not is_regular(path):
                raise _only_once(path)

    @property
    def n_records(self) -> int | None:
        """The number of records of all files if their headers or footers tell, else None."""
        total = 0
        for path, format in self._files:
            if format not in ("parquet", "arrow", "npy", *SAMPLED_FORMATS) or not is_regular(path):
                return None
            reader = open_reader(path, format, self._options)
            reader.close()
            if reader.n_records is None:
                return None
            total += reader.n_records
        return total

    @property
    def n_bytes(self) -> int | None:
        """The size of all files as they lie on the disk; None for standard input and pipes."""
        paths = [path for path, _ in self._files]
        return sum(map(os.path.getsize, paths)) if all(map(is_regular, paths)) else None

    @property
    def bytes_read(self) -> int:
        """The bytes consumed so far, or passed over by going to a position; never falls."""
        reading = self._reading
        # Another thread may be between two files; the maximum keeps a progress bar from stepping back.
        self._bytes_shown = max(self._bytes_shown, self._bytes_done + (reading.bytes_read if reading else 0))
        return self._bytes_shown

    @property
    def bytes_left(self) -> int | None:
        """The bytes that the last visits have left to read; None if unknown."""
        try:
            total = self.n_bytes
        except (OSError, InputError):
            return None
        return None if total is None else max(0, total * self._passes - (self.bytes_read - self._bytes_before))

    def columns(self) -> tuple[str, ...]:
        """Return the columns of the first file; raises `InputError` if it holds nothing."""
        return self._head()[0]

    def sample_rate(self, expected: Sequence[str]) -> float | None:
        """Return the samples a second of these columns of the first file, None if its records are no samples."""
        return self._head(expected)[1]

    def _head(self, expected: Sequence[str] = ()) -> tuple[tuple[str, ...], float | None]:
        path, format = self._files[0]
        reader = self._first or self._open(path, format, expected)
        if is_regular(path):
            reader.close()
        else:
            # A pipe cannot be opened again, so the visits go on with this reader.
            self._first = reader
        if not reader.columns:
            raise empty_error(reader, path)
        return reader.columns, reader.sample_rate

    def seek(self, position: dict[str, Any] | None) -> None:
        """Open the file of a position there; raises `InputError` if it is gone or has changed since, and for pipes."""
        self._forget()
        if position is None:
            return
        path = path_in(position, [path for path, _ in self._files])
        path, format = self._files[self._index(position)]
        if path == STDIN or (os.path.exists(path) and not is_regular(path)):
            raise InputError(
                f"{display(path)}: is read as it comes, so reading cannot go on where it stopped;"
                " save it to a file, or start anew with --fresh"
            )
        check_there(path, position, codec_of(path) is not None)
        record = whole(position, "record")
        reader = self._open(path, format)
        try:
            skip = reader.go_to(position)
        except BaseException:
            reader.close()
            raise
        self._sought = Visit(reader, path, {}, record, skip)

    def visits(self, position: dict[str, Any] | None, expected: Sequence[str]) -> Generator[Visit, None, None]:
        """Yield all files in their order, or those from a position on that was sought."""
        self._bytes_before = self._bytes_done
        first_pass = first_index = 0
        if position is not None:
            first_pass, first_index = whole(position, "pass"), self._index(position)
            sizes = [os.path.getsize(path) for path, _ in self._files]
            self._bytes_done += first_pass * sum(sizes) + sum(sizes[:first_index])
        for number in range(first_pass, self._passes):
            for index in range(first_index, len(self._files)):
                yield from self._visit(number, index, expected)
            first_index = 0

    def close(self) -> None:
        """Close what is open."""
        for reader in (self._first, self._reading):
            if reader is not None:
                reader.close()
        self._first = None
        self._forget()

    def _visit(self, number: int, index: int, expected: Sequence[str]) -> Generator[Visit, None, None]:
        path, time = self._places[index]
        keys = {"pass": number, "again": time} if time else {"pass": number}
        if self._sought is not None:
            visit, self._sought = self._sought._replace(keys=keys), None
        else:
            reader = self._first or self._open(path, self._files[index][1], expected)
            visit, self._first = Visit(reader, path, keys), None
        reader = self._reading = visit.reader
        consumed = None
        try:
            yield visit
            consumed = os.path.getsize(path) if is_regular(path) else None
        finally:
            self._reading = None
            self._bytes_done += reader.bytes_read if consumed is None else consumed
            reader.close()

    def _index(self, position: dict[str, Any]) -> int:
        """Return which of the files a position is in."""
        number = whole(position, "pass")
        if number >= self._passes:
            raise InputError(
                f"passes: is {self._passes}, but the snapshot stopped in pass {number + 1};"
                " set it back, or start anew with --fresh"
            )
        place = (position["file"], whole({"again": 0, **position}, "again"))
        if place not in self._places:
            raise malformed("'again' is more often than the file is named", position)
        return self._places.index(place)

    def _open(self, path: str, format: str | None, expected: Sequence[str] = ()) -> Reader:
        if path in self._used and not is_regular(path):
            raise _only_once(path)
        self._used.add(path)
        return open_reader(path, format, self._options, expected)

    def _forget(self) -> None:
        if self._sought is not None:
            self._sought.reader.close()
            self._sought = None


def _only_once(path: str) -> InputError:
    return InputError(f"{display(path)}: can be read only once; save it to a file, or leave passes (--passes) at 1")

"""One growing text file, read as `tail -F` reads it: through waiting, rotation and truncation."""

import os
import threading
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from typing import Any, NamedTuple

from stream_em.errors import InputError
from stream_em.streams.bytestream import ByteStream, blame, display, is_regular
from stream_em.streams.formats import ReaderOptions, Visit, codec_of, open_text
from stream_em.streams.lines import Text, TextPiece
from stream_em.streams.positions import check_there, names_in, path_in, whole
from stream_em.streams.records import Note

POLL_SECONDS = 0.1
LINE_FORMATS = ("csv", "tsv", "jsonl")


class Moved(NamedTuple):
    """Reading goes on elsewhere: what happened, and the position now."""

    note: Note
    position: dict[str, Any]


class FollowedStream(ByteStream):
    """A file at whose end more may come, until `watched` is another file, it shrinks, or `stopped` is set."""

    def __init__(self, path: str, watched: str, stopped: threading.Event) -> None:
        super().__init__(path)
        self.inode = _inode_of(self._raw.fileno())
        self.ending: str | None = None
        self.written_ns = 0
        self._watched = watched
        self._stopped = stopped
        self._replaced = False

    @property
    def complete(self) -> bool:  # type: ignore[override]
        """Whether the last line may lack its end: only a file that was left behind gets no more."""
        return self.ending == "rotated"

    def has_line(self) -> bool:
        """Go to the start and tell whether a line that is not blank is there, or else to the end of what there is."""
        with blame(self.path), open(self._raw.fileno(), "rb", closefd=False) as file:
            file.seek(0)
            found = any(line.strip() and (self.complete or line.endswith(b"\n")) for line in file)
            self.go_to(0 if found else file.tell())
        return found

    def wait_for_more(self) -> bool:
        """Wait a moment at the end of what there is, and tell whether more may come."""
        if self.ending is not None or self._stopped.wait(POLL_SECONDS):
            return False
        size = self.size()
        if size < self.delivered:
            self.ending = "truncated"
        elif size == self.delivered:
            # Whoever wrote the old file may add to it until it has opened the new one: look once more.
            if self._replaced:
                self.ending = "rotated"
                self.written_ns = os.fstat(self._raw.fileno()).st_mtime_ns
            self._replaced = _inode_of(self._watched) not in (None, self.inode)
        return self.ending is None


class Follower:
    """The file at a path, visited again whenever it is another one, until `stopped`."""

    n_records: int | None = None

    def __init__(self, path: str, format: str, options: ReaderOptions, stopped: threading.Event) -> None:
        self.path = path
        self._format = format
        self._options = options
        self._stopped = stopped
        self._stream: FollowedStream | None = None
        self._bytes_done = 0

    @property
    def n_bytes(self) -> int | None:
        """The size of the file now."""
        return _size_of(self.path)

    @property
    def bytes_read(self) -> int:
        """The bytes consumed so far, of all files that were there."""
        stream = self._stream
        return self._bytes_done + (stream.bytes_read if stream is not None else 0)

    @property
    def bytes_left(self) -> int | None:
        """The bytes that are there and not yet read."""
        stream, there = self._stream, _size_of(self.path)
        if stream is None:
            return there
        if _inode_of(self.path) == stream.inode:
            return max(0, there - stream.delivered)
        try:
            return there + max(0, stream.size() - stream.delivered)
        except ValueError:
            # Another thread has just read the old file to its end and closed it.
            return there

    def seek(self, position: dict[str, Any] | None) -> None:
        """Raise `InputError` if the file of a position is gone or has changed since."""
        if position is not None:
            self._found(position)

    def close(self) -> None:
        """Do nothing: what is open is closed when the visits end."""

    def _found(self, position: dict[str, Any]) -> str:
        """Return where the file of a position lies now; raises `InputError` if it is gone or has changed since."""
        path_in(position, [self.path])
        # A run that read the file to its end has left no inode: that file is the one.
        inode = whole(position, "inode") if "inode" in position else _inode_of(self.path)
        names_in(position, "columns")
        if _inode_of(self.path) == inode:
            self._check_text(self.path, position)
            return self.path
        folder = os.path.dirname(self.path) or "."
        with blame(folder), os.scandir(folder) as entries:
            found = [entry.path for entry in entries if entry.inode() == inode and entry.is_file(follow_symlinks=False)]
        for path in found:
            try:
                self._check_text(path, position)
            except InputError:
                continue
            return path
        raise InputError(
            f"{display(self.path)}: is another file than at the snapshot, and the old one is not in its folder under"
            " any name, so records at its end may be lost; put it (not compressed) there, or start anew with --fresh"
        )

    def visits(
        self, start: dict[str, Any] | None, expected: Sequence[str]
    ) -> Generator[Visit | Moved | None, None, None]:
        """Yield the file each time that it is another one, what happened in between, and None while waiting."""
        path = self.path if start is None else self._found(start)
        names: Sequence[str] = () if start is None else names_in(start, "columns")
        left: FollowedStream | None = None
        while True:
            stream = self._opened(path)
            if stream is None:
                if self._stopped.wait(POLL_SECONDS):
                    return
                yield None
                continue
            self._bytes_done, self._stream = self.bytes_read, stream
            try:
                if left is not None:
                    yield self._moved(left, stream.inode, names, expected)
                # Waiting with the file open loses nothing if it is filled and rotated in one moment.
                while not stream.has_line() and stream.wait_for_more():
                    yield None
                if self._stopped.is_set():
                    return
                if stream.has_line():
                    reader = open_text(stream, self._format, self._options, expected, names, followed=True)
                    expected = expected or reader.columns
                    keys = self._keys(stream.inode, names, expected)
                    if start is None:
                        yield Visit(reader, self.path, keys)
                    else:
                        yield Visit(reader, self.path, keys, start["record"], reader.go_to(start))
                    names = reader.columns
            finally:
                stream.close()
            if stream.ending is None:
                return
            path, start, left = self.path, None, stream

    def sample_rate(self, expected: Sequence[str]) -> None:
        """Return None: what is followed is text."""

    def columns(self) -> tuple[str, ...]:
        """Return the columns of the file, after waiting for its first line; raises `InputError` if stopped before."""
        before = self._bytes_done, self._stream
        try:
            with closing(self.visits(None, ())) as visits:
                for visit in visits:
                    if isinstance(visit, Visit):
                        return visit.reader.columns
        finally:
            self._bytes_done, self._stream = before
        raise InputError(f"{display(self.path)}: has no line yet; start again, or name the fields with --fields")

    def _opened(self, path: str) -> FollowedStream | None:
        """Open a file, if it is there."""
        try:
            return FollowedStream(path, self.path, self._stopped)
        except InputError as error:
            if isinstance(error.__context__, FileNotFoundError):
                return None
            raise

    def _keys(self, inode: int | None, names: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
        keys: dict[str, Any] = {"pass": 0, "inode": inode, "fields": list(fields)}
        # A file that comes after a rotation may lack the header that the one before had.
        return {**keys, "columns": list(names)} if names and self._format != "jsonl" else keys

    def _moved(self, left: FollowedStream, inode: int | None, names: Sequence[str], fields: Sequence[str]) -> Moved:
        if left.ending == "truncated":
            detail = f"{display(self.path)} became shorter than what was read of it; it is read again from its start"
        else:
            detail = f"{display(self.path)} is another file now; the old one was read to its end"
            missed = self._between(left, inode)
            if missed:
                detail += f"; not read: {', '.join(map(display, missed))}"
        start = TextPiece(b"", 1).position(0)
        position = {"file": self.path, "record": 0, **self._keys(inode, names, fields), **start}
        return Moved(Note(str(left.ending), detail), position)

    def _between(self, left: FollowedStream, inode: int | None) -> list[str]:
        """List the files that took this one's place and were rotated away too while nobody read."""
        folder, name = os.path.split(self.path)
        with blame(folder or "."), os.scandir(folder or ".") as entries:
            same = [entry for entry in entries if entry.name.startswith(name) and entry.is_file(follow_symlinks=False)]
        old = [entry.path for entry in same if entry.inode() == left.inode]
        missed = []
        for entry in same:
            # The old file may just be being compressed, and older ones be renamed or removed.
            if entry.inode() not in (left.inode, inode) and os.path.splitext(entry.path)[0] not in old:
                with suppress(FileNotFoundError):
                    missed += [entry.path] if entry.stat().st_mtime_ns > left.written_ns else []
        return sorted(missed)

    def _check_text(self, path: str, position: dict[str, Any]) -> None:
        check_there(path, position, compressed=False)
        stream = ByteStream(path)
        try:
            Text(stream, quoted=False).go_to(position)
        finally:
            stream.close()


def check_followable(files: Sequence[tuple[str, str | None]], passes: int) -> tuple[str, str]:
    """Return the one file that can be followed and its format; raises `InputError` for anything else."""
    if len(files) != 1:
        raise InputError(f"only one file can be followed, not {len(files)}; name one, or do not follow")
    ((path, format),) = files
    if not is_regular(path):
        raise InputError(f"{display(path)}: is a pipe, which is read as it comes anyway; do not follow it")
    if format not in LINE_FORMATS or codec_of(path) is not None:
        raise InputError(
            f"{display(path)}: only plain text can be followed, csv, tsv or jsonl, not compressed;"
            " write it so, or do not follow it"
        )
    if passes != 1:
        raise InputError(f"{display(path)}: is followed and has no end, so passes must be 1, not {passes}")
    return path, format


def _size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _inode_of(file: str | int) -> int | None:
    try:
        return os.stat(file).st_ino
    except FileNotFoundError:
        return None

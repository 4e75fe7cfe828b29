"""The folder of a run: config, snapshots, journal, outputs; held by one process at a time."""

import fcntl
import os
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from stream_em.errors import InputError, OutsideError
from stream_em.learning.store import SnapshotStore

CONFIG = "config.toml"
IDENTITY = "identity"
DEAD_LETTERS = "dead-letter.jsonl"
PARTITIONS = "partitions"
"""Where a run that several processes share has a run folder for each partition."""


class FolderBusyError(InputError):
    """Another process runs in a folder."""


class RunFolder:
    """A run folder, made if it is not there, and locked until `close`.

    Raises `InputError` if another process runs in it, `OutsideError` if it cannot be made or written.
    """

    def __init__(self, path: Path, keep: int = 5) -> None:
        self.path = path
        self.store = SnapshotStore(path / "snapshots", keep)
        self.journal_path = path / "journal.db"
        self._lock = locked(path)
        try:
            if (path / PARTITIONS).exists():
                raise InputError(
                    f"{path}: is shared by several processes; set source.share = true, or choose another run.folder"
                )
            make(self.store.folder)
        except BaseException:
            os.close(self._lock)
            raise

    def check(self) -> None:
        """Raise `OutsideError` if the folder is no longer the one that was opened."""
        try:
            there = os.stat(self.path / "lock")
        except OSError as error:
            raise OutsideError(f"{self.path}: the run folder is gone ({error.strerror}); put it back") from None
        ours = os.fstat(self._lock)
        if (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev):
            raise OutsideError(f"{self.path}: the run folder was replaced by another; put the right one back")

    def identity(self) -> str:
        """Return the name of this run in the world: made once, and another after --fresh."""
        path = self.path / IDENTITY
        try:
            if not path.exists():
                temporary = path.with_name(f".{IDENTITY}.part")
                with temporary.open("w") as file:
                    file.write(uuid.uuid4().hex)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            return path.read_text()
        except OSError as error:
            raise OutsideError(f"{path}: cannot be written: {error.strerror or error}") from None

    def write_config(self, text: str) -> None:
        """Write the config as run."""
        write_config(self.path, text)

    def output(self, file: str) -> Path:
        """Return where a sink writes: inside the folder unless `file` is absolute.

        Raises `InputError` for a relative path that leads out of the folder.
        """
        inside = (self.path / file).resolve()
        if not Path(file).is_absolute() and not inside.is_relative_to(self.path.resolve()):
            raise InputError(f"sinks: {file} leads out of the run folder; give an absolute path if that is meant")
        return inside

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._lock)


def make(folder: Path) -> None:
    """Make a folder of a run, if it is not there; raises `OutsideError` if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutsideError(f"{folder}: the run folder cannot be written: {error.strerror or error}") from None


def locked(path: Path, shared: bool = False) -> int:
    """Lock a folder, made if it is not there, and return the file that holds the lock until it is closed.

    Raises `FolderBusyError` if another process holds it; several may, if all do it `shared`.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is not a folder; choose another run.folder")
    make(path)
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutsideError(f"{path}: the run folder cannot be written: {error.strerror or error}") from None
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise FolderBusyError(
            f"{path}: another process runs in this folder; stop it, or choose another folder"
        ) from None
    return lock


def write_config(folder: Path, text: str) -> None:
    """Write the config as run."""
    path = folder / CONFIG
    temporary = path.with_name(f".{CONFIG}.{os.getpid()}.part")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OutsideError(f"{path}: cannot be written: {error.strerror or error}") from None


def set_run_aside(path: Path, end: Callable[[str], None] = lambda identity: None) -> Path | None:
    """Rename a run folder so that a new run can take its place; return its new name, or None if there was none.

    `end` is given the identities that it had, while nobody can run in the folder.
    """
    if not path.exists():
        return None
    path = path.resolve()
    is_run = ((path / "journal.db").exists() and (path / "snapshots").is_dir()) or (path / PARTITIONS).is_dir()
    if not is_run and any(path.iterdir()):
        raise InputError(
            f"{path}: is not the folder of a run, so --fresh does not rename it; choose another run.folder"
        )
    lock = locked(path)
    try:
        for identity in (path / IDENTITY, *path.glob(f"{PARTITIONS}/*/{IDENTITY}")):
            if identity.exists():
                end(identity.read_text())
    finally:
        os.close(lock)
    stem = f"{path.name}.aside-{datetime.now():%Y%m%dT%H%M%S}"
    aside, number = path.with_name(stem), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{stem}-{number}")
    try:
        path.rename(aside)
    except OSError as error:
        raise OutsideError(f"{path}: cannot be renamed to {aside}: {error.strerror or error}") from None
    return aside

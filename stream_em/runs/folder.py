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


class RunFolder:
    """A run folder, made if it is not there, and locked until `close`.

    Raises `InputError` if another process runs in it, `OutsideError` if it cannot be made or written.
    """

    def __init__(self, path: Path, keep: int = 5) -> None:
        self.path = path
        self.store = SnapshotStore(path / "snapshots", keep)
        self.journal_path = path / "journal.db"
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is not a folder; choose another run.folder")
        try:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OutsideError(f"{path}: the run folder cannot be written: {error.strerror or error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise InputError(
                f"{path}: another process runs in this folder; stop it, or choose another folder"
            ) from None

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
        path = self.path / CONFIG
        temporary = path.with_name(f".{CONFIG}.part")
        try:
            temporary.write_text(text, "utf-8")
            temporary.replace(path)
        except OSError as error:
            raise OutsideError(f"{path}: cannot be written: {error.strerror or error}") from None

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


def set_run_aside(path: Path, end: Callable[[str], None] = lambda identity: None) -> Path | None:
    """Rename a run folder so that a new run can take its place; return its new name, or None if there was none.

    `end` is given the identity of the run before, if it has one, while nobody can run in the folder.
    """
    if not path.exists():
        return None
    path = path.resolve()
    if not ((path / "journal.db").exists() and (path / "snapshots").is_dir()) and any(path.iterdir()):
        raise InputError(
            f"{path}: is not the folder of a run, so --fresh does not rename it; choose another run.folder"
        )
    folder = RunFolder(path)
    try:
        if (path / IDENTITY).exists():
            end(folder.identity())
    finally:
        folder.close()
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

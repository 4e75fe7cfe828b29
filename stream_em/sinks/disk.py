"""Failures of the disk in one line, and the calls that make files durable."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_em.errors import InputError, OutsideError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures of the disk meanwhile into `OutsideError` that names `path`."""
    try:
        yield
    except (InputError, OutsideError):
        raise
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise OutsideError(f"{path}: cannot be written: {reason}; mend it and run again") from None


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_folder(path: Path) -> None:
    """Create a folder and those above it, durably; raises `InputError` if one of them is a file."""
    missing = []
    while not path.is_dir():
        if path.exists():
            raise InputError(f"{path}: is a file, and a sink needs a folder there; choose another path for it")
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def is_there(path: Path, file: int) -> bool:
    """Return whether `path` still names the open `file`: not if it was deleted or replaced meanwhile."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except OSError:
        return False

"""The snapshots of one run: learner and positions in one file, the last ones kept, a damaged one passed over."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError, OutsideError
from stream_em.learning.learner import Learner
from stream_em.learning.snapshot import read_snapshot, write_snapshot
from stream_em.streams.records import as_records

SUFFIX = ".safetensors"
RECENT = "run.recent"
RECENT_RECORDS = 1000
"""So many of the latest records go into each snapshot, for the pictures of a report."""


class Progress(msgspec.Struct, frozen=True):
    """How far a run has come: what a snapshot says beside the learner."""

    records: int = 0
    """Records taken, rejected ones included."""
    rejected: int = 0
    source: dict[str, Any] | None = None
    """Where the source goes on."""
    sinks: dict[str, dict[str, Any]] = {}
    """Where each sink goes on, by its file."""


class Snapshot(NamedTuple):
    """A run at one moment."""

    path: Path
    learner: Learner
    progress: Progress
    recent: FloatArray
    """(n, D): some of the latest records."""
    created: str


class SnapshotStore:
    """A folder of snapshots, named by the records taken; `keep` of them stay."""

    def __init__(self, folder: Path, keep: int = 5) -> None:
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """Return the files, oldest first."""
        found = [path for path in self.folder.glob(f"*{SUFFIX}") if not path.name.startswith(".")]
        return sorted(found, key=lambda path: (_records(path), path.name))

    def write(self, learner: Learner, progress: Progress, recent: FloatArray) -> Path:
        """Write a snapshot, then drop the oldest beyond `keep`; raises `OutsideError` if the disk refuses."""
        metadata, tensors = learner.dump()
        metadata["positions"] = msgspec.json.encode(progress).decode()
        path = self.folder / f"{progress.records:012}{SUFFIX}"
        write_snapshot(path, metadata, {**tensors, RECENT: recent[-RECENT_RECORDS:]})
        try:
            # Later ones are of another time line, or damaged: they are not counted, and replaced when it gets there.
            earlier = [each for each in self.paths() if 0 <= _records(each) <= progress.records]
            for old in earlier[: -self.keep]:
                old.unlink()
            for part in self.folder.glob(f".*{SUFFIX}.*.part"):
                part.unlink()
        except OSError as error:
            raise OutsideError(f"{self.folder}: old snapshots cannot be removed: {error.strerror or error}") from None
        return path

    def newest(self) -> tuple[Snapshot | None, list[str]]:
        """Return the newest good snapshot, if any, and why each newer one was refused.

        Raises `InputError` if there are snapshots and none is good: a run must not silently begin anew.
        """
        refused: list[str] = []
        for path in reversed(self.paths()):
            try:
                snapshot = read(path)
                # A learner that was saved by itself says nothing of a run.
                if snapshot.progress == Progress() or snapshot.progress.records == _records(path):
                    return snapshot, refused
                refused.append(f"{path}: is after {snapshot.progress.records:,} records, unlike its name; rename it")
            except InputError as error:
                refused.append(str(error))
        if refused:
            raise InputError(
                f"{self.folder}: no snapshot can be used; the newest: {refused[0]}; start anew with --fresh"
            )
        return None, []

    def set_aside(self, after: Path) -> Path | None:
        """Move all snapshots newer than `after` into a folder beside them and return it, or None if there are none."""
        paths = self.paths()
        later = paths[paths.index(after) + 1 :]
        if not later:
            return None
        number = 1
        while (aside := self.folder / f"aside-{number}").exists():
            number += 1
        try:
            aside.mkdir()
            for path in later:
                path.rename(aside / path.name)
        except OSError as error:
            raise OutsideError(f"{aside}: snapshots cannot be moved there: {error.strerror or error}") from None
        return aside


def read(path: Path) -> Snapshot:
    """Read one snapshot; raises `InputError` if it is damaged, foreign, of a later version, or contradicts itself."""
    metadata, tensors = read_snapshot(path)
    learner = Learner.restore(metadata, tensors, str(path))
    try:
        progress = msgspec.json.decode(metadata.get("positions", "{}"), type=Progress)
        recent = as_records(tensors.get(RECENT, np.empty((0, 1))))
    except (msgspec.MsgspecError, ValueError) as error:
        raise InputError(f"{path}: its positions cannot be read ({error}); use an earlier one") from None
    return Snapshot(path, learner, progress, recent, metadata.get("created", ""))


def _records(path: Path) -> int:
    return int(path.stem) if path.stem.isascii() and path.stem.isdigit() else -1

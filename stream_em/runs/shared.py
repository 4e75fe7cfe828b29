"""The folder of a run that several processes share.

`partitions/TOPIC-NUMBER/` is the run folder of one partition, held by one process at a time: its statistics move with
it, because whoever takes it over waits for its lock and goes on from its newest snapshot. What all partitions must have
in common is written once, by whoever comes first: where reading began (`begin.json`), and the parameters that all
learners start from (`start.safetensors`), so that what they learn can be merged.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from stream_em.errors import InputError, OutsideError
from stream_em.learning.learner import Learner
from stream_em.learning.store import SUFFIX, Progress, Snapshot, SnapshotStore
from stream_em.runs.folder import PARTITIONS, locked, make
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.kafka.positions import merged, position_in

BEGIN = "begin.json"
START = f"start{SUFFIX}"


class SharedFolder:
    """A folder, made if it is not there, that no process may have for itself until `close`.

    Raises `InputError` if a process has it for itself or an unshared run is there, `OutsideError` if it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = locked(path, shared=True)
        try:
            if (path / "snapshots").exists():
                raise InputError(
                    f"{path}: holds a run that is not shared; set source.share = false, or start anew with --fresh"
                )
            make(path / PARTITIONS)
        except BaseException:
            os.close(self._lock)
            raise

    def partition(self, partition: Partition) -> Path:
        """Return the run folder of a partition."""
        return self.path / PARTITIONS / f"{partition.topic}-{partition.number}"

    def begin(self, propose: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the position at which the run began; `propose` is asked for it the first time."""
        path = self.path / BEGIN
        if not path.exists():
            text = msgspec.json.encode(propose())
            _write_once(path, lambda part: _write(part, text))
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.MsgspecError) as error:
            raise InputError(f"{path}: cannot be read: {error}; start anew with --fresh") from None

    def start(self) -> Any:
        """Return the parameters that all partitions start from, or None if no warm-up is over yet."""
        path = self.path / START
        return Learner.load(path).params if path.exists() else None

    def agree(self, learner: Learner, params: Any) -> Any:
        """Return what all partitions start from: these parameters, unless another was first."""
        path = self.path / START
        proposed = Learner(learner.model, params=params)
        proposed.fields = learner.fields
        _write_once(path, proposed.save)
        return Learner.load(path).params

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._lock)


def is_shared(path: Path) -> bool:
    """Tell whether a run folder is one that several processes share."""
    return (path / PARTITIONS).is_dir()


def refuse_shared(path: Path) -> None:
    """Raise `InputError` if a folder is shared where the run of one partition is meant."""
    if is_shared(path):
        raise InputError(f"{path}: is shared by several processes; name one of {path / PARTITIONS}/")


def partition_folders(path: Path) -> list[Path]:
    """Return the run folders of the partitions of a shared run that have snapshots."""
    found = [folder for folder in (path / PARTITIONS).iterdir() if SnapshotStore(folder / "snapshots").paths()]
    return sorted(found, key=lambda folder: (folder.name.rpartition("-")[0], len(folder.name), folder.name))


def merged_snapshot(path: Path) -> Snapshot:
    """Return what all partitions of a shared run have learned together, by their newest snapshots.

    Partitions that are still warming up start here, from what the others started from. Raises `InputError` if there is
    nothing to show yet, or if the model is a chain: parts of a sequence cannot be merged.
    """
    folders = partition_folders(path)
    snapshots = [_newest(folder) for folder in folders]
    learners = [snapshot.learner for snapshot in snapshots if snapshot.learner.count > 0]
    if not learners:
        raise InputError(f"{path}: no partition has a snapshot with records yet")
    if len(learners) > 1 and not learners[0].model.exchangeable:
        names = ", ".join(str(folder) for folder in folders)
        raise InputError(f"{path}: parts of a sequence cannot be merged; name one of {names}")
    _start_together([learner for learner in learners if not learner.started], path / START)
    merged_learner = learners[0].merge(*learners[1:])
    recent = max(snapshots, key=lambda snapshot: snapshot.progress.records).recent
    return Snapshot(path, merged_learner, merged_progress(snapshots), recent, max(each.created for each in snapshots))


def _start_together(waiting: list[Learner], start: Path) -> None:
    """End the warm-up of learners with common parameters: those that are agreed on, or those of the most records."""
    agreed = [Learner.load(start).params] if start.exists() else []

    def agree(params: Any) -> Any:
        agreed.append(params)
        return agreed[0]

    for learner in sorted(waiting, key=lambda learner: -learner.count):
        learner.agree = agree
        learner.start()


def merged_progress(snapshots: list[Snapshot]) -> Progress:
    """Return how far all partitions have come together."""
    sources = [snapshot.progress.source for snapshot in snapshots]
    position = merged(position_in(source) for source in sources if source is not None)
    return Progress(
        records=sum(snapshot.progress.records for snapshot in snapshots),
        rejected=sum(snapshot.progress.rejected for snapshot in snapshots),
        source=position.as_json() if position.places else None,
    )


def shared_progress(path: Path) -> Progress:
    """Return how far a shared run has come; nowhere if it has no snapshot yet."""
    return merged_progress([_newest(folder) for folder in partition_folders(path)]) if is_shared(path) else Progress()


def _newest(folder: Path) -> Snapshot:
    snapshot, _ = SnapshotStore(folder / "snapshots").newest()
    if snapshot is None:
        raise InputError(f"{folder}: its snapshots are gone")
    return snapshot


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write_once(path: Path, write: Callable[[Path], None]) -> None:
    """Let a file have what `write` writes, whole, unless it is there already."""
    part = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        write(part)
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    except OSError as error:
        raise OutsideError(f"{path}: cannot be written: {error.strerror or error}") from None

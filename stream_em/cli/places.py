"""Where a learned model is written, and which one a person means by a folder."""

import sys
from pathlib import Path

from stream_em.errors import InputError, OutsideError
from stream_em.learning.learner import Learner
from stream_em.learning.store import SUFFIX, Snapshot, SnapshotStore, read
from stream_em.runs.shared import is_shared, merged_snapshot


def prepare_output(out: Path) -> None:
    """Make the run folder `out`, or the folder of the file `out`, so that nothing is learned in vain.

    Raises `InputError` if a run or a file of another kind is there, `OutsideError` if it cannot be made.
    """
    if str(out) in ("", ".", "-"):
        raise InputError(f"--out {out}: name a folder, or a file that ends in {SUFFIX}")
    if is_snapshot_name(out):
        folder = out.parent
    elif out.is_file():
        raise InputError(f"{out}: is a file; name a folder, or a file that ends in {SUFFIX}")
    else:
        folder = out / "snapshots"
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{out}: holds the snapshots of another run; name another folder or delete it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutsideError(f"{folder}: cannot be made: {error.strerror or error}") from None


def saved(learner: Learner, out: Path) -> Path:
    """Write the learner to the file `out`, or name the snapshot that the run in the folder `out` wrote last."""
    if not is_snapshot_name(out):
        return find_snapshot(out)
    learner.save(out)
    return out


def find_snapshot(place: Path) -> Path:
    """Return the file `place`, or the newest snapshot of the run folder `place`.

    Raises `InputError` if there is none.
    """
    if not place.exists():
        raise InputError(f"{place}: there is no such run or snapshot; `stream-em fit DATA --out {place}` makes one")
    if not place.is_dir():
        return place
    snapshots = SnapshotStore(place / "snapshots").paths() or SnapshotStore(place).paths()
    if not snapshots:
        raise InputError(f"{place}: this folder has no snapshots; name a run folder or a file that ends in {SUFFIX}")
    return snapshots[-1]


def learned_in(place: Path) -> Snapshot:
    """Return what a file, a run folder or a shared run has learned; of a shared run what all partitions have together.

    A damaged snapshot is passed over, and that is said on standard error. Raises `InputError` if there is none.
    """
    if place.is_dir() and is_shared(place):
        return merged_snapshot(place)
    path = find_snapshot(place)
    if not place.is_dir():
        return read(path)
    snapshot, refused = SnapshotStore(path.parent).newest()
    assert snapshot is not None
    for reason in refused:
        print(f"stream-em: warning: passed over: {reason}", file=sys.stderr)
    return snapshot


def is_snapshot_name(out: Path) -> bool:
    """Tell whether `out` means one file, not a run folder."""
    return out.suffix == SUFFIX and not out.is_dir()

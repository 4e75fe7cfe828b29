"""Where a learned model is written, and which one a person means by a folder."""

from pathlib import Path

from stream_em.errors import InputError, OutsideError
from stream_em.learning.learner import Learner

SUFFIX = ".safetensors"


def prepare_output(out: Path) -> None:
    """Make the run folder `out`, or the folder of the file `out`, so that nothing is learned in vain.

    Raises `InputError` if a run or a file of another kind is there, `OutsideError` if it cannot be made.
    """
    if str(out) in ("", ".", "-"):
        raise InputError(f"--out {out}: name a folder, or a file that ends in {SUFFIX}")
    if _is_snapshot_name(out):
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


def save(learner: Learner, out: Path) -> Path:
    """Write the learner to the file `out`, or as a snapshot into the run folder `out`; return the file."""
    path = out if _is_snapshot_name(out) else out / "snapshots" / f"{int(learner.count):012}{SUFFIX}"
    learner.save(path)
    return path


def find_snapshot(place: Path) -> Path:
    """Return the file `place`, or the newest snapshot of the run folder `place`.

    Raises `InputError` if there is none.
    """
    if not place.exists():
        raise InputError(f"{place}: there is no such run or snapshot; `stream-em fit DATA --out {place}` makes one")
    if not place.is_dir():
        return place
    snapshots = sorted((place / "snapshots").glob(f"*{SUFFIX}")) or sorted(place.glob(f"*{SUFFIX}"))
    if not snapshots:
        raise InputError(f"{place}: this folder has no snapshots; name a run folder or a file that ends in {SUFFIX}")
    return snapshots[-1]


def _is_snapshot_name(out: Path) -> bool:
    return out.suffix == SUFFIX and not out.is_dir()

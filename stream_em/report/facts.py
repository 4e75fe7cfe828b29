"""What a page says of a run, read in one place: its newest good snapshot and its journal."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.learning.learner import Learner
from stream_em.learning.store import Progress, SnapshotStore
from stream_em.report.past import (
    SHOWN_EVENTS,
    Likelihoods,
    ParamsPath,
    Rows,
    Session,
    likelihoods_of,
    params_path_of,
    read_rows,
    sessions_of,
)
from stream_em.runs.folder import CONFIG
from stream_em.runs.shared import refuse_shared

SHOWN_SNAPSHOTS = 50


class Kept(NamedTuple):
    """A snapshot on the disk."""

    name: str
    n_bytes: int
    written: float | None
    seconds: float | None
    """How long writing took."""
    note: str


class Run(NamedTuple):
    """Everything that a page says."""

    name: str
    place: str
    learner: Learner | None
    """None before the first snapshot."""
    progress: Progress
    recent: FloatArray
    """(n, D): some of the latest records."""
    created: str
    notes: tuple[str, ...]
    """What a reader must know: why newer snapshots were refused, that the journal cannot be read."""
    sessions: tuple[Session, ...]
    likelihoods: Likelihoods
    params_path: ParamsPath
    events: tuple[dict[str, Any], ...]
    """The latest, newest first: records, time, kind, detail."""
    event_counts: dict[str, int]
    event_marks: tuple[tuple[float, str], ...]
    """Records and kind."""
    snapshots: tuple[Kept, ...]
    """The latest, newest first."""
    n_snapshots: int

    @property
    def records_per_second(self) -> float:
        """The mean rate of all sessions, or NaN."""
        timed = [session for session in self.sessions if session.seconds > 0]
        seconds = sum(session.seconds for session in timed)
        return sum(session.records for session in timed) / seconds if seconds > 0 else math.nan


def read_run(path: Path) -> Run:
    """Read a run folder; raises `InputError` if there is none, or has snapshots and none of them is good."""
    store, journal = SnapshotStore(path / "snapshots"), path / "journal.db"
    paths = store.paths()
    if not path.is_dir():
        raise InputError(f"{path}: is not a run folder; `stream-em run` and `stream-em fit --out` make one")
    refuse_shared(path)
    if not paths and not journal.exists() and not (path / CONFIG).exists():
        raise InputError(f"{path}: has no snapshots and no journal; name a run folder")
    snapshot, refused = store.newest()
    notes = [f"A newer snapshot cannot be used, so this page shows the one before: {reason}" for reason in refused]
    try:
        rows = read_rows(journal, snapshot.learner if snapshot is not None else None)
    except InputError as error:
        notes.append(f"The history is missing: {error}")
        rows = Rows()
    if not journal.exists():
        notes.append("This run has no journal, so its history is missing.")
    learner, progress = (None, Progress()) if snapshot is None else (snapshot.learner, snapshot.progress)
    if snapshot is None:
        notes.append("There is no snapshot yet: the parameters come with the first.")
    elif not snapshot.learner.started:
        notes.append("The warm-up that chooses the first parameters goes on: there are none yet.")
    recent = np.empty((0, 1)) if snapshot is None else snapshot.recent
    if learner is None or recent.shape[1] != learner.n_features:
        recent = np.empty((0, (learner.n_features if learner is not None else None) or 1))
    if learner is not None and not rows.counts and not journal.exists():
        rows.events = [event._asdict() | {"records": event.at, "time": None} for event in reversed(learner.events)]
        rows.marks = [(event.at, event.kind) for event in learner.events]
        for event in learner.events:
            rows.counts[event.kind] = rows.counts.get(event.kind, 0) + 1
    return Run(
        name=path.resolve().name,
        place=str(path),
        learner=learner,
        progress=progress,
        recent=recent,
        created=snapshot.created if snapshot is not None else "",
        notes=tuple(notes),
        sessions=sessions_of(rows, progress.records),
        likelihoods=likelihoods_of(rows),
        params_path=params_path_of(rows),
        events=tuple(rows.events[:SHOWN_EVENTS]),
        event_counts=rows.counts,
        event_marks=tuple(rows.marks),
        snapshots=_kept(paths, rows.snapshots, {snapshot.path} if snapshot is not None else set(), len(refused)),
        n_snapshots=len(paths),
    )


def _kept(paths: list[Path], rows: list[dict[str, Any]], used: set[Path], n_refused: int) -> tuple[Kept, ...]:
    noted = {Path(row["path"]).name: row for row in rows if row["path"]}
    kept = []
    for i, path in enumerate(reversed(paths[-SHOWN_SNAPSHOTS:])):
        try:
            n_bytes = path.stat().st_size
        except OSError:
            continue
        row = noted.get(path.name, {"time": None, "seconds": None})
        note = "cannot be used" if i < n_refused else "shown on this page" if path in used else ""
        kept.append(Kept(path.name, n_bytes, row["time"], row["seconds"], note))
    return tuple(kept)

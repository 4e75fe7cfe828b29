"""The journal of a run as values to draw; of a long one only what can be seen."""

import math
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.learning.learner import Learner
from stream_em.report.components import shares_of
from stream_em.runs.journal import read_journal

SHOWN_EVENTS = 50
_MARKED_EVENTS = 2000
_MOST_POINTS = 300
_LEAST_POINTS = 30
_DRAWN_NUMBERS = 30_000
"""So many numbers of the parameters' history are drawn: the page must stay small."""


class Session(NamedTuple):
    """A time that the run was started."""

    started: float | None
    ended: float | None
    outcome: str
    version: str
    begin: int
    """Records of the run before it."""
    records: int
    """Records that it took, as far as they stayed."""
    seconds: float
    """How long it is known to have run."""


class Likelihoods(NamedTuple):
    """The log-likelihood in each row of the journal; NaN where none was noted."""

    records: FloatArray
    values: FloatArray


class ParamsPath(NamedTuple):
    """The parameters in some rows of the journal."""

    records: FloatArray
    shares: FloatArray
    """(n, K)."""
    means: FloatArray
    """(n, K, D), or (n, 0, 0) for a model without means."""


class Rows:
    """What is used of a journal."""

    def __init__(self) -> None:
        self.sessions: list[dict[str, Any]] = []
        self.refreshes: list[dict[str, Any]] = []
        self.params: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}
        self.marks: list[tuple[float, str]] = []
        self.snapshots: list[dict[str, Any]] = []


def read_rows(journal: Path, learner: Learner | None) -> Rows:
    """Read the journal of a run, if there is one; raises `InputError` if it is damaged."""
    # Of a long run the parameters alone are a gigabyte of JSON: only what will be drawn is read.
    rows = Rows()
    rows.sessions = read_journal(journal, "sessions")
    rows.refreshes = read_journal(journal, "(SELECT rowid, records, time, log_likelihood FROM refreshes)")
    every = max(1, math.ceil(len(rows.refreshes) / _points(learner)))
    numbered = "(SELECT rowid, records, params, row_number() OVER (ORDER BY rowid DESC) AS n FROM refreshes)"
    rows.params = read_journal(journal, f"(SELECT * FROM {numbered} WHERE n % {every} = 1 % {every})")  # noqa: S608
    latest = f"(SELECT rowid, * FROM events ORDER BY rowid DESC LIMIT {_MARKED_EVENTS})"  # noqa: S608
    events = read_journal(journal, latest)
    rows.events = events[::-1][:SHOWN_EVENTS]
    rows.marks = [(row["records"], row["kind"]) for row in events]
    counted = read_journal(journal, "(SELECT min(rowid) AS rowid, kind, count(*) AS n FROM events GROUP BY kind)")
    rows.counts = {row["kind"]: row["n"] for row in counted}
    rows.snapshots = read_journal(journal, "snapshots")
    return rows


def _points(learner: Learner | None) -> int:
    if learner is None:
        return _MOST_POINTS
    lines = learner.model.n_components * (2 + min(6, learner.n_features or 1))
    return max(_LEAST_POINTS, min(_MOST_POINTS, _DRAWN_NUMBERS // lines))


def likelihoods_of(rows: Rows) -> Likelihoods:
    """Return the history of the log-likelihood."""
    return Likelihoods(_column(rows.refreshes, "records"), _column(rows.refreshes, "log_likelihood"))


def _column(rows: list[dict[str, Any]], name: str) -> FloatArray:
    values = np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def params_path_of(rows: Rows) -> ParamsPath:
    """Return the rows that hold parameters shaped as those of the last."""
    found = []
    for row in rows.params:
        try:
            params = {name: np.array(value, np.float64) for name, value in msgspec.json.decode(row["params"]).items()}
            shares, means = shares_of(params), params.get("means", np.empty((0, 0)))
        except (msgspec.MsgspecError, ValueError, TypeError, AttributeError):
            continue
        if shares is not None and means.ndim == 2 and np.isfinite(shares).all() and np.isfinite(means).all():
            found.append((row["records"], shares, means))
    shapes = [(shares.shape, means.shape) for _, shares, means in found]
    found = [row for row, shape in zip(found, shapes, strict=True) if shape == shapes[-1]]
    if not found:
        return ParamsPath(np.empty(0), np.empty((0, 0)), np.empty((0, 0, 0)))
    records, shares, means = (np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
    return ParamsPath(records, shares, means)


def sessions_of(rows: Rows, records: int) -> tuple[Session, ...]:
    """Return the sessions of a run whose newest snapshot holds so many records."""
    times = [row["time"] for row in rows.refreshes + rows.snapshots if row["time"] is not None]
    taken = max([records, *(row["records"] for row in rows.refreshes[-1:])])
    sessions = []
    for row, after in zip_longest(rows.sessions, rows.sessions[1:]):
        started, begin, limit = row["started"], row["records"] or 0, math.inf if after is None else after["started"]
        seen = [time for time in times if started <= time < limit]
        last = row["ended"] if row["ended"] is not None else max(seen, default=started)
        end = taken if after is None else after["records"] or 0
        outcome = row["outcome"] or ("goes on, or was killed" if after is None else "was killed")
        sessions.append(
            Session(started, row["ended"], outcome, row["version"] or "", begin, max(0, end - begin), last - started)
        )
    return tuple(sessions)

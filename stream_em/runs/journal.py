"""The journal of a run: an SQLite file that anyone can read, also while the run goes on.

Tables, all times in seconds since 1970 UTC, `records` counted from the start of the run:

* `sessions`   a row for each time the run was started: id, started, ended, outcome, version, records at the start
* `refreshes`  how learning went: records, time, rejected so far, log_likelihood (mean since the row before, nats a
  record, each record scored before it was learned), params (JSON; the parameters with at most two axes)
* `events`     what happened: records, time, kind, detail
* `snapshots`  what was written: records, time, path, seconds it took
* `outputs`    files that this run made: path

Rows of `refreshes` beyond 20,000 are thinned: the older half loses every second row.
"""

import math
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_em.errors import InputError, OutsideError
from stream_em.version import __version__

MOST_REFRESHES = 20_000
_PATIENCE_SECONDS = 5.0
_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS sessions (id INTEGER PRIMARY KEY, started REAL, ended REAL, outcome TEXT, version TEXT,
    records INTEGER);
CREATE TABLE IF NOT EXISTS refreshes (records INTEGER, time REAL, rejected INTEGER, log_likelihood REAL, params TEXT);
CREATE TABLE IF NOT EXISTS events (records INTEGER, time REAL, kind TEXT, detail TEXT);
CREATE TABLE IF NOT EXISTS snapshots (records INTEGER, time REAL, path TEXT, seconds REAL);
CREATE TABLE IF NOT EXISTS outputs (path TEXT PRIMARY KEY);
"""
_THIN = """
DELETE FROM refreshes WHERE rowid IN (
    SELECT rowid FROM (SELECT rowid, row_number() OVER (ORDER BY records) AS n FROM refreshes)
    WHERE n % 2 = 0 AND n <= ?
)
"""


class Journal:
    """The journal of one run, open for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session: int | None = None
        self._n_refreshes = 0
        with self._blame():
            self._database = sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)
            # A commit must not wait for the disk: after a power cut the last rows may lack, never the file.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version > _FORMAT:
                raise InputError(f"{path}: written by a later version of stream_em: upgrade")
            self._database.executescript(f"{_TABLES} PRAGMA user_version = {_FORMAT};")
            (self._n_refreshes,) = self._database.execute("SELECT count(*) FROM refreshes").fetchone()

    def begin(self, records: int) -> None:
        """Note that the run goes on after so many records: what the journal holds beyond them will happen again."""
        with self._blame(), self._transaction():
            for table in ("refreshes", "events", "snapshots"):
                self._database.execute(f"DELETE FROM {table} WHERE records > ?", (records,))  # noqa: S608
            self._session = self._database.execute(
                "INSERT INTO sessions (started, version, records) VALUES (?, ?, ?)", (time.time(), __version__, records)
            ).lastrowid

    def end(self, outcome: str) -> None:
        """Note how the session ended."""
        with self._blame():
            self._database.execute(
                "UPDATE sessions SET ended = ?, outcome = ? WHERE id = ?", (time.time(), outcome, self._session)
            )

    def refreshed(self, records: int, rejected: int, log_likelihood: float, params: str) -> None:
        """Add how learning went."""
        mean = None if math.isnan(log_likelihood) else log_likelihood
        with self._blame():
            self._insert("refreshes", (records, time.time(), rejected, mean, params))
            self._n_refreshes += 1
            if self._n_refreshes > MOST_REFRESHES:
                self._database.execute(_THIN, (self._n_refreshes // 2,))
                (self._n_refreshes,) = self._database.execute("SELECT count(*) FROM refreshes").fetchone()

    def happened(self, records: int, events: Iterable[tuple[str, str]]) -> None:
        """Add events: kind and detail of each."""
        with self._blame(), self._transaction():
            for kind, detail in events:
                self._insert("events", (records, time.time(), kind, detail))

    def saved(self, records: int, path: Path, seconds: float) -> None:
        """Add a snapshot."""
        with self._blame():
            self._insert("snapshots", (records, time.time(), str(path), seconds))

    def has_snapshots(self) -> bool:
        """Tell whether a snapshot was ever written."""
        with self._blame():
            return self._database.execute("SELECT 1 FROM snapshots").fetchone() is not None

    def claim(self, output: str) -> None:
        """Remember that this run makes the file `output`."""
        with self._blame():
            self._database.execute("INSERT OR IGNORE INTO outputs VALUES (?)", (output,))

    def claimed(self, output: str) -> bool:
        """Tell whether this run made the file `output`."""
        with self._blame():
            return self._database.execute("SELECT 1 FROM outputs WHERE path = ?", (output,)).fetchone() is not None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _insert(self, table: str, row: tuple[Any, ...]) -> None:
        self._database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _blame(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            mend = (
                "another process holds it: end that one" if "locked" in str(error) else "check the disk and its folder"
            )
            raise OutsideError(f"{self.path}: the journal cannot be written ({error}); {mend}") from None
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.path}: the journal is damaged ({error}); move it away: the run goes on without its history"
            ) from None


def read_journal(path: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table, or of a query in brackets, in order; nothing if there is no journal.

    Raises `InputError` if it is damaged.
    """
    if not path.exists():
        return []
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_SECONDS)
        try:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY rowid")]  # noqa: S608
        finally:
            database.close()
    except sqlite3.Error as error:
        raise InputError(f"{path}: the journal cannot be read: {error}") from None

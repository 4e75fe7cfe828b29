"""What a run shows while it goes on: a progress display on a terminal, structured log lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from stream_em.cli.output import console
from stream_em.config import Config, FilesSource
from stream_em.pipeline.loop import Outcome, Pipeline
from stream_em.pipeline.members import Member
from stream_em.pipeline.status import Status
from stream_em.streams.files import FileSource
from stream_em.streams.timed import TimedSource

_TERMINAL_SECONDS = 0.1
WARNINGS = frozenset(
    {"broker-away", "commit-failed", "data-loss", "failed", "field-missing"}
    | {"lost", "rejected", "snapshot-refused", "stuck", "waiting"}
)
"""Events that an operator should look at."""


class Display:
    """The progress of one run on standard error."""

    def __init__(self, config: Config, folder: Path | None, *, quiet: bool = False, logs: bool = True) -> None:
        target = console(stderr=True)
        self._folder = folder
        self._source = config.source
        self._live = target.is_terminal and not quiet
        self._logs = logs and not quiet and not self._live
        self._every = _TERMINAL_SECONDS if self._live else config.run.log_every_seconds
        self._shown = -math.inf if self._live else time.monotonic()
        columns = (SpinnerColumn(), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, console=target, transient=True, disable=not self._live)
        self._task = self._progress.add_task("", total=None, note="starting")
        self._bytes_read: Callable[[], int] | None = None
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.JSONRenderer(),
            ],
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def follow(self, pipeline: Pipeline) -> None:
        """Show this pipeline from now on."""
        status = pipeline.status
        self.tell("started", run=str(self._folder), records=status.records, fields=list(pipeline.source.fields))
        pipeline.on_tick = self._tick
        pipeline.on_event = lambda kind, detail: self.tell(kind, detail=detail)
        source, section = pipeline.source, self._source
        if isinstance(source, TimedSource):
            source = source.source
        if not isinstance(source, FileSource) or not isinstance(section, FilesSource) or section.follow:
            return
        if source.n_bytes is not None:
            self._progress.update(self._task, total=source.n_bytes * section.passes)
            self._bytes_read = lambda: source.bytes_read

    def watch(self, member: Member) -> None:
        """Show what this member of a shared run does from now on."""
        self.tell("started", run=str(self._folder), topics=member.topics)
        member.on_tick = self._tick
        member.on_event = lambda kind, detail: self.tell(kind, detail=detail)

    def tell(self, event: str, **more: Any) -> None:
        """Say that something happened."""
        if self._live:
            self._progress.console.print(f"{event}: {_words(more)}", markup=False, soft_wrap=True)
        elif self._logs:
            (self._log.warning if event in WARNINGS else self._log.info)(event, **more)

    def ended(self, outcome: Outcome) -> None:
        """Say how the run ended."""
        rate = outcome.records / max(outcome.seconds, 1e-9)
        self.tell(
            "ended",
            why=outcome.ended,
            run=str(self._folder),
            records=outcome.records,
            seconds=round(outcome.seconds, 3),
            records_per_second=round(rate),
        )

    def _tick(self, status: Status) -> None:
        now = time.monotonic()
        if now - self._shown < self._every:
            return
        self._shown = now
        if self._live:
            done = None if self._bytes_read is None else self._bytes_read()
            self._progress.update(self._task, completed=done, note=_note(status))
        elif self._logs and status.session_records:
            self._log.info("progress", **_numbers(status))


def _numbers(status: Status) -> dict[str, Any]:
    saved = None if status.last_snapshot is None else round(time.time() - status.last_snapshot, 1)
    return {
        "records": status.records,
        "records_per_second": round(status.records_per_second),
        "log_likelihood": None if math.isnan(status.mean_log_likelihood) else status.mean_log_likelihood,
        "rejected": status.rejected,
        "lag": None if status.lag is None else f"{status.lag[0]} {status.lag[1]}",
        "snapshot_age": saved,
    }


def _note(status: Status) -> str:
    parts = [
        f"{status.records:,} records",
        f"{status.records_per_second:,.0f}/s",
        f"log-likelihood {status.mean_log_likelihood:.5g}",
    ]
    if status.rejected:
        parts.append(f"{status.rejected:,} rejected")
    if status.lag is not None:
        parts.append(f"{status.lag[0]:,} {status.lag[1]} waiting")
    if status.last_snapshot is not None:
        parts.append(f"saved {time.time() - status.last_snapshot:.0f} s ago")
    return " · ".join(parts)


def _words(more: dict[str, Any]) -> str:
    values = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in more.items()}
    return str(values["detail"]) if list(values) == ["detail"] else " ".join(f"{k}={v}" for k, v in values.items())

"""The loop: a block is scored, learned and written; now and then everything is saved together.

After a crash the newest snapshot is the truth: the source goes on at its position, and what sinks and journal hold
beyond it is cut. So every record enters the statistics and every output exactly once.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.config import Run, Snapshots
from stream_em.configfile import hide
from stream_em.errors import InputError, OutsideError
from stream_em.learning.learner import Learner
from stream_em.learning.state import Event
from stream_em.learning.store import RECENT_RECORDS, Progress, Snapshot
from stream_em.pipeline.outputs import Output, Taken
from stream_em.pipeline.status import Status
from stream_em.runs.folder import DEAD_LETTERS, RunFolder
from stream_em.runs.journal import Journal
from stream_em.sinks.deadletters import DeadLetters
from stream_em.streams.ahead import read_patiently
from stream_em.streams.records import Block, Note, Source

PATIENCE_SECONDS = 0.2
LAG_SECONDS = 0.5
JOURNALLED_NUMBERS = 4096
"""Parameters of more numbers than this do not go into the journal."""

Ended = Literal["end", "limit", "stopped", "revoked", "lost"]


class Outcome(NamedTuple):
    """How a pipeline ended: the source's end, the limit of records, or a request to stop and why."""

    ended: Ended
    records: int
    """Records of this session."""
    seconds: float


class ErrorRate:
    """The share of unusable records among the latest, counted by whole blocks."""

    def __init__(self, most: float = 0.5, window: int = 1000) -> None:
        self.most = most
        self.window = window
        self._blocks: deque[tuple[int, int]] = deque()

    def add(self, block: Block) -> None:
        """Count a block; raises `InputError` if there are too many."""
        rejected = len(block.rejected)
        self._blocks.append((len(block) + rejected, rejected))
        while sum(n for n, _ in self._blocks) - self._blocks[0][0] >= self.window:
            self._blocks.popleft()
        total, bad = (sum(column) for column in zip(*self._blocks, strict=True))
        if total >= self.window and bad > self.most * total:
            raise InputError(
                f"{bad:,} of the last {total:,} records cannot be used, more than source.max_error_rate ="
                f" {self.most:g} allows; the last: {block.rejected[-1].reason if block.rejected else 'before'}"
            )


class Pipeline:
    """A source, a learner and what is kept of them; `run` once."""

    def __init__(
        self,
        learner: Learner,
        source: Source,
        *,
        outputs: Sequence[Output] = (),
        dead_letters: DeadLetters | None = None,
        folder: RunFolder | None = None,
        journal: Journal | None = None,
        progress: Progress | None = None,
        snapshots: Snapshots | None = None,
        run: Run | None = None,
        error_rate: ErrorRate | None = None,
        limit: int | None = None,
        secrets: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.learner = learner
        self.source = source
        self.outputs = outputs
        self.folder = folder
        self.journal = journal
        self.progress = self._saved = progress or Progress()
        self.status = Status(records=self.progress.records, rejected=self.progress.rejected)
        self.on_tick: Callable[[Status], None] = lambda status: None
        self.on_event: Callable[[str, str], None] = lambda kind, detail: None
        self._dead_letters = dead_letters
        self._snapshots = snapshots or Snapshots()
        self._run = run or Run()
        self._error_rate = error_rate or ErrorRate()
        self._limit = limit
        self._secrets = secrets or {}
        self._clock = clock
        self._stopping: Ended | None = None
        self._recent = np.empty((0, 1))
        self._last_event: Event | None = learner.events[-1] if learner.events else None
        self._scored = [0.0, 0.0]
        self._rejected_since = 0
        self._journalled_records = max(self.progress.records, 1)
        self._begun: list[tuple[str, str]] = []
        self._source_failed = False

    def begun_with(self, snapshot: Snapshot | None, refused: Sequence[str], made: Sequence[str] = ()) -> None:
        """Be told which snapshot the run goes on from, which newer ones were refused and why, and which topics made."""
        self._begun = [("snapshot-refused", reason) for reason in refused]
        self._begun += [("topic-made", f"topic {topic} was not there") for topic in made]
        if snapshot is not None:
            self._recent = snapshot.recent
            self._begun.append(("resumed", f"after {snapshot.progress.records:,} records, from {snapshot.path.name}"))

    def stop(self, why: Literal["stopped", "revoked", "lost"] = "stopped") -> None:
        """Ask the loop to finish its block, save and end; any thread and any signal handler may.

        If the source was lost to another process, nothing is saved: what came after the last snapshot is the other's.
        """
        self._stopping = why
        self.source.stop()

    def run(self) -> Outcome:
        """Run until the source ends or `stop` is called, and save at the end.

        Raises `InputError` for data that cannot be used and `OutsideError` if the source fails, after saving what came
        before; and `OutsideError` if disk or sinks fail: then the last snapshot stays as it is.
        """
        begin = self._clock()
        self._saved_at = self._journalled_at = self._looked_at = begin
        self.status.started = self.status.last_progress = time.monotonic()
        self.status.running = True
        self._happened(self._begun)
        blocks = read_patiently(self.source, PATIENCE_SECONDS)
        ended: Ended = "end"
        try:
            for block in self._watched(blocks):
                if block is not None:
                    self._take(block)
                if self._stopping != "lost":
                    self._tick()
                if self._stopping:
                    break
            if self._stopping:
                ended = self._stopping
            elif self._limit is not None and self.status.session_records >= self._limit:
                ended = "limit"
            else:
                self._start_at_the_end()
        except (InputError, OutsideError) as error:
            if self._stopping != "lost" and (isinstance(error, InputError) or self._source_failed):
                self._happened([("failed", str(error))])
                self.save()
                self._end("failed")
            raise
        finally:
            self.status.running = False
            blocks.close()
        if ended != "lost":
            self.save()
        self._end(ended)
        self.on_tick(self.status)
        return Outcome(ended, self.status.session_records, self._clock() - begin)

    def save(self) -> None:
        """Write a snapshot, unless nothing happened since the last; raises `OutsideError` if disk or folder fail."""
        if self.folder is None or self.journal is None or self.progress == self._saved:
            return
        begin = self._clock()
        self.folder.check()
        self._journal_refresh()
        # A sink that is left out for a while goes on where it was when it is there again.
        sinks = self.progress.sinks | {output.file: output.flush() for output in self.outputs}
        if self._dead_letters is not None:
            sinks[DEAD_LETTERS] = self._dead_letters.flush()
        self.progress = msgspec.structs.replace(self.progress, sinks=sinks)
        path = self.folder.store.write(self.learner, self.progress, self._recent)
        self._saved, self._saved_at = self.progress, self._clock()
        seconds = self._saved_at - begin
        self.journal.saved(self.progress.records, path.relative_to(self.folder.path), seconds)
        self._rejected_since = 0
        self.status.snapshots += 1
        self.status.snapshot_seconds += seconds
        self.status.last_snapshot = time.time()
        if self.progress.source is not None:
            self.source.commit(self.progress.source)

    def close(self) -> None:
        """Let go of everything; nothing is saved."""
        for output in self.outputs:
            output.sink.close()
        if self._dead_letters is not None:
            self._dead_letters.close()
        self.source.close()
        if self.journal is not None:
            self.journal.close()
        if self.folder is not None:
            self.folder.close()

    def _watched(self, blocks: Iterable[Block | None]) -> Iterator[Block | None]:
        """Give the blocks, and note if it is the source that fails: what was learned of it can be saved."""
        try:
            yield from blocks
        except OutsideError:
            self._source_failed = True
            raise

    def _take(self, block: Block) -> None:
        begin = self._clock()
        n = len(block) + len(block.rejected)
        if n:
            self._error_rate.add(block)
        posterior = None
        if any(output.needs_posterior for output in self.outputs):
            posterior = np.empty((len(block), self.learner.model.n_components))
        log_likelihood = self.learner.learn(block, posterior=posterior) if len(block) else np.empty(0)
        before = self.progress.records
        self.progress = msgspec.structs.replace(
            self.progress,
            records=before + n,
            rejected=self.progress.rejected + len(block.rejected),
            source=block.position or self.progress.source,
        )
        taken = Taken(block, log_likelihood, posterior, self._new_events(block.notes), before, before + n)
        for output in self.outputs:
            output.take(taken, self.learner)
        self._keep_rejected(block)
        self._happened([(event.kind, event.detail) for event in taken.events])
        if len(block):
            self._note_scores(log_likelihood)
            self._recent = block.values[-RECENT_RECORDS:]
        if n:
            self.status.records, self.status.rejected = self.progress.records, self.progress.rejected
            self.status.session_records += n
            self.status.session_rejected += len(block.rejected)
            self.status.blocks += 1
            self.status.block_seconds += self._clock() - begin
            self.status.last_progress = time.monotonic()

    def _keep_rejected(self, block: Block) -> None:
        if not block.rejected:
            return
        if self._dead_letters is not None:
            self._dead_letters.write(block.rejected)
        if self._rejected_since == 0:
            self._happened(
                [
                    (
                        "rejected",
                        f"unusable records in a block: {len(block.rejected)}; the first: {block.rejected[0].reason}",
                    )
                ]
            )
        self._rejected_since += len(block.rejected)

    def _note_scores(self, log_likelihood: FloatArray) -> None:
        scored = log_likelihood[~np.isnan(log_likelihood)]
        if len(scored):
            self.status.log_likelihood = float(scored.mean())
            self.status.mean_log_likelihood = self.learner.mean_log_likelihood
            self.status.left_out = self.learner.left_out
            self._scored[0] += len(scored)
            self._scored[1] += float(scored.sum())

    def _new_events(self, notes: Sequence[Note]) -> list[Event]:
        """Return what happened to the source and to the learner since the last call."""
        events = [Event(self.learner.count, note.kind, note.detail) for note in notes]
        fresh: list[Event] = []
        for event in reversed(self.learner.events):
            if event is self._last_event:
                break
            fresh.append(event)
        if fresh:
            self._last_event = fresh[0]
        return events + fresh[::-1]

    def _happened(self, events: Sequence[tuple[str, str]]) -> None:
        """Tell the journal and whoever listens; values from the environment stay their names."""
        events = [(kind, hide(detail, self._secrets)) for kind, detail in events]
        if events and self.journal is not None:
            self.journal.happened(self.progress.records, events)
        for kind, detail in events:
            self.on_event(kind, detail)

    def _tick(self) -> None:
        now = self._clock()
        if now - self._looked_at >= LAG_SECONDS:
            self.status.lag, self.status.trouble, self._looked_at = self.source.lag, self.source.trouble, now
        every = self._snapshots.every_records
        due = every is not None and self.progress.records // every > self._saved.records // every
        if due or now - self._saved_at >= self._snapshots.every_seconds:
            self.save()
            self._saved_at = now
        elif (
            now - self._journalled_at >= self._run.journal_every_seconds
            or self.progress.records >= 2 * self._journalled_records
        ):
            self._journal_refresh()
        self.on_tick(self.status)

    def _journal_refresh(self) -> None:
        self._journalled_at, self._journalled_records = self._clock(), max(self.progress.records, 1)
        if self.journal is None or not self.learner.started or self._scored[0] == 0:
            return
        params = self.learner.params._asdict()
        shown = {name: value.tolist() for name, value in params.items() if value.ndim <= 2}
        text = msgspec.json.encode(shown).decode() if sum(map(np.size, params.values())) <= JOURNALLED_NUMBERS else "{}"
        mean = self._scored[1] / self._scored[0]
        self.journal.refreshed(self.progress.records, self.progress.rejected, mean, text)
        self._scored = [0.0, 0.0]

    def _end(self, outcome: str) -> None:
        if self.journal is not None:
            self.journal.end(outcome)

    def _start_at_the_end(self) -> None:
        """Leave the warm-up when there is nothing more to come, unless others have a say in it."""
        if (
            not self.learner.started
            and self.learner.agree is None
            and (self.progress.records > self.progress.rejected or self.folder is None)
        ):
            self.learner.start()
            self._saved = Progress()

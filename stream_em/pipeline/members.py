"""A process that shares the partitions of topics with others: an ordinary run for each partition that is its own now.

The group protocol only says whose a partition is. Its run folder is locked by the process that learns from it, so a
partition changes hands when its old owner has saved and let go, or has died: whoever takes over waits for that.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from stream_em.config import Config
from stream_em.errors import InputError, OutsideError
from stream_em.learning.learner import Learner
from stream_em.pipeline.assemble import new_learner, pipeline_of
from stream_em.pipeline.loop import Ended, Outcome
from stream_em.pipeline.opening import output_topics
from stream_em.pipeline.part import OpenRun, PartRun
from stream_em.pipeline.status import GatheredStatus, Status
from stream_em.runs.folder import write_config
from stream_em.runs.shared import SharedFolder
from stream_em.streams.kafka.commits import Commits
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import BrokerAwayError, Partition
from stream_em.streams.kafka.membership import Held, Membership, open_membership
from stream_em.streams.kafka.opening import Opened, answered
from stream_em.streams.kafka.positions import Position, position_in
from stream_em.streams.kafka.producing import make_topics
from stream_em.streams.kafka.settings import KafkaSettings

HELD_SECONDS = 0.2
LOOK_SECONDS = 5.0
"""New topics that match a pattern are looked for so often."""
ANSWER_SECONDS = 1.0
SETTLED_SECONDS = 5.0
"""Who has no partition of a topic waits so long for one before it takes all to be read."""


class Member:
    """A member of the group that learns from its share of the partitions; `run` once."""

    def __init__(
        self,
        config: Config,
        folder: SharedFolder,
        open_run: OpenRun,
        until_end: bool,
        opened: Opened,
        membership: Membership,
    ) -> None:
        self.topics = sorted(opened.topics)
        self.status = GatheredStatus()
        self.on_tick: Callable[[Status], None] = lambda status: None
        self.on_event: Callable[[str, str], None] = lambda kind, detail: None
        self._config = config
        self._folder = folder
        self._open_run = open_run
        self._until_end = until_end
        self._opened = opened
        self._begin = position_in(folder.begin(lambda: opened.first().as_json()))
        self._membership = membership
        self._runs: dict[Partition, PartRun] = {}
        self._done: set[Partition] = set()
        passed_over = (BrokerAwayError, OutsideError)
        self._commits = Commits(membership, lambda kind, detail: self.on_event(kind, detail), passed_over)
        self._stopping = threading.Event()
        self._looked = self._moved = time.monotonic()

    def stop(self) -> None:
        """Ask to save and end; any thread and any signal handler may."""
        self._stopping.set()

    def run(self) -> Outcome:
        """Learn from what is ours until `stop` is called or, if the run is bounded, until all of it is read.

        Raises what the first run of a partition raises that fails, after the others have saved.
        """
        begin = time.monotonic()
        self.status.started = begin
        self.status.running = True
        for topic in make_topics(self._config.kafka or Connection(), output_topics(self._config)):
            self.on_event("topic-made", f"topic {topic} was not there")
        held = Held(frozenset(), frozenset(), False)
        ended: Ended = "stopped"
        if self.topics:
            self._membership.join(self.topics)
        while not self._stopping.is_set():
            before, held = held, self._look(held)
            if held.partitions != before.partitions or not held.joined:
                self._moved = time.monotonic()
            self._settle(held)
            self._commits.store(only=held.partitions)
            self.status.gather([run.status for run in self._runs.values()])
            self.on_tick(self.status)
            if self._until_end and self._all_read(held):
                ended = "end"
                break
        failed = self._stop_all()
        if failed is not None:
            raise failed
        self.status.running = False
        self._commits.store(ANSWER_SECONDS, held.partitions)
        self.status.gather([])
        return Outcome(ended, self.status.session_records, time.monotonic() - begin)

    def close(self) -> None:
        """End what still runs."""
        self.status.running = False
        self._stop_all()

    def _all_read(self, held: Held) -> bool:
        """Tell whether all that is ours, and will be, is read."""
        if self._runs or not held.partitions <= self._done or not (held.joined or not self.topics):
            return False
        # Who shares out may not have heard of a topic yet that was just made, and then gives nobody its partitions.
        without = set(self.topics) - {partition.topic for partition in held.partitions}
        return not without or time.monotonic() - self._moved > SETTLED_SECONDS

    def _look(self, held: Held) -> Held:
        """Return what is ours now: what it was before, while nobody answers."""
        try:
            self._follow_pattern()
            if self.topics:
                return self._membership.held(HELD_SECONDS)
        except BrokerAwayError:
            held = held._replace(lost=frozenset())
        self._stopping.wait(HELD_SECONDS)
        return held

    def _follow_pattern(self) -> None:
        now = time.monotonic()
        if getattr(self._config.source, "topic_pattern", None) is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        topics = sorted(self._opened.wanted(self._opened.client, ANSWER_SECONDS))
        if topics != self.topics and topics:
            self.topics = topics
            self._membership.join(topics)

    def _settle(self, held: Held) -> None:
        """Begin the runs of what is newly ours, end those of what is not any more, and raise what a run has raised."""
        for partition in held.lost & self._runs.keys():
            self._runs[partition].stop("lost")
        for partition in self._runs.keys() - held.partitions:
            self._runs[partition].stop("revoked")
        for partition, run in list(self._runs.items()):
            if not run.alive:
                self._end(partition, run)
        self._done &= held.partitions
        for partition in sorted(held.partitions - self._runs.keys() - self._done):
            self.on_event("assigned", f"{partition} is ours")
            self._runs[partition] = self._begun(partition)

    def _begun(self, partition: Partition) -> PartRun:
        place = self._begin.places.get(partition)
        begin = Position({} if place is None else {partition: place}, self._begin.ids)
        run = PartRun(
            self._config,
            partition,
            self._folder.partition(partition),
            self._open_run,
            begin=begin,
            until_end=self._until_end,
            learner=self._learner,
            agree=self._folder.agree,
            commit=self._commits.add,
            tell=lambda kind, detail: self.on_event(kind, f"{partition}: {detail}"),
        )
        run.start()
        return run

    def _learner(self) -> Learner:
        """Return a learner that starts from what all start from, if that is known."""
        return new_learner(self._config, self._folder.start())

    def _end(self, partition: Partition, run: PartRun) -> None:
        del self._runs[partition]
        self.status.keep(run.status)
        if run.error is not None:
            raise run.error
        if run.ended in ("revoked", "lost"):
            self._commits.drop(partition)
            self.on_event(run.ended, f"{partition} is not ours any more")
        elif run.ended is not None:
            self._done.add(partition)

    def _stop_all(self) -> BaseException | None:
        """End all runs, and return what the first has raised that failed."""
        for run in self._runs.values():
            run.stop("stopped")
        failed: BaseException | None = None
        for partition, run in list(self._runs.items()):
            run.join()
            try:
                self._end(partition, run)
            except BaseException as error:
                failed = failed or error
        return failed


@contextmanager
def member_of(
    config: Config, path: Path, text: str, *, until_end: bool = False, secrets: Mapping[str, str] | None = None
) -> Iterator[Member]:
    """Open the shared run in a folder and close it at the end; raises as `pipeline_of` does."""
    source, connection = config.source, config.kafka or Connection()
    if not isinstance(source, KafkaSettings) or source.group is None:
        raise InputError("source.share: needs a source of type kafka with a group")
    # What is wrong with the config is better told now than by each partition.
    new_learner(config)
    with ExitStack() as stack:
        folder = SharedFolder(path)
        stack.callback(folder.close)
        write_config(path, text)
        opened = Opened(connection, source)
        stack.callback(opened.close)
        group = source.group
        membership = answered(lambda: open_membership(connection, group))
        stack.callback(membership.close)
        open_run = partial(pipeline_of, text=text, secrets=secrets)
        member = Member(config, folder, open_run, until_end or source.end == "now", opened, membership)
        stack.callback(member.close)
        yield member

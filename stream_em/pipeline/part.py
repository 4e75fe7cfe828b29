"""The run of one partition of a shared run, in a thread of its own."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from stream_em.config import Config
from stream_em.learning.learner import Learner
from stream_em.pipeline.assemble import source_of
from stream_em.pipeline.loop import Ended, Pipeline
from stream_em.pipeline.status import Status
from stream_em.runs.folder import FolderBusyError
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.kafka.positions import Position
from stream_em.streams.kafka.settings import KafkaSettings, of_partition
from stream_em.streams.kafka.source import Part

OpenRun = Callable[..., AbstractContextManager[Pipeline]]
"""`pipeline_of` with what is common to all partitions."""
TRY_SECONDS = 0.1
TOLD_AFTER = 20
"""After so many tries in vain it is told that another process holds the partition still."""


class PartRun:
    """A pipeline on one partition: it waits until nobody else has it, and goes on where that one stopped."""

    def __init__(
        self,
        config: Config,
        partition: Partition,
        folder: Path,
        open_run: OpenRun,
        *,
        begin: Position,
        until_end: bool,
        learner: Callable[[], Learner],
        agree: Callable[[Learner, Any], Any],
        commit: Callable[[Mapping[Partition, int]], None],
        tell: Callable[[str, str], None],
    ) -> None:
        assert isinstance(config.source, KafkaSettings)
        self.status = Status(running=True)
        self.ended: Ended | None = None
        self.error: BaseException | None = None
        self._config = msgspec.structs.replace(config, source=of_partition(config.source, partition))
        self._part = Part(partition.number, begin.as_json(), commit)
        self._folder = folder
        self._open_run = open_run
        self._until_end = until_end
        self._learner = learner
        self._agree = agree
        self._tell = tell
        self._why: Literal["stopped", "revoked", "lost"] | None = None
        self._asked = threading.Event()
        self._pipeline: Pipeline | None = None
        self._thread = threading.Thread(target=self._run, name=f"partition-{partition.number}", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, why: Literal["stopped", "revoked", "lost"]) -> None:
        """Ask it to save, unless the partition is lost, and to end; any thread may."""
        if self._why is None:
            self._why = why
            self._asked.set()
            if self._pipeline is not None:
                self._pipeline.stop(why)

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                pipeline = self._opened(stack)
                if pipeline is None:
                    self.ended = self._why
                    return
                pipeline.learner.agree = partial(self._agree, pipeline.learner)
                pipeline.on_event = self._tell
                self.status = pipeline.status
                self._pipeline = pipeline
                if self._why is not None:
                    pipeline.stop(self._why)
                self.ended = pipeline.run().ended
        except BaseException as error:
            self.error = error

    def _opened(self, stack: ExitStack) -> Pipeline | None:
        """Return the pipeline once nobody else has the folder, or None if it is not to run any more."""
        tries = 0
        while self._why is None:
            source = source_of(self._config, self._until_end, self._part)
            try:
                return stack.enter_context(
                    self._open_run(self._config, self._folder, source=source, begin=self._learner)
                )
            except FolderBusyError:
                tries += 1
                if tries == TOLD_AFTER:
                    self._tell("waiting", "another process has it still; waiting until it lets go or ends")
                    self.status.trouble = "another process holds the partition"
                self._asked.wait(TRY_SECONDS)
        return None

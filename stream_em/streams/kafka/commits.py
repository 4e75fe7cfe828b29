"""Offsets on their way to the group, where lag tools look for them; nothing else would miss them."""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from stream_em.streams.kafka.interface import BrokerAwayError, Partition


class Committer(Protocol):
    """What a client must be able to do; see `Client`."""

    commit_error: str | None

    def commit(self, offsets: Mapping[Partition, int], seconds: float | None) -> None:
        """Store offsets as the group's."""
        ...


class Commits:
    """Offsets that wait to be stored. Any thread may add some; the client's own stores them.

    A failure is told once, until a commit has gone well again: `tell` is called with its kind and detail. Only errors
    that are `passed_over` are failures.
    """

    def __init__(
        self,
        client: Committer,
        tell: Callable[[str, str], None],
        passed_over: tuple[type[Exception], ...] = (BrokerAwayError,),
    ) -> None:
        self._client = client
        self._tell = tell
        self._passed_over = passed_over
        self._waiting: dict[Partition, int] = {}
        self._changed = threading.Lock()
        self._failed = False

    def add(self, offsets: Mapping[Partition, int]) -> None:
        """Have offsets stored soon."""
        with self._changed:
            self._waiting |= offsets

    def drop(self, partition: Partition) -> None:
        """Store nothing of a partition any more."""
        with self._changed:
            self._waiting.pop(partition, None)

    def store(self, seconds: float | None = None, only: Collection[Partition] | None = None) -> None:
        """Commit what waits, or `only` that of some partitions; nobody waits for it if `seconds` is None."""
        failed, self._client.commit_error = self._client.commit_error, None
        with self._changed:
            chosen = self._waiting.keys() if only is None else self._waiting.keys() & set(only)
            offsets = {partition: self._waiting.pop(partition) for partition in list(chosen)}
        if offsets:
            try:
                self._client.commit(offsets, seconds)
            except self._passed_over as error:
                failed = str(error)
        if failed is not None and not self._failed:
            self._tell("commit-failed", f"the group's offsets could not be stored ({failed})")
        if failed is not None or offsets:
            self._failed = failed is not None

"""What was fetched and not yet taken: handed from the thread that polls to the one that decodes."""

import threading
from collections import deque
from typing import NamedTuple

from stream_em.streams.kafka.interface import Fetched
from stream_em.streams.records import Note

MOST_BYTES = 64 << 20


class Taken(NamedTuple):
    """Messages of one topic, in the order of their partitions, and what happened before them."""

    fetched: list[Fetched]
    notes: tuple[Note, ...]
    ended: bool
    """Whether nothing will come any more."""


class Buffer:
    """Fetched messages, up to about `most_messages` or 64 MB of them; any thread may use it."""

    def __init__(self, most_messages: int) -> None:
        self._most = most_messages
        self._changed = threading.Condition()
        self._waiting: deque[Fetched] = deque()
        self._notes: list[Note] = []
        self._messages = self._bytes = 0
        self._ended = self._closed = False
        self._failed: BaseException | None = None

    @property
    def messages(self) -> int:
        """How many messages wait."""
        return self._messages

    @property
    def full(self) -> bool:
        """Whether no more should be put in."""
        return self._messages >= self._most or self._bytes >= MOST_BYTES

    @property
    def low(self) -> bool:
        """Whether there is room again after it was full."""
        return 2 * self._messages <= self._most and 2 * self._bytes <= MOST_BYTES

    def wait_for_room(self, seconds: float) -> bool:
        """Wait until more can be put in or it is closed, or so long; tells whether one of both happened."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.full or self._closed, seconds)

    def close(self) -> None:
        """Let nobody wait for room any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def put(self, fetched: list[Fetched]) -> None:
        """Add messages."""
        with self._changed:
            for each in fetched:
                self._waiting.append(each)
                self._messages += len(each.values)
                self._bytes += each.n_bytes
            self._changed.notify_all()

    def note(self, kind: str, detail: str) -> None:
        """Add something that happened."""
        with self._changed:
            self._notes.append(Note(kind, detail))
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Let nothing more come, and raise `error`, if any, where all that was put in is taken."""
        with self._changed:
            self._ended, self._failed = True, error
            self._changed.notify_all()

    def take(self, most: int, seconds: float) -> Taken:
        """Return up to `most` messages, of as many partitions of one topic as there are; wait so long for the first."""
        with self._changed:
            if not (self._waiting or self._notes or self._ended):
                self._changed.wait(seconds)
            notes, self._notes = tuple(self._notes), []
            found: list[Fetched] = []
            while self._waiting and most and (not found or _same_topic(self._waiting[0], found[0])):
                first = self._waiting.popleft()
                if len(first.values) > most:
                    self._waiting.appendleft(first.part(most, None))
                    first = first.part(0, most)
                found.append(first)
                most -= len(first.values)
                self._messages -= len(first.values)
                self._bytes -= first.n_bytes
            if found:
                self._changed.notify_all()
            if not found and self._failed is not None:
                raise self._failed
            return Taken(found, notes, self._ended and not self._waiting and self._failed is None)


def _same_topic(one: Fetched, other: Fetched) -> bool:
    """Tell whether both are of one topic, and not of one and another that was made anew under its name."""
    return (one.partition.topic, one.topic_id) == (other.partition.topic, other.topic_id)

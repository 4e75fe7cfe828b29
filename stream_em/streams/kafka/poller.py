"""The thread that owns the client: it polls whatever else happens, so that nothing is silent and nobody expelled."""

import threading
import time
from collections.abc import Callable, Mapping

from stream_em.errors import OutsideError
from stream_em.streams.kafka.buffer import Buffer
from stream_em.streams.kafka.commits import Commits
from stream_em.streams.kafka.interface import BrokerAwayError, Client, Fetched, OffsetsGoneError, Partition, Topic
from stream_em.streams.kafka.ranges import deleted, made_anew, settled
from stream_em.streams.kafka.settings import OnDataLoss

FETCH_MESSAGES = 5000
FETCH_SECONDS = 0.1
ASK_SECONDS = 1.0
"""After so long without a message the broker is asked whether it is there, and as long it may take to answer."""
LOOK_SECONDS = 5.0
"""New partitions are looked for so often."""
PAUSE_SECONDS = 2.0
"""If there is no room for so long, partitions are paused and polling goes on, or a group would expel its member."""
STUCK_SECONDS = 30.0
"""If the broker has messages and sends none for so long, the client is told again what to read."""


class Poller:
    """Fetches into a buffer from the positions given on, until `until` (offsets) or until `stop`."""

    def __init__(
        self,
        client: Client,
        positions: Mapping[Partition, int],
        *,
        topics: Mapping[str, Topic],
        wanted: Callable[[Client, float], dict[str, Topic]],
        until: Mapping[Partition, int] | None,
        most_messages: int,
        on_data_loss: OnDataLoss,
        give_up_after: float,
    ) -> None:
        self.buffer = Buffer(most_messages)
        self.trouble: str | None = None
        """What keeps messages from coming, if anything."""
        self._client = client
        self._next = dict(positions)
        self._ends = dict(until or {})
        self._topics = dict(topics)
        self._wanted = wanted
        self._until = until
        self._on_data_loss = on_data_loss
        self._give_up_after = give_up_after
        self._commits = Commits(client, self.buffer.note)
        self._missing: set[str] = set()
        self._stopped = threading.Event()
        self._heard = self._moved = self._looked = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="kafka", daemon=True)

    @property
    def lag(self) -> int:
        """How many messages are known to wait, fetched or not."""
        beyond = [max(0, self._ends.get(each, offset) - offset) for each, offset in list(self._next.items())]
        return self.buffer.messages + sum(beyond)

    @property
    def topics(self) -> dict[str, Topic]:
        """The topics that are read."""
        return self._topics

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Have offsets stored as the group's soon."""
        self._commits.add(offsets)

    def stop(self) -> None:
        """End soon; any thread may call it."""
        self._stopped.set()
        self.buffer.close()

    def join(self, seconds: float) -> bool:
        """Wait until the thread has ended, and tell whether it has; what was to be committed then is."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        self._commits.store(ASK_SECONDS)
        return True

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._assign()
            paused = False
            while not self._stopped.is_set() and not self._done():
                self._commits.store()
                if self.buffer.full and not paused:
                    # Pausing throws away what the client has fetched ahead, so a short wait comes first.
                    paused = not self.buffer.wait_for_room(PAUSE_SECONDS)
                    if paused:
                        self._client.pause(True)
                elif paused and self.buffer.low:
                    paused = False
                    self._client.pause(False)
                fetched = self._fetch()
                if fetched:
                    self._heard = self._moved = time.monotonic()
                    self._end_trouble()
                    self.buffer.put(self._counted(fetched))
                else:
                    self._when_silent(paused)
                self._look()
        except BaseException as caught:
            error = caught
        self.buffer.end(error)

    def _fetch(self) -> list[Fetched]:
        try:
            return self._client.fetch(FETCH_MESSAGES, FETCH_SECONDS)
        except BrokerAwayError:
            self._stopped.wait(FETCH_SECONDS)
        except OffsetsGoneError as gone:
            self._settle(gone.partitions)
        return []

    def _counted(self, fetched: list[Fetched]) -> list[Fetched]:
        """Move on behind what was fetched, and cut what lies beyond the offsets at which to end."""
        kept = []
        for each in fetched:
            each = each._replace(topic_id=self._topics[each.partition.topic].id)
            last = int(each.offsets[-1])
            self._next[each.partition] = last + 1
            end = self._client.end(each.partition)
            self._ends[each.partition] = max(last + 1, end or 0)
            if self._until is not None and last >= self._until[each.partition]:
                each = each.part(0, int(each.offsets.searchsorted(self._until[each.partition])))
            if len(each.values):
                kept.append(each)
        return kept

    def _done(self) -> bool:
        return self._until is not None and all(self._next[each] >= end for each, end in self._until.items())

    def _assign(self) -> None:
        self._client.assign(self._next)

    def _when_silent(self, paused: bool) -> None:
        """Ask the broker whether it is there: clients raise nothing while it is away."""
        now = time.monotonic()
        if not self._next:
            self._heard = now
        if now - self._heard < ASK_SECONDS:
            return
        try:
            ranges = self._client.ranges(list(self._next), ASK_SECONDS)
            if not paused:
                # Behind the last message there may be marks of transactions, which are no messages.
                self._next |= {each: max(offset, self._client.position(each)) for each, offset in self._next.items()}
        except BrokerAwayError as error:
            away = time.monotonic() - self._heard
            if self.trouble is None:
                self.buffer.note("broker-away", f"{error}; waiting for it")
            self.trouble = f"the broker has been away for {away:.0f} s"
            if away > self._give_up_after:
                raise OutsideError(
                    f"kafka: {error}; gave up after {away:.0f} s (source.give_up_after);"
                    " run again when it is back: the run goes on where it stopped"
                ) from None
            return
        self._end_trouble()
        self._heard = time.monotonic()
        self._ends = {each: at.end for each, at in ranges.items()}
        waits = any(self._ends[each] > offset for each, offset in self._next.items())
        if paused or not waits:
            self._moved = self._heard
        elif self._heard - self._moved > STUCK_SECONDS:
            self.buffer.note("stuck", f"messages wait and none came for {STUCK_SECONDS:.0f} s; asked for them anew")
            self._settle(list(self._next))
            self._moved = self._heard

    def _end_trouble(self) -> None:
        if self.trouble is not None:
            self.buffer.note("broker-back", self.trouble.replace("has been", "was"))
            self.trouble = None
            self._moved = time.monotonic()

    def _settle(self, partitions: list[Partition] | tuple[Partition, ...]) -> None:
        """Find where reading goes on, after the broker said that it does not have what was asked for."""
        try:
            # A topic that was made anew is told by its id, and then begun only once.
            self._follow(self._topics | self._wanted(self._client, ASK_SECONDS))
            ranges = self._client.ranges(list(partitions), ASK_SECONDS)
        except BrokerAwayError:
            return
        offsets, notes = settled({each: self._next[each] for each in partitions}, ranges, self._on_data_loss)
        for note in notes:
            self.buffer.note(*note)
        self._next |= offsets
        self._assign()

    def _look(self) -> None:
        """Look for new partitions, and for topics that were deleted or made anew."""
        now = time.monotonic()
        if self._until is not None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            self._follow(self._wanted(self._client, ASK_SECONDS))
        except BrokerAwayError:
            return

    def _follow(self, topics: dict[str, Topic]) -> None:
        """Read what these topics have now; raises `BrokerAwayError` before anything changes."""
        missing = self._topics.keys() - topics.keys()
        # A broker that has just started may not know all topics yet.
        gone, self._missing = missing & self._missing, missing
        anew = {name for name in topics if name in self._topics and self._topics[name].id != topics[name].id}
        partitions = {Partition(name, number) for name, topic in topics.items() for number in topic.partitions}
        fresh = sorted(each for each in partitions if each not in self._next or each.topic in anew)
        if not (gone or fresh):
            return
        ranges = self._client.ranges(fresh, ASK_SECONDS) if fresh else {}
        for name in sorted(gone):
            self.buffer.note(*deleted(name, self._on_data_loss))
        for name in sorted(anew):
            self.buffer.note(*made_anew(name, self._on_data_loss))
        for each in fresh:
            skips = each.topic in anew and self._on_data_loss == "latest"
            self._next[each] = ranges[each].end if skips else ranges[each].begin
            if each.topic not in anew:
                self.buffer.note("new-partition", f"{each} is read too, from offset {self._next[each]:,}")
        self._next = {each: offset for each, offset in self._next.items() if each.topic not in gone}
        self._topics = {name: topic for name, topic in (self._topics | topics).items() if name not in gone}
        self._assign()

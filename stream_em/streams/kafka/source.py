"""Topics as a source of blocks."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.codecs import codec_named
from stream_em.streams.codecs.registry import SchemaRegistry
from stream_em.streams.kafka.batch import Batch, Cut, Place
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.kafka.opening import Opened
from stream_em.streams.kafka.poller import Poller
from stream_em.streams.kafka.positions import Position, position_in
from stream_em.streams.kafka.settings import KafkaSettings
from stream_em.streams.records import Block, Note

BUFFERED_BLOCKS = 4
PATIENCE_SECONDS = 0.2
JOIN_SECONDS = 5.0
TOMBSTONE_SECONDS = 60.0
LOOKED_AT = 1000
"""After so many records it is told which fields had no value in any."""
_FIRST_MESSAGES = 64


class Part(NamedTuple):
    """One partition of a topic, read by itself."""

    number: int
    begin: dict[str, Any]
    """The position at which a new run begins."""
    commit: Callable[[Mapping[Partition, int]], None]
    """Called with the offsets that are to be stored as the group's."""


class KafkaSource:
    """Blocks of what comes in on topics, or on a `part` of one, each partition in order; with `timestamps` if asked.

    A block's `position` is {"topics": {name: {"id": …, "partitions": {number: next offset}, "within": {number: records
    of that message already taken}}}, "fields": […]}; its `places` are topic, partition and offset. Nothing is connected
    before it is asked for something.
    """

    def __init__(
        self,
        connection: Connection,
        settings: KafkaSettings,
        until_end: bool = False,
        part: Part | None = None,
        timestamps: bool = False,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._part = part
        self._timestamps = timestamps
        self._bounded = until_end or settings.end == "now"
        self._registry = None
        if settings.schema_registry is not None:
            user, password = settings.schema_registry_user, settings.schema_registry_password
            self._registry = SchemaRegistry(settings.schema_registry, user, password)
        self._codec = codec_named(settings.format, settings.fields, self._registry)
        self._opened: Opened | None = None
        self._poller: Poller | None = None
        self._coming: Generator[Block, None, None] = self._blocks()
        self._held: list[Block] = []
        """Blocks that were taken from it to learn the fields."""
        self._places: dict[Partition, Place] = {}
        self._ids: dict[str, str] = {}
        """Of the topics that the places are in."""
        self._notes: list[Note] = []
        self._limit: int | None = None
        self._stopped = threading.Event()
        # Until a first batch tells how many records a message holds, few messages are taken at once.
        self._records_each = settings.block_size / _FIRST_MESSAGES
        # Fields that no message has had a value for; None before the first message.
        self._unseen: set[str] | None = None
        self._looked_at = 0
        self._tombstones = 0
        self._told_tombstones = -TOMBSTONE_SECONDS

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the columns; if none were asked for, this waits for the first message that has any."""
        if not self._codec.fields:
            self._started()
            while not self._codec.fields and (block := next(self._coming, None)) is not None:
                self._held.append(block)
            if not self._codec.fields:
                raise InputError("source: no message has come yet; name the fields in source.fields, or start again")
        return self._codec.fields

    sample_rate = None
    """Messages do not say it."""

    @property
    def lag(self) -> tuple[int, str] | None:
        """The messages that are known to wait."""
        return None if self._poller is None else (self._poller.lag, "messages")

    @property
    def trouble(self) -> str | None:
        """What keeps messages from coming, if anything."""
        return None if self._poller is None else self._poller.trouble

    def probe(self) -> str:
        """Return in words what would be read; raises `InputError` or `OutsideError` if it cannot be."""
        opened = self._connected()
        ranges = opened.ranges(opened.partitions)
        held = sum(at.end - at.begin for at in ranges.values())
        return f"{', '.join(opened.topics) or 'no topic yet'} ({len(ranges)} partitions, {held:,} messages)"

    def seek(self, position: dict[str, Any] | None, limit: int | None = None) -> None:
        """Let the next iteration go on at a position that a block had, for `limit` records at most.

        Raises `OutsideError` if the broker is away or no longer has what was not read yet, `InputError` for a topic
        that is not there and for what is no position.
        """
        self._drop()
        opened = self._connected()
        self._notes, self._held, self._limit = [], [], limit
        if position is None and self._part is not None:
            position = self._part.begin
        if position is None:
            self._places = dict(opened.first().places)
        else:
            found = position_in(position)
            if found.fields and not self._codec.fields:
                self._codec = codec_named(self._settings.format, found.fields, self._registry)
            self._places, self._notes = opened.gone_on(found)
        self._ids = {name: topic.id for name, topic in opened.topics.items()}
        self._stopped.clear()
        until = None
        if self._bounded:
            until = {partition: at.end for partition, at in opened.ranges(list(self._places)).items()}
        self._poller = Poller(
            opened.client,
            {partition: place.offset for partition, place in self._places.items()},
            topics=opened.topics,
            wanted=opened.wanted,
            until=until,
            most_messages=BUFFERED_BLOCKS * self._settings.block_size,
            on_data_loss=self._settings.on_data_loss,
            give_up_after=self._settings.give_up_after,
        )
        self._coming = self._blocks()
        self._poller.start()

    def commit(self, position: dict[str, Any]) -> None:
        """Have the offsets stored as the group's, if there is one: for tools that show lag."""
        if self._part is not None:
            self._part.commit(position_in(position).offsets)
        elif self._settings.group is not None and self._poller is not None:
            self._poller.commit(position_in(position).offsets)

    def stop(self) -> None:
        """End the iteration soon; any thread may call it."""
        self._stopped.set()

    def close(self) -> None:
        """Commit what is waiting to be, and let go of the connection."""
        self._drop()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def __iter__(self) -> Generator[Block, None, None]:
        self._started()
        while self._held:
            yield self._held.pop(0)
        yield from self._coming

    def _blocks(self) -> Generator[Block, None, None]:
        poller, opened = self._poller, self._connected()
        while poller is not None and not self._stopped.is_set() and self._limit != 0:
            most = max(1, int(self._settings.block_size / self._records_each))
            taken = poller.buffer.take(most, PATIENCE_SECONDS)
            self._notes += taken.notes
            if taken.fetched:
                self._note_topic(taken.fetched[0].partition.topic, taken.fetched[0].topic_id)
                batch = Batch(taken.fetched, self._codec, self._places, opened.client.envelope)
                self._records_each = max(1.0, batch.n_units / batch.n_messages)
                yield from self._of_batch(batch)
            elif self._notes:
                yield self._block()
            if taken.ended:
                return

    def _of_batch(self, batch: Batch) -> Generator[Block, None, None]:
        """Yield a batch, up to the limit, or up to what cannot be used and is not to be passed over; then raise."""
        cut = batch.whole() if self._limit is None else batch.cut_after(self._limit)
        wrong = next(iter(batch.unreadable), None) if self._settings.on_error == "fail" else None
        if wrong is not None and wrong[0] < cut.message:
            cut = Cut(wrong[0], batch.already(wrong[0]))
        else:
            wrong = None
        records, rejected = batch.before(cut), batch.rejected(cut)
        self._places |= batch.moved(cut)
        self._note_tombstones(batch.n_tombstones)
        values = batch.values[records]
        if self._looked_at < LOOKED_AT:
            self._note_missing_fields(values)
        if self._limit is not None:
            self._limit = max(0, self._limit - len(values) - len(rejected)) if cut == batch.whole() else 0
        times = batch.timestamps(records, self._connected().client.timestamps) if self._timestamps else None
        yield self._block(values=values, places=batch.places(records), rejected=rejected, timestamps=times)
        if wrong is not None:
            reason = batch.reject(*wrong).reason
            raise InputError(f'{reason}; or set source.on_error to "skip" or "dead-letter" to go on without it')

    def _block(self, values: Any = (), **more: Any) -> Block:
        """Return a block at the position now, with the notes that wait."""
        notes, self._notes = tuple(self._notes), []
        values = values if len(values) else np.empty((0, max(1, len(self._codec.fields))))
        return Block(values, self._codec.fields, self._position(), checked=True, notes=notes, **more)

    def _note_topic(self, name: str, id: str) -> None:
        """Forget the places in a topic, if another of its name is what is read now."""
        if self._ids.get(name, id) != id:
            self._places = {each: place for each, place in self._places.items() if each.topic != name}
        self._ids[name] = id

    def _note_missing_fields(self, values: FloatArray) -> None:
        """Tell once of fields that none of the first messages has: their names may be wrong."""
        fields = self._codec.fields
        seen = {fields[column] for column in np.flatnonzero(~np.isnan(values).all(axis=0))}
        self._unseen = (set(fields) if self._unseen is None else self._unseen) - seen
        self._looked_at = LOOKED_AT if not self._unseen else self._looked_at + len(values)
        if self._unseen and self._looked_at >= LOOKED_AT:
            names = ", ".join(map(repr, sorted(self._unseen)))
            self._notes.append(Note("field-missing", f"no message so far has a value in {names}; is it the name?"))

    def _note_tombstones(self, count: int) -> None:
        """Tell now and then of messages without a value: in a compacted topic they are usual."""
        self._tombstones += count
        now = time.monotonic()
        if self._tombstones and now - self._told_tombstones >= TOMBSTONE_SECONDS:
            self._notes.append(Note("tombstones", f"{self._tombstones:,} messages without a value were passed over"))
            self._tombstones, self._told_tombstones = 0, now

    def _position(self) -> dict[str, Any]:
        asked = self._settings.fields is not None
        return Position(self._places, self._ids, () if asked else self._codec.fields).as_json()

    def _connected(self) -> Opened:
        if self._opened is None:
            only = None if self._part is None else self._part.number
            self._opened = Opened(self._connection, self._settings, only)
        return self._opened

    def _started(self) -> None:
        if self._poller is None:
            self.seek(None)

    def _drop(self) -> None:
        poller, self._poller = self._poller, None
        if poller is not None and not poller.join(JOIN_SECONDS):
            # It hangs inside the client, which then cannot be used or closed either.
            self._opened = None

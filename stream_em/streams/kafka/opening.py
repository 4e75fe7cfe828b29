"""A connection that knows which topics are wanted, and where reading in them begins or goes on."""

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from stream_em.errors import InputError, OutsideError
from stream_em.streams.kafka.batch import Place
from stream_em.streams.kafka.clients import open_client
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import BrokerAwayError, Client, Partition, Range, Topic
from stream_em.streams.kafka.positions import Position, position_in
from stream_em.streams.kafka.ranges import first_offsets, made_anew, settled
from stream_em.streams.kafka.settings import KafkaSettings, parse_start
from stream_em.streams.records import Note

ANSWER_SECONDS = 10.0
Answer = TypeVar("Answer")


class Opened:
    """A connection for these settings, or for one partition `only` of their topic.

    All methods raise `OutsideError` if the broker is away or refuses, `InputError` if a topic is not there.
    """

    def __init__(self, connection: Connection, settings: KafkaSettings, only: int | None = None) -> None:
        self._settings = settings
        self._only = only
        self._pattern = None if settings.topic_pattern is None else re.compile(settings.topic_pattern)
        self.client: Client = answered(lambda: open_client(connection, settings.group, settings.isolation_level))
        try:
            self.topics = self._checked_topics()
        except BaseException:
            self.client.close()
            raise

    @property
    def partitions(self) -> list[Partition]:
        """All partitions of the topics."""
        return [Partition(name, number) for name, topic in sorted(self.topics.items()) for number in topic.partitions]

    def ranges(self, partitions: Sequence[Partition]) -> dict[Partition, Range]:
        """Return the offsets that partitions hold."""
        return answered(lambda: self.client.ranges(partitions, ANSWER_SECONDS)) if partitions else {}

    def wanted(self, client: Client, seconds: float) -> dict[str, Topic]:
        """Return the topics that are to be read and are there now; raises `BrokerAwayError`."""
        there = client.topics(self._settings.names if self._pattern is None else None, seconds)
        if self._pattern is not None:
            there = {name: topic for name, topic in there.items() if self._pattern.fullmatch(name)}
        if self._only is not None:
            there = {name: topic._replace(partitions=(self._only,)) for name, topic in there.items()}
        return there

    def first(self) -> Position:
        """Return where a new run begins."""
        start = parse_start(self._settings.start)
        offsets = answered(lambda: first_offsets(self.client, start, self.partitions, ANSWER_SECONDS))
        places = {partition: Place(offset) for partition, offset in offsets.items()}
        return Position(places, {name: topic.id for name, topic in self.topics.items()})

    def gone_on(self, position: Position) -> tuple[dict[Partition, Place], list[Note]]:
        """Return where reading goes on after a position, new partitions from their start, and what was lost.

        Raises `OutsideError` if something was lost and the settings say that this is to stop.
        """
        loss = self._settings.on_data_loss
        anew = [name for name, id in position.ids.items() if name in self.topics and self.topics[name].id != id]
        notes = [made_anew(name, loss) for name in anew]
        ranges = self.ranges(self.partitions)
        gone = [each for each in position.places if each not in ranges]
        others = {each.topic for each in gone} - self.topics.keys() if self._settings.names else set()
        if others:
            raise InputError(
                f"source.topics: this run has learned from {', '.join(sorted(others))}; set it back, or start anew with"
                " --fresh"
            )
        if gone and loss == "fail":
            raise OutsideError(f"kafka: {gone[0]} is not there any more; bring it back, or start anew with --fresh")
        notes += [Note("data-loss", f"{each} is not there any more") for each in gone]
        known = {each: at for each, at in position.places.items() if each in ranges and each.topic not in anew}
        offsets, lost = settled({each: place.offset for each, place in known.items()}, ranges, loss)
        places = {each: known[each] if known[each].offset == at else Place(at) for each, at in offsets.items()}
        for each, at in ranges.items():
            skips = each.topic in anew and loss == "latest"
            places.setdefault(each, Place(at.end if skips else at.begin))
        return places, notes + lost

    def offsets(self, position: dict[str, Any] | None) -> dict[Partition, int]:
        """Return where reading would go on, whatever the broker has lost meanwhile."""
        known = {} if position is None else position_in(position).offsets
        return {each: known.get(each, offset) for each, offset in self.first().offsets.items()}

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()

    def _checked_topics(self) -> dict[str, Topic]:
        topics = answered(lambda: self.wanted(self.client, ANSWER_SECONDS))
        for name in self._settings.names:
            if name not in topics:
                there = sorted(answered(lambda: self.client.topics(None, ANSWER_SECONDS)))
                near = difflib.get_close_matches(name, there, 1)
                offer = f"did you mean {near[0]!r}?" if near else f"the broker has {', '.join(there[:8]) or 'none'}"
                raise InputError(f"source.topics: there is no topic {name!r}; {offer}")
        return topics


def answered(ask: Callable[[], Answer]) -> Answer:
    """Return what the broker answers; raises `OutsideError` if it does not."""
    try:
        return ask()
    except BrokerAwayError as error:
        raise OutsideError(f"kafka: {error}; check kafka.bootstrap_servers, or start the broker") from None

"""The position in topics that outlives the process."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from stream_em.streams.kafka.batch import Place
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.positions import malformed


class _TopicPosition(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    partitions: dict[int, int]
    within: dict[int, int] = {}


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    topics: dict[str, _TopicPosition]
    fields: list[str] = []


class Position(NamedTuple):
    """Where reading goes on in each partition, the ids of the topics, and the fields if they were not asked for."""

    places: Mapping[Partition, Place]
    ids: Mapping[str, str]
    fields: tuple[str, ...] = ()

    @property
    def offsets(self) -> dict[Partition, int]:
        """The offset of the first message of each partition that is not taken whole."""
        return {partition: place.offset for partition, place in self.places.items()}

    def as_json(self) -> dict[str, Any]:
        """Return it as values that JSON knows."""
        topics: dict[str, Any] = {}
        for (name, number), place in self.places.items():
            topic = topics.setdefault(name, {"id": self.ids.get(name, ""), "partitions": {}})
            topic["partitions"][str(number)] = place.offset
            if place.within:
                topic.setdefault("within", {})[str(number)] = place.within
        return {"topics": topics, "fields": list(self.fields)} if self.fields else {"topics": topics}


def merged(positions: Iterable[Position]) -> Position:
    """Return one position for what several sources read, each its own partitions."""
    places: dict[Partition, Place] = {}
    ids: dict[str, str] = {}
    for position in positions:
        places |= position.places
        ids |= position.ids
    return Position(places, ids)


def position_in(position: object) -> Position:
    """Read what `as_json` gave; raises `InputError` for anything else."""
    try:
        kept = msgspec.convert(position, _Kept, strict=False)
    except msgspec.ValidationError as error:
        raise malformed(str(error), position) from None
    places = {
        Partition(name, number): Place(offset, topic.within.get(number, 0))
        for name, topic in kept.topics.items()
        for number, offset in topic.partitions.items()
    }
    if any(min(number, *place) < 0 for (_, number), place in places.items()):
        raise malformed("numbers must not be negative", position)
    return Position(places, {name: topic.id for name, topic in kept.topics.items()}, tuple(kept.fields))

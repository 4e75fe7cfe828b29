"""What a run is told about a Kafka topic that it reads."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_em.errors import InputError
from stream_em.streams.kafka.connection import Secret
from stream_em.streams.kafka.interface import Partition
from stream_em.streams.kafka.names import check_topic

LATEST_SECONDS = 1e11
OnDataLoss = Literal["fail", "earliest", "latest"]
LONGEST_TRANSACTION_SECONDS = 600
"""The broker ends a transaction by itself after so long; a snapshot must come before. It allows 900 by default."""
_SPELLINGS = 'use "earliest", "latest", "timestamp:2026-11-01T00:00:00Z" or "offsets:0=1200,1=1180"'


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="kafka"):
    """Topics of the broker in [kafka]."""

    topics: Annotated[str | list[str] | None, Meta(description="a topic, or a list of these")] = None
    topic_pattern: Annotated[
        str | None, Meta(description="instead: a regular expression that whole names of topics match, new ones too")
    ] = None
    group: Annotated[
        str | None, Meta(description="offsets are committed under this name after each snapshot, for lag tools")
    ] = None
    share: Annotated[
        bool, Meta(description="share the partitions with other processes that run this config; needs group, fields")
    ] = False
    start: Annotated[
        str, Meta(description='where a new run begins: earliest, latest, "timestamp:…", "offsets:0=12,1=7"')
    ] = "earliest"
    end: Annotated[
        Literal["never", "now"], Meta(description="now: stop at the offsets that are the ends when it starts")
    ] = "never"
    format: Annotated[
        str,
        Meta(
            description="json, json-array, csv, msgpack, float32, float64, arrow, avro, pcm-int16, pcm-float32:"
            " of each message"
        ),
    ] = "json"
    fields: Annotated[
        list[str] | None, Meta(description="columns to learn from, in this order; default: those of the first message")
    ] = None
    time: Annotated[
        str | None, Meta(description="the field with each record's time in seconds since 1970; default: the message's")
    ] = None
    block_size: Annotated[int, Meta(ge=1, le=1 << 24, description="records learned at a time at the most")] = 8192
    isolation_level: Annotated[
        Literal["read_committed", "read_uncommitted"], Meta(description="whether to leave out aborted transactions")
    ] = "read_committed"
    on_data_loss: Annotated[
        OnDataLoss, Meta(description="if the broker has deleted what was not read yet: stop, or go on from there")
    ] = "fail"
    give_up_after: Annotated[
        float, Meta(gt=0, le=366 * 86400, description="seconds without a broker until the run stops with exit code 3")
    ] = 300.0
    schema_registry: Annotated[str | None, Meta(description="for avro: its URL")] = None
    schema_registry_user: Annotated[str | None, Meta(description="for avro: the user")] = None
    schema_registry_password: Secret = None
    on_error: Annotated[
        Literal["fail", "skip", "dead-letter"],
        Meta(description="a message that cannot be used: stop, count it, or count it and keep it"),
    ] = "fail"
    dead_letter_topic: Annotated[
        str | None, Meta(description="where dead letters go; default: a file in the run folder")
    ] = None
    max_error_rate: Annotated[float, Meta(gt=0, le=1, description="stop above this share of unusable records …")] = 0.5
    error_window: Annotated[int, Meta(ge=1, le=1 << 40, description="… among so many, or a block if longer")] = 1000

    def __post_init__(self) -> None:
        """Raise `InputError` for settings that contradict each other."""
        if (self.topics is None) == (self.topic_pattern is None):
            raise InputError("topics: name a topic, or give a topic_pattern (one of the two)")
        if self.topic_pattern is None and not self.names:
            raise InputError("topics: name at least one")
        for name in self.names:
            check_topic(name, "topics")
        if self.dead_letter_topic is not None:
            check_topic(self.dead_letter_topic, "dead_letter_topic")
        try:
            re.compile(self.topic_pattern or "")
        except re.error as error:
            raise InputError(f"topic_pattern: is no regular expression: {error}") from None
        if (self.format == "avro") != (self.schema_registry is not None):
            raise InputError("schema_registry: is needed for format avro, and for no other")
        if self.dead_letter_topic is not None and self.on_error != "dead-letter":
            raise InputError('dead_letter_topic: needs on_error = "dead-letter"')
        if self.share and (self.group is None or self.fields is None):
            raise InputError("share: needs group and fields, which all that share must have in common")
        parse_start(self.start)

    @property
    def names(self) -> list[str]:
        """The topics that are named."""
        return [self.topics] if isinstance(self.topics, str) else list(dict.fromkeys(self.topics or ()))

    def reads(self, topic: str) -> bool:
        """Tell whether a topic of this name is read."""
        return topic in self.names or (self.topic_pattern is not None and bool(re.fullmatch(self.topic_pattern, topic)))


def of_partition(settings: KafkaSettings, partition: Partition) -> KafkaSettings:
    """Return the settings of one that reads this partition only, and commits nothing itself."""
    return msgspec.structs.replace(settings, topics=partition.topic, topic_pattern=None, group=None, share=False)


class Start(msgspec.Struct, frozen=True):
    """Where a new run begins: at one end, at a time (seconds since 1970), or at offsets by partition."""

    end: Literal["earliest", "latest"] = "earliest"
    timestamp: float | None = None
    offsets: dict[int, int] | None = None


def parse_start(text: str) -> Start:
    """Read where a run begins; raises `InputError` for anything else.

    >>> parse_start("offsets:0=1200,2=7").offsets
    {0: 1200, 2: 7}
    """
    kind, _, argument = text.partition(":")
    if text in ("earliest", "latest"):
        return Start("latest" if text == "latest" else "earliest")
    try:
        if kind == "timestamp":
            seconds = _seconds(argument.strip())
            if 0 <= seconds < LATEST_SECONDS:
                return Start(timestamp=seconds)
        if kind == "offsets":
            pairs = [part.partition("=") for part in argument.split(",")]
            offsets = {int(number): int(offset) for number, _, offset in pairs}
            if min(offsets.values()) >= 0 and min(offsets) >= 0 and max(offsets.values()) < 1 << 62:
                return Start(offsets=offsets)
    except ValueError as error:
        raise InputError(f"start {text!r}: {error}; {_SPELLINGS}") from None
    raise InputError(f"start {text!r}: {_SPELLINGS}")


def check_offsets(start: Start, partitions: list[Partition]) -> None:
    """Raise `InputError` if offsets are given for partitions that are not there, or for one of several topics."""
    given = start.offsets or {}
    if given and len({partition.topic for partition in partitions}) > 1:
        raise InputError("source.start: offsets can be given for one topic only")
    wrong = given.keys() - {partition.number for partition in partitions}
    if wrong:
        raise InputError(f"source.start: there is no partition {min(wrong)}; there are {len(partitions)}, from 0")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

"""What a run is told, as values; read from TOML by `stream_em.configfile`."""

import os
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stream_em.errors import InputError
from stream_em.learning.drift import DriftSettings
from stream_em.learning.settings import LearnerSettings
from stream_em.models.interface import Settings
from stream_em.streams.formats import is_sampled
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.names import check_topic
from stream_em.streams.kafka.settings import LONGEST_TRANSACTION_SECONDS, KafkaSettings
from stream_em.streams.signals import SampleType

SinkType = Literal["jsonl", "csv", "parquet", "wav", "kafka"]
What = Literal["posteriors", "sources", "log-likelihoods", "parameters", "events"]
OnError = Literal["fail", "skip", "dead-letter"]
LONGEST_INTERVAL = 366 * 86400.0
Seconds = Annotated[float, Meta(gt=0, le=LONGEST_INTERVAL)]
Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
Text = Annotated[str, Meta(min_length=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the config."""


class FilesSource(Section, frozen=True, tag_field="type", tag="files"):
    """Files, folders, patterns, or - for standard input."""

    path: Annotated[str | list[str], Meta(description="a file, folder or pattern, or a list of these")]
    fields: Annotated[list[str] | None, Meta(description="columns to learn from, in this order; default all")] = None
    format: Annotated[
        str | None, Meta(description="csv, tsv, jsonl, parquet, arrow, npy, audio, edf, pcm; default: the suffix")
    ] = None
    time: Annotated[
        str | None, Meta(description="the column with each record's time in seconds since 1970; not learned")
    ] = None
    header: Annotated[bool | None, Meta(description="whether a CSV begins with names; default: look")] = None
    block_size: Annotated[int, Meta(ge=1, le=1 << 24, description="records read and learned at a time")] = 8192
    passes: Annotated[int, Meta(ge=1, le=1_000_000, description="how often to go through the data")] = 1
    follow: Annotated[bool, Meta(description="wait at the end of the file for what is still to be written")] = False
    on_error: Annotated[
        OnError, Meta(description="a record that cannot be used: stop, count it, or count it and keep its bytes")
    ] = "fail"
    max_error_rate: Annotated[float, Meta(gt=0, le=1, description="stop above this share of unusable records …")] = 0.5
    error_window: Annotated[int, Meta(ge=1, le=1 << 40, description="… among so many, or a block if longer")] = 1000
    sample_rate: Annotated[Rate | None, Meta(description="of raw PCM: samples a second of each channel")] = None
    channels: Annotated[Count | None, Meta(description="of raw PCM: channels, whose samples come in turn")] = None
    dtype: Annotated[SampleType | None, Meta(description="of raw PCM: the type of a sample; default int16")] = None

    @property
    def has_times(self) -> bool:
        """Whether records come with their times: from a column, or as samples of a signal."""
        return self.time is not None or self.is_signal

    @property
    def is_signal(self) -> bool:
        """Whether records are samples of a signal that says its rate."""
        paths = [self.path] if isinstance(self.path, str) else self.path
        return all(is_sampled(path, self.format) for path in paths)


class LearnerSection(LearnerSettings, frozen=True):
    """How to learn."""

    params: Annotated[
        Text | None, Meta(description="a .safetensors model whose parameters a new run starts from; no warm-up")
    ] = None


class Snapshots(Section, frozen=True):
    """When the run is saved."""

    every_records: Annotated[Count | None, Meta(description="records between two snapshots; default: any")] = None
    every_seconds: Annotated[Seconds, Meta(description="seconds between two snapshots")] = 30.0
    keep: Annotated[int, Meta(ge=1, le=100_000, description="how many snapshots to keep")] = 5


class SinkSection(Section, frozen=True):
    """One output."""

    what: Annotated[What, Meta(description="what to write")]
    type: Annotated[SinkType, Meta(description="file format, or kafka; Parquet and WAV are folders of files")] = (
        "parquet"
    )
    path: Annotated[Text | None, Meta(description="inside the run folder unless absolute; default: named by what")] = (
        None
    )
    topic: Annotated[Text | None, Meta(description="for kafka: where the rows go, with the source's place as key")] = (
        None
    )
    format: Annotated[
        Literal["json", "pcm-float32", "arrow"],
        Meta(description="for kafka: a message a row as JSON, or of sources a message for a block of samples"),
    ] = "json"
    exactly_once: Annotated[bool, Meta(description="for kafka: in transactions, visible at each snapshot")] = False
    every_records: Annotated[Count, Meta(description="for parameters: records between two rows")] = 100_000
    rows_per_file: Annotated[int, Meta(ge=1, le=1 << 24, description="for Parquet: rows of a file")] = 131_072
    sample_rate: Annotated[Rate | None, Meta(description="for WAV: samples a second; default: the source's")] = None

    def __post_init__(self) -> None:
        """Raise `InputError` for keys that belong to another type, and what cannot be a topic or a WAV file."""
        if (self.type == "kafka") != (self.topic is not None):
            raise InputError("topic: is needed for a sink of type kafka, and for no other")
        if self.topic is not None:
            check_topic(self.topic, "topic")
        if self.type == "kafka" and self.path is not None:
            raise InputError("path: a sink of type kafka has a topic, and no path")
        if self.format != "json" and (self.type != "kafka" or self.what != "sources"):
            raise InputError("format: is for what = 'sources' in sinks of type kafka")
        if self.exactly_once and self.type != "kafka":
            raise InputError("exactly_once: is for sinks of type kafka; all files are written exactly once anyway")
        if self.type == "wav" and self.what != "sources":
            raise InputError("type: wav is for what = 'sources'; nothing else is sound")
        if self.sample_rate is not None and self.type != "wav":
            raise InputError("sample_rate: is for sinks of type wav")

    @property
    def file(self) -> str:
        """Where it writes: a path, or topic: and a name."""
        if self.type == "kafka":
            return f"topic:{self.topic}"
        folder = self.type in ("parquet", "wav")
        return os.path.normpath(self.path or (self.what if folder else f"{self.what}.{self.type}"))


class Run(Section, frozen=True):
    """Where and how loudly."""

    folder: Annotated[Text | None, Meta(description="default: runs/, then the config's name")] = None
    log_every_seconds: Annotated[Seconds, Meta(description="seconds between two progress lines off a terminal")] = 10.0
    journal_every_seconds: Annotated[
        Seconds, Meta(description="seconds between two rows of the journal's refreshes")
    ] = 5.0


class Serve(Section, frozen=True):
    """Metrics and health over HTTP; only if this table is there."""

    host: Annotated[Text, Meta(description="the address to listen at")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="0: any free one, told in the log")] = 9464
    stalled_after: Annotated[Seconds, Meta(description="seconds with input but no progress until not ready")] = 60.0


class Config(Section, frozen=True):
    """A whole config."""

    source: FilesSource | KafkaSettings
    model: Settings
    learner: LearnerSection = LearnerSection()
    drift: DriftSettings | None = None
    snapshots: Snapshots = Snapshots()
    sinks: tuple[SinkSection, ...] = ()
    run: Run = Run()
    serve: Serve | None = None
    kafka: Connection | None = None

    def __post_init__(self) -> None:
        """Raise `InputError` for tables that contradict each other."""
        if any(sink.exactly_once for sink in self.sinks) and not isinstance(self.source, KafkaSettings):
            raise InputError("sinks: exactly_once needs a source of type kafka")
        if (
            any(sink.exactly_once for sink in self.sinks)
            and self.snapshots.every_seconds > LONGEST_TRANSACTION_SECONDS / 2
        ):
            raise InputError(
                f"snapshots.every_seconds: is at most {LONGEST_TRANSACTION_SECONDS / 2:g} with exactly_once,"
                " because a transaction lasts until the next snapshot, and the broker aborts a longer one"
            )
        if any(sink.what == "sources" for sink in self.sinks) and self.model.name != "signal-unmixing":
            raise InputError("sinks: what = 'sources' needs a model of type signal-unmixing")
        rated = isinstance(self.source, FilesSource) and self.source.is_signal
        if not rated and any(sink.type == "wav" and sink.sample_rate is None for sink in self.sinks):
            raise InputError("sinks: sample_rate is missing: this source does not say how many records make a second")
        files = [sink.file for sink in self.sinks]
        for i, file in enumerate(files):
            others = files[:i] + files[i + 1 :]
            if file in others:
                raise InputError(f"sinks: two of them write to {file!r}; give each a path of its own")
            if any(other.startswith(f"{file}/") for other in others):
                raise InputError(
                    f"sinks: one of them writes inside {file!r}, which another writes; choose another path"
                )
            if file.split("/")[0] in RESERVED:
                raise InputError(f"sinks: {file!r} is kept by the run itself; choose another path")
        in_time = self.learner.stepsize.seconds is not None
        if in_time and isinstance(self.source, FilesSource) and not self.source.has_times:
            raise InputError("learner.stepsize: a half-life in time needs source.time, the column with the times")
        if isinstance(self.source, KafkaSettings):
            if self.source.share and (outside := [file for file in files if os.path.isabs(file)]):
                raise InputError(
                    f"sinks: {outside[0]!r} would be written for each partition of a shared topic; give a relative path"
                )
            topics = [sink.topic for sink in self.sinks] + [self.source.dead_letter_topic]
            for topic in filter(None, topics):
                if self.source.reads(topic):
                    raise InputError(f"topic {topic!r} is read by source, and what is written there would come back")


RESERVED = (
    "config.toml",
    "snapshots",
    "journal.db",
    "lock",
    "identity",
    "dead-letter.jsonl",
    "report.html",
    "partitions",
)

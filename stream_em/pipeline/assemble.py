"""A pipeline from a config: folder, journal, snapshot, source and sinks, opened in the order that keeps them safe."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stream_em.config import Config
from stream_em.errors import InputError
from stream_em.learning.drift import DriftSettings
from stream_em.learning.learner import Learner
from stream_em.learning.settings import LearnerSettings
from stream_em.learning.store import Progress, Snapshot
from stream_em.learning.watching import settings_of
from stream_em.pipeline.loop import ErrorRate, Pipeline
from stream_em.pipeline.opening import open_dead_letters, open_output, output_topics
from stream_em.runs.folder import RunFolder
from stream_em.runs.journal import Journal
from stream_em.streams.files import open_source
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.producing import make_topics
from stream_em.streams.kafka.settings import KafkaSettings
from stream_em.streams.records import Source
from stream_em.streams.timed import TimedSource, read_fields

if TYPE_CHECKING:
    from stream_em.streams.kafka.source import Part


def new_learner(config: Config, params: Any = None) -> Learner:
    """Return the learner that a config describes, with nothing learned, or one that starts from `params`.

    Raises `InputError` if the config names parameters of another model.
    """
    if params is not None or config.learner.params is None:
        return _with(config, params)
    begun = Learner.load(Path(config.learner.params))
    try:
        learner = _with(config, begun.params)
    except InputError as error:
        raise InputError(f"learner.params: {config.learner.params}: {error}") from None
    learner.fields = begun.fields
    return learner


def _with(config: Config, params: Any = None) -> Learner:
    settings = {name: getattr(config.learner, name) for name in LearnerSettings.__struct_fields__}
    return Learner(config.model, **settings, params=params, drift=config.drift)


def source_of(config: Config, until_end: bool = False, part: "Part | None" = None) -> Source:
    """Return the source that a config describes, or a `part` of it; with `until_end` it ends where its data end now."""
    section = config.source
    fields = read_fields(section.fields, section.time)
    source: Source
    if isinstance(section, KafkaSettings):
        from stream_em.streams.kafka.source import KafkaSource

        timed = config.learner.stepsize.seconds is not None and section.time is None
        settings = msgspec.structs.replace(section, fields=fields)
        source = KafkaSource(config.kafka or Connection(), settings, until_end, part, timestamps=timed)
    else:
        source = open_source(
            section.path,
            fields=fields,
            format=section.format,
            block_size=section.block_size,
            has_header=section.header,
            passes=section.passes,
            follow=section.follow and not until_end,
            on_error=section.on_error,
            sample_rate=section.sample_rate,
            channels=section.channels,
            dtype=section.dtype,
        )
    return source if section.time is None else TimedSource(source, section.time, section.fields)


@contextmanager
def pipeline_of(
    config: Config,
    folder_path: Path,
    text: str,
    *,
    until_end: bool = False,
    limit: int | None = None,
    secrets: Mapping[str, str] | None = None,
    source: Source | None = None,
    begin: Callable[[], Learner] | None = None,
) -> Iterator[Pipeline]:
    """Open the run in a folder, where it stopped or from the start, and close it at the end.

    `text` is the config as it is kept, `secrets` are the values that it takes from the environment, by their names. A
    part of a shared run has its own `source`, and `begin` returns the learner that it starts with. Raises `InputError`
    if the config contradicts what the run has learned so far or its data are gone.
    """
    closing: list[Any] = []
    try:
        is_part = source is not None
        source = source or source_of(config, until_end)
        closing.append(source)
        folder = RunFolder(folder_path, config.snapshots.keep)
        closing.append(folder)
        journal = Journal(folder.journal_path)
        closing.append(journal)
        made = [] if is_part else make_topics(config.kafka or Connection(), output_topics(config))
        snapshot, refused = folder.store.newest()
        if snapshot is None and journal.has_snapshots():
            raise InputError(
                f"{folder.store.folder}: the snapshots of this run are gone; put them back, or use --fresh"
            )
        learner = (begin or partial(new_learner, config))() if snapshot is None else _same(snapshot, config)
        progress = Progress() if snapshot is None else snapshot.progress
        source.seek(progress.source, limit)
        _check_fields(learner, source)
        folder.write_config(text)
        outputs = []
        for section in config.sinks:
            rate = source.sample_rate if section.type == "wav" else None
            outputs.append(open_output(section, config, folder, journal, progress, rate))
            closing.append(outputs[-1].sink)
        dead_letters = None
        if config.source.on_error == "dead-letter":
            dead_letters = open_dead_letters(config, folder, journal, progress)
            closing.append(dead_letters)
        journal.begin(progress.records)
        pipeline = Pipeline(
            learner,
            source,
            outputs=outputs,
            dead_letters=dead_letters,
            folder=folder,
            journal=journal,
            progress=progress,
            snapshots=config.snapshots,
            run=config.run,
            error_rate=ErrorRate(config.source.max_error_rate, config.source.error_window),
            limit=limit,
            secrets=secrets,
        )
        pipeline.begun_with(snapshot, refused, made)
        yield pipeline
    finally:
        for thing in reversed(closing):
            thing.close()


def _same(snapshot: Snapshot, config: Config) -> Learner:
    """Return the snapshot's learner if it is the one that the config describes."""
    learner = snapshot.learner
    if learner.model.name != config.model.name:
        raise InputError(
            f"model.type: is {config.model.name!r}, but this run has learned a {learner.model.name!r};"
            " set it back, or start anew with --fresh"
        )
    if (config.drift is None) != (not learner.watchers):
        raise InputError("drift: this table was there before, or was not; set it back, or start anew with --fresh")
    for section, ours, theirs in (
        ("model", learner.model, config.model),
        ("learner", learner.settings, _with(config).settings),
        ("drift", settings_of(learner.watchers) or DriftSettings(), config.drift or DriftSettings()),
    ):
        for field in msgspec.structs.fields(ours):
            was, now = getattr(ours, field.name), getattr(theirs, field.name)
            if was != now:
                raise InputError(
                    f"{section}.{field.name}: is {now!r}, but this run has learned with {was!r};"
                    " set it back, or start anew with --fresh"
                )
    return learner


def _check_fields(learner: Learner, source: Source) -> None:
    if learner.fields and learner.fields != source.fields:
        raise InputError(
            f"source.fields: are {', '.join(source.fields)}, but this run has learned {', '.join(learner.fields)};"
            " set them back, or start anew with --fresh"
        )

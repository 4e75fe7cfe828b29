"""Sinks and dead letters of a run, opened where its snapshot says; and the run before, set aside."""

from contextlib import ExitStack
from pathlib import Path

from stream_em.config import Config, SinkSection
from stream_em.errors import InputError
from stream_em.learning.store import Progress
from stream_em.pipeline.outputs import Output
from stream_em.runs.folder import DEAD_LETTERS, RunFolder, set_run_aside
from stream_em.runs.journal import Journal
from stream_em.sinks import sink_for
from stream_em.sinks.deadletters import DeadLetterFile, DeadLetters, DeadLetterTopic
from stream_em.sinks.interface import Sink
from stream_em.sinks.topic import ExactlyOnceTopicSink, TopicSink
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.producing import Producer, open_producer
from stream_em.streams.kafka.settings import KafkaSettings
from stream_em.streams.kafka.transactions import end_transactions, open_transactional

PATIENCE_SECONDS = 300.0
"""So long a sink waits for a broker that is away."""


def open_output(
    section: SinkSection,
    config: Config,
    folder: RunFolder,
    journal: Journal,
    progress: Progress,
    sample_rate: float | None,
) -> Output:
    """Return an output that goes on where the run has stopped; `sample_rate` is the source's.

    Raises `InputError` if something else wrote its file, or the run wrote something else there.
    """
    with ExitStack() as stack:
        output = Output(section, _sink(section, config, folder, sample_rate))
        stack.callback(output.sink.close)
        position = progress.sinks.get(section.file)
        if section.type != "kafka":
            _claim(folder.output(section.file), position is not None, journal)
        output.open(position)
        stack.pop_all()
    return output


def open_dead_letters(config: Config, folder: RunFolder, journal: Journal, progress: Progress) -> DeadLetters:
    """Return where records go that cannot be used, likewise."""
    topic = getattr(config.source, "dead_letter_topic", None)
    letters: DeadLetters
    with ExitStack() as stack:
        position = progress.sinks.get(DEAD_LETTERS)
        if topic is not None:
            letters = DeadLetterTopic(topic, _producer(config))
        else:
            letters = DeadLetterFile(folder.output(DEAD_LETTERS))
            _claim(folder.output(DEAD_LETTERS), position is not None, journal)
        stack.callback(letters.close)
        letters.open(position)
        stack.pop_all()
    return letters


def output_topics(config: Config) -> list[str]:
    """Return the topics that sinks and dead letters go to."""
    topics = [section.topic for section in config.sinks] + [getattr(config.source, "dead_letter_topic", None)]
    return [topic for topic in dict.fromkeys(topics) if topic is not None]


def set_aside(config: Config, path: Path) -> Path | None:
    """Rename a run folder so that the run of this config can take its place; return its new name, None if none was.

    A transaction that a killed run has left open in a topic that the new one writes to is ended first, by its own id:
    a shorter timeout would have to outlast the interval of snapshots, and with an id that both runs share the old one,
    if it ever goes on, and the new one would shut each other out.
    """
    topics = output_topics(config)

    def end(identity: str) -> None:
        end_transactions(config.kafka or Connection(), [_transactional_id(identity, topic) for topic in topics])

    return set_run_aside(path, end)


def _sink(section: SinkSection, config: Config, folder: RunFolder, sample_rate: float | None) -> Sink:
    if section.type == "kafka":
        topic = str(section.topic)
        if section.exactly_once:
            name = _transactional_id(folder.identity(), topic)
            producer = open_transactional(config.kafka or Connection(), _patience(config), name)
            return ExactlyOnceTopicSink(topic, producer, section.format)
        return TopicSink(topic, _producer(config), section.format)
    rate = section.sample_rate or sample_rate or 1.0
    return sink_for(section.type, folder.output(section.file), section.rows_per_file, rate)


def _transactional_id(identity: str, topic: str) -> str:
    return f"stream_em-{identity}-{topic}"


def _producer(config: Config) -> Producer:
    return open_producer(config.kafka or Connection(), _patience(config))


def _patience(config: Config) -> float:
    return config.source.give_up_after if isinstance(config.source, KafkaSettings) else PATIENCE_SECONDS


def _claim(path: Path, is_known: bool, journal: Journal) -> None:
    """Make a file the run's own; raises `InputError` if it is there and the run has not written it."""
    if not is_known and path.exists() and not journal.claimed(str(path)):
        raise InputError(f"{path}: exists and was not written by this run; move it away, or choose another sink path")
    journal.claim(str(path))

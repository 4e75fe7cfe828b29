"""What a pipeline writes of each block: one output is a sink and what goes into it."""

from typing import Any, NamedTuple

from stream_em.arrays import FloatArray
from stream_em.config import SinkSection
from stream_em.errors import InputError
from stream_em.learning.learner import Learner
from stream_em.learning.state import Event
from stream_em.sinks.interface import Sink
from stream_em.sinks.tables import event_rows, log_likelihood_rows, parameter_rows, posterior_rows, source_rows
from stream_em.sinks.topic import ExactlyOnceTopicSink
from stream_em.streams.records import Block


class Taken(NamedTuple):
    """A block that was learned, and what came of it."""

    block: Block
    log_likelihood: FloatArray
    """(n,): of each record before it was learned."""
    posterior: FloatArray | None
    """(n, K), if an output asked for it; of superimposed signals the sources."""
    events: list[Event]
    begin: int
    """Records of the run before this block."""
    end: int


class Output:
    """A sink, and what of each block goes into it."""

    def __init__(self, section: SinkSection, sink: Sink) -> None:
        self.file = section.file
        self.sink = sink
        self._section = section
        self._kind = {"what": section.what, "type": section.type}

    @property
    def needs_posterior(self) -> bool:
        """Whether `Taken.posterior` must be there."""
        return self._section.what in ("posteriors", "sources")

    def open(self, position: dict[str, Any] | None) -> None:
        """Go on at a position, or begin anew if it is None; raises `InputError` if it was one of something else."""
        for key, now in self._kind.items():
            was = now if position is None else position.get(key, now)
            if was != now:
                raise InputError(
                    f"sinks: {key} is {now!r}, but this run has written {was!r} into {self.file};"
                    " set it back, choose another path or topic, or start anew with --fresh"
                )
        self.sink.open(position)

    def flush(self) -> dict[str, Any]:
        """Make all rows durable and return the position after them; raises `OutsideError` if that fails."""
        return self.sink.flush() | self._kind

    def take(self, taken: Taken, learner: Learner) -> None:
        """Write what this output shows of a block; raises `OutsideError` if it cannot be written."""
        if isinstance(self.sink, ExactlyOnceTopicSink) and taken.block.position is not None:
            self.sink.reading(taken.block.position)
        n = len(taken.log_likelihood)
        flat = self._section.type != "jsonl"
        match self._section.what:
            case "posteriors" if n and taken.posterior is not None:
                self.sink.write(posterior_rows(taken.block.places, taken.log_likelihood, taken.posterior))
            case "sources" if n and taken.posterior is not None:
                self.sink.write(source_rows(taken.block.places, taken.posterior))
            case "log-likelihoods" if n:
                self.sink.write(log_likelihood_rows(taken.block.places, taken.log_likelihood))
            case "parameters" if learner.started:
                every = self._section.every_records
                if taken.end // every > taken.begin // every:
                    self.sink.write(parameter_rows(learner.count, learner.params, flat))
            case "events" if taken.events:
                self.sink.write(event_rows(taken.events))

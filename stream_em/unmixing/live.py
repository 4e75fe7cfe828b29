"""What unmixers that take chunks have in common: what happened, how long they take, and whether they learn."""

from collections import deque
from typing import NamedTuple

import numpy as np

from stream_em.learning.state import Event

KEPT_EVENTS, KEPT_TIMES = 1000, 1000


class Latency(NamedTuple):
    """How long the sources of a chunk take."""

    samples: int
    """By how many samples they are behind their channels."""
    median: float
    """Seconds that a call of `process` takes, over the latest thousand."""
    worst: float


class Live:
    """Work on a signal of `sample_rate` (None: not known) while it comes, whose results are `delay` samples behind."""

    def __init__(self, sample_rate: float | None, delay: int) -> None:
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        """What happened, the latest thousand."""
        self.frozen = False
        """Whether nothing is learned."""
        self._sample_rate = sample_rate
        self._delay = delay
        self._times: deque[float] = deque(maxlen=KEPT_TIMES)
        self._busy, self._heard = 0.0, 0

    @property
    def chunk_seconds(self) -> list[float]:
        """How long each of the latest thousand calls of `process` took."""
        return list(self._times)

    @property
    def latency(self) -> Latency:
        """How long the sources of a chunk take, in samples of the signal and in computing; that is NaN at first."""
        times = np.array(self._times or [np.nan])
        return Latency(self._delay, float(np.median(times)), float(times.max()))

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of signal; NaN if the sample rate is not known."""
        if self._sample_rate is None or self._heard == 0:
            return float("nan")
        return self._busy * self._sample_rate / self._heard

    def freeze(self) -> None:
        """Learn no more."""
        self.frozen = True

    def thaw(self) -> None:
        """Learn again."""
        self.frozen = False

    def _took(self, seconds: float, samples: int) -> None:
        self._times.append(seconds)
        self._busy += seconds
        self._heard += samples

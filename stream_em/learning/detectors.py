"""Drift detectors of river, or any with its `update` and `drift_detected`, on the log-likelihood."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.learning.alarms import Alarm

WINDOW = 64
"""The log-likelihood is standardised in windows of so many records, by the mean and the spread of those before."""
LEAD = 16
"""So many windows only give mean and spread."""
FARTHEST = 4.0
"""Standard deviations within which the input of a detector is kept: one wild record must not be an alarm."""
PAGE_HINKLEY_THRESHOLD, PAGE_HINKLEY_DELTA = 100.0, 0.1
"""For standardised input; river's own settings are for another scale and give many false alarms."""


class Detector(Protocol):
    """A detector that takes one number at a time."""

    @property
    def drift_detected(self) -> bool:
        """Whether the last number was one too many."""

    def update(self, x: float) -> Any:
        """Take the next number."""


DetectorName = Literal["adwin", "page-hinkley", "kswin"]


def river_detector(name: str) -> Detector:
    """Return a detector of river by name, with its settings for standardised input; raises `InputError` for another.

    >>> type(river_detector("adwin")).__name__
    'ADWIN'
    """
    from river import drift

    if name == "adwin":
        return drift.ADWIN()
    if name == "page-hinkley":
        return drift.PageHinkley(threshold=PAGE_HINKLEY_THRESHOLD, delta=PAGE_HINKLEY_DELTA, mode="up")
    if name == "kswin":
        return drift.KSWIN(alpha=1e-8, seed=0)
    raise InputError(f"drift: there is no detector {name!r}; choose adwin, page-hinkley or kswin")


class LogLikelihoodDetector:
    """A detector fed with how badly each record is explained: the negative log-likelihood, standardised by its past.

    ADWIN and others that need bounded input get its normal probability, from 0 to 1 (`bounded`). `make` returns a new
    detector; its state is its own and is in no snapshot, so it begins anew when a run goes on.
    """

    def __init__(self, make: Callable[[], Detector], name: str, bounded: bool = False) -> None:
        self.make = make
        self.name = name
        self.bounded = bounded
        self.seen = 0
        """Records given so far, those without a log-likelihood included."""
        self.reset()

    @classmethod
    def named(cls, name: str) -> "LogLikelihoodDetector":
        """Return one of river's: adwin, page-hinkley or kswin; raises `InputError` for another."""
        river_detector(name)
        return cls(lambda: river_detector(name), name, bounded=name == "adwin")

    def reset(self) -> None:
        """Forget the past."""
        self._detector = self.make()
        self._windows = 0
        self._mean, self._variance = 0.0, 0.0
        self._waiting = np.empty(0)

    def update(
        self, records: FloatArray, log_likelihood: FloatArray, posterior: FloatArray, params: Callable[[], Any]
    ) -> list[Alarm]:
        """Take a learned block, of which only the log-likelihoods (n,) count, and return the alarms in it."""
        alarms: list[Alarm] = []
        places = self.seen + 1 + np.flatnonzero(np.isfinite(log_likelihood))
        self.seen += len(log_likelihood)
        values = np.concatenate([self._waiting, log_likelihood[np.isfinite(log_likelihood)]])
        places = np.concatenate([np.zeros(len(self._waiting), dtype=np.int64), places])
        whole = len(values) - len(values) % WINDOW
        for begin in range(0, whole, WINDOW):
            window = values[begin : begin + WINDOW]
            if self._windows >= LEAD and self._alarmed(window):
                at = int(places[begin + WINDOW - 1])
                score = float((self._mean - window.mean()) / np.sqrt(self._variance / WINDOW))
                alarms.append(Alarm(at, at - WINDOW, self.name, None, score, None, "drift"))
            self._learn(window)
        self._waiting = values[whole:]
        return alarms

    def _alarmed(self, window: FloatArray) -> bool:
        from scipy.special import ndtr

        scores = np.clip((self._mean - window) / np.sqrt(self._variance), -FARTHEST, FARTHEST)
        detected = False
        for score in (ndtr(scores) if self.bounded else scores).tolist():
            self._detector.update(score)
            detected |= self._detector.drift_detected
        return detected

    def _learn(self, window: FloatArray) -> None:
        step = 2.0 / (self._windows + 2.0)
        self._windows += 1
        self._mean += step * (window.mean() - self._mean)
        self._variance += step * (((window - self._mean) ** 2).mean() - self._variance)

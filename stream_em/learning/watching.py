"""Everything that watches a learner for drift: the package's own monitor, and detectors on the log-likelihood."""

from collections.abc import Callable
from typing import Any, Protocol

from stream_em.arrays import FloatArray
from stream_em.learning.alarms import Alarm
from stream_em.learning.detectors import LogLikelihoodDetector
from stream_em.learning.drift import DriftMonitor, DriftSettings
from stream_em.learning.mixing import MixingMonitor
from stream_em.learning.snapshot import Tensors
from stream_em.models.interface import Settings
from stream_em.stepsize import Stepsize

MONITORS = (DriftMonitor, MixingMonitor)
WATCHING = "drift."
"""What the names of a monitor's arrays begin with."""


class Watcher(Protocol):
    """Raises alarms by what a learner made of its records."""

    seen: int
    """Records given so far."""

    def update(
        self, records: FloatArray, log_likelihood: FloatArray, posterior: FloatArray, params: Callable[[], Any]
    ) -> list[Alarm]:
        """Take a learned block (n, D), scored before it was learned, and return the alarms in it.

        The parameters before the block are asked for when they are needed, which is seldom. A watcher is copied before
        each block; if an alarm comes before its end, it is the copy that goes on.
        """
        ...

    def reset(self) -> None:
        """Forget the past: the learner was changed."""
        ...


def watchers_of(model: Settings, drift: DriftSettings | None, stepsize: Stepsize) -> list[Watcher]:
    """Return what these settings ask for; nothing if they are None."""
    if drift is None:
        return []
    monitor = MixingMonitor(model, drift) if model.has_mixing else DriftMonitor(model, drift, stepsize)
    return [monitor, *map(LogLikelihoodDetector.named, drift.detectors)]


def settings_of(watchers: list[Watcher]) -> DriftSettings | None:
    """Return the settings of the monitor among these, if there is one."""
    return next((watcher.settings for watcher in watchers if isinstance(watcher, MONITORS)), None)


def dump_watchers(watchers: list[Watcher]) -> tuple[dict[str, str], Tensors]:
    """Return the monitor among these as texts and arrays; detectors begin anew when a run goes on."""
    return next((watcher.dump() for watcher in watchers if isinstance(watcher, MONITORS)), ({}, {}))


def restored_watchers(
    model: Settings, stepsize: Stepsize, metadata: dict[str, str], tensors: Tensors, name: str
) -> list[Watcher]:
    """Return what `dump_watchers` gave, with its detectors; raises `InputError`, calling the whole `name`."""
    if "drift" not in metadata:
        return []
    monitor: MixingMonitor | DriftMonitor
    if model.has_mixing:
        monitor = MixingMonitor.restore(model, metadata, tensors, name)
    else:
        monitor = DriftMonitor.restore(model, stepsize, metadata, tensors, name)
    return [monitor, *watchers_of(model, monitor.settings, stepsize)[1:]]

"""What an unmixer has learned, as arrays, and how it takes the samples up to the end of a window."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import BoolArray, FloatArray, IntArray
from stream_em.em import SCORE, expect, model_sizes, online_em, stats_of
from stream_em.errors import InputError
from stream_em.kernels.crosstalk import crosstalk, observe
from stream_em.learning.snapshot import Tensors
from stream_em.learning.state import Event, cut
from stream_em.models.signal_unmixing import SignalUnmixing
from stream_em.stepsize import Stepsize
from stream_em.unmixing.change import CONTEST, SUSPECT, Change, contested, decide, enter, no_change, suspicious
from stream_em.unmixing.fitting import Fit, fitted

WINDOW_BLOCKS = 10
"""Blocks to a window, after each of which it is looked at what has happened."""
EAGER_WINDOWS = 40
"""For so many windows after a start, or a reset, there is an M-step every block; then every `SPARSE`."""
SPARSE = 5
KEPT_WINDOWS = SUSPECT + CONTEST
NOTHING = np.empty((0, 0))


class Engine(NamedTuple):
    """A started unmixer; its arrays change in place."""

    model: SignalUnmixing
    sized: Any
    theta: FloatArray
    s: FloatArray
    averages: FloatArray
    tally: IntArray
    """(3,): samples learned, then the M-steps in each row of `averages`; see `stream_em.em.online_em`."""
    counts: FloatArray
    """(7,): samples, those scored, their summed log-likelihood; samples by which the stepsize goes; samples learned
    before the last start or reset; summed log-likelihood of the window; blocks left out before it."""
    sums: FloatArray
    """(K + 1, K + 1): of the products of (1, y) over the window."""
    levels: FloatArray
    """(2, D): each channel's first value in the window, and the value at which it stood still before, if it did."""
    flags: BoolArray
    """(2, D): whether each channel has stood still in the window, and did before."""
    recent: FloatArray
    """The records (n, D) of the latest windows: a ring."""
    change: Change

    @property
    def window(self) -> int:
        """Samples to a window."""
        return WINDOW_BLOCKS * self.model.block

    def arrays(self) -> Tensors:
        """Return all arrays by name, for a file."""
        found = {name: value for name, value in self._asdict().items() if isinstance(value, np.ndarray)}
        return found | {f"change.{name}": value for name, value in self.change._asdict().items()}


def begun(model: SignalUnmixing, first: FloatArray) -> Engine:
    """Return an unmixer that has learned its first (n, D) records."""
    n, D = first.shape
    fit = fitted(model, model.sized(D), first)
    engine = _blank(model, D)
    _adopt(engine, fit, n)
    engine.tally[0] = engine.counts[0] = engine.counts[4] = n
    return engine


def restored(model: SignalUnmixing, arrays: Tensors) -> Engine:
    """Return the unmixer that `Engine.arrays` gave; raises `InputError` for arrays that do not fit."""
    engine = _blank(model, arrays["recent"].shape[1])
    for name, array in engine.arrays().items():
        if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
            raise InputError(f"{name} has shape {arrays[name].shape}, not {array.shape}")
        array[:] = arrays[name]
    return engine


def _blank(model: SignalUnmixing, n_channels: int) -> Engine:
    K, D, sized = model.n_components, n_channels, model.sized(n_channels)
    n_averaged, n_theta, _, n_statistics = model_sizes(sized)
    return Engine(
        model,
        sized,
        np.zeros(n_theta),
        np.zeros(n_statistics),
        np.zeros((2, n_averaged)),
        np.array([0, -1, 0], dtype=np.int64),
        np.zeros(7),
        np.zeros((K + 1, K + 1)),
        np.zeros((2, D)),
        np.zeros((2, D), dtype=np.bool_),
        np.zeros((KEPT_WINDOWS * WINDOW_BLOCKS * model.block, D)),
        no_change(n_theta),
    )


def _adopt(engine: Engine, fit: Fit, n: int) -> None:
    """Go on from a fit to n records."""
    engine.theta[:], engine.s[:] = fit.theta, fit.s
    engine.averages[:] = 0.0
    engine.tally[1:] = -1, 0
    engine.counts[3], engine.counts[4] = n, engine.tally[0]
    engine.counts[6] = 0.0


def until_windows_end(engine: Engine, n: int) -> Iterable[slice]:
    """Yield the slices of the next n samples that end where windows do."""
    return cut(n, int(engine.tally[0]), engine.window)


def heard(engine: Engine, records: FloatArray, sources: FloatArray) -> None:
    """Write the sources (n, K) of (n, D) records; learn nothing."""
    scores = np.empty(len(records))
    expect(engine.sized, engine.theta, engine.s, alive(engine, records), scores, sources, scores, SCORE)
    _count(engine, scores)


def learned(engine: Engine, stepsize: Stepsize, detect: bool, records: FloatArray, sources: FloatArray) -> list[Event]:
    """Write the sources (n, K) of (n, D) records of one window, by what was learned before each, and learn them."""
    known, ones, scores = alive(engine, records), np.ones(len(records)), np.empty(len(records))
    before, window, block = int(engine.tally[0]), engine.window, engine.model.block
    windows = before // window - int(engine.counts[4]) // window
    every = block * (1 if windows < EAGER_WINDOWS else SPARSE)
    steps = stepsize.steps(float(engine.counts[3]), ones)
    online_em(
        engine.sized,
        engine.theta,
        engine.s,
        engine.averages,
        engine.tally,
        known,
        ones,
        steps,
        every,
        0,
        sources,
        scores,
    )
    engine.counts[3] += len(records)
    engine.counts[5] += _count(engine, scores)
    observe(records, sources, engine.sums, engine.levels[0], engine.flags[0])
    place = before % len(engine.recent)
    engine.recent[place : place + len(records)] = known
    if engine.tally[0] % window:
        return []
    events = _left_out(engine) + _stood_still(engine)
    if detect and engine.model.n_components > 1 and not engine.flags[0].all():
        events += _changed(engine)
    engine.sums[:] = engine.counts[5] = 0.0
    return events


def alive(engine: Engine, records: FloatArray) -> FloatArray:
    """Return records with NaN where a channel still stands at the value at which it died."""
    if not engine.flags[1].any():
        return records
    return np.where(engine.flags[1] & (records == engine.levels[1]), np.nan, records)


def _count(engine: Engine, scores: FloatArray) -> float:
    total = float(scores.sum())
    engine.counts[:3] += len(scores), len(scores), total
    return total


def _left_out(engine: Engine) -> list[Event]:
    tally = stats_of(engine.sized, engine.s).tally
    n, engine.counts[6] = int(tally[2] - engine.counts[6]), tally[2]
    return [Event(float(engine.counts[0]), "artefact", f"{n} blocks left out")] if n > 0 else []


def _stood_still(engine: Engine) -> list[Event]:
    """Take note of channels that stood still over the window while others did not, and of those that came back."""
    still = engine.flags[0] if not engine.flags[0].all() else engine.flags[1]
    events = []
    for d in np.flatnonzero(still != engine.flags[1]):
        kind = "dead channel" if still[d] else "channel back"
        events.append(Event(float(engine.counts[0]), kind, f"channel {d}, {engine.levels[0, d]:.6g}"))
    engine.levels[1] = np.where(still & ~engine.flags[1], engine.levels[0], engine.levels[1])
    engine.flags[1] = still
    return events


def _changed(engine: Engine) -> list[Event]:
    """Look for a change of the mixing at a window's end, and go on from a challenger that has won."""
    change, window = engine.change, engine.window
    if not contested(change):
        if suspicious(change, crosstalk(engine.sums)):
            fit = fitted(engine.model, engine.sized, _latest(engine, SUSPECT), engine.theta)
            enter(change, fit.theta)
        return []
    scores, s = np.empty(window), np.zeros_like(engine.s)
    expect(engine.sized, change.challenger, s, _latest(engine, 1), scores, NOTHING, scores, SCORE)
    won = decide(change, (float(scores.sum()) - float(engine.counts[5])) / window)
    if not won:
        return []
    records = _latest(engine, KEPT_WINDOWS)
    _adopt(engine, fitted(engine.model, engine.sized, records, change.challenger), len(records))
    begin = engine.counts[0] - len(records)
    return [Event(float(engine.counts[0]), "reset", f"the mixing has changed about sample {begin:,.0f}")]


def _latest(engine: Engine, n_windows: int) -> FloatArray:
    """Return the records of the latest whole windows, oldest first."""
    end, n = int(engine.tally[0]), n_windows * engine.window
    return np.ascontiguousarray(np.take(engine.recent, np.arange(end - n, end), axis=0, mode="wrap"))

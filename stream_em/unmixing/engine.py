"""What an unmixer has learned, as arrays, and how it takes the samples up to the end of a window."""

from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import BoolArray, FloatArray, IntArray
from stream_em.em import SCORE, expect, model_sizes, online_em, params_of, stats_of
from stream_em.errors import InputError
from stream_em.kernels.crosstalk import crosstalk, observe
from stream_em.learning.mixing import SUSPECT
from stream_em.learning.snapshot import Tensors
from stream_em.learning.state import Event
from stream_em.models.replay import replay, sum_blocks
from stream_em.models.signal_unmixing import SignalUnmixing
from stream_em.stepsize import Stepsize
from stream_em.unmixing.change import CONTEST, Change, contested, decide, enter, no_change, suspicious
from stream_em.unmixing.fitting import Fit, fitted

WINDOW_BLOCKS = 10
"""Blocks to a window, after each of which it is looked at what has happened."""
EAGER_WINDOWS = 40
"""For so many windows after a start, or a reset, their blocks are kept, and EM goes over all of them now and then."""
REPLAYS = frozenset(round(1.25**i) for i in range(17))
"""After so many windows."""
REPLAY_ITERATIONS = 5
SPARSE = 10
MANY = 32
"""With so many sources, and again with each so many more, M-steps, which cost K⁴, come more rarely."""
KEPT_WINDOWS = SUSPECT + CONTEST
WARY_WINDOWS = 20
"""For so many windows after a start, or a reset, no change of the mixing is looked for."""
DERIVED = ("ones", "steps", "carried")
NOTHING = np.empty((0, 0))
NO_SCORES = np.empty(0)


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
    """(8,): samples; those learned since the start, and their summed log-likelihood; samples by which the stepsize
    goes; samples learned before the last start or reset; of `carried` at the window's begin: blocks left out,
    log-likelihood; blocks kept."""
    heard: FloatArray
    """(1,): samples of the window so far."""
    products: FloatArray
    """(K, K): sums over the window of the products of the sources."""
    levels: FloatArray
    """(2, D): each channel's first value in the window, and the value at which it stood still before, if it did."""
    flags: BoolArray
    """(2, D): whether each channel has stood still in the window, and did before."""
    recent: FloatArray
    """The records (n, D) of the latest windows: a ring."""
    kept: FloatArray
    """(B, P): packed sums of the blocks since the last start or reset, as long as they are few."""
    change: Change
    ones: FloatArray
    """(window,): what each record counts."""
    steps: FloatArray
    """(window,): the stepsize of each."""
    params: Any
    """Windows on theta; see `stream_em.models.unmixing`."""
    carried: FloatArray
    """(5,): the window on s that says where a block stands; see `stream_em.models.unmixing`."""

    @property
    def window(self) -> int:
        """Samples to a window."""
        return WINDOW_BLOCKS * self.model.block

    def arrays(self) -> Tensors:
        """Return all arrays by name, for a file."""
        kept = self._asdict().items()
        found = {name: value for name, value in kept if isinstance(value, np.ndarray) and name not in DERIVED}
        return found | {f"change.{name}": value for name, value in self.change._asdict().items()}


def begun(model: SignalUnmixing, first: FloatArray, count: int) -> Engine:
    """Return an unmixer that has learned its first (n, D) records, whole windows, after `count` samples with them."""
    n, D = first.shape
    engine = _blank(model, D)
    engine.flags[1], engine.levels[1] = still_channels(first), first[0]
    _adopt(engine, fitted(model, engine.sized, alive(engine, first)), n)
    engine.tally[0] = engine.counts[4] = n
    engine.counts[0] = count
    _keep(engine, alive(engine, first))
    return engine


def still_channels(records: FloatArray) -> BoolArray:
    """Return which channels (D,) of (n, D) records have one value all the time."""
    return np.asarray((records == records[0]).all(axis=0))


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
    n_kept = (EAGER_WINDOWS + KEPT_WINDOWS) * WINDOW_BLOCKS if model.sources == "block" else 0
    theta, s, window = np.zeros(n_theta), np.zeros(n_statistics), WINDOW_BLOCKS * model.block
    return Engine(
        model,
        sized,
        theta,
        s,
        np.zeros((2, n_averaged)),
        np.array([0, -1, 0], dtype=np.int64),
        np.zeros(8),
        np.zeros(1),
        np.zeros((K, K)),
        np.zeros((2, D)),
        np.zeros((2, D), dtype=np.bool_),
        np.zeros((KEPT_WINDOWS * window, D)),
        np.zeros((n_kept, (D + 1) * (D + 2) // 2)),
        no_change(n_theta),
        np.ones(window),
        np.ones(window),
        params_of(sized, theta),
        stats_of(sized, s).tally,
    )


def _adopt(engine: Engine, fit: Fit, n: int) -> None:
    """Go on from a fit to n records."""
    engine.theta[:], engine.s[:] = fit.theta, fit.s
    engine.averages[:] = 0.0
    engine.tally[1:] = -1, 0
    engine.counts[3], engine.counts[4] = n, engine.tally[0]
    engine.counts[5:] = engine.carried[2], engine.carried[4], 0.0


def until_window_ends(engine: Engine) -> int:
    """Return how many samples there are until the window ends."""
    return engine.window - int(engine.tally[0]) % engine.window


def heard(engine: Engine, records: FloatArray, sources: FloatArray) -> None:
    """Write the sources (n, K) of (n, D) records; learn nothing."""
    scores = np.empty(len(records))
    expect(engine.sized, engine.theta, engine.s, alive(engine, records), scores, sources, scores, SCORE)
    engine.counts[0] += len(records)


def learned(engine: Engine, stepsize: Stepsize, detect: bool, records: FloatArray, sources: FloatArray) -> list[Event]:
    """Write the sources (n, K) of (n, D) records of one window, by what was learned before each, and learn them."""
    known, n, counts = alive(engine, records), len(records), engine.counts
    before, window, block = int(engine.tally[0]), engine.window, engine.model.block
    windows = before // window - int(counts[4]) // window
    eager = windows < EAGER_WINDOWS
    every = (1 if eager else SPARSE) * max(1, engine.model.n_components // MANY) * block
    # Within a window the stepsize is that of its middle.
    middle = float(counts[3]) - before % window + 0.5 * window
    engine.steps.fill(stepsize.gamma(max(middle, 0.5 * window)))
    online_em(
        engine.sized,
        engine.theta,
        engine.s,
        engine.averages,
        engine.tally,
        known,
        engine.ones[:n],
        engine.steps[:n],
        every,
        0,
        sources,
        NO_SCORES,
    )
    counts[0] += n
    counts[1] += n
    counts[3] += n
    still = observe(records, sources, engine.heard, engine.products, engine.levels[0], engine.flags[0])
    place = before % len(engine.recent)
    engine.recent[place : place + n] = known
    if engine.tally[0] % window:
        return []
    left_out, total = engine.carried[2], engine.carried[4]
    events = []
    if left_out > counts[5] and not eager:
        events.append(Event(float(counts[0]), "artefact", f"{left_out - counts[5]:.0f} blocks left out"))
    if still or engine.flags[1].any():
        events += _stood_still(engine)
    if detect and windows >= WARY_WINDOWS and still < records.shape[1] and engine.model.n_components > 1:
        events += _changed(engine, (total - counts[6]) / window)
    if eager:
        _keep(engine, latest(engine, 1))
        if windows + 1 in REPLAYS and counts[7] > 0:
            replay(engine.sized, engine.theta, engine.s, engine.kept[: int(counts[7])], REPLAY_ITERATIONS)
    counts[2] += total - counts[6]
    counts[5:7] = engine.carried[2], engine.carried[4]
    engine.heard[0] = 0.0
    return events


def alive(engine: Engine, records: FloatArray) -> FloatArray:
    """Return records with NaN where a channel still stands at the value at which it died."""
    if not engine.flags[1].any():
        return records
    return np.where(engine.flags[1] & (records == engine.levels[1]), np.nan, records)


def _keep(engine: Engine, records: FloatArray) -> None:
    """Keep what blocks of records tell, if there is room; nothing of sources without blocks."""
    begin = int(engine.counts[7])
    end = min(begin + len(records) // engine.model.block, len(engine.kept))
    if end > begin:
        sum_blocks(engine.sized, engine.theta, records, engine.kept[begin:end])
        engine.counts[7] = end


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


def _changed(engine: Engine, log_likelihood: float) -> list[Event]:
    """Look for a change of the mixing at the end of a window with this log-likelihood in nats a sample.

    If a challenger has won, it goes on from there.
    """
    change, window = engine.change, engine.window
    mixture = crosstalk(engine.products, window * engine.params.power * engine.params.scales**2)
    if mixture != mixture:
        return []
    if not contested(change):
        if suspicious(change, mixture):
            fit = fitted(engine.model, engine.sized, latest(engine, SUSPECT - 1), engine.theta)
            enter(change, fit.theta)
        return []
    scores, s = np.empty(window), np.zeros_like(engine.s)
    expect(engine.sized, change.challenger, s, latest(engine, 1), scores, NOTHING, scores, SCORE)
    won = decide(change, float(scores.mean()) - log_likelihood)
    if not won:
        return []
    records = latest(engine, KEPT_WINDOWS - 1)
    _adopt(engine, fitted(engine.model, engine.sized, records, change.challenger), len(records))
    _keep(engine, records)
    begin = engine.counts[0] - len(records)
    return [Event(float(engine.counts[0]), "reset", f"the mixing has changed about sample {begin:,.0f}")]


def latest(engine: Engine, n_windows: int) -> FloatArray:
    """Return the records of the latest whole windows, oldest first."""
    end, n = int(engine.tally[0]), n_windows * engine.window
    return np.ascontiguousarray(np.take(engine.recent, np.arange(end - n, end), axis=0, mode="wrap"))

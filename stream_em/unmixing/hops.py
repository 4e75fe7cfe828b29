"""What an unmixer of signals with echoes has learned, as arrays; how it learns a hop, and when it begins anew.

Forgetting does not help after everything has moved: in quiet moments, which weigh the most, all is remembered for long.
So now and then a challenger begins from nothing, and learns beside. If after a while it predicts better by far, which
it does not where nothing has changed, it takes over, as between all contenders of this package.
"""

from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.em import model_sizes, online_em, params_of, stats_of
from stream_em.learning.snapshot import Tensors
from stream_em.models.convolutive_unmixing import ConvolutiveUnmixing
from stream_em.stepsize import Stepsize
from stream_em.unmixing.engine import NOTHING, still_channels

FEW = 4
"""With more channels M-steps, which cost D⁴, come more rarely."""
NEVER = 1 << 62
EVERY, LIFE = 96, 32
"""A challenger enters after every so many windows, and lives so many; the second half of its life decides."""
LEAST_GAIN = 0.3
"""It must predict better by so many nats a sample and channel."""


class Engine(NamedTuple):
    """One that learns; its arrays change in place."""

    model: ConvolutiveUnmixing
    sized: Any
    theta: FloatArray
    s: FloatArray
    averages: FloatArray
    tally: IntArray
    """(3,): see `stream_em.em.online_em`."""
    counts: FloatArray
    """(4,): samples; those of them by which the stepsize does not go; those scored, and their summed log-likelihood."""
    begun: FloatArray
    """(hop, D): the records of the hop begun."""
    place: IntArray
    """(1,): so many."""

    @property
    def age(self) -> int:
        """The samples by which the stepsize goes."""
        return int(self.counts[0] - self.counts[1])

    @property
    def ready(self) -> FloatArray:
        """The sources (hop, K) that are told with the records of the hop begun."""
        return np.asarray(stats_of(self.sized, self.s).ready)

    def arrays(self, prefix: str = "") -> Tensors:
        """Return all arrays by name, for a file."""
        return {f"{prefix}{name}": value for name, value in self._asdict().items() if isinstance(value, np.ndarray)}


def blank(model: ConvolutiveUnmixing, n_channels: int) -> Engine:
    """Return an engine that knows nothing."""
    sized = model.sized(n_channels)
    n_averaged, n_theta, _, n_statistics = model_sizes(sized)
    return Engine(
        model,
        sized,
        np.zeros(n_theta),
        np.zeros(n_statistics),
        np.zeros((2, n_averaged)),
        np.array([0, -1, 0], dtype=np.int64),
        np.zeros(4),
        np.zeros((model.shift, n_channels)),
        np.zeros(1, dtype=np.int64),
    )


def begun(model: ConvolutiveUnmixing, first: FloatArray, count: int) -> Engine:
    """Return an engine whose sources are the channels, scaled as in (n, D) records, after `count` samples."""
    engine = blank(model, first.shape[1])
    engine.theta[:] = model.unit_theta(engine.sized, first, np.ones(len(first)))
    engine.counts[:2] = count
    return engine


def learn_hop(engine: Engine, records: FloatArray, stepsize: Stepsize | None) -> float:
    """Take the records (hop, D) of a hop, and learn them if there is a stepsize; return their log-likelihood."""
    hop, D = records.shape
    scores = np.empty(hop)
    # Within a hop the stepsize is that of its middle.
    gamma = 0.0 if stepsize is None else stepsize.gamma(engine.age + 0.5 * hop)
    online_em(
        engine.sized,
        engine.theta,
        engine.s,
        engine.averages,
        engine.tally,
        records,
        np.ones(hop),
        np.full(hop, gamma),
        hop * max(1, D * D // (FEW * FEW)),
        NEVER if stepsize is None else 0,
        NOTHING,
        scores,
    )
    score = float(scores.sum())
    engine.counts[:] += hop, hop if stepsize is None else 0, hop, score
    return score


class Contest(NamedTuple):
    """A challenger, and by how many nats it was better, in an array (1,)."""

    challenger: Engine
    gain: FloatArray


def entered(engine: Engine) -> Contest | None:
    """Return a contest if it is time for one; None if it is not, or if there is silence."""
    if engine.age == 0 or engine.age % (EVERY * engine.model.window):
        return None
    windows = params_of(engine.sized, engine.theta)
    latest = stats_of(engine.sized, engine.s).heard * windows.scale + windows.shift
    if still_channels(latest).all():
        return None
    return Contest(begun(engine.model, latest, 0), np.zeros(1))


def decided(contest: Contest, engine: Engine, records: FloatArray, score: float, stepsize: Stepsize) -> bool | None:
    """Let the challenger learn a hop to which the engine has given this score; True if it has won, None if open.

    If it has, it is ready to go on where the engine is.
    """
    challenger, window = contest.challenger, engine.model.window
    better = learn_hop(challenger, records, stepsize) - score
    if challenger.age > LIFE * window // 2:
        contest.gain[0] += better
    if challenger.age < LIFE * window:
        return None
    if contest.gain[0] <= LEAST_GAIN * records.shape[1] * LIFE * window // 2:
        return False
    # What is still to be told goes on, so that one fades into the other.
    mine, theirs = stats_of(challenger.sized, challenger.s), stats_of(engine.sized, engine.s)
    mine.overlap[:], mine.ready[:] = theirs.overlap, theirs.ready
    challenger.counts[:] = engine.counts[0], engine.counts[0] - challenger.age, *engine.counts[2:]
    return True

"""What an unmixer of signals with echoes has learned, as arrays; how it learns a hop, and when it begins anew.

Forgetting does not help after everything has moved: in quiet moments, which weigh the most, all is remembered for long.
So now and then a challenger begins from nothing, and learns beside. If after a while it predicts better by far, which
it does not where nothing has changed, it takes over, as between all contenders of this package. Only loud hops count:
where all sources are silent there is only noise, of which whoever has just begun knows more.
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
"""A challenger enters after every so many windows, and lives so many loud ones, of which the second half decides."""
LEAST_GAIN = 0.15
"""It must predict better by so many nats a sample and channel."""
FARTHEST = 1e30
"""Beyond so many of the channels' units powers are all the same."""
LOUD, MEMORY = 0.03, 320
"""A hop is loud with so much of the usual power: a mean over so many windows, in which each counts by its power."""


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
    """(6,): samples; those of them by which the stepsize does not go; those scored, and their summed log-likelihood;
    faded sums of the hops' power, and of its square."""
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
        np.zeros(6),
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
    engine.counts[:4] += hop, hop if stepsize is None else 0, hop, score
    power = power_of(engine, records)
    engine.counts[4:] *= 1.0 - hop / (MEMORY * engine.model.window)
    engine.counts[4:] += power, power**2
    return score


def power_of(engine: Engine, records: FloatArray) -> float:
    """Return the mean square of (n, D) records, in units of the channels; what is missing is 0."""
    windows = params_of(engine.sized, engine.theta)
    return float((np.clip(np.nan_to_num((records - windows.shift) / windows.scale), -FARTHEST, FARTHEST) ** 2).mean())


class Contest(NamedTuple):
    """A challenger that learns beside."""

    challenger: Engine
    counts: FloatArray
    """(2,): loud samples so far; by how many nats it was better in the second half."""


def entered(engine: Engine) -> Contest | None:
    """Return a contest if it is time for one; None if it is not, or if there is silence."""
    if engine.age == 0 or engine.age % (EVERY * engine.model.window):
        return None
    windows = params_of(engine.sized, engine.theta)
    latest = stats_of(engine.sized, engine.s).heard * windows.scale + windows.shift
    if still_channels(latest).all():
        return None
    return Contest(begun(engine.model, latest, 0), np.zeros(2))


def decided(contest: Contest, engine: Engine, records: FloatArray, score: float, stepsize: Stepsize) -> bool | None:
    """Let the challenger learn a hop to which the engine has given this score; True if it has won, None if open.

    If it has, it is ready to go on where the engine is.
    """
    challenger, counts, life = contest.challenger, contest.counts, LIFE * engine.model.window
    better = learn_hop(challenger, records, stepsize) - score
    if power_of(engine, records) * engine.counts[4] < LOUD * engine.counts[5]:
        return None
    counts[0] += len(records)
    counts[1] += better if 2 * counts[0] > life else 0.0
    if counts[0] < life:
        return None
    if counts[1] <= LEAST_GAIN * records.shape[1] * life / 2:
        return False
    # What is still to be told goes on, so that one fades into the other.
    mine, theirs = stats_of(challenger.sized, challenger.s), stats_of(engine.sized, engine.s)
    mine.overlap[:], mine.ready[:] = theirs.overlap, theirs.ready
    challenger.counts[:] = engine.counts[0], engine.counts[0] - challenger.age, *engine.counts[2:]
    return True

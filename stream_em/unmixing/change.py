"""Whether the mixing has changed: the sources hold more of each other, and a new unmixing predicts better.

Both are asked. Crosstalk, the mean squared correlation of different sources over a window, is cheap, and rises at once
when the mixing changes; but real signals are correlated for a while now and then. So after a few windows far above the
usual crosstalk a challenger is learned from these windows alone, and the next few decide by the predictive
log-likelihood of records that neither has seen, as between all contenders of this package.
"""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.learning.mixing import FACTOR, MEMORY, SUSPECT

CONTEST = 2
"""Windows that decide."""
LEAST_GAIN = 0.75
"""The challenger must predict better by so many nats a record."""


class Change(NamedTuple):
    """What is known of changes, in one array that a snapshot keeps."""

    numbers: FloatArray
    """(5,): usual crosstalk, windows in it, windows in a row far above it, windows of the contest, gain so far."""
    challenger: FloatArray
    """Its theta, if there is a contest."""


def no_change(n_theta: int) -> Change:
    """Return what is known at the start."""
    return Change(np.zeros(5), np.zeros(n_theta))


def suspicious(change: Change, crosstalk: float) -> bool:
    """Take a window's crosstalk; tell whether it is time for a challenger."""
    usual, count, row = change.numbers[:3]
    if count >= SUSPECT and crosstalk > FACTOR * usual:
        change.numbers[2] = row + 1
        return bool(row + 1 >= SUSPECT)
    change.numbers[2] = 0
    change.numbers[1] = min(count + 1, MEMORY)
    limited = crosstalk if count < SUSPECT else min(crosstalk, FACTOR * usual)
    change.numbers[0] += (limited - usual) / change.numbers[1]
    return False


def enter(change: Change, theta: FloatArray) -> None:
    """Let a challenger enter."""
    change.challenger[:] = theta
    change.numbers[2:] = 0.0, 1.0, 0.0


def contested(change: Change) -> bool:
    """Whether there is a challenger."""
    return bool(change.numbers[3] > 0)


def decide(change: Change, gain: float) -> bool | None:
    """Take how much better the challenger was over a window, in nats a record; True if it has won, None if open."""
    change.numbers[4] += gain / CONTEST
    change.numbers[3] += 1
    if change.numbers[3] <= CONTEST:
        return None
    won = bool(change.numbers[4] > LEAST_GAIN)
    change.numbers[2:] = 0.0
    if won:
        change.numbers[:2] = 0.0
    return won

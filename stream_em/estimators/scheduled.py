"""Stepsizes as users of other packages write them."""

from typing import Any

import numpy as np

from stream_em.errors import InputError
from stream_em.stepsize import Stepsize


class ScheduledStepsize(Stepsize, frozen=True, forbid_unknown_fields=True):
    """The schedule of a river scheduler: gamma(t) = scheduler.get(t - 1), kept between `floor` and 1."""

    scheduler: Any = None

    def __post_init__(self) -> None:
        """Take the schedule as it is."""

    def for_unit(self, unit: float) -> Stepsize:
        """Return the schedule as it is: it has no unit."""
        return self

    def gamma(self, t: Any) -> Any:
        """Return gamma of the t-th record; t may be an array."""
        steps = np.array([self.scheduler.get(int(each) - 1) for each in np.atleast_1d(t)], dtype=np.float64)
        np.clip(steps, self.floor, 1.0, out=steps)
        return float(steps[0]) if np.ndim(t) == 0 else steps


def as_stepsize(stepsize: Any) -> Stepsize:
    """Return the schedule that a Stepsize, its spelling, a constant, a river scheduler, or None (the default) means.

    >>> as_stepsize("half-life:1000") == Stepsize.constant(half_life=1000)
    True
    """
    if stepsize is None:
        return Stepsize()
    if isinstance(stepsize, Stepsize):
        return stepsize
    if isinstance(stepsize, str):
        return Stepsize.parse(stepsize)
    if isinstance(stepsize, int | float):
        return Stepsize.constant(float(stepsize))
    if hasattr(stepsize, "get"):
        return ScheduledStepsize(scheduler=stepsize)
    raise InputError(f"stepsize must be a Stepsize, its spelling, a number or a river scheduler, not {stepsize!r}")

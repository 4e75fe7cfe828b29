"""The stepsize schedule: how much the t-th record of a stream weighs against everything before it."""

from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.kernels.elementwise import power_in_place
from stream_em.kernels.fading import fading_steps

_SPELLINGS = (
    "use polynomial:0.6, equal, constant:0.01, half-life:1000 (records) or half-life:2h (of the records' own time);"
    " the first two also take ,offset=10,floor=0.001"
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Stepsize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The schedule gamma(t) for t = 1, 2, …; a value.

    Make one with `polynomial` (for a stream that does not change, the default), `equal` (the plain mean: every record
    counts the same) or `constant` (forgetting: for a world that moves).

    gamma(t) = max(floor, min(1, max(1 / t, scale unit^(power - 1) t^-power))) with t counted from -offset; a constant
    one has power 0 and gamma = scale. Up to `unit` records the statistics are plain means, and only then does the past
    begin to fade: a step must not weigh so much that fewer records stand behind the statistics than a model of its size
    needs. A learner whose `unit` is None takes 4 records per component and feature; `unit=1` is t^-power from the
    first record on, as in the literature.

    >>> Stepsize.polynomial(0.6, unit=1).gamma(1000)
    0.0158...
    >>> Stepsize.polynomial(0.6, unit=100).gamma(np.array([10.0, 100.0, 1000.0]))
    array([0.1       , 0.01      , 0.00251189])
    >>> Stepsize.equal().gamma(4)
    0.25
    >>> Stepsize.constant(half_life=1000).gamma(7)
    0.000692...

    With a half-life in `seconds` the past fades with the records' own timestamps, however many records come in that
    time: gamma is then the share of a record in the faded weight of all up to it.
    """

    scale: float = 1.0
    offset: float = 0.0
    power: float = 0.6
    floor: float = 0.0
    unit: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Raise `InputError` for an impossible schedule."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not (value is None and name in ("unit", "seconds")) and not np.isfinite(value):
                raise InputError(f"stepsize: {name} must be finite")
        if not 0 <= self.power <= 1:
            raise InputError(f"stepsize: power must lie between 0 and 1, not {self.power}")
        if not 0 < self.scale <= 1 or not 0 <= self.floor <= 1:
            raise InputError("stepsize: gamma and floor must be above 0 and at most 1")
        if self.offset < 0:
            raise InputError(f"stepsize: offset must be 0 or more records, not {self.offset}")
        if self.unit is not None and self.unit < 1:
            raise InputError(f"stepsize: unit must be 1 record or more, not {self.unit}")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"stepsize: a half-life in time must be above 0 seconds, not {self.seconds}")

    @classmethod
    def polynomial(
        cls, power: float = 0.6, *, offset: float = 0.0, floor: float = 0.0, unit: float | None = None
    ) -> "Stepsize":
        """Return gamma(t) ~ (t + offset)^-power; 0.5 < power <= 1 converges (Cappé & Moulines 2009)."""
        return cls(power=power, offset=offset, floor=floor, unit=unit)

    @classmethod
    def equal(cls, *, offset: float = 0.0, floor: float = 0.0) -> "Stepsize":
        """Return gamma(t) = 1 / (t + offset): the statistics are the mean over all records."""
        return cls(power=1.0, offset=offset, floor=floor)

    @classmethod
    def constant(
        cls, gamma: float | None = None, *, half_life: float | None = None, seconds: float | None = None
    ) -> "Stepsize":
        """Return a constant gamma, or a half-life after which a record weighs half as much: in records or in seconds.

        Seconds are those of the records' timestamps.
        """
        if sum(value is not None for value in (gamma, half_life, seconds)) != 1:
            raise InputError("stepsize: give one of gamma, half_life and seconds")
        if seconds is not None:
            return cls(power=0.0, seconds=seconds)
        if half_life is not None:
            if not half_life > 0:
                raise InputError(f"stepsize: half_life must be above 0 records, not {half_life}")
            gamma = float(-np.expm1(-np.log(2.0) / half_life))
        return cls(scale=float(gamma), power=0.0)  # type: ignore[arg-type]

    @classmethod
    def parse(cls, text: str) -> "Stepsize":
        """Read a schedule as the command line writes it; raises `InputError` for anything else.

        polynomial:0.6, equal, constant:0.01, half-life:1000 or, in time, half-life:90s (m, h, d); the first two then
        take offset=10 or floor=0.001.

        >>> Stepsize.parse("polynomial:0.7,offset=10") == Stepsize.polynomial(0.7, offset=10)
        True
        """
        kind, *options = [part.strip() for part in text.split(",")]
        name, _, argument = kind.partition(":")
        try:
            more = {key: float(value) for key, _, value in (option.partition("=") for option in options)}
            if name == "polynomial" and more.keys() <= {"offset", "floor", "unit"}:
                return cls.polynomial(float(argument or 0.6), **more)
            if name == "equal" and not argument and more.keys() <= {"offset", "floor"}:
                return cls.equal(**more)
            if name == "constant" and not more:
                return cls.constant(float(argument))
            if name == "half-life" and not more and argument[-1:] in _UNITS:
                return cls.constant(seconds=float(argument[:-1]) * _UNITS[argument[-1]])
            if name == "half-life" and not more:
                return cls.constant(half_life=float(argument))
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"stepsize {text!r}: {error}; {_SPELLINGS}") from None
        raise InputError(f"stepsize {text!r}: {_SPELLINGS}")

    @property
    def spelling(self) -> str:
        """The text from which `parse` makes this schedule, if the constructors made it.

        >>> Stepsize.polynomial(0.7, offset=10).spelling
        'polynomial:0.7,offset=10.0'
        """
        if self.seconds is not None:
            return f"half-life:{float(self.seconds)!r}s"
        if self.power == 0.0:
            return f"constant:{float(self.scale)!r}"
        options = {"offset": self.offset or None, "floor": self.floor or None, "unit": self.unit}
        name = "equal" if self.power == 1.0 and self.unit is None else f"polynomial:{float(self.power)!r}"
        return ",".join([name, *(f"{key}={float(value)!r}" for key, value in options.items() if value is not None)])

    def for_unit(self, unit: float) -> "Stepsize":
        """Return the same schedule with this unit, unless it has one of its own."""
        return self if self.unit is not None else _in_units_of(self, unit)

    def gamma(self, t: Any) -> Any:
        """Return gamma of the t-th record (t above 0); t may be an array and need not be whole.

        Raises `InputError` if the past fades with time instead.
        """
        if self.seconds is not None:
            raise InputError("stepsize: a half-life in time needs the times of the records; use steps_in_time")
        if isinstance(t, float | int):
            now = t + self.offset
            fading = (
                self.scale
                if self.power == 0.0
                else self.scale * (self.unit or 1.0) ** (self.power - 1.0) * now**-self.power
            )
            return min(max(fading if self.power == 0.0 else max(fading, 1.0 / now), self.floor), 1.0)
        elapsed = np.array(t, dtype=np.float64, ndmin=1) + self.offset
        if self.power == 0.0:
            steps = np.full_like(elapsed, self.scale)
        else:
            steps = elapsed.copy()
            power_in_place(steps, -self.power, np.empty_like(steps))
            steps *= self.scale * (self.unit or 1.0) ** (self.power - 1.0)
            np.maximum(steps, 1.0 / elapsed, out=steps)
        np.minimum(np.maximum(steps, self.floor, out=steps), 1.0, out=steps)
        return float(steps[0]) if np.ndim(t) == 0 else steps

    def steps_in_time(self, memory: FloatArray, timestamps: FloatArray, weights: FloatArray) -> FloatArray:
        """Return the step (n,) of each record at its time (n,), and move `memory` (2,) on: see `fading_steps`."""
        steps = np.empty(len(weights))
        fading_steps(memory, timestamps, weights, self.seconds, steps)
        return steps

    def steps(self, count: float, weights: FloatArray) -> FloatArray:
        """Return the step (n,) of each record that comes after records of total weight `count`.

        A record of weight w moves time on by w and is one step over w records of weight 1: 1 - prod(1 - gamma_i). That
        is exact for equal and constant stepsizes, and for others taken with gamma halfway.
        """
        if (weights == 1.0).all():
            return np.asarray(self.gamma(np.arange(count + 1.0, count + len(weights) + 0.5)))
        ends = count + np.cumsum(weights)
        if self.power == 1.0 and self.scale == 1.0 and self.floor == 0.0:
            elapsed = ends + self.offset
            return np.divide(weights, elapsed, out=np.zeros_like(weights), where=elapsed > 0)
        steps = np.asarray(self.gamma(np.maximum(ends - (weights - 1.0) / 2.0, 0.5)))
        unequal = weights != 1.0
        steps[unequal] = 1.0 - (1.0 - steps[unequal]) ** weights[unequal]
        return steps


@lru_cache(maxsize=64)
def _in_units_of(stepsize: Stepsize, unit: float) -> Stepsize:
    """Return the schedule with this unit: asked at every block, it must not check them anew."""
    return msgspec.structs.replace(stepsize, unit=unit)

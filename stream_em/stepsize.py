"""The stepsize schedule: how much the t-th record of a stream weighs against everything before it."""

from typing import Any

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError

_SPELLINGS = (
    "use polynomial:0.6, equal, constant:0.01 or half-life:1000; the first two also take ,offset=10,floor=0.001"
)


class Stepsize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The schedule gamma(t) = max(floor, min(1, scale (t + offset)^-power)) for t = 1, 2, …; a value.

    Make one with `polynomial` (for a stream that does not change, the default), `equal` (the plain mean: every record
    counts the same) or `constant` (forgetting: for a world that moves).

    >>> Stepsize.polynomial(0.6).gamma(1000)
    0.0158...
    >>> Stepsize.equal().gamma(4)
    0.25
    >>> Stepsize.constant(half_life=1000).gamma(7)
    0.000692...
    """

    scale: float = 1.0
    offset: float = 0.0
    power: float = 0.6
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Raise `InputError` for an impossible schedule."""
        for name in self.__struct_fields__:
            if not np.isfinite(getattr(self, name)):
                raise InputError(f"stepsize: {name} must be finite")
        if not 0 <= self.power <= 1:
            raise InputError(f"stepsize: power must lie between 0 and 1, not {self.power}")
        if not 0 < self.scale <= 1 or not 0 <= self.floor <= 1:
            raise InputError("stepsize: gamma and floor must be above 0 and at most 1")
        if self.offset < 0:
            raise InputError(f"stepsize: offset must be 0 or more records, not {self.offset}")

    @classmethod
    def polynomial(cls, power: float = 0.6, *, offset: float = 0.0, floor: float = 0.0) -> "Stepsize":
        """Return gamma(t) = (t + offset)^-power; 0.5 < power <= 1 converges (Cappé & Moulines 2009)."""
        return cls(power=power, offset=offset, floor=floor)

    @classmethod
    def equal(cls, *, offset: float = 0.0, floor: float = 0.0) -> "Stepsize":
        """Return gamma(t) = 1 / (t + offset): the statistics are the mean over all records."""
        return cls(power=1.0, offset=offset, floor=floor)

    @classmethod
    def constant(cls, gamma: float | None = None, *, half_life: float | None = None) -> "Stepsize":
        """Return a constant gamma, given as such or as the number of records after which one weighs half as much."""
        if (gamma is None) == (half_life is None):
            raise InputError("stepsize: give either gamma or half_life")
        if half_life is not None:
            if not half_life > 0:
                raise InputError(f"stepsize: half_life must be above 0 records, not {half_life}")
            gamma = float(-np.expm1(-np.log(2.0) / half_life))
        return cls(scale=float(gamma), power=0.0)  # type: ignore[arg-type]

    @classmethod
    def parse(cls, text: str) -> "Stepsize":
        """Read a schedule as the command line writes it; raises `InputError` for anything else.

        polynomial:0.6, equal, constant:0.01 or half-life:1000, then offset=10 or floor=0.001 if wanted.

        >>> Stepsize.parse("polynomial:0.7,offset=10") == Stepsize.polynomial(0.7, offset=10)
        True
        """
        kind, *options = [part.strip() for part in text.split(",")]
        name, _, argument = kind.partition(":")
        try:
            more = {key: float(value) for key, _, value in (option.partition("=") for option in options)}
            if name == "polynomial" and more.keys() <= {"offset", "floor"}:
                return cls.polynomial(float(argument or 0.6), **more)
            if name == "equal" and not argument and more.keys() <= {"offset", "floor"}:
                return cls.equal(**more)
            if name == "constant" and not more:
                return cls.constant(float(argument))
            if name == "half-life" and not more:
                return cls.constant(half_life=float(argument))
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"stepsize {text!r}: {error}; {_SPELLINGS}") from None
        raise InputError(f"stepsize {text!r}: {_SPELLINGS}")

    def gamma(self, t: Any) -> Any:
        """Return gamma of the t-th record; t may be an array and need not be whole."""
        with np.errstate(divide="ignore"):
            steps = np.minimum(1.0, self.scale * (np.asarray(t, dtype=np.float64) + self.offset) ** -self.power)
        steps = np.maximum(steps, self.floor)
        return float(steps) if np.ndim(t) == 0 else steps

    def steps(self, count: float, weights: FloatArray) -> FloatArray:
        """Return the step (n,) of each record that comes after records of total weight `count`.

        A record of weight w moves time on by w and is one step over w records of weight 1: 1 - prod(1 - gamma_i). That
        is exact for equal and constant stepsizes, and for others taken with gamma halfway.
        """
        ends = count + np.cumsum(weights)
        starts = ends - weights
        if self.power == 1.0 and self.scale == 1.0 and self.floor == 0.0:
            shifted = ends + self.offset
            return np.divide(weights, shifted, out=np.zeros_like(weights), where=shifted > 0)
        steps = np.asarray(self.gamma((starts + ends + 1.0) / 2.0))
        unequal = weights != 1.0
        if unequal.any():
            steps[unequal] = 1.0 - (1.0 - steps[unequal]) ** weights[unequal]
        return steps

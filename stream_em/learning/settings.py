"""How a learner learns, as a value."""

import msgspec

from stream_em.errors import InputError
from stream_em.stepsize import Stepsize

LARGEST_NUMBER = 2**53
LEAST = {"refresh_every": 1, "starts": 1, "seed": 0, "inhibit": 0, "warmup": 1, "recent": 0, "restart_every": 1}
"""The least that each whole number may be."""
LEAST_ROBUST = 2.0
"""Standard deviations of the log-likelihood: what lies within fewer is not surprising."""
MOST_RECENT = 10_000_000
MOST_HALF_LIVES = 16


class LearnerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a learner learns: everything but the model."""

    stepsize: Stepsize = Stepsize()
    refresh_every: int = 512
    starts: int = 8
    seed: int = 0
    warmup: int | None = None
    inhibit: int | None = None
    recent: int = 0
    restart_every: int | None = None
    delta: float = 1e-3
    robust: float | None = None
    half_lives: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InputError` for an impossible setting."""
        if not isinstance(self.stepsize, Stepsize):
            raise InputError(f"stepsize must be a Stepsize such as Stepsize.polynomial(0.6), not {self.stepsize!r}")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if name in ("inhibit", "warmup", "restart_every") and value is None:
                continue
            if not isinstance(value, int) or not least <= value <= LARGEST_NUMBER:
                raise InputError(f"{name} must be a whole number, {least} or more, not {value!r}")
        if not isinstance(self.delta, float) or not 0 < self.delta < 1:
            raise InputError(f"delta must be an error rate between 0 and 1, not {self.delta!r}")
        if self.robust is not None:
            number = isinstance(self.robust, int | float) and not isinstance(self.robust, bool)
            if not number or not LEAST_ROBUST <= self.robust < float("inf"):
                raise InputError(f"robust must be {LEAST_ROBUST:g} standard deviations or more, not {self.robust!r}")
            msgspec.structs.force_setattr(self, "robust", float(self.robust))
        numbers = all(isinstance(each, int | float) and 1 <= each <= LARGEST_NUMBER for each in self.half_lives)
        if not numbers or len(self.half_lives) > MOST_HALF_LIVES:
            raise InputError(
                f"half_lives must be at most {MOST_HALF_LIVES} numbers of records, 1 or more, not {self.half_lives!r}"
            )
        if self.recent > MOST_RECENT:
            raise InputError(f"recent must be at most {MOST_RECENT:,} records, which are held in memory")

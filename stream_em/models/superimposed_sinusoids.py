"""Superimposed sinusoids: settings, and parameters as users see them. The mathematics is in `sinusoids`."""

from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import maximise, model_sizes, params_of
from stream_em.emissions.gaussian import checked
from stream_em.emissions.standardise import units
from stream_em.errors import InputError
from stream_em.models.periodogram import find_lines, fit_lines
from stream_em.models.signal_settings import SignalSettings
from stream_em.models.sinusoids import LARGEST_RATIO, SMALLEST_NOISE, SMALLEST_RATIO, Sinusoids

SHORTEST_MEMORY, LONGEST_MEMORY = 2.0, 1e7
MOST_GROWN = 100.0
"""A memory grows to so many times the one given at most: one that were endless would never find a line again."""
START_GAIN = 1e-5
COUNTED = 100
"""A line counts like so many features: only thousands of records tell it from its neighbours."""


class SuperimposedSinusoidsParams(NamedTuple):
    """Parameters in the records' units; a second is a record if no sample rate is given."""

    frequencies: FloatArray
    """(K,) in Hz: cycles a second."""
    dampings: FloatArray
    """(K,) a second: an amplitude fades by exp(-damping) in one."""
    memories: FloatArray
    """(K,) in records: how many tell of a line's amplitude and phase, because these wander."""
    amplitudes: FloatArray
    """(K,): root mean square length of the phasor, the height of a steady line."""
    noise: FloatArray
    """(1,): variance of what no line explains."""
    level: FloatArray
    """(1,): what the signal swings about."""


class SuperimposedSinusoids(SignalSettings, frozen=True, forbid_unknown_fields=True):
    """One signal as a sum of damped or steady lines in white noise, followed as they move; NaN is a missing sample.

    Frequencies are told in Hz with the `sample_rate` of the signal, in cycles a record without. The first ones are
    `frequencies`, if these are given, or those of the highest peaks of the periodogram. A line's phase and amplitude
    wander, so that only a `memory` of records tells of them: first the one given, then what fits, up to a hundred times
    it and to as many records as the statistics are worth. Where the rest of the signal is not white, as under speech,
    what fits is too short; freeze it.
    Parameters named in `frozen` ("frequencies", "dampings", "memories") keep their starting values. What is told of a
    record are the lines in it, (n, K), given the records up to its own; their sum is the signal without the noise.

    >>> SuperimposedSinusoids(n_components=3, sample_rate=8000.0).memory
    1000.0
    """

    sample_rate: float = 1.0
    memory: float = 1000.0
    frequencies: tuple[float, ...] = ()

    name: ClassVar[str] = "superimposed-sinusoids"
    summary: ClassVar[str] = "one signal as a sum of lines in noise, followed as they move (hum, rotating machines)"
    params_type: ClassVar[type] = SuperimposedSinusoidsParams
    freezable: ClassVar[tuple[str, ...]] = ("frequencies", "dampings", "memories")

    def __post_init__(self) -> None:
        """Raise `InputError` for an impossible setting."""
        super().__post_init__()
        if self.frequencies and len(self.frequencies) != self.n_components:
            raise InputError(f"frequencies must be {self.n_components}, one for each line, not {len(self.frequencies)}")
        if not all(0 <= each <= 0.5 * self.sample_rate for each in self.frequencies):
            raise InputError(f"frequencies must be from 0 to half the sample rate, {0.5 * self.sample_rate:g}")

    def _check(self, field: str, value: Any) -> None:
        super()._check(field, value)
        if field == "sample_rate" and not 1e-12 <= value <= 1e12:
            raise InputError(f"sample_rate must be from 1e-12 to 1e12 records a second, not {value}")
        if field == "memory" and not SHORTEST_MEMORY <= value <= LONGEST_MEMORY:
            raise InputError(f"memory must be from {SHORTEST_MEMORY:g} to {LONGEST_MEMORY:g} records, not {value}")

    def small(self) -> SignalSettings:
        """Return two lines that run the same compiled code."""
        return msgspec.structs.replace(self, n_components=2, frozen=(), frequencies=())

    @property
    def records_together(self) -> None:
        """All of them."""
        return None

    def sized(self, n_features: int) -> Sinusoids:
        """Return the compiled form; raises `InputError` unless a record is one sample of one channel."""
        if n_features != 1:
            raise InputError(f"{self.name} is for one channel, not {n_features}; choose one field")
        angles, dampings, ratios = (int(name not in self.frozen) for name in self.freezable)
        return Sinusoids(self.n_components, angles, dampings, ratios, float(_ratio_of(MOST_GROWN * self.memory)))

    def counted_features(self, n_features: int) -> int:
        """Return how many features a sample counts like."""
        return COUNTED

    @property
    def most_features(self) -> int:
        """How many features a record may have."""
        return 1

    def n_features(self, sized: Any) -> int:
        """Return the width of a record."""
        return 1

    def n_parameters(self, n_features: int) -> int:
        """Return the number of free parameters."""
        return 4 * self.n_components + 2

    def sketch(self, params: Any) -> FloatArray:
        """Return records (2, 1) one standard deviation either side of the level."""
        found = self._checked(params)
        spread = np.sqrt(found.noise + 0.5 * (found.amplitudes**2).sum())
        return np.asarray(found.level + np.array([[-1.0], [1.0]]) * spread)

    def unit_theta(self, sized: Any, records: FloatArray, weights: FloatArray) -> FloatArray:
        """Return theta with steady lines: the strongest of the records (n, 1), or those of the `frequencies` given."""
        theta = np.zeros(model_sizes(sized)[1])
        windows = params_of(sized, theta)
        windows.shift[:], windows.scale[:] = units(records, weights, False)
        y = (records[:, 0] - windows.shift) / windows.scale
        angles = 2.0 * np.pi * np.array(self.frequencies) / self.sample_rate
        found = fit_lines(y, angles) if len(angles) else find_lines(y, self.n_components)
        bank = windows.bank
        bank.angles[:], bank.powers[:], bank.noise[:] = found.angles, found.powers, max(found.noise, SMALLEST_NOISE)
        bank.ratios[:] = _ratio_of(self.memory)
        maximise(sized, theta, np.empty(0), 0.0)
        return theta

    def start_gain(self, records: FloatArray) -> float:
        """Return the gain that counts: the lines are found before, and memories go on to grow online."""
        return START_GAIN

    def set_params(self, sized: Any, theta: FloatArray, params: Any) -> None:
        """Set theta from parameters in the records' units, or raise `InputError`."""
        found, windows = self._checked(params), params_of(sized, theta)
        bank, scale = windows.bank, windows.scale[0]
        bank.angles[:] = 2.0 * np.pi * found.frequencies / self.sample_rate
        bank.dampings[:] = found.dampings / self.sample_rate
        bank.ratios[:] = _ratio_of(found.memories)
        bank.powers[:] = (found.amplitudes / scale) ** 2
        bank.noise[:] = np.maximum(found.noise / scale**2, SMALLEST_NOISE)
        bank.level[:] = (found.level - windows.shift) / scale
        maximise(sized, theta, np.empty(0), 0.0)

    def _checked(self, params: Any) -> SuperimposedSinusoidsParams:
        shapes = dict.fromkeys(SuperimposedSinusoidsParams._fields, (self.n_components,)) | {
            "noise": (1,),
            "level": (1,),
        }
        found = SuperimposedSinusoidsParams(
            *(checked(name, getattr(params, name), shape) for name, shape in shapes.items())
        )
        if not ((found.frequencies >= 0) & (found.frequencies <= (0.5 + 1e-12) * self.sample_rate)).all():
            raise InputError(f"frequencies must be from 0 to half the sample rate, {0.5 * self.sample_rate:g}")
        if not ((found.memories >= 1) & (found.memories <= LONGEST_MEMORY)).all():
            raise InputError(f"memories must be from 1 to {LONGEST_MEMORY:g} records")
        for name in ("dampings", "amplitudes", "noise"):
            if getattr(found, name).min() < 0:
                raise InputError(f"{name} must be 0 or more")
        return found

    def params(self, sized: Any, theta: FloatArray) -> SuperimposedSinusoidsParams:
        """Return the parameters in the records' units."""
        windows = params_of(sized, theta)
        bank, scale = windows.bank, windows.scale
        return SuperimposedSinusoidsParams(
            bank.angles * self.sample_rate / (2.0 * np.pi),
            bank.dampings * self.sample_rate,
            np.sqrt(2.0 / bank.ratios),
            np.sqrt(bank.powers) * scale,
            bank.noise * scale**2,
            windows.shift + bank.level * scale,
        )

    def shares(self, posterior: FloatArray) -> FloatArray:
        """Return equal shares (n, K): those in the power of a record swing with the lines, which is no change."""
        return np.full(posterior.shape, 1.0 / self.n_components)


def _ratio_of(memory: Any) -> Any:
    """Return the ratio of state to observation noise with which so many records tell of a line's phase.

    Each tells with half the line's power on average of either of its two numbers, so that its variance settles at
    p² = 2 q r, and as of 2 / memory in units of r: q / r = 2 / memory².
    """
    return np.clip(2.0 / np.square(memory), SMALLEST_RATIO, LARGEST_RATIO)

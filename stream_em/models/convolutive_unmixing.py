"""Signals with echoes, told apart: settings, and parameters as users see them. The mathematics is in `convolutive`."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import maximise, model_sizes, params_of
from stream_em.emissions.gaussian import checked
from stream_em.emissions.standardise import units
from stream_em.errors import InputError
from stream_em.kernels.spatial import TILE
from stream_em.models.convolutive import Convolutive
from stream_em.models.signal_settings import SignalSettings

SHORTEST_WINDOW, LONGEST_WINDOW = 2 * TILE, 1 << 16
WEAKEST = 1e-6
"""A frequency has at least this part of a channel's mean power when the first rows are scaled."""


class ConvolutiveUnmixingParams(NamedTuple):
    """Parameters in the records' units at F = window / 2 frequencies; real and imaginary parts lie along axis 0.

    With X the transform of the windowed records at `frequencies`, sources are `unmixing` X, and X is `mixing` sources
    and the background, which is `background` X.
    """

    unmixing: FloatArray
    """(2, F, K, D)."""
    mixing: FloatArray
    """(2, F, D, K): column k tells how each channel hears source k."""
    background: FloatArray
    """(2, F, D - K, D)."""
    frequencies: FloatArray
    """(F,): in cycles a sample, rising; times the sample rate they are Hz."""
    location: FloatArray
    """(D,): the constant that is taken from each channel."""


class ConvolutiveUnmixing(SignalSettings, frozen=True, forbid_unknown_fields=True):
    """Independent vector analysis by EM: signals that were superimposed with echoes, told apart.

    With fewer of them than channels the rest is taken for noise that does not change. Frames of `window` records, a
    power of two and about as long as the echoes last, begin every `hop` records (None: a quarter of the window; a
    divisor of its half). `nu` are the degrees of freedom of the Student-t that this makes of a source's frame. Sources
    come `window` records late, as they are at channel `reference`, or, if None, each at the channel of its own number.
    The log-likelihood of a frame is that of its last record, and 0 that of all others, so that each frame counts once.
    A frame with a missing value is not learned; 0 stands for the value in the sources.

    >>> ConvolutiveUnmixing(n_components=3, window=2048).shift
    512
    """

    window: int = 1024
    hop: int | None = None
    nu: float = 4.0
    reference: int | None = None

    name: ClassVar[str] = "convolutive-unmixing"
    summary: ClassVar[str] = "superimposed signals with echoes, told apart (independent vector analysis by EM)"
    params_type: ClassVar[type] = ConvolutiveUnmixingParams
    freezable: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Raise `InputError` for an impossible setting."""
        super().__post_init__()
        if self.window // 2 % self.shift:
            raise InputError(f"hop must divide half the window of {self.window} records, and {self.shift} does not")

    @property
    def records_together(self) -> None:
        """All of them: frames overlap."""
        return None

    def _check(self, field: str, value: Any) -> None:
        super()._check(field, value)
        if field == "window" and not (SHORTEST_WINDOW <= value <= LONGEST_WINDOW and value & (value - 1) == 0):
            raise InputError(
                f"window must be a power of two from {SHORTEST_WINDOW} to {LONGEST_WINDOW:,} records, not {value}"
            )
        if field == "hop" and value is not None and value < 1:
            raise InputError(f"hop must be 1 record or more, not {value}")
        if field == "nu" and not 0.1 <= value <= 1e6:
            raise InputError(f"nu must be from 0.1 to 1e6 degrees of freedom, not {value}")
        if field == "reference" and value is not None and value < 0:
            raise InputError(f"reference must be a channel, counted from 0, not {value}")

    @property
    def shift(self) -> int:
        """Records from one frame to the next."""
        return self.window // 4 if self.hop is None else self.hop

    def sized(self, n_features: int) -> Convolutive:
        """Return the compiled form for records of `n_features` channels."""
        if self.n_components > n_features:
            raise InputError(f"n_components must be at most the {n_features} channels, not {self.n_components}")
        if self.reference is not None and self.reference >= n_features:
            raise InputError(f"reference must be a channel below {n_features}, not {self.reference}")
        reference = -1 if self.reference is None else self.reference
        return Convolutive(self.n_components, n_features, self.window, self.shift, float(self.nu), reference)

    @property
    def least_features(self) -> int:
        """How many channels there must be at least: as many as sources."""
        return self.n_components

    def sketch(self, params: Any) -> FloatArray:
        """Return records (2D, D) either side of the location, with the power of sources of unit power."""
        power = (np.asarray(params.mixing) ** 2).sum(axis=(0, 3)).mean(axis=0)
        steps = np.diag(np.sqrt(len(power) * power))
        return np.asarray(params.location + np.concatenate([steps, -steps]))

    def unit_theta(self, sized: Any, records: FloatArray, weights: FloatArray) -> FloatArray:
        """Return theta whose sources are the channels of the records (n, D), of unit power at each frequency."""
        theta = np.zeros(model_sizes(sized)[1])
        windows = params_of(sized, theta)
        shift, windows.scale[:] = units(records, weights, False)
        # A mean within the deviation may be a slow part of a signal that has just begun.
        windows.shift[:] = np.where(np.abs(shift) < windows.scale, 0.0, shift)
        deviations = np.sqrt(_spectrum(np.nan_to_num((records - windows.shift) / windows.scale), self.window))
        for d in range(len(shift)):
            windows.unmixing[0, d, d] = 1.0 / deviations[d]
        maximise(sized, theta, np.empty(0), 0.0)
        return theta

    def set_params(self, sized: Any, theta: FloatArray, params: Any) -> None:
        """Set theta from parameters in the records' units, or raise `InputError`."""
        K, D, F = self.n_components, sized.n_features, self.window // 2
        unmixing = checked("unmixing", params.unmixing, (2, F, K, D))
        rows = np.concatenate([unmixing, checked("background", params.background, (2, F, D - K, D))], axis=2)
        location = checked("location", params.location, (D,))
        if not (np.linalg.matrix_rank(rows[0] + 1j * rows[1]) == D).all():
            raise InputError("unmixing and background together must be invertible at each frequency")
        windows = params_of(sized, theta)
        windows.shift[:] = location
        windows.unmixing[..., _order(F)] = np.moveaxis(rows * windows.scale, 1, 3) * _signs(F)
        maximise(sized, theta, np.empty(0), 0.0)

    def params(self, sized: Any, theta: FloatArray) -> ConvolutiveUnmixingParams:
        """Return the parameters in the records' units."""
        windows, K, F = params_of(sized, theta), self.n_components, self.window // 2
        rows, mixing = (
            np.moveaxis(each[..., _order(F)] * _signs(F), 3, 1) for each in (windows.unmixing, windows.mixing)
        )
        return ConvolutiveUnmixingParams(
            np.ascontiguousarray(rows[:, :, :K] / windows.scale),
            np.ascontiguousarray(mixing[..., :K] * windows.scale[:, np.newaxis]),
            np.ascontiguousarray(rows[:, :, K:] / windows.scale),
            (np.arange(F) + 0.5) / self.window,
            windows.shift.copy(),
        )


def _order(n_frequencies: int) -> Any:
    """Return where each of the rising frequencies (F,) stands: the even ones, then the odd ones from the highest."""
    rising = np.arange(n_frequencies)
    return np.where(rising % 2 == 0, rising // 2, n_frequencies - 1 - rising // 2)


def _signs(n_frequencies: int) -> FloatArray:
    """Return the signs (2, 1, 1, F) of real and imaginary part at rising frequencies: odd ones are kept conjugate."""
    return np.stack([np.ones(n_frequencies), (-1.0) ** np.arange(n_frequencies)])[:, np.newaxis, np.newaxis]


def _spectrum(records: FloatArray, window: int) -> FloatArray:
    """Return the mean power (D, N / 2) of (n, D) records at each frequency, in the order of theta."""
    n, D = records.shape
    padded = np.concatenate([records, np.zeros((max(0, window - n), D))])
    sine = np.sin(np.pi * (np.arange(window) + 0.5) / window) * np.exp(-1j * np.pi * np.arange(window) / window)
    total, begins = np.zeros((window, D)), range(0, len(padded) - window + 1, window // 2)
    for begin in begins:
        total += np.abs(np.fft.fft(padded[begin : begin + window] * sine[:, np.newaxis], axis=0)) ** 2
    power = 2.0 * total[::2].T / (window * len(begins))
    mean = power.mean(axis=1, keepdims=True)
    return np.asarray(np.maximum(power, WEAKEST * np.where(mean > 0, mean, 1.0)) if mean.any() else np.ones_like(power))

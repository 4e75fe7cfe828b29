"""What readers of sampled signals have in common: how raw samples lie, and the packages that read the others."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from stream_em.errors import InputError
from stream_em.streams.bytestream import display
from stream_em.streams.cells import listed

SampleType = Literal["uint8", "int16", "int24", "int32", "float32", "float64"]
SAMPLED_FORMATS = ("audio", "edf", "pcm")
PIECE_VALUES = 1 << 17
"""Samples read at once, of all channels together (1 MB)."""


class Pcm(NamedTuple):
    """How raw samples lie: little-endian, one of each channel in turn. Integers stand for the numbers from −1 to 1."""

    sample_rate: float
    channels: int
    dtype: SampleType = "int16"


def pcm_of(sample_rate: float | None, channels: int | None, dtype: str | None) -> Pcm | None:
    """Return how raw samples lie, None if nothing is said; raises `InputError` if only a part is, or it cannot be.

    >>> pcm_of(16000, 4, None)
    Pcm(sample_rate=16000.0, channels=4, dtype='int16')
    """
    if sample_rate is None and channels is None and dtype is None:
        return None
    if sample_rate is None or channels is None:
        missing = "sample_rate" if sample_rate is None else "channels"
        raise InputError(f"{missing}: is missing; raw PCM needs both sample_rate and channels (its dtype is int16)")
    if not 0 < sample_rate < float("inf"):
        raise InputError(f"sample_rate must be above 0, not {sample_rate:g}")
    if channels < 1:
        raise InputError(f"channels must be at least 1, not {channels}")
    return Pcm(float(sample_rate), channels, sample_type(dtype) or "int16")


def sample_type(dtype: str | None) -> SampleType | None:
    """Return the type of raw samples that is spelled so, None for None; raises `InputError` if there is none."""
    known: SampleType
    for known in get_args(SampleType):
        if dtype == known:
            return known
    if dtype is not None:
        raise InputError(f"dtype must be one of {', '.join(get_args(SampleType))}, not {dtype!r}")
    return None


def checked_pcm(pcm: Pcm | None, name: str) -> Pcm:
    """Return how raw samples lie; raises `InputError` about the file `name` if that was not said."""
    if pcm is None:
        raise InputError(
            f"{name}: raw PCM does not say what it is; give --sample-rate and --channels, and --dtype if it is not"
            " int16 (in a config: source.sample_rate, source.channels, source.dtype)"
        )
    return pcm


def check_same_rate(before: float | None, rate: float, path: str) -> float:
    """Return the sampling rate of a file; raises `InputError` if that of the files before it was another."""
    if before is not None and rate != before:
        raise InputError(
            f"{display(path)}: has {rate:g} samples a second, and the signal before it {before:g};"
            " resample one of them, or read them apart"
        )
    return rate


def check_same_channels(before: Sequence[str], columns: Sequence[str], path: str) -> None:
    """Raise `InputError` if a file has other channels than the files before it."""
    if tuple(columns) != tuple(before):
        raise InputError(
            f"{display(path)}: has {len(columns)} channels ({listed(columns)}), and the signal before it {len(before)}"
            f" ({listed(before)}); choose those that both have with --fields, or read them apart"
        )


def channel_names(count: int) -> tuple[str, ...]:
    """Name the channels of a recording that names none.

    >>> channel_names(2)
    ('ch1', 'ch2')
    """
    return tuple(f"ch{i + 1}" for i in range(count))


def soundfile_for(what: str) -> Any:
    """Return the package soundfile; raises `InputError`, beginning with `what` needs it, if it is not there."""
    try:
        import soundfile
    except (ImportError, OSError):
        raise InputError(
            f"{what} needs the package soundfile; install it with pip install 'stream-em[audio]'"
        ) from None
    return soundfile

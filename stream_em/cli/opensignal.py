"""What `stream-em unmix` separates: recordings, tables of samples, pipes, a microphone."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from stream_em.errors import InputError
from stream_em.models.signal_unmixing import Sources
from stream_em.streams.bytestream import is_regular
from stream_em.streams.cells import check_fields
from stream_em.streams.files import FileSource, open_source
from stream_em.streams.formats import format_named
from stream_em.streams.microphone import PREFIX, Microphone
from stream_em.streams.paths import find_files
from stream_em.streams.signals import pcm_of

FILE_BLOCK, LIVE_SECONDS = 8192, 0.02


class Signal(NamedTuple):
    """An opened source, and the samples a second of each of its channels."""

    source: FileSource | Microphone
    rate: float

    def channel(self, name: str) -> int:
        """Return the number of a channel; raises `InputError` if there is none of that name."""
        check_fields([name], self.source.fields, "--reference")
        return self.source.fields.index(name)


def open_signal(
    data: Sequence[str],
    fields: Sequence[str] | None,
    format: str | None,
    sample_rate: float | None,
    channels: int | None,
    dtype: str | None,
    block_size: int = FILE_BLOCK,
) -> Signal:
    """Open recordings, a table of samples, whose rate must then be given, or a microphone; raises `InputError`."""
    if any(path.startswith(PREFIX) for path in data):
        return _open_microphone(data, sample_rate, channels)
    raw = channels is not None or dtype is not None
    live = not all(map(is_regular, find_files(data, None if format is None else format_named(format))))
    source = open_source(
        data,
        fields=fields,
        format=format,
        block_size=max(1, round(LIVE_SECONDS * (sample_rate or 8000))) if live else block_size,
        sample_rate=sample_rate if raw else None,
        channels=channels,
        dtype=dtype,
    )
    found = source.sample_rate
    if found is None and sample_rate is None:
        raise InputError("--sample-rate is missing: these records do not say how many of them make a second")
    if found is not None and sample_rate is not None and found != sample_rate:
        raise InputError(f"--sample-rate {sample_rate:g}: the recording has {found:g} samples a second; leave it out")
    rate = found or sample_rate or 0.0
    if not 0 < rate < float("inf"):
        raise InputError(f"--sample-rate must be above 0, not {rate:g}")
    return Signal(source, rate)


def mode_named(name: str) -> Sources:
    """Return what shares a source's loudness; raises `InputError` for an unknown name."""
    known: Sources
    for known in get_args(Sources):
        if known == name:
            return known
    raise InputError(f"--mode must be one of {', '.join(get_args(Sources))}; not {name!r}")


def _open_microphone(data: Sequence[str], sample_rate: float | None, channels: int | None) -> Signal:
    if len(data) > 1:
        raise InputError(f"{PREFIX} can be separated only by itself; name no other recordings")
    if sample_rate is None or channels is None:
        raise InputError(f"{data[0]}: give --sample-rate and --channels")
    pcm = pcm_of(sample_rate, channels, None)
    assert pcm is not None
    block_size = max(1, round(LIVE_SECONDS * pcm.sample_rate))
    return Signal(Microphone(data[0].removeprefix(PREFIX), pcm.sample_rate, pcm.channels, block_size), pcm.sample_rate)

"""The unmixer that `stream-em unmix` asks for."""

from collections.abc import Callable
from functools import partial

from stream_em.cli.learning import compile_convolutive, compile_unmixer
from stream_em.cli.opensignal import Signal, mode_named
from stream_em.errors import InputError
from stream_em.unmixing.convolutive import ConvolutiveUnmixer
from stream_em.unmixing.unmixer import Unmixer


def unmixer_for(
    signal: Signal,
    sources: int | None,
    mode: str,
    reference: str | None,
    detect: bool,
    window: int | None,
) -> tuple[Unmixer | ConvolutiveUnmixer, Callable[[], float]]:
    """Return an unmixer, and what compiles it; raises `InputError` for options that contradict each other."""
    channel = None if reference is None else signal.channel(reference)
    if window is None:
        found = Unmixer(sources, sources=mode_named(mode), detect=detect, reference=channel, sample_rate=signal.rate)
        return found, partial(compile_unmixer, found.settings.sources)
    if mode_named(mode) != "block":
        raise InputError(f"--mode {mode}: with --window all frequencies of a frame share a source's loudness")
    return ConvolutiveUnmixer(
        sources, window=window, detect=detect, reference=channel, sample_rate=signal.rate
    ), compile_convolutive

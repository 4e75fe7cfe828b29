"""A microphone, or whatever else of a sound card can be recorded, as a source of blocks."""

import threading
from collections.abc import Generator
from typing import Any

import numpy as np

from stream_em.errors import InputError, OutsideError
from stream_em.streams.records import Block, Note
from stream_em.streams.signals import channel_names

PREFIX = "mic:"
"""`mic:` is the default device, `mic:NAME` or `mic:NUMBER` another."""


class Microphone:
    """Blocks of `block_size` samples of all channels, from −1 to 1, until `stop`; what was lost is told in notes.

    Raises `InputError` if the package sounddevice or its library is missing, or there is no such device.
    """

    n_bytes: int | None = None
    bytes_read = 0
    trouble: str | None = None

    def __init__(self, device: str, sample_rate: float, channels: int, block_size: int) -> None:
        self.fields = channel_names(channels)
        self.sample_rate: float | None = sample_rate
        self._block_size = block_size
        self._stopped = threading.Event()
        try:
            import sounddevice
        except ImportError:
            raise InputError(
                "a microphone needs the package sounddevice; install it with pip install 'stream-em[microphone]'"
            ) from None
        except OSError:
            raise InputError(
                "a microphone needs PortAudio, which is not on this machine; install it (Debian: libportaudio2)"
            ) from None
        self._failure: type[Exception] = sounddevice.PortAudioError
        chosen: Any = int(device) if device.isdigit() else device or None
        try:
            self._stream: Any = sounddevice.InputStream(
                samplerate=sample_rate, channels=channels, device=chosen, dtype="float32", blocksize=block_size
            )
        except (self._failure, ValueError) as error:
            what = " ".join(str(error).split())
            raise InputError(
                f"{PREFIX}{device}: cannot record {channels} channels at {sample_rate:g} Hz: {what};"
                " python -m sounddevice lists the devices"
            ) from None

    def __iter__(self) -> Generator[Block, None, None]:
        taken = 0
        try:
            self._stream.start()
            while not self._stopped.is_set():
                samples, overflowed = self._stream.read(self._block_size)
                values = np.array(samples, dtype=np.float64)
                notes = (Note("overflow", f"samples were lost before number {taken:,}"),) if overflowed else ()
                timestamps = (taken + np.arange(len(values))) / (self.sample_rate or 1.0)
                taken += len(values)
                yield Block(values, self.fields, notes=notes, timestamps=timestamps)
        except self._failure as error:
            raise OutsideError(f"the microphone failed: {' '.join(str(error).split())}; check it") from None
        finally:
            self._stream.stop()

    def stop(self) -> None:
        """End the iteration at its next block."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the device."""
        self._stream.close()

    def __enter__(self) -> "Microphone":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""A microphone as a source. There is no sound card here: a module with sounddevice's interface takes its place."""

import sys
import types

import numpy as np
import pytest
import soundfile

from stream_em import demo
from stream_em.errors import InputError, OutsideError
from stream_em.streams.microphone import Microphone

RATE = 16_000
HEARD = demo.recordings()[: 2 * RATE] @ demo.MIXING.T / 8


class PortAudioError(Exception):
    pass


@pytest.fixture
def card(monkeypatch):
    """Put a sound card with four channels in the place of sounddevice; return what was asked of it."""
    asked = types.SimpleNamespace(settings=None, calls=[], overflow_at=None, fails_at=None)

    class InputStream:
        def __init__(self, *, samplerate, channels, device, dtype, blocksize):
            asked.settings = (samplerate, channels, device, dtype, blocksize)
            if channels > 4:
                raise PortAudioError("Invalid number of channels [PaErrorCode -9998]")
            if device == "nowhere":
                raise ValueError("No input device matching 'nowhere'")
            self.at = 0

        def start(self):
            asked.calls.append("start")

        def read(self, frames):
            begin, self.at = self.at, self.at + frames
            if asked.fails_at is not None and self.at > asked.fails_at:
                raise PortAudioError("Unanticipated host error")
            if self.at >= len(HEARD):
                asked.calls.append("end")
                if asked.when_over is not None:
                    asked.when_over()
            samples = HEARD[begin : self.at].astype("float32")
            return samples, asked.overflow_at is not None and begin == asked.overflow_at

        def stop(self):
            asked.calls.append("stop")

        def close(self):
            asked.calls.append("close")

    asked.when_over = None
    module = types.ModuleType("sounddevice")
    module.InputStream, module.PortAudioError = InputStream, PortAudioError
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return asked


def test_samples_come_in_blocks_with_their_times_until_it_is_stopped(card):
    card.overflow_at = 640
    with Microphone("", RATE, 4, 320) as source:
        card.when_over = source.stop
        blocks = list(source)
    assert card.settings == (RATE, 4, None, "float32", 320)
    assert source.fields == ("ch1", "ch2", "ch3", "ch4")
    np.testing.assert_allclose(np.concatenate([block.values for block in blocks]), HEARD, atol=1e-7)
    np.testing.assert_array_equal(np.concatenate([block.timestamps for block in blocks]), np.arange(len(HEARD)) / RATE)
    assert [block.notes[0].detail for block in blocks if block.notes] == ["samples were lost before number 640"]
    assert card.calls == ["start", "end", "stop", "close"]


def test_what_is_heard_is_separated(card, run, tmp_path, monkeypatch):
    from stream_em.cli import separation

    made = []
    begin = separation.Separation.__init__

    def remembered(self, *arguments):
        begin(self, *arguments)
        made.append(self)
        card.when_over = self.signal.source.stop

    monkeypatch.setattr(separation.Separation, "__init__", remembered)
    code, out, err = run("unmix", "mic:7", "--sample-rate", RATE, "--channels", "4", "--out-dir", tmp_path)
    assert (code, err) == (0, "")
    assert card.settings[2:] == (7, "float32", 320)
    assert "2.00 s at 16000 Hz" in out
    assert soundfile.info(tmp_path / "source_4.wav").frames == len(HEARD)
    assert card.calls[-1] == "close"


def test_what_is_missing_or_fails_is_told(card, run, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot record 5 channels at 16000 Hz: Invalid number of channels"):
        Microphone("", RATE, 5, 320)
    with pytest.raises(InputError, match="mic:nowhere: cannot record"):
        Microphone("nowhere", RATE, 2, 320)
    card.fails_at = 1000
    with pytest.raises(OutsideError, match="the microphone failed: Unanticipated host error"):
        list(Microphone("", RATE, 4, 320))
    code, _, err = run("unmix", "mic:", "--out-dir", tmp_path)
    assert (code, "give --sample-rate and --channels" in err) == (2, True)
    code, _, err = run("unmix", "mic:", "mic:2", "--out-dir", tmp_path)
    assert (code, "only by itself" in err) == (2, True)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match="install it with pip install 'stream-em\\[microphone\\]'"):
        Microphone("", RATE, 4, 320)

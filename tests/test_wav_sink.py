"""Sources as WAV files: what is read back, and after a crash the bytes of an undisturbed writer."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_em.errors import InputError
from stream_em.sinks.wav import WavSink

RATE = 8000
S = np.random.default_rng(0).normal(size=(1000, 2))


def rows(begin, end):
    return {"file": "x.wav", "record": np.arange(begin, end), "a": S[begin:end, 0], "b": 3 * S[begin:end, 1]}


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_each_column_of_real_numbers_is_a_recording(tmp_path):
    sink = WavSink(tmp_path / "sources", RATE)
    sink.open(None)
    for begin in range(0, 1000, 300):
        sink.write(rows(begin, min(begin + 300, 1000)))
    sink.flush()
    sink.close()
    assert sorted(bytes_of(tmp_path / "sources")) == ["a.wav", "b.wav"]
    for name, expected in (("a", S[:, 0]), ("b", 3 * S[:, 1])):
        with soundfile.SoundFile(tmp_path / "sources" / f"{name}.wav") as file:
            assert (file.samplerate, file.channels, file.subtype, file.frames) == (RATE, 1, "FLOAT", 1000)
            assert "should be" not in file.extra_info
            np.testing.assert_array_equal(file.read(dtype="float32"), expected.astype(np.float32))


def test_unknown_samples_are_silence_and_loud_ones_are_kept(tmp_path):
    sink = WavSink(tmp_path, RATE)
    sink.open(None)
    sink.write({"a": np.array([np.nan, 7.5, -0.25])})
    sink.flush()
    sink.close()
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav")[0], [0, 7.5, -0.25])


@given(
    lengths=st.lists(st.integers(0, 90), min_size=1, max_size=8),
    flushed=st.sets(st.integers(0, 8)),
    chosen=st.integers(0, 8),
    killed_at=st.integers(0, 8),
)
@settings(max_examples=50, deadline=None)
def test_a_writer_killed_anywhere_leaves_what_an_undisturbed_one_does(
    tmp_path_factory, lengths, flushed, chosen, killed_at
):
    ends = np.cumsum([0, *lengths])
    folder = tmp_path_factory.mktemp("wav")

    def write(sink, first, last):
        for i in range(first, last):
            sink.write(rows(ends[i], ends[i + 1]))
            if i in flushed:
                positions.append((i + 1, json.loads(json.dumps(sink.flush()))))

    positions = [(0, None)]
    whole = WavSink(folder / "whole", RATE)
    whole.open(None)
    write(whole, 0, len(lengths))
    whole.flush()
    whole.close()
    positions = [(0, None)]
    first = WavSink(folder / "broken", RATE)
    first.open(None)
    write(first, 0, min(killed_at, len(lengths)))
    first.close()
    done, position = positions[chosen % len(positions)]
    second = WavSink(folder / "broken", RATE)
    second.open(position)
    write(second, done, len(lengths))
    second.flush()
    second.close()
    assert bytes_of(folder / "broken") == bytes_of(folder / "whole")


def test_what_a_wav_file_cannot_be_is_told(tmp_path):
    sink = WavSink(tmp_path, RATE)
    sink.open(None)
    sink.write(rows(0, 10))
    position = sink.flush()
    sink.close()
    (tmp_path / "a.wav").write_bytes(b"short")
    with pytest.raises(InputError, match="holds 5 bytes, but the run had written 98"):
        WavSink(tmp_path, RATE).open(position)
    with pytest.raises(InputError, match="another type of sink"):
        WavSink(tmp_path, RATE).open({"bytes": 3})
    for rate in (0.5, 22050.5, 2e9):
        with pytest.raises(InputError, match="sample_rate: of a WAV file is a whole number"):
            WavSink(tmp_path / "other", rate)

"""Signals in files and pipes: read in blocks, gone on with, and refused in one line where they are wrong."""

import gzip
import json
import os
import subprocess
import sys
import threading
import tracemalloc

import edfio
import numpy as np
import pyedflib
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as sem
from stream_em.errors import InputError
from stream_em.streams import signals
from stream_em.streams.codecs import codec_named
from stream_em.streams.files import open_source
from stream_em.streams.kafka.batch import Batch, Place
from stream_em.streams.kafka.interface import Envelope, Fetched, Partition
from stream_em.streams.pcmfile import decoded
from stream_em.streams.signals import Pcm

RATE = 8000
X = 0.2 * np.random.default_rng(0).normal(size=(5000, 3))
CHANNELS = ("ch1", "ch2", "ch3")
STEP = {"PCM_16": 2**-15, "PCM_24": 2**-23, "FLOAT": 2**-24, "DOUBLE": 0.0}
KINDS = [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("wav", "DOUBLE"), ("flac", "PCM_16")]
KINDS += [("flac", "PCM_24"), ("aiff", "PCM_16"), ("aif", "PCM_24"), ("ogg", "VORBIS")]
RAW = {"sample_rate": RATE, "channels": 3}


def audio(path, values=X, rate=RATE, subtype=None):
    soundfile.write(path, values, rate, subtype=subtype, format="AIFF" if path.suffix == ".aif" else None)
    return path


def edf(path, columns=X[:4000].T, rates=(250, 250, 250), labels=("Fp1", "EEG  Cz", "ECG")):
    kind, signal = (edfio.Bdf, edfio.BdfSignal) if path.suffix == ".bdf" else (edfio.Edf, edfio.EdfSignal)
    parts = [
        signal(column, r, label=label, physical_range=(-2, 2))
        for column, label, r in zip(columns, labels, rates, strict=True)
    ]
    kind(parts).write(path)
    return path


def raw(values, dtype="<i2"):
    return np.round(values * 32768).clip(-32768, 32767).astype(dtype).tobytes()


def values(source):
    return np.concatenate([block.values for block in source])


def failure(data, **options):
    with pytest.raises(InputError) as caught:
        list(open_source(data, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is read


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_recordings_are_read_in_blocks_with_channels_and_times(tmp_path, suffix, subtype):
    path = audio(tmp_path / f"x.{suffix}", subtype=subtype)
    source = open_source(path, block_size=2048)
    assert (source.fields, source.sample_rate, source.n_records) == (CHANNELS, RATE, 5000)
    blocks = list(source)
    assert [len(block) for block in blocks] == [2048, 2048, 904]
    for block in blocks:
        assert block.values.flags.c_contiguous
        assert block.values.flags.owndata
    found = values(blocks)
    np.testing.assert_array_equal(found, soundfile.read(path, always_2d=True)[0])
    if subtype in STEP:
        np.testing.assert_allclose(found, X, rtol=0, atol=1.1 * STEP[subtype])
    np.testing.assert_array_equal(np.concatenate([block.timestamps for block in blocks]), np.arange(5000) / RATE)
    assert source.bytes_read == source.n_bytes == path.stat().st_size
    np.testing.assert_array_equal(values(open_source(path, fields=["ch3", "ch1"])), found[:, [2, 0]])


@pytest.mark.parametrize("suffix", ["edf", "bdf"])
def test_edf_and_bdf_are_read_in_physical_units_under_their_labels(tmp_path, suffix):
    path = edf(tmp_path / f"x.{suffix}")
    source = open_source(path, block_size=1000)
    assert (source.fields, source.sample_rate, source.n_records) == (("Fp1", "EEG Cz", "ECG"), 250, 4000)
    blocks = list(source)
    step = 4 / (2**16 if suffix == "edf" else 2**24)
    np.testing.assert_allclose(values(blocks), X[:4000], rtol=0, atol=step)
    assert blocks[-1].timestamps[-1] == 3999 / 250
    np.testing.assert_array_equal(values(open_source(path, fields=["ECG"])), values(blocks)[:, 2:])
    assert source.bytes_read == source.n_bytes


@pytest.mark.parametrize("suffix", ["edf", "bdf"])
def test_edf_with_annotations_that_another_package_wrote(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    kind = pyedflib.FILETYPE_EDFPLUS if suffix == "edf" else pyedflib.FILETYPE_BDFPLUS
    headers = pyedflib.highlevel.make_signal_headers(["a", "b"], sample_frequency=200, physical_min=-3, physical_max=3)
    with pyedflib.EdfWriter(str(path), 2, kind) as writer:
        writer.setSignalHeaders(headers)
        writer.writeSamples([np.ascontiguousarray(X[:4000, 0]), np.ascontiguousarray(X[:4000, 1])])
        writer.writeAnnotation(1.5, -1, "blink")
    with pyedflib.EdfReader(str(path)) as reader:
        expected = np.c_[reader.readSignal(0), reader.readSignal(1)]
    source = open_source(path, block_size=777)
    assert (source.fields, source.sample_rate) == (("a", "b"), 200)
    np.testing.assert_allclose(values(source), expected, rtol=0, atol=1e-9)
    cut_up = bytearray(path.read_bytes())
    cut_up[192:197] = b"EDF+D" if suffix == "edf" else b"BDF+D"
    path.write_bytes(cut_up)
    assert "is discontinuous" in failure(path)


def test_signals_of_one_rate_are_chosen_from_an_edf_that_has_several(tmp_path):
    path = edf(tmp_path / "x.edf", [X[:2000, 0], X[:4000, 1], X[:2000, 2]], rates=[250, 500, 250])
    assert "different sampling rates ('Fp1' 250, 'EEG Cz' 500, 'ECG' 250 a second)" in failure(path)
    source = open_source(path, fields=["ECG", "Fp1"])
    assert (source.sample_rate, source.n_records) == (250, None)
    np.testing.assert_allclose(values(source), X[:2000, [2, 0]], rtol=0, atol=4 / 2**16)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int24", "int32", "float32", "float64"])
def test_raw_samples_are_what_libsndfile_says_they_are(tmp_path, dtype):
    subtypes = {"uint8": "PCM_U8", "float32": "FLOAT", "float64": "DOUBLE"}
    subtype = subtypes.get(dtype, f"PCM_{dtype[3:]}")
    path = tmp_path / "x.raw"
    soundfile.write(path, X, RATE, format="RAW", subtype=subtype, endian="LITTLE")
    expected, _ = soundfile.read(path, format="RAW", subtype=subtype, endian="LITTLE", samplerate=RATE, channels=3)
    source = open_source(path, dtype=dtype, **RAW)
    assert (source.fields, source.sample_rate, source.n_records) == (CHANNELS, RATE, 5000)
    np.testing.assert_array_equal(values(source), expected)
    packed = tmp_path / "x.pcm.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(values(open_source(packed, dtype=dtype, **RAW)), expected)


@given(st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=20))
def test_three_bytes_keep_their_sign(numbers):
    data = b"".join(number.to_bytes(3, "little", signed=True) for number in numbers)
    np.testing.assert_array_equal(decoded(data, Pcm(1.0, 1, "int24"))[:, 0], np.array(numbers) / 2**23)


def test_missing_samples_are_missing_and_infinite_ones_are_told(tmp_path):
    broken = X.copy()
    broken[7, 1] = np.nan
    path = audio(tmp_path / "x.wav", broken, subtype="DOUBLE")
    np.testing.assert_array_equal(values(open_source(path)), broken)
    broken[9, 2] = np.inf
    assert "record 9, field 'ch3': inf is infinite" in failure(audio(tmp_path / "y.wav", broken, subtype="DOUBLE"))
    np.testing.assert_array_equal(
        values(open_source(tmp_path / "y.wav", on_error="skip")), np.delete(broken, 9, axis=0)
    )


# Several files, one signal


def test_files_of_a_signal_follow_each_other_in_time(tmp_path):
    names = [audio(tmp_path / "a.wav", X[:1000]), audio(tmp_path / "b.flac", X[1000:3000]), tmp_path / "c.wav"]
    audio(names[2], X[3000:])
    blocks = list(open_source(names, block_size=700))
    np.testing.assert_allclose(values(blocks), X, rtol=0, atol=2**-15)
    np.testing.assert_array_equal(np.concatenate([block.timestamps for block in blocks]), np.arange(5000) / RATE)


def test_a_change_of_rate_or_channels_between_files_is_told(tmp_path):
    first = audio(tmp_path / "a.wav")
    other = audio(tmp_path / "b.wav", rate=16000)
    assert "b.wav: has 16000 samples a second, and the signal before it 8000" in failure([first, other])
    wide = audio(tmp_path / "c.wav", np.c_[X, X[:, :1]])
    assert "has 4 channels ('ch1', 'ch2', 'ch3', 'ch4'), and the signal before it 3" in failure([first, wide])
    assert "there is no field 'ch4'" in failure([wide, first])
    assert len(values(open_source([first, wide], fields=["ch1", "ch2"]))) == 10_000


CASES = [("a.wav", "b.wav"), ("a.flac", "b.flac"), ("a.ogg", "b.ogg"), ("a.edf", "b.edf"), ("a.bdf", "b.bdf")]
CASES += [("a.raw", "b.raw"), ("a.raw.gz", "b.raw.gz")]


@pytest.mark.parametrize("names", CASES)
@given(chosen=st.integers(0, 12), size=st.sampled_from([300, 1024, 4096]))
@settings(max_examples=12, deadline=None)
def test_reading_goes_on_at_any_block_as_if_it_had_not_stopped(tmp_path_factory, names, chosen, size):
    folder = tmp_path_factory.getbasetemp() / names[0]
    paths = [folder / name for name in names]
    options = RAW if ".raw" in names[0] else {}
    if not folder.exists():
        folder.mkdir()
        for path in paths:
            if options:
                path.write_bytes(gzip.compress(raw(X)) if path.suffix == ".gz" else raw(X))
            else:
                (edf if path.suffix in (".edf", ".bdf") else audio)(path)
    blocks = list(open_source(paths, block_size=size, **options))
    count = min(chosen, len(blocks) - 2) + 1
    source = open_source(paths, block_size=size, **options)
    source.seek(json.loads(json.dumps(blocks[count - 1].position)))
    rest = list(source)
    expected = blocks[count:]
    assert [block.position for block in rest] == [block.position for block in expected]
    np.testing.assert_array_equal(values(rest), values(expected))
    np.testing.assert_array_equal(
        np.concatenate([block.timestamps for block in rest]), np.concatenate([block.timestamps for block in expected])
    )


def test_a_recording_that_changed_is_not_gone_on_with(tmp_path):
    path = audio(tmp_path / "x.wav")
    position = next(iter(open_source(path, block_size=500))).position
    audio(path, -X)
    with pytest.raises(InputError, match="has changed since the snapshot"):
        open_source(path).seek(position)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    peaks = []
    for repeats in (40, 400):
        path = audio(tmp_path / f"{repeats}.wav", np.tile(X, (repeats, 1)))
        tracemalloc.start()
        count = sum(len(block) for block in open_source(path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == 5000 * repeats
    assert peaks[1] < 1.1 * peaks[0]


# Pipes


def test_raw_samples_come_from_a_named_pipe_while_they_are_written(tmp_path):
    pipe = tmp_path / "microphone"
    os.mkfifo(pipe)
    go_on = threading.Event()

    def speak():
        with pipe.open("wb", buffering=0) as file:
            # Cut in the middle of a sample.
            file.write(raw(X)[:6001])
            assert go_on.wait(30)
            file.write(raw(X)[6001:])

    writer = threading.Thread(target=speak)
    writer.start()
    blocks = iter(open_source(pipe, block_size=500, **RAW))
    first = [next(blocks), next(blocks)]
    go_on.set()
    np.testing.assert_allclose(values([*first, *blocks]), X, rtol=0, atol=2**-15)
    writer.join()


def test_raw_samples_come_through_standard_input(tmp_path):
    program = (
        "from stream_em.streams.files import open_source\n"
        f"for block in open_source('-', sample_rate={RATE}, channels=3): print(len(block), block.timestamps[-1])\n"
    )
    found = subprocess.run([sys.executable, "-c", program], input=raw(X), capture_output=True, check=True)
    assert found.stdout.split() == [b"5000", str(4999 / RATE).encode()]


def test_recordings_must_be_files_and_raw_samples_can_be_piped(tmp_path):
    path = tmp_path / "x.wav.gz"
    path.write_bytes(gzip.compress(audio(tmp_path / "x.wav").read_bytes()))
    assert "must be a plain file" in failure(path)
    program = "from stream_em.streams.files import open_source\nlist(open_source('-'))"
    wav = (tmp_path / "x.wav").read_bytes()
    found = subprocess.run([sys.executable, "-c", program], input=wav, capture_output=True, check=False)
    assert b"pipe raw samples (--format pcm, with --sample-rate and --channels)" in found.stderr


# What is refused


def test_raw_samples_must_be_described(tmp_path):
    path = tmp_path / "x.raw"
    path.write_bytes(raw(X))
    assert "raw PCM does not say what it is; give --sample-rate and --channels" in failure(path)
    assert "channels: is missing" in failure(path, sample_rate=8000)
    assert "sample_rate: is missing" in failure(path, channels=3)
    assert "sample_rate must be above 0" in failure(path, sample_rate=0, channels=3)
    assert "channels must be at least 1" in failure(path, sample_rate=8000, channels=0)
    assert "dtype must be one of uint8, int16" in failure(path, dtype="s16", **RAW)
    assert "ends with 12 bytes of a sample that has 14" in failure(path, sample_rate=8000, channels=7)
    assert "describe raw PCM, and this is audio" in failure(audio(tmp_path / "x.wav"), **RAW)


def test_damaged_recordings_are_told(tmp_path):
    wav = audio(tmp_path / "x.wav").read_bytes()
    flac = audio(tmp_path / "x.flac").read_bytes()
    edf_bytes = edf(tmp_path / "x.edf").read_bytes()
    for name, content, told in (
        ("a.wav", wav[:9000], "is cut short: its header promises 30,000 bytes of samples, 8,956 are there"),
        ("b.wav", b"hello", "is damaged, cut short or of another format"),
        ("c.wav", flac[:20], "is damaged, cut short or of another format"),
        ("a.flac", flac[:9000], "is damaged, cut short or of another format"),
        ("a.edf", edf_bytes[:-500], "is cut short, or too long: its header promises 16 data records"),
        ("b.edf", edf_bytes[:100], "is damaged, cut short or of another format"),
        ("d.wav", b"", "is empty (0 bytes)"),
    ):
        (tmp_path / name).write_bytes(content)
        assert f"{name}: {told}" in failure(tmp_path / name)
    assert "has no samples" in failure(audio(tmp_path / "e.wav", X[:0]))
    assert "there is no such file" in failure(tmp_path / "none.wav")


def test_a_recording_that_was_written_into_a_pipe_says_no_length(tmp_path):
    content = bytearray(audio(tmp_path / "x.wav").read_bytes())
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff" * 4
    (tmp_path / "y.wav").write_bytes(content)
    np.testing.assert_array_equal(values(open_source(tmp_path / "y.wav")), values(open_source(tmp_path / "x.wav")))


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path, other = audio(tmp_path / "x.wav"), edf(tmp_path / "x.edf")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setitem(sys.modules, "edfio", None)
    assert "install it with pip install 'stream-em[audio]'" in failure(path)
    assert "install it with pip install 'stream-em[edf]'" in failure(other)


def test_nothing_heavy_is_imported_for_help_and_checks(tmp_path):
    (tmp_path / "c.toml").write_text(
        '[source]\ntype = "files"\npath = "x.wav"\n[model]\ntype = "gaussian-mixture"\n'
        '[learner]\nstepsize = "half-life:2s"\n'
    )
    audio(tmp_path / "x.wav")
    for arguments in (["--help"], ["fit", "--help"], ["unmix", "--help"], ["check", "c.toml"]):
        program = (
            "import sys\nfrom stream_em import cli\n"
            f"try: cli.main({arguments!r})\nexcept SystemExit as end: assert not end.code\n"
            "print([name for name in ('numba', 'scipy', 'edfio') if name in sys.modules])"
        )
        found = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True, text=True
        )
        assert found.stdout.splitlines()[-1] == "[]"


# Every command reads them


def test_a_model_is_fitted_to_a_recording_and_scores_another(tmp_path, run):
    audio(tmp_path / "x.wav")
    (tmp_path / "x.raw").write_bytes(raw(X))
    code, out, err = run("fit", tmp_path / "x.wav", "--covariance-type", "diag", "--out", tmp_path / "m.safetensors")
    assert (code, err) == (0, ""), err
    assert "5,000" in out
    code, out, err = run(
        "score", tmp_path / "m.safetensors", tmp_path / "x.raw", "--sample-rate", "8000", "--channels", "3"
    )
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 5001
    code, _, err = run("fit", tmp_path / "x.raw", "--dtype", "int13", "--channels", "3", "--sample-rate", "8000")
    assert (code, err.count("\n")) == (2, 1)
    assert "dtype must be one of" in err


def test_the_past_fades_with_the_time_of_the_samples(tmp_path):
    path = audio(tmp_path / "x.wav", subtype="DOUBLE")
    model = sem.GaussianMixture(n_components=1, covariance_type="diag")
    ours, told = (sem.Learner(model, stepsize=sem.Stepsize.parse("half-life:0.1s"), seed=0) for _ in range(2))
    for block in open_source(path, block_size=1000):
        ours.learn(block)
    told.learn(X, timestamps=np.arange(5000) / RATE)
    for mine, theirs in zip(ours.params, told.params, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)


def test_sample_types_are_those_of_the_config():
    assert signals.sample_type(None) is None
    assert signals.sample_type("int24") == "int24"


# Blocks of samples in messages


@pytest.mark.parametrize("format", ["arrow", "pcm-int16", "pcm-float32"])
def test_messages_of_many_samples_become_one_block(format):
    signal = np.round(X * 2**15) / 2**15
    codec = codec_named(format, CHANNELS)
    messages = [message for part in np.split(signal, 5) for message in codec.encode(part, CHANNELS)]
    assert len(messages) == 5
    one = Partition("microphones", 0)
    fetched = Fetched.of(one, np.arange(5), messages, 0.0, [None] * 5)
    batch = Batch([fetched], codec_named(format, CHANNELS), {one: Place(0)}, lambda _: Envelope(None, ()))
    whole = batch.before(batch.cut_after(10_000))
    np.testing.assert_array_equal(batch.values[whole], signal if format != "pcm-float32" else signal.astype("f4"))
    places = batch.places(whole)
    np.testing.assert_array_equal(places["offset"], np.repeat(np.arange(5), 1000))
    np.testing.assert_array_equal(places["record"], np.tile(np.arange(1000), 5))


def test_messages_that_are_no_whole_samples_spoil_no_others():
    codec = codec_named("pcm-float32", ("a", "b"))
    good = np.array([[1, 2], [np.inf, 3], [np.nan, 4]], dtype="<f4").tobytes()
    found = codec.decode([b"", good, good[:-3], good[:8]])
    np.testing.assert_array_equal(found.values, [[1, 2], [np.nan, 4], [1, 2]])
    np.testing.assert_array_equal(found.message, [1, 1, 3])
    np.testing.assert_array_equal(found.record, [0, 2, 0])
    reasons = [(wrong.message, wrong.reason) for wrong in found.unreadable]
    assert [message for message, _ in reasons] == [0, 1, 2]
    assert reasons[0][1] == "is empty"
    assert reasons[1][1].startswith("record 1, field 'a': inf is infinite")
    assert reasons[2][1].startswith("has 21 bytes, which is no whole number of samples of 2 channels (8 bytes)")
    assert len(codec.decode([]).values) == 0
    assert len(codec.decode([b"x"]).values) == 0
    for wrong, kind in (([[1.0, 0.5]], "int16"), ([[np.nan, 0]], "int16"), ([[1e39, 0]], "float32")):
        with pytest.raises(InputError, match=r"send (pcm-float32|float64)"):
            codec_named(f"pcm-{kind}", ("a", "b")).encode(np.array(wrong), ("a", "b"))
    with pytest.raises(InputError, match="does not tell its channels"):
        codec_named("pcm-int16", None)

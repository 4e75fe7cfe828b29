"""stream-em unmix and its demonstration: what comes out, and what is said of bad input."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from benchmarks.rooms import heard_in_a_room
from stream_em import demo
from stream_em.configfile import parse_config
from stream_em.errors import InputError
from stream_em.unmixing import metrics
from stream_em.unmixing.channels import ChannelCheck

RATE = 16_000
SIGNALS = demo.recordings()[: 6 * RATE]
HEARD = SIGNALS @ demo.MIXING.T / 8
LATER = slice(3 * RATE, None)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixture") / "in.wav"
    soundfile.write(path, HEARD, RATE, subtype="PCM_16")
    return path


def recording(path, values, subtype="FLOAT"):
    soundfile.write(path, values, RATE, subtype=subtype)
    return path


def separated(folder, count=4):
    return np.stack([soundfile.read(folder / f"source_{k + 1}.wav")[0] for k in range(count)], axis=1)


def quality(sources, signals=SIGNALS):
    """Return the SI-SDR of each signal in dB over the last seconds."""
    matched = metrics.matched_to(sources[LATER], signals[LATER])
    return metrics.si_sdr(sources[LATER][:, matched], signals[LATER])


def as_pcm(values):
    return np.round(values * 32768).clip(-32768, 32767).astype("<i2").tobytes()


def failure(run, *arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


# What comes out


def test_a_recording_is_separated_into_a_file_for_each_source(run, mixture, tmp_path):
    code, out, err = run("unmix", mixture, "--out-dir", tmp_path / "sources")
    assert (code, err) == (0, "")
    assert "4: ch1, ch2, ch3, ch4" in out
    assert "6.00 s at 16000 Hz" in out
    assert "0.10 s: start, 4 sources from 4 channels" in out
    sources = separated(tmp_path / "sources")
    assert sources.shape == HEARD.shape
    assert np.isfinite(sources).all()
    assert quality(sources).min() > 25
    with soundfile.SoundFile(tmp_path / "sources" / "source_1.wav") as file:
        assert (file.samplerate, file.channels, file.subtype) == (RATE, 1, "FLOAT")


def test_the_sources_are_as_loud_as_they_are_at_a_microphone(run, mixture, tmp_path):
    run("unmix", mixture, "--out-dir", tmp_path, "--reference", "ch3", "--quiet")
    sources = separated(tmp_path)
    matched = metrics.matched_to(sources[LATER], SIGNALS[LATER])
    np.testing.assert_allclose(
        sources[LATER][:, matched], SIGNALS[LATER] * demo.MIXING[2] / 8, atol=0.1 * np.abs(HEARD).max()
    )
    np.testing.assert_allclose(sources[LATER].sum(axis=1), HEARD[LATER, 2], atol=2e-3)


def test_a_picture_is_drawn_if_asked_for(run, mixture, tmp_path):
    picture = tmp_path / "pictures" / "x.svg"
    assert run("unmix", mixture, "--out-dir", tmp_path, "--picture", picture, "--quiet") == (0, "", "")
    assert picture.read_text().count("<image") == 8
    assert "ends in .png, .svg, .pdf" in failure(
        run, "unmix", mixture, "--out-dir", tmp_path / "other", "--picture", tmp_path / "x.gif"
    )


def test_voices_in_a_room_are_separated_with_a_window(run, tmp_path):
    room = heard_in_a_room(demo.recordings()[: 12 * RATE, :2], 2, 0.08, RATE, 1)
    path = recording(tmp_path / "room.wav", room.channels / 10)
    options = ("--window", "1024", "--reference", "ch1")
    code, out, err = run("unmix", path, *options, "--out-dir", tmp_path / "sources")
    assert (code, err) == (0, "")
    assert "64.0 ms, which the files do not have" in " ".join(out.split())
    assert "0.06 s: start, 2 sources from 2 channels" in out
    sources = separated(tmp_path / "sources", 2)
    np.testing.assert_allclose(sources.sum(axis=1), room.channels[:, 0] / 10, atol=1e-6)
    late, images = slice(7 * RATE, None), room.images[7 * RATE :, 0]
    matched = metrics.matched_to(sources[late], images)
    before = metrics.si_sdr(np.repeat(room.channels[late, :1], 2, axis=1), images)
    assert (metrics.si_sdr(sources[late][:, matched], images) - before).min() > 8
    page = tmp_path / "x.html"
    run("unmix", path, *options, "--out-dir", tmp_path / "again", "--write", "csv", "--json", "--report", page)
    assert page.read_text("utf-8").count("<image") == 4
    table = np.loadtxt(tmp_path / "again" / "sources.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table, sources, atol=1e-6)


def test_options_that_contradict_a_window_are_told(run, mixture, tmp_path):
    options = ("unmix", mixture, "--out-dir", tmp_path / "sources", "--window", "512")
    assert "at most the 4 channels, not 5" in failure(run, *options, "--sources", "5")
    assert "--mode sample: with --window" in failure(run, *options, "--mode", "sample")
    assert "window must be a power of two" in failure(run, *options[:-1], "500")
    short = recording(tmp_path / "short.wav", HEARD[:300])
    assert "512 samples that are not silence are needed, and 300" in failure(run, *options[:1], short, *options[2:])


def test_a_page_tells_what_was_separated_and_shows_it(run, mixture, tmp_path):
    page = tmp_path / "pages" / "x.html"
    assert run("unmix", mixture, "--out-dir", tmp_path / "a<b", "--report", page, "--quiet") == (0, "", "")
    text = page.read_text("utf-8")
    assert text.count("<image") == 8
    assert text.count("<svg") == 9
    assert "<h1>a&lt;b</h1>" in text
    assert "of real time" in text
    assert "ends in .html" in failure(run, "unmix", mixture, "--out-dir", tmp_path / "other", "--report", tmp_path)


def test_a_page_of_a_signal_that_was_only_just_enough(run, tmp_path):
    short, page = recording(tmp_path / "short.wav", HEARD[:3200]), tmp_path / "x.html"
    assert run("unmix", short, "--out-dir", tmp_path / "a", "--report", page, "--quiet") == (0, "", "")
    assert page.read_text("utf-8").count("<image") == 8


def test_samples_from_a_pipe_or_a_table_give_the_same_sources(run, mixture, tmp_path):
    run("unmix", mixture, "--out-dir", tmp_path / "a", "--quiet")
    heard = soundfile.read(mixture)[0]
    pipe = tmp_path / "microphones"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(as_pcm(heard)))
    writer.start()
    raw = ("--sample-rate", RATE, "--channels", "4", "--dtype", "int16")
    assert run("unmix", pipe, *raw, "--out-dir", tmp_path / "b", "--quiet") == (0, "", "")
    writer.join()
    np.save(tmp_path / "x.npy", heard)
    table = ("--sample-rate", RATE, "--write", "parquet")
    assert run("unmix", tmp_path / "x.npy", *table, "--out-dir", tmp_path / "c", "--quiet") == (0, "", "")
    whole = separated(tmp_path / "a")
    np.testing.assert_allclose(separated(tmp_path / "b"), whole, atol=1e-6)
    found = pq.read_table(tmp_path / "c" / "sources")
    assert found.column_names == ["source_1", "source_2", "source_3", "source_4"]
    np.testing.assert_allclose(np.stack([found[name] for name in found.column_names], axis=1), whole, atol=1e-6)


def test_standard_input_is_separated_while_it_comes(mixture, tmp_path):
    arguments = ["unmix", "-", "--sample-rate", str(RATE), "--channels", "4", "--out-dir", str(tmp_path), "--json"]
    program = f"from stream_em import cli\ncli.main({arguments!r})"
    heard = soundfile.read(mixture)[0]
    found = subprocess.run([sys.executable, "-c", program], input=as_pcm(heard), capture_output=True, check=True)
    told = json.loads(found.stdout)
    assert (told["samples"], told["sources"], told["sample_rate"]) == (len(heard), 4, RATE)
    assert told["channels"] == ["ch1", "ch2", "ch3", "ch4"]
    assert told["events"][0]["kind"] == "start"
    assert told["notes"] == []
    assert quality(separated(tmp_path)).min() > 25


def test_ctrl_c_ends_a_live_signal_with_what_was_separated(mixture, tmp_path):
    arguments = ["unmix", "-", "--sample-rate", str(RATE), "--channels", "4", "--out-dir", str(tmp_path), "--json"]
    program = f"from stream_em import cli\ncli.main({arguments!r})"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(as_pcm(soundfile.read(mixture)[0]))
    process.stdin.flush()
    while not (tmp_path / "source_4.wav").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    samples = json.loads(out)["samples"]
    assert 1600 <= samples <= len(HEARD)
    assert soundfile.info(tmp_path / "source_1.wav").frames == samples


def test_several_files_are_one_signal_and_channels_can_be_chosen(run, tmp_path):
    first, second = (
        recording(tmp_path / "1.wav", HEARD[:40_000]),
        recording(tmp_path / "2.flac", HEARD[40_000:], "PCM_24"),
    )
    run("unmix", first, second, "--out-dir", tmp_path / "all", "--quiet")
    assert quality(separated(tmp_path / "all")).min() > 25
    code, out, _ = run(
        "unmix", first, second, "--fields", "ch4,ch1", "--sources", "1", "--out-dir", tmp_path / "two", "--json"
    )
    assert code == 0
    assert json.loads(out)["channels"] == ["ch4", "ch1"]
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["source_1.wav"]


def test_sources_that_are_there_are_not_written_over_unless_forced(run, mixture, tmp_path):
    (tmp_path / "source_7.wav").write_bytes(b"mine")
    (tmp_path / "other.txt").write_text("kept")
    own = tmp_path / "own"
    own.mkdir()
    recording(own / "source_1.wav", HEARD)
    assert "would be written over" in failure(run, "unmix", own / "source_1.wav", "--out-dir", own, "--force")
    assert (own / "source_1.wav").exists()
    assert "source_7.wav: is there already" in failure(run, "unmix", mixture, "--out-dir", tmp_path)
    assert run("unmix", mixture, "--out-dir", tmp_path, "--force", "--quiet")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "other.txt",
        "own",
        *(f"source_{k}.wav" for k in range(1, 5)),
    ]


# Bad input: an error of one line, or a correct answer; never NaN


BAD = {
    "silent": (lambda x: np.zeros(len(x)), "ch5: is silent"),
    "constant": (lambda x: np.full(len(x), 0.25), "ch5: is constant (0.25)"),
    "duplicated": (lambda x: -0.5 * x[:, 1], "ch2 and ch5: are the same but for their scale"),
    "missing": (lambda x: np.full(len(x), np.nan), "ch5: has no value at all"),
    "a sum of others": (lambda x: x[:, 0] + x[:, 3], "allow no more than 4 sources"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_channel_that_says_nothing_of_its_own_spoils_no_source(run, tmp_path, bad):
    make, told = BAD[bad]
    path = recording(tmp_path / "x.wav", np.c_[HEARD, make(HEARD)])
    code, out, err = run("unmix", path, "--out-dir", tmp_path / "sources")
    assert (code, err) == (0, "")
    assert told in " ".join(out.split())
    sources = separated(tmp_path / "sources", 5)
    assert np.isfinite(sources).all()
    assert quality(sources).min() > 20


def test_silence_at_the_begin_and_gaps_are_no_obstacle(run, tmp_path):
    silence = np.zeros((RATE, 4))
    holes = HEARD.copy()
    holes[2 * RATE : 2 * RATE + 4000, 1] = np.nan
    path = recording(tmp_path / "x.wav", np.concatenate([silence, holes]))
    code, out, _ = run("unmix", path, "--out-dir", tmp_path / "sources")
    assert code == 0
    assert "ch2: 4,000 of 112,000 samples are missing" in out
    sources = separated(tmp_path / "sources")
    assert "1.10 s: start" in out
    assert not sources[:RATE].any()
    assert np.isfinite(sources).all()
    assert quality(sources[RATE:]).min() > 20


def test_what_came_before_a_fault_is_kept(run, tmp_path):
    path = recording(tmp_path / "x.flac", HEARD, "PCM_16")
    path.write_bytes(path.read_bytes()[:450_000])
    assert "is damaged, cut short" in failure(run, "unmix", path, "--out-dir", tmp_path / "sources")
    with soundfile.SoundFile(tmp_path / "sources" / "source_1.wav") as file:
        assert 2 * RATE < file.frames < len(HEARD)
        assert "should be" not in file.extra_info


def test_clipping_is_told(run, tmp_path):
    path = recording(tmp_path / "x.wav", HEARD.clip(-0.15, 0.15), "PCM_16")
    code, out, _ = run("unmix", path, "--out-dir", tmp_path / "sources")
    assert code == 0
    assert out.count("is clipped") == 4
    assert np.isfinite(separated(tmp_path / "sources")).all()


def test_what_cannot_be_separated_is_told(run, mixture, tmp_path):
    out = ("--out-dir", tmp_path / "sources")
    short = recording(tmp_path / "short.wav", HEARD[:3])
    err = failure(run, "unmix", short, *out)
    assert "1,600 samples are needed" in err
    assert "3 are there" in err
    still = recording(tmp_path / "still.wav", np.zeros((20_000, 4)))
    assert "all channels are silent" in failure(run, "unmix", still, *out, "--force")
    other = tmp_path / "other.wav"
    soundfile.write(other, HEARD, 8000)
    assert "has 8000 samples a second" in failure(run, "unmix", mixture, other, *out, "--force")
    assert "at most the 4 channels, not 5" in failure(run, "unmix", mixture, "--sources", "5", *out, "--force")
    assert "leave it out" in failure(run, "unmix", mixture, "--sample-rate", "8000", *out, "--force")
    assert "there is no field 'ch9'" in failure(run, "unmix", mixture, "--reference", "ch9", *out, "--force")
    assert "--write must be wav" in failure(run, "unmix", mixture, "--write", "mp3", *out, "--force")
    assert "--mode must be one of block, sample" in failure(run, "unmix", mixture, "--mode", "loud", *out, "--force")
    assert "is a file" in failure(run, "unmix", mixture, "--out-dir", mixture)
    np.save(tmp_path / "x.npy", HEARD)
    assert "--sample-rate is missing" in failure(run, "unmix", tmp_path / "x.npy", *out, "--force")


def test_flat_sources_are_told_apart_in_mixture_mode(run, tmp_path):
    rng = np.random.default_rng(3)
    sources, mixing = rng.uniform(-1.0, 1.0, (16_000, 2)), np.array([[1.0, 0.6], [-0.4, 1.0]])
    np.save(tmp_path / "flat.npy", sources @ mixing.T)
    told = ("--mode", "mixture", "--sample-rate", "16000", "--write", "parquet", "--json", "--quiet")
    code, out, _ = run("unmix", tmp_path / "flat.npy", "--out-dir", tmp_path / "out", *told)
    assert (code, json.loads(out)["sources"]) == (0, 2)
    table = np.stack(list(pq.read_table(tmp_path / "out" / "sources").to_pydict().values()), axis=1)
    same = np.abs(np.corrcoef(table[-8000:].T, sources[-8000:].T)[:2, 2:])
    assert same.max(axis=1).min() > 0.999


def test_channels_are_checked_in_pieces_as_at_once():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 6)) + 1e6
    x[:, 1] = x[:, 0] * -3 + 7
    x[:, 2] = x[:, 2].clip(1e6 - 1, 1e6 + 1)
    x[::5, 3] = np.nan
    x[:, 4] = 0
    names = [f"c{j}" for j in range(6)]
    whole, pieces = ChannelCheck(names), ChannelCheck(names)
    whole.look(x)
    for part in np.array_split(x, 37):
        pieces.look(part)
    pieces.look(x[:0])
    assert whole.notes() == pieces.notes()
    notes = " | ".join(whole.notes())
    assert "c2: is clipped" in notes
    assert "c3: 1,000 of 5,000 samples are missing" in notes
    assert "c4: is silent" in notes
    assert "c0 and c1: are the same but for their scale" in notes
    assert len(whole.notes()) == 4
    assert ChannelCheck(names).notes()[0] == "c0: has no value at all"


# The demonstration


def test_the_recordings_ship_with_their_authors_and_are_small():
    folder = Path(demo.__file__).parent / "data" / "recordings"
    text = (folder / "ATTRIBUTION.md").read_text()
    files = sorted(folder.glob("*.flac"))
    assert [path.stem for path in files] == sorted(demo.RECORDINGS)
    assert sum(path.stat().st_size for path in files) < 2_000_000
    for path in files:
        assert f"`{path.name}`" in text
    assert len(SIGNALS) == 6 * RATE
    np.testing.assert_allclose(demo.recordings().std(axis=0), 1)


def test_the_demo_separates_faster_than_real_time_and_better_than_batch_fastica(run, tmp_path):
    code, out, err = run("demo", "unmix", "--out-dir", tmp_path)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    ours, batch = ([float(cell) for cell in _numbers(out, name)] for name in ("stream_em, while", "FastICA, all"))
    assert ours[0] < batch[0] < -20
    assert ours[2] > batch[2] > 20
    assert float(out.partition("below -20 dB: after ")[2].split()[0]) < 3
    assert float(out.partition("again after ")[2].split()[0]) < 3
    assert (tmp_path / "separation.png").read_bytes().startswith(b"\x89PNG")
    assert soundfile.info(tmp_path / "mixture.wav").channels == 4
    for folder in (tmp_path, tmp_path / "moved"):
        assert separated(folder).shape == (20 * RATE, 4)


def _numbers(out, name):
    line = next(line for line in out.splitlines() if line.startswith(name))
    return [word for word in line.split() if word.lstrip("-").replace(".", "").isdigit()]


def test_the_demo_says_what_is_missing(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "soundfile", None)
        assert "install it with pip install 'stream-em[audio]'" in failure(run, "demo", "unmix", "--out-dir", tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sklearn.decomposition", None)
        assert "pip install scikit-learn to compare" in run("demo", "unmix", "--out-dir", tmp_path)[1]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        assert "pictures need matplotlib" in failure(run, "demo", "unmix", "--out-dir", tmp_path)


# Runs with a config


def config_of(tmp_path, mixture, *, name, more=""):
    path = tmp_path / f"{name}.toml"
    path.write_text(
        f'[source]\ntype = "files"\npath = "{mixture}"\nblock_size = 1000\n'
        '[model]\ntype = "signal-unmixing"\nn_components = 4\n[learner]\nstepsize = "polynomial:0.9"\n'
        '[[sinks]]\nwhat = "sources"\ntype = "wav"\n[[sinks]]\nwhat = "sources"\npath = "table"\n'
        f'[snapshots]\nevery_records = 7000\n[run]\nfolder = "{tmp_path / name}"\n{more}'
    )
    return path


def test_a_run_writes_sources_and_goes_on_after_a_stop_as_if_there_had_been_none(run, mixture, tmp_path):
    whole, parts = (config_of(tmp_path, mixture, name=name) for name in ("whole", "parts"))
    assert run("run", whole)[0] == 0
    assert run("run", parts, "--max-records", "31000")[0] == 0
    assert run("run", parts)[0] == 0
    for k in range(1, 5):
        one, other = (tmp_path / name / "sources" / f"source_{k}.wav" for name in ("whole", "parts"))
        assert one.read_bytes() == other.read_bytes()
    sources = separated(tmp_path / "whole" / "sources")
    assert np.isfinite(sources).all()
    assert quality(sources).min() > 25
    table = pq.read_table(tmp_path / "whole" / "table")
    assert table.column_names == ["file", "record", "source_1", "source_2", "source_3", "source_4"]
    np.testing.assert_allclose(np.nan_to_num(table["source_2"].to_numpy()), sources[:, 1], atol=1e-6)


def test_a_run_in_a_room_with_echoes_goes_on_likewise(run, tmp_path):
    room = heard_in_a_room(demo.recordings()[: 4 * RATE, :2], 2, 0.05, RATE, 1)
    path = recording(tmp_path / "room.wav", room.channels / 10)
    for name in ("whole", "parts"):
        config = config_of(tmp_path, path, name=name)
        echoed = 'type = "convolutive-unmixing"\nn_components = 2\nwindow = 256\nreference = 1'
        config.write_text(config.read_text().replace('type = "signal-unmixing"\nn_components = 4', echoed))
        assert name == "whole" or run("run", config, "--max-records", "31000")[0] == 0
        assert run("run", config)[0] == 0
    whole, parts = (separated(tmp_path / name / "sources", 2) for name in ("whole", "parts"))
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_allclose(whole.sum(axis=1)[2000:], room.channels[2000 - 256 : -256, 1] / 10, atol=1e-6)
    code, out, _ = run("show", tmp_path / "whole", "--json")
    assert code == 0
    assert np.shape(json.loads(out)["params"]["unmixing"]) == (2, 128, 2, 2)


def test_the_config_that_ships_separates_a_recording(run, mixture, tmp_path):
    path = Path(demo.__file__).parents[1] / "configs" / "unmix.toml"
    folder = tmp_path / "run"
    code, _, _ = run(
        "run",
        path,
        "--set",
        f"source.path={mixture}",
        "--set",
        f"run.folder={folder}",
        "--set",
        "source.block_size=500",
    )
    assert code == 0
    assert quality(separated(folder / "sources")).min() > 25
    assert (folder / "parameters.jsonl").exists()


def test_what_sources_and_sound_belong_to(mixture, tmp_path):
    text = config_of(tmp_path, mixture, name="x").read_text()
    for old, new, told in (
        ('type = "signal-unmixing"', 'type = "gaussian-mixture"', "needs a model of signals: signal-unmixing"),
        ('what = "sources"\ntype = "wav"', 'what = "posteriors"\ntype = "wav"', "wav is for what = 'sources'"),
        ('path = "table"', 'path = "table"\nsample_rate = 8000', "sample_rate: is for sinks of type wav"),
        (f'path = "{mixture}"', 'path = "x.csv"', "sample_rate is missing"),
    ):
        with pytest.raises(InputError, match=told):
            parse_config(text.replace(old, new), "x.toml")

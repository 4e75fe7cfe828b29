"""A learner of superimposed signals notices that their mixing has changed, and learns it anew."""

import numpy as np
import pytest

import stream_em as sem
from stream_em import demo
from stream_em.errors import InputError
from stream_em.learning.mixing import MixingMonitor
from stream_em.unmixing.metrics import interference_to_signal

RATE, CHUNK = 16_000, 1600
MODEL = sem.SignalUnmixing(n_components=4)
SETTINGS = {"stepsize": sem.Stepsize.polynomial(0.9), "drift": sem.DriftSettings()}


@pytest.fixture(scope="module")
def moved():
    """Fourteen seconds; the microphones move after eight."""
    signals = demo.recordings()[: 14 * RATE]
    return np.concatenate([signals[: 8 * RATE] @ demo.MIXING.T, signals[8 * RATE :] @ demo.MOVED.T])


@pytest.fixture(scope="module")
def learner(moved):
    """A learner after the first ten seconds, and the interference in dB after each chunk of the last two."""
    learner, left = sem.Learner(MODEL, **SETTINGS), []
    for begin in range(0, 10 * RATE, CHUNK):
        learner.learn(moved[begin : begin + CHUNK])
        left.append(interference_to_signal(learner.params.unmixing, demo.MOVED))
    return learner, left


def test_a_changed_mixing_is_found_and_learned_within_a_second(learner):
    learner, left = learner
    (alarm,) = (event for event in learner.events if event.kind == "drift")
    assert 8 * RATE < alarm.at < 8.5 * RATE
    assert "crosstalk" in alarm.detail
    assert left[79] > -3
    assert max(left[90:]) < -20


def test_it_goes_on_bitwise_after_a_stop(learner, moved, tmp_path):
    learner, _ = learner
    learner.save(tmp_path / "x.safetensors")
    again = sem.load(tmp_path / "x.safetensors")
    rest = moved[10 * RATE :]
    np.testing.assert_array_equal(again.learn(rest), learner.learn(rest))
    np.testing.assert_array_equal(again.params.unmixing, learner.params.unmixing)
    assert list(again.events) == list(learner.events)


def watched(sources, *cuts):
    monitor = MixingMonitor(MODEL)
    found = []
    for part in np.split(sources, cuts):
        found += monitor.update(part, np.zeros(len(part)), part, dict)
    return found


def test_crosstalk_raises_an_alarm_however_the_sources_come():
    rng = np.random.default_rng(0)
    sources = rng.normal(size=(60 * 1600, 4)) * np.repeat(np.exp(rng.normal(size=(600, 4))), 160, axis=0)
    assert watched(sources) == []
    sources[40 * 1600 :] @= np.eye(4) + 0.5
    (alarm, *_) = expected = watched(sources)
    assert (alarm.at, alarm.since, alarm.statistic, alarm.drift) == (43 * 1600, 41 * 1600, "crosstalk", True)
    assert [each.at for each in watched(sources, 1, 1000, 70_000, 70_001)] == [each.at for each in expected]


def test_records_that_were_not_scored_and_pauses_say_nothing():
    rng = np.random.default_rng(1)
    sources = rng.normal(size=(60 * 1600, 4))
    sources[40 * 1600 :] = 1e-3 * rng.normal(size=(20 * 1600, 1))
    assert watched(sources) == []
    monitor = MixingMonitor(MODEL)
    assert monitor.update(sources, np.full(len(sources), np.nan), np.full(sources.shape, np.nan), dict) == []
    assert monitor.seen == len(sources)


def test_what_is_no_monitor_is_refused():
    texts, tensors = MixingMonitor(MODEL).dump()
    for wrong_texts, wrong in ({}, tensors), ({"drift": "{}"}, tensors), (texts, {}):
        with pytest.raises(InputError, match="file: no mixing monitor that this version can read"):
            MixingMonitor.restore(MODEL, wrong_texts, wrong, "file")
    with pytest.raises(InputError, match="no mixing monitor"):
        MixingMonitor.restore(sem.SignalUnmixing(n_components=3), texts, tensors, "file")

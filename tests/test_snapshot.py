"""The file of a learned model: whole or refused."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES

import stream_em as sem
from stream_em.learning.snapshot import VERSION, read_snapshot, write_snapshot
from stream_em.learning.store import Progress, SnapshotStore, read

CASE = next(case for case in CASES if case.name == "mixture-diag")


@pytest.fixture
def path(tmp_path):
    learner = sem.Learner(CASE.model, warmup=100, starts=1, refresh_every=50)
    learner.learn(CASE.draw(np.random.default_rng(0), 300))
    learner.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def refused(path):
    with pytest.raises(sem.InputError) as caught:
        sem.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_any_flipped_bit_is_noticed(path):
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.permutation(len(content))[:400]:
        broken = bytearray(content)
        broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        refused(path)


def test_any_cut_is_noticed(path):
    content = path.read_bytes()
    for length in [0, 1, 7, 8, 9, *np.random.default_rng(2).integers(0, len(content), 60)]:
        path.write_bytes(content[:length])
        refused(path)


def rewritten(path, change):
    metadata, tensors = read_snapshot(path)
    change(metadata, tensors)
    write_snapshot(path, metadata, tensors)


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata, tensors: metadata.update(model="no-such-model"),
        lambda metadata, tensors: metadata.update(model="hidden-markov"),
        lambda metadata, tensors: metadata.update(model_settings='{"n_components": 5}'),
        lambda metadata, tensors: metadata.update(model_settings='{"n_components": 0}'),
        lambda metadata, tensors: metadata.update(model_settings='{"unheard": 1}'),
        lambda metadata, tensors: metadata.update(learner_settings='{"refresh_every": -1}'),
        lambda metadata, tensors: metadata.pop("fields"),
        lambda metadata, tensors: tensors.pop("s"),
        lambda metadata, tensors: tensors.update(extra=np.zeros(3)),
        lambda metadata, tensors: tensors.update(theta=tensors["theta"][:-1]),
        lambda metadata, tensors: tensors.update(theta=tensors["theta"].astype(np.float32)),
        lambda metadata, tensors: tensors.update(worst=np.zeros(0)),
    ],
)
def test_a_file_that_does_not_fit_itself_is_refused(path, change):
    rewritten(path, change)
    refused(path)


def test_a_later_format_and_a_foreign_file_are_named_as_such(path, monkeypatch):
    monkeypatch.setattr("stream_em.learning.snapshot.VERSION", VERSION + 1)
    rewritten(path, lambda metadata, tensors: None)
    monkeypatch.undo()
    assert "upgrade" in refused(path)
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3)}, path, {"format": "pt"})
    assert "not a model of stream_em" in refused(path)
    save_file({"weight": np.zeros(3)}, path)
    assert "not a model of stream_em" in refused(path)


def test_what_cannot_be_written_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(sem.OutsideError, match="No space left"):
        sem.load(path).save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_learner_in_its_warm_up_is_kept_too(tmp_path):
    X = CASE.draw(np.random.default_rng(0), 300)
    weights = np.linspace(0.5, 2, 300)
    plain, stopped = (sem.Learner(CASE.model, warmup=200, starts=1) for _ in range(2))
    for learner in (plain, stopped):
        learner.learn(X[:50], weights[:50])
        learner.learn(X[50:90], weights[50:90])
    stopped.save(tmp_path / "warm.safetensors")
    restored = sem.load(tmp_path / "warm.safetensors")
    assert restored.count == plain.count
    assert not restored.started
    np.testing.assert_array_equal(restored.learn(X[90:], weights[90:]), plain.learn(X[90:], weights[90:]))
    np.testing.assert_array_equal(restored.params.means, plain.params.means)


def test_settings_events_and_fields_come_back(tmp_path):
    learner = sem.Learner(CASE.model, params=CASE.params, stepsize=sem.Stepsize.constant(0.1), refresh_every=7, seed=3)
    learner.learn(sem.Block(np.zeros((3, 3)), fields=("a", "b", "c")))
    learner.events.append(sem.Event(3.0, "reseeded", "for the test"))
    learner.save(tmp_path / "model.safetensors")
    restored = sem.load(tmp_path / "model.safetensors")
    assert restored.settings == learner.settings
    assert restored.model == learner.model
    assert restored.fields == ("a", "b", "c")
    assert list(restored.events) == list(learner.events)


def test_frozen_means_need_values_and_come_back_with_them(tmp_path):
    model = sem.GaussianMixture(n_components=2, covariance_type="diag", frozen=("means",))
    X = CASE.draw(np.random.default_rng(0), 100)
    for learn in (sem.Learner(model).learn, lambda X: sem.batch_em(model, X)):
        with pytest.raises(sem.InputError, match="give params"):
            learn(X)
    learner = sem.Learner(model, params=CASE.params)
    learner.save(tmp_path / "model.safetensors")
    restored = sem.load(tmp_path / "model.safetensors")
    restored.learn(X)
    restored.refresh()
    np.testing.assert_allclose(restored.params.means, CASE.params.means, rtol=1e-12)


def run_snapshot(folder):
    learner = sem.Learner(CASE.model, warmup=100, starts=1, refresh_every=50)
    learner.learn(CASE.draw(np.random.default_rng(0), 300))
    progress = Progress(300, 2, {"file": "x.csv", "record": 300}, {"posteriors": {"rows": 298}})
    return SnapshotStore(folder).write(learner, progress, np.zeros((5, 3)))


def fuzzed(content, place, patch, cut, path):
    """Read a spoilt snapshot: refused in one line, or right in every bit that the digest covers."""
    start = place % len(content)
    path.write_bytes((content[:start] + patch + content[start + len(patch) :])[: len(content) - cut])
    spoilt = path.read_bytes()
    said = ""
    try:
        snapshot = read(path)
    except sem.InputError as error:
        said = str(error)
        assert said.startswith(str(path))
    else:
        assert spoilt == content
        assert snapshot.progress.records == 300
    assert "\n" not in said


PATCHES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b'"F64"', b'"dtype"', b"__metadata__", b"}}", b"[0,8]", b'"shape":[', b"99999999999", b"\\u0000"]),
)


@given(st.integers(0, 1 << 20), PATCHES, st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_fuzzed_snapshots_are_refused(place, patch, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = run_snapshot(Path(folder))
        fuzzed(path.read_bytes(), place, patch, cut, path)


@pytest.mark.slow
@given(st.integers(0, 1 << 20), PATCHES, st.integers(0, 3))
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_fuzzed_snapshots_are_refused(place, patch, cut):
    with tempfile.TemporaryDirectory() as folder:
        path = run_snapshot(Path(folder))
        fuzzed(path.read_bytes(), place, patch, cut, path)


METADATA = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2))


@given(st.sampled_from(["positions", "model_settings", "learner_settings", "fields", "events", "model"]), METADATA)
@settings(max_examples=200, deadline=None)
def test_a_snapshot_with_a_right_digest_and_wrong_texts_is_refused_or_read(name, value):
    with tempfile.TemporaryDirectory() as folder:
        path = run_snapshot(Path(folder))
        metadata, tensors = read_snapshot(path)
        metadata[name] = json.dumps({"records": value} if name == "positions" else value)
        write_snapshot(path, metadata, tensors)
        said = ""
        try:
            assert read(path).learner.count == 300
        except sem.InputError as error:
            said = str(error)
            assert said.startswith(str(path))
        assert "\n" not in said

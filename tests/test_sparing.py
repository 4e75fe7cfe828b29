"""Forgetting that spares components which are not visited."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES

import stream_em as sem
from stream_em.kernels.sparing import restored

K, HALF_LIFE, SPARED = 3, 200, 150.0
MEANS = np.array([[0.0, 0.0], [12.0, 0.0], [0.0, 15.0]])
SLOPE = np.array([[1.0, 0.0], [0.5, 1.0]])
MODELS = [sem.GaussianMixture, sem.HiddenMarkov]
TYPES = ["full", "tied", "diag", "spherical"]
all_models = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def records_of(components, n, seed=0):
    """Return n records of these of three clusters, which follow each other in runs of ten."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.choice(components, n // 10), 10)
    return MEANS[labels] + rng.normal(size=(n, 2)) @ SLOPE.T, labels


def learner_of(kind, covariance_type="full", spared=SPARED, **options):
    model = kind(K, covariance_type=covariance_type, spared_records=spared)
    stepsize = sem.Stepsize.constant(half_life=HALF_LIFE)
    return sem.Learner(model, **{"stepsize": stepsize, "refresh_every": 50, "seed": 1} | options)


def sparing(case, **options):
    """Return a learner of a case's model that spares more than a component has in a half-life."""
    model = type(case.model)(2, covariance_type=case.model.covariance_type, spared_records=400.0)
    stepsize = sem.Stepsize.constant(half_life=50)
    return sem.Learner(model, **{"stepsize": stepsize, "refresh_every": 64, "params": case.params} | options)


def drawn(case, n):
    """Return records with missing values, a third of which, in the middle, are all from one cluster."""
    rng = np.random.default_rng(1)
    X = case.draw(rng, 3 * n)
    one = np.linalg.norm(X - case.params.means[0], axis=1) < 2.0
    X = np.concatenate([X[: n // 3], X[n:][one[n:]][: n // 3], X[n // 3 : n // 3 + n - 2 * (n // 3)]])
    X[rng.random(X.shape) < 0.05] = np.nan
    return X


def test_only_what_was_forgotten_comes_back():
    stood_for = np.array([0.0, 30.0, 500.0, 500.0])
    factors = [restored(n, SPARED, stood_for, k) for k, n in enumerate([20.0, 20.0, 20.0, 200.0])]
    np.testing.assert_allclose(factors, [1.0, 1.5, 7.5, 1.0])
    np.testing.assert_allclose(stood_for, [20.0, 30.0, SPARED, 200.0])
    assert restored(0.0, SPARED, stood_for, 0) == 1.0


def test_the_recursion_is_that_of_plain_numpy():
    gamma, refresh_every, spared = 0.01, 50, 40.0
    far, n = 1000.0, 4000
    rng = np.random.default_rng(3)
    labels = rng.choice(2, n, p=[0.7, 0.3])
    labels[1000:3000] = 0
    X = far * labels[:, np.newaxis] + rng.normal(size=(n, 2)) + np.arange(n)[:, np.newaxis] / 500
    start = sem.GaussianMixture.params_type(np.array([0.7, 0.3]), np.array([[0.0, 0.0], [far, far]]), [np.eye(2)] * 2)
    model = sem.GaussianMixture(2, covariance_prior=0.0, weight_prior=0.0, spared_records=spared)
    stepsize = sem.Stepsize.constant(gamma)
    learner = sem.Learner(model, params=start, stepsize=stepsize, refresh_every=refresh_every, inhibit=0)
    mass, rows, stood_for, s0, s1 = np.zeros(2), np.zeros((2, 7)), np.zeros(2), 0.0, 0.0
    for begin in range(0, n, refresh_every):
        block = slice(begin, begin + refresh_every)
        learner.learn(X[block])
        for x, label in zip(X[block], labels[block], strict=True):
            mass, rows, s0, s1 = ((1 - gamma) * each for each in (mass, rows, s0, (1 - gamma) * s1))
            s0, s1 = s0 + gamma, s1 + gamma**2
            mass[label] += gamma
            rows[label] += gamma * np.array([1.0, *x, *np.outer(x, x).ravel()])
        for k in range(2):
            now = s0**2 / s1 * rows[k, 0] / mass.sum()
            enough = max(now, min(spared, stood_for[k]))
            rows[k] *= enough / now if now > 0 else 1.0
            stood_for[k] = enough
        means = rows[:, 1:3] / rows[:, :1]
        covariances = rows[:, 3:].reshape(2, 2, 2) / rows[:, :1, np.newaxis] - means[:, :, None] * means[:, None]
        seen = rows[:, 0] > 0
        np.testing.assert_allclose(learner.params.weights, mass / mass.sum(), rtol=1e-8)
        np.testing.assert_allclose(learner.params.means[seen], means[seen], rtol=1e-8)
        np.testing.assert_allclose(learner.params.covariances[seen], covariances[seen], rtol=1e-4, atol=1e-4)
        if begin + refresh_every == 3000:
            assert stood_for[1] == pytest.approx(spared)
            assert learner.params.weights[1] < 1e-8
    assert learner.params.weights[1] > 0.2


@all_models
@settings(max_examples=5, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 900), max_size=8))
def test_arrival_does_not_matter(case, cuts):
    X = drawn(case, 900)
    whole, cut = sparing(case), sparing(case)
    log_likelihood = whole.learn(X)
    parts = [cut.learn(part) for part in np.split(X, sorted(cuts))]
    np.testing.assert_allclose(np.concatenate(parts), log_likelihood, rtol=1e-8, atol=1e-8)
    for name, array in whole.state._asdict().items():
        np.testing.assert_allclose(getattr(cut.state, name), array, rtol=1e-7, atol=1e-7, err_msg=name)


@all_models
@pytest.mark.parametrize("at", [100, 500])
def test_a_restored_learner_goes_on_bitwise(case, at, tmp_path):
    X = drawn(case, 900)
    plain, stopped = (sparing(case, params=None, warmup=200) for _ in range(2))
    plain.learn(X[:at])
    stopped.learn(X[:at])
    stopped.save(tmp_path / "model.safetensors")
    restored_learner = sem.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(restored_learner.learn(X[at:]), plain.learn(X[at:]))
    for name, array in plain.state._asdict().items():
        np.testing.assert_array_equal(getattr(restored_learner.state, name), array, err_msg=name)


@all_models
def test_where_nothing_is_forgotten_there_is_nothing_to_spare(case):
    X = case.draw(np.random.default_rng(0), 600)
    X[::9, 1] = np.nan
    other = sparing(case).model
    fits = [sem.batch_em(model, X, case.params, max_iter=3) for model in (case.model, other)]
    np.testing.assert_allclose(fits[1].log_likelihood_path, fits[0].log_likelihood_path, rtol=1e-12)
    for stepsize in (sem.Stepsize.equal(), sem.Stepsize.constant(half_life=100_000)):
        learners = [
            sem.Learner(model, params=case.params, stepsize=stepsize, refresh_every=50) for model in (case.model, other)
        ]
        scores = [learner.learn(X) for learner in learners]
        # In a chain later records may take the latest ones back from a state, and that is restored too.
        np.testing.assert_allclose(scores[1], scores[0], rtol=1e-9 if case.model.exchangeable else 1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case.model.exchangeable], ids=lambda case: case.name)
def test_two_shards_merged_equal_the_whole(case):
    X = case.draw(np.random.default_rng(0), 600)
    options = {"stepsize": sem.Stepsize.equal(), "inhibit": 10**9}
    whole, left, right = (sparing(case, **options) for _ in range(3))
    whole.learn(X)
    left.learn(X[:200])
    right.learn(X[200:])
    whole.refresh()
    merged = left.merge(right)
    for found, expected in zip(merged.params, whole.params, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_component_that_was_away_for_twenty_half_lives_is_still_there(kind, covariance_type):
    spared, forgotten = (learner_of(kind, covariance_type, spared=n) for n in (SPARED, 0.0))
    for learner in (spared, forgotten):
        learner.learn(records_of([0, 1, 2], 4000)[0])
    before = spared.params
    k = int(np.linalg.norm(before.means - MEANS[2], axis=1).argmin())
    away = records_of([0, 1], 20 * HALF_LIFE, seed=1)[0]
    for learner in (spared, forgotten):
        learner.learn(away)
    after = spared.params
    assert not spared.events
    assert any(event.kind == "reseeded" for event in forgotten.events)
    # Clusters lie 12 and more deviations apart, so that next to nothing of the others is taken for it.
    np.testing.assert_allclose(after.means[k], before.means[k], atol=1e-6)
    if covariance_type != "tied":
        np.testing.assert_allclose(after.covariances[k], before.covariances[k], rtol=1e-3)
    if kind is sem.GaussianMixture:
        # Of its weight there is what the prior of 0.01 records gives.
        assert after.weights[k] < 1e-4
        np.testing.assert_allclose(after.weights.sum(), 1.0)
    back = records_of([2], 100, seed=2)[0]
    gain = spared.learn(back).mean() - forgotten.learn(back).mean()
    assert gain > 10.0
    # 100 records beside the 150 that were spared: standard errors of a mean of 250, and of one of 100 alone.
    error = np.abs(spared.params.means[k] - MEANS[2]).max()
    assert error < 4.0 * 1.2 / np.sqrt(SPARED)


@pytest.mark.parametrize("kind", MODELS)
def test_a_component_that_never_had_records_is_still_revived(kind):
    learner = learner_of(kind)
    X, _ = records_of([0, 1], 4000)
    means = np.array([MEANS[0], MEANS[1], [900.0, 900.0]])
    params = learner_of(kind, warmup=500)
    params.learn(records_of([0, 1, 2], 600)[0])
    start = params.params._replace(means=means)
    learner = learner_of(kind, params=start)
    learner.learn(X)
    assert any(event.kind == "reseeded" for event in learner.events)
    assert np.abs(learner.params.means).max() < 100.0


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), "many"])
def test_an_impossible_setting_is_refused(wrong):
    for kind in MODELS:
        with pytest.raises(sem.InputError, match="spared_records"):
            kind(spared_records=wrong)

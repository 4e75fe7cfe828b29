"""The robust option: outliers are scored, and nothing is learned from them; a world that moves is followed."""

from collections import Counter

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES, D

import stream_em as sem
from stream_em.em import least_surprise
from stream_em.kernels.gating import MEMORY, MOST_LEFT_OUT, leave_out
from stream_em.learning.alarms import Alarm
from stream_em.learning.keep import tensors_of

K, BURST, PERIOD = 3, 50, 500
ROBUST = 10.0
all_models = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def truth(n_features, seed=0):
    """Return a mixture of three correlated Gaussians with means of length 10."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(K, n_features))
    means *= 10 / np.linalg.norm(means, axis=1)[:, np.newaxis]
    slopes = rng.normal(size=(K, n_features)) / np.sqrt(n_features)
    covariances = np.array([np.eye(n_features) + np.outer(slope, slope) for slope in slopes])
    return sem.GaussianMixture.params_type(np.array([0.5, 0.3, 0.2]), means, covariances)


def mixture_of(params, n, seed=1):
    rng = np.random.default_rng(seed)
    factors = np.linalg.cholesky(params.covariances)
    z = rng.choice(K, size=n, p=params.weights)
    return params.means[z] + np.einsum("nij,nj->ni", factors[z], rng.normal(size=(n, params.means.shape[1])))


def chain_of(means, n, seed=1):
    """Return records of a chain that stays in its state nine times of ten."""
    rng = np.random.default_rng(seed)
    states = np.cumsum(rng.random(n) < 0.1) % K
    return means[states] + rng.normal(size=(n, means.shape[1]))


def with_bursts(X, kind, begin, seed=2):
    """Return the records with one burst of outliers in every `PERIOD` from `begin` on, and which are outliers."""
    rng = np.random.default_rng(seed)
    out = np.zeros(len(X), dtype=bool)
    for start in range(begin, len(X), PERIOD):
        at = start + rng.integers(PERIOD - BURST)
        out[at : at + BURST] = True
    places = rng.normal(size=(out.sum() if kind == "random" else 1, X.shape[1]))
    places *= 40.0 / np.linalg.norm(places, axis=1)[:, np.newaxis]
    X = X.copy()
    X[out] = places + 0.3 * rng.normal(size=(out.sum(), X.shape[1]))
    return X, out


def fed(learner, X, block=1000, **options):
    for begin in range(0, len(X), block):
        learner.learn(X[begin : begin + block], **options)
    learner.refresh()
    return learner


def near(found, expected, tolerance):
    """Assert that means agree in standard deviations, covariances in norm, and probabilities."""
    deviations = np.sqrt(np.diagonal(expected.covariances, axis1=1, axis2=2))
    assert (np.abs(found.means - expected.means) / deviations).max() < tolerance
    for left, right in zip(found.covariances, expected.covariances, strict=True):
        assert np.linalg.norm(left - right) < tolerance * np.linalg.norm(right)
    name = "weights" if hasattr(found, "weights") else "transitions"
    np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=tolerance / 2)


def drawn(case, n, seed=1):
    """Return records with missing values and outliers, some incomplete and some in a row."""
    rng = np.random.default_rng(seed)
    X = case.draw(rng, n)
    X[rng.random(n) < 0.04] += 60.0
    X[n // 2 : n // 2 + 20] -= 50.0
    X[rng.random(X.shape) < 0.1] = np.nan
    X[n // 3] = np.nan
    return X


def robust_learner(case, **options):
    return sem.Learner(case.model, **{"robust": ROBUST, "params": case.params, "refresh_every": 64} | options)


def n_counted(case, X):
    """Return how many records count: in a chain also those that are all missing."""
    return len(X) - np.isnan(X).all(axis=1).sum() * case.model.exchangeable


# The kernels.


@all_models
def test_the_surprise_is_that_of_the_naive_twin(case):
    X = drawn(case, 300)
    sized, theta = case.model.from_params(case.params)
    densities, found = np.zeros((2, len(X))), np.zeros(len(X))
    least_surprise(sized, theta, X, densities, found)
    covariances = naive.dense(case.params.covariances, case.model.covariance_type, 2, D)
    pairs = list(zip(case.params.means, covariances, strict=True))
    expected = [min(naive.surprise(x, *pair) for pair in pairs) for x in X]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(densities, [[naive.log_density(x, *pair) for x in X] for pair in pairs], rtol=1e-9)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), share=st.floats(0, 0.5), often=st.floats(0, 1))
def test_the_gate_is_that_of_the_naive_twin(seed, share, often):
    rng = np.random.default_rng(seed)
    found = rng.normal(5.0, 2.0, 200) + 8.0 * (rng.random(200) < often)
    counts = rng.integers(0, 4, 200).astype(float)
    expected, share_after = naive.leave_out(found, ROBUST, share, counts, MEMORY, MOST_LEFT_OUT)
    gate, given_counts = np.array([share, 5.0, 1.0, 0.0]), counts.copy()
    n = leave_out(found, ROBUST, gate, given_counts)
    np.testing.assert_array_equal(given_counts, expected)
    assert gate[0] == pytest.approx(share_after, rel=1e-9)
    assert gate[1] == 5.0 + counts.sum() - expected.sum()
    assert n == ((counts > 0) & (expected == 0)).sum()


# The laws.


@all_models
@settings(max_examples=8, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 600), max_size=8))
def test_arrival_does_not_matter(case, cuts):
    X = drawn(case, 600)
    whole, cut = robust_learner(case), robust_learner(case)
    log_likelihood = whole.learn(X)
    parts = [cut.learn(part) for part in np.split(X, sorted(cuts))]
    np.testing.assert_allclose(np.concatenate(parts), log_likelihood, rtol=1e-9, atol=1e-9)
    for name, array in whole.state._asdict().items():
        np.testing.assert_allclose(getattr(cut.state, name), array, rtol=1e-8, atol=1e-8, err_msg=name)
    assert cut.events == whole.events
    assert 30 < whole.left_out < 60
    assert whole.left_out + whole.count == n_counted(case, X)


@all_models
@pytest.mark.parametrize("at", [100, 310, 900])
def test_a_restored_learner_goes_on_bitwise(case, at, tmp_path):
    X = drawn(case, 1200)
    options = {"params": None, "warmup": 200, "recent": 150, "restart_every": 400}
    plain, stopped = robust_learner(case, **options), robust_learner(case, **options)
    plain.learn(X[:at])
    stopped.learn(X[:at])
    stopped.save(tmp_path / "model.safetensors")
    restored = sem.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(restored.learn(X[at:]), plain.learn(X[at:]))
    assert restored.events == plain.events
    (text, tensors), (restored_text, restored_tensors) = tensors_of(plain.tournament), tensors_of(restored.tournament)
    assert restored_text == text
    for name, array in tensors.items():
        np.testing.assert_array_equal(restored_tensors[name], array, err_msg=name)
    assert restored.left_out == plain.left_out > 0


@all_models
def test_a_learner_of_before_there_was_the_option_can_be_read(case):
    learner = sem.Learner(case.model, params=case.params)
    learner.learn(case.draw(np.random.default_rng(0), 300))
    metadata, tensors = learner.dump()
    metadata["learner_settings"] = metadata["learner_settings"].replace(',"robust":null', "")
    assert "robust" not in metadata["learner_settings"]
    del tensors["gate"]
    restored = sem.Learner.restore(metadata, tensors, "old")
    np.testing.assert_array_equal(restored.state.gate, learner.state.gate)


@all_models
def test_an_outlier_is_told_as_it_is_and_nothing_is_learned(case):
    X = case.draw(np.random.default_rng(4), 100)
    X[40:43] += [30.0, -40.0, 20.0]
    X[41, 1] = np.nan
    first, missing = X.copy(), X.copy()
    first[41:] = X[:59]
    missing[40:43] = np.nan
    # The chain's filter goes on without its evidence, so only the first outlier is as plain scoring tells it.
    scored = robust_learner(case).log_likelihood(first)
    probabilities = robust_learner(case).posterior(first)
    learner, posterior = robust_learner(case), np.zeros((100, 2))
    log_likelihood = learner.learn(X, posterior=posterior)
    np.testing.assert_allclose(log_likelihood[:41], scored[:41], rtol=1e-9)
    np.testing.assert_allclose(posterior[:41], probabilities[:41], rtol=1e-9, atol=1e-9)
    assert log_likelihood[40:43].max() < -100
    assert learner.left_out == 3
    assert learner.count == 97
    without = robust_learner(case)
    expected = without.learn(missing)
    np.testing.assert_allclose(log_likelihood[43:], expected[43:], rtol=1e-9)
    if case.model.exchangeable:
        np.testing.assert_allclose(learner.state.s, without.state.s, rtol=1e-9, atol=1e-12)
        assert learner.mean_log_likelihood == pytest.approx(without.mean_log_likelihood, rel=1e-9)


@pytest.mark.parametrize("case", [case for case in CASES if case.model.exchangeable], ids=lambda case: case.name)
def test_what_was_left_out_adds_up_in_a_merge(case):
    X = drawn(case, 600)
    parts = [fed(robust_learner(case), part) for part in (X[:200], X[200:])]
    merged = parts[0].merge(parts[1])
    assert merged.left_out == parts[0].left_out + parts[1].left_out > 0
    assert merged.count + merged.left_out == n_counted(case, X)


# What it is for.


@pytest.mark.parametrize("kind", ["random", "point"])
@pytest.mark.parametrize("n_features", [2, 16])
def test_ten_percent_of_outliers_in_bursts_change_nothing(n_features, kind):
    params = truth(n_features)
    X, out = with_bursts(mixture_of(params, 30_000), kind, begin=1000)
    model = sem.GaussianMixture(K)
    start = params._replace(means=params.means + 0.3)
    clean = fed(sem.Learner(model, params=start), X[~out])
    learner = fed(sem.Learner(model, params=start, robust=ROBUST, drift=sem.DriftSettings(), restart_every=9000), X)
    assert learner.left_out == pytest.approx(out.sum(), rel=0.01)
    near(learner.params, clean.params, 0.05)
    assert learner.tournament.champion == "start"
    # Nothing but the schedule's challengers: no alarm, and nobody wins by having a component for the outliers.
    assert {event.kind for event in learner.events} == {"left out", "challenger", "dropped"}
    assert all("every 9,000 records" in event.detail for event in learner.events if event.kind == "challenger")
    assert Counter(event.kind for event in learner.events)["left out"] <= 4
    wrecked = fed(sem.Learner(model, params=start), X)
    with pytest.raises(AssertionError):
        near(wrecked.params, clean.params, 0.5)


@pytest.mark.parametrize("n_features", [2, 16])
def test_scattered_outliers_among_the_first_records_do_not_spoil_the_start(n_features):
    X, out = with_bursts(mixture_of(truth(n_features), 20_000), "random", begin=0)
    model = sem.GaussianMixture(K)
    clean = fed(sem.Learner(model), X[~out])
    learner = fed(sem.Learner(model, robust=ROBUST), X)
    distances = ((clean.params.means[:, np.newaxis] - learner.params.means) ** 2).sum(axis=2)
    same = distances.argmin(axis=1)
    assert sorted(same) == list(range(K))
    near(type(clean.params)(*(values[same] for values in learner.params)), clean.params, 0.05)
    assert learner.left_out == pytest.approx(out.sum(), rel=0.01)
    assert learner.left_out + learner.count == len(X)


def test_a_small_cluster_with_heavy_tails_is_not_taken_for_outliers():
    rng = np.random.default_rng(0)
    params, n = truth(2), 20_000
    tails = np.sqrt(10.0 / rng.chisquare(10, n))[:, np.newaxis]
    X = 2 * params.means[rng.choice(K, size=n, p=params.weights)] + rng.normal(size=(n, 2)) * tails
    learner = fed(sem.Learner(sem.GaussianMixture(K), robust=ROBUST), X)
    assert learner.left_out < 0.005 * n
    np.testing.assert_allclose(np.sort(learner.params.weights), np.sort(params.weights), atol=0.02)


@pytest.mark.parametrize("kind", ["random", "point"])
@pytest.mark.parametrize("n_features", [2, 16])
def test_ten_percent_of_outliers_change_nothing_in_a_chain(n_features, kind):
    means = truth(n_features).means / 2
    start = sem.HiddenMarkov.params_type(
        np.full(K, 1 / K), 0.7 * np.eye(K) + 0.1, means + 0.2, np.array([np.eye(n_features)] * K)
    )
    X, out = with_bursts(chain_of(means, 20_000), kind, begin=1000)
    holed = X.copy()
    holed[out] = np.nan
    model = sem.HiddenMarkov(K)
    clean = fed(sem.Learner(model, params=start), holed)
    learner = fed(sem.Learner(model, params=start, robust=ROBUST, drift=sem.DriftSettings()), X)
    assert learner.left_out == out.sum()
    near(learner.params, clean.params, 0.05)
    assert {event.kind for event in learner.events} == {"left out"}


def test_of_a_clean_stream_next_to_nothing_is_left_out():
    params = truth(2)
    X = mixture_of(params, 100_000)
    plain, robust = (fed(sem.Learner(sem.GaussianMixture(K), params=params, robust=r), X) for r in (None, ROBUST))
    # The surprise of two values is exponential: one in e^11 records lies so far out.
    assert 0 < robust.left_out < 3 * np.exp(-11) * len(X) + 6
    near(robust.params, plain.params, 0.01)
    assert robust.mean_log_likelihood == pytest.approx(plain.mean_log_likelihood, rel=1e-3)


@pytest.mark.parametrize("drift", [None, sem.DriftSettings()])
def test_a_world_that_moves_is_followed(drift):
    params = truth(2)
    X = mixture_of(params, 12_000)
    X[6000:] += [10.0, -10.0]
    stepsize = sem.Stepsize.constant(half_life=500)
    plain, learner = (
        fed(sem.Learner(sem.GaussianMixture(K), params=params, stepsize=stepsize, robust=robust, drift=drift), X)
        for robust in (None, ROBUST)
    )
    reached = plain.log_likelihood(X[-2000:]).mean()
    assert learner.log_likelihood(X[-2000:]).mean() > reached - 0.1
    # A share of a quarter is reached after so many records.
    assert MEMORY * np.log(4 / 3) < learner.left_out < 1.1 * MEMORY * np.log(4 / 3)
    assert any("nothing is for a while" in event.detail for event in learner.events)
    assert any(event.kind == "replaced" for event in learner.events) == (drift is not None)


def test_a_component_that_moves_alone_is_found_again_by_a_challenger():
    params = truth(2)
    X = mixture_of(params, 16_000)
    nearest = ((X[:, np.newaxis] - params.means) ** 2).sum(axis=2).argmin(axis=1)
    gone = (nearest == 2) & (np.arange(16_000) >= 8000)
    X[gone] += [60.0, 0.0]
    learner = sem.Learner(sem.GaussianMixture(K), params=params, robust=ROBUST, drift=sem.DriftSettings())
    fed(learner, X)
    assert any(event.kind == "drift" and 8000 < event.at < 9500 for event in learner.events)
    assert np.abs(learner.params.means - (params.means[2] + [60.0, 0.0])).max(axis=1).min() < 0.3


def test_who_says_that_the_stream_has_changed_opens_the_gate():
    params = truth(2)
    X = mixture_of(params, 3000)
    X[1000:1050], X[2000:2050] = 500.0, 500.0
    learner = sem.Learner(sem.GaussianMixture(K), params=params, robust=ROBUST, recent=500)
    learner.learn(X[:1500])
    assert learner.left_out == 50
    learner.challenge("by hand")
    learner.learn(X[1500:])
    assert learner.left_out == 50
    assert not [event for event in learner.events if "would be" in event.detail]


class Watcher:
    """Raises an alarm of one kind after so many records."""

    def __init__(self, statistic, at):
        self.statistic, self.at, self.seen = statistic, at, 0

    def update(self, records, log_likelihood, posterior, params):
        before, self.seen = self.seen, self.seen + len(records)
        due = before < self.at <= self.seen
        return [Alarm(self.at, self.at - 100, self.statistic, 0, 1.0, None, "abrupt")] if due else []

    def reset(self):
        """Forget nothing."""


@pytest.mark.parametrize(("statistic", "opens"), [("direction", False), ("adwin", False), ("mass", True)])
def test_only_an_alarm_that_a_component_has_fewer_records_opens_the_gate(statistic, opens):
    params = truth(2)
    X, out = with_bursts(mixture_of(params, 12_000), "point", begin=1000)
    learner = sem.Learner(sem.GaussianMixture(K), params=params, robust=ROBUST, recent=1000)
    learner.watchers.append(Watcher(statistic, 5000))
    fed(learner, X)
    assert any(event.kind == "challenger" for event in learner.events)
    assert (learner.left_out < 0.9 * out.sum()) == opens
    assert any(event.kind == "replaced" for event in learner.events) == opens


def test_a_slow_drift_is_followed_and_nothing_of_it_left_out():
    params = truth(2)
    X = mixture_of(params, 40_000) + np.linspace(0.0, 20.0, 40_000)[:, np.newaxis]
    stepsize = sem.Stepsize.constant(half_life=500)
    learner = fed(sem.Learner(sem.GaussianMixture(K), params=params, stepsize=stepsize, robust=ROBUST), X)
    assert learner.left_out < 10
    near(learner.params, params._replace(means=params.means + 19.7), 0.35)


@pytest.mark.parametrize("wrong", [1.0, 0, -3.0, float("nan"), float("inf"), True, "8"])
def test_an_impossible_setting_is_refused(wrong):
    with pytest.raises(sem.InputError, match="robust must be 2 standard deviations or more"):
        sem.Learner(sem.GaussianMixture(), robust=wrong)


def test_a_model_that_cannot_tell_outliers_refuses():
    with pytest.raises(sem.InputError, match="signal-unmixing: robust is not for this model"):
        sem.Learner(sem.SignalUnmixing(), robust=ROBUST)

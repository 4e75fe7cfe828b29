"""The laws of the design, each asserted for every model in the table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ALL_CASES, CASES, D

import stream_em as sem
from stream_em.em import e_step, maximise, model_sizes
from stream_em.learning.batch import record_weights_of
from stream_em.learning.iterate import iterate

NEVER = 10**9
all_models = pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
exchangeable_models = pytest.mark.parametrize(
    "case", [case for case in CASES if case.model.exchangeable], ids=lambda case: case.name
)


def drawn(case, n=600, missing=0.0, seed=1):
    rng = np.random.default_rng(seed)
    X = case.draw(rng, n)
    X[rng.random(X.shape) < missing] = np.nan
    return X


def learner_of(case, **settings):
    return sem.Learner(case.model, params=case.params, **settings)


def close(a, b, tolerance):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def batch_statistics(case, X):
    sized, theta = case.model.from_params(case.params)
    s = np.zeros(model_sizes(sized)[3])
    total = e_step(sized, theta, s, X, record_weights_of(case.model, X, None))
    return s, total


@pytest.mark.parametrize(
    ("case", "missing"),
    [(case, missing) for case in ALL_CASES for missing in (0.0, 0.2) if case.exact_if_missing or missing == 0.0],
    ids=lambda value: getattr(value, "name", None),
)
def test_batch_em_never_lowers_the_penalised_log_likelihood(case, missing):
    X = drawn(case, missing=missing)
    sized, theta = case.model.from_params(case.params)
    s = np.zeros(model_sizes(sized)[3])
    weights = record_weights_of(case.model, X, None)
    before = -np.inf
    for _ in range(30):
        path, _ = iterate(sized, theta, s, X, weights, 1, -np.inf)
        now = path[0] + maximise(sized, theta, s, 0.0)
        assert now >= before - 1e-9 * abs(now)
        before = now
    start = e_step(sized, case.model.from_params(case.params)[1], s, X, weights)
    assert path[0] > start + 1.0


@all_models
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_equal_steps_with_frozen_parameters_give_the_mean_statistics(case, missing):
    X = drawn(case, missing=missing)
    learner = learner_of(case, stepsize=sem.Stepsize.equal(), inhibit=NEVER)
    log_likelihood = learner.learn(X)
    s, total = batch_statistics(case, X)
    np.testing.assert_allclose(learner.state.s, s, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_likelihood.sum(), total, rtol=1e-12)


@all_models
@settings(max_examples=15, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 600), max_size=8), constant=st.booleans())
def test_with_frozen_parameters_blocks_do_not_matter(case, cuts, constant):
    X = drawn(case, missing=0.1)
    stepsize = sem.Stepsize.constant(0.01) if constant else sem.Stepsize.polynomial(0.6)
    whole, cut = (learner_of(case, stepsize=stepsize, inhibit=NEVER, refresh_every=r) for r in (100, 37))
    whole.learn(X)
    for part in np.split(X, sorted(cuts)):
        cut.learn(part)
    np.testing.assert_allclose(cut.state.s, whole.state.s, rtol=1e-10, atol=1e-10)


@all_models
@settings(max_examples=15, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 600), max_size=8))
def test_with_the_same_refresh_points_arrival_does_not_matter(case, cuts):
    X = drawn(case, missing=0.1)
    whole, cut = (learner_of(case, refresh_every=64) for _ in range(2))
    log_likelihood = whole.learn(X)
    parts = [cut.learn(part) for part in np.split(X, sorted(cuts))]
    close(cut.params, whole.params, 1e-9)
    close(cut.averaged_params, whole.averaged_params, 1e-9)
    np.testing.assert_allclose(np.concatenate(parts), log_likelihood, rtol=1e-9, atol=1e-9)
    assert cut.count == whole.count == 600


@exchangeable_models
def test_two_shards_merged_equal_the_whole(case):
    X = drawn(case, missing=0.1)
    options = {"stepsize": sem.Stepsize.equal(), "inhibit": NEVER}
    whole, left, right = (learner_of(case, **options) for _ in range(3))
    whole.learn(X)
    left.learn(X[:200])
    right.learn(X[200:])
    merged = left.merge(right)
    whole.refresh()
    close(merged.params, whole.params, 1e-12)
    assert merged.count == whole.count
    assert merged.mean_log_likelihood == pytest.approx(whole.mean_log_likelihood, rel=1e-12)


@exchangeable_models
def test_learners_that_agree_on_a_start_merge(case):
    X = drawn(case, 1200)
    agreed = []

    def first(params):
        agreed.append(params)
        return agreed[0]

    shards = [sem.Learner(case.model, starts=1, seed=seed) for seed in range(2)]
    for shard, part in zip(shards, (X[:600], X[600:]), strict=True):
        shard.agree = first
        shard.learn(part)
        shard.start()
    assert len(agreed) == 2
    merged = shards[0].merge(shards[1])
    assert merged.count == 1200
    assert all(np.isfinite(value).all() for value in merged.params)


@exchangeable_models
@pytest.mark.parametrize("stepsize", [sem.Stepsize.equal(), sem.Stepsize.constant(0.01)], ids=["equal", "constant"])
def test_an_integer_weight_equals_a_repeated_record(case, stepsize):
    X = drawn(case, 200, missing=0.1)
    weights = np.random.default_rng(3).integers(0, 4, len(X)).astype(float)
    weighted, repeated = (learner_of(case, stepsize=stepsize, inhibit=NEVER) for _ in range(2))
    weighted.learn(X, weights)
    repeated.learn(np.repeat(X, weights.astype(int), axis=0))
    assert weighted.count == repeated.count
    kept = np.delete(np.arange(model_sizes(weighted.sized)[2]), 1)
    np.testing.assert_allclose(weighted.state.s[kept], repeated.state.s[kept], rtol=1e-12, atol=1e-12)
    # A record of weight w is one step over w records that count alike; one by one they fade by gamma among themselves.
    np.testing.assert_allclose(weighted.state.s[1], repeated.state.s[1], rtol=1e-12 if stepsize.power else 1e-3)
    fits = [
        sem.batch_em(case.model, X, case.params, max_iter=3, weights=weights),
        sem.batch_em(case.model, np.repeat(X, weights.astype(int), axis=0), case.params, max_iter=3),
    ]
    np.testing.assert_allclose(fits[0].log_likelihood_path, fits[1].log_likelihood_path, rtol=1e-9)


@exchangeable_models
def test_an_all_missing_record_changes_nothing(case):
    X = drawn(case)
    with_holes = np.insert(X, [0, 5, 300, 600], np.nan, axis=0)
    plain, holed = (learner_of(case, inhibit=NEVER) for _ in range(2))
    plain.learn(X)
    log_likelihood = holed.learn(with_holes)
    np.testing.assert_allclose(holed.state.s, plain.state.s, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_likelihood[[0, 6, 302, 603]], 0.0, atol=1e-12)
    assert holed.count == plain.count


@all_models
def test_a_complete_record_is_the_same_beside_incomplete_ones(case):
    X = drawn(case, 64)
    learner = learner_of(case)
    plain = learner.log_likelihood(X)
    holed = X.copy()
    holed[63, 0] = np.nan
    np.testing.assert_allclose(learner.log_likelihood(holed)[:63], plain[:63], rtol=1e-12)


@all_models
def test_missing_values_agree_with_the_naive_twin(case):
    X = drawn(case, 120, missing=0.25)
    X[0] = np.nan
    weights = record_weights_of(case.model, X, None)
    fit = sem.batch_em(case.model, X, case.params, max_iter=1)
    scale = case.model.units(case.model.sized(D), fit.theta)[1]
    prior = np.diag(scale**2) * 2.0 ** (-2.0 / D)
    expected, _ = case.twin(case.params, X, weights, prior, case.model)
    close(fit.params, expected, 1e-9 if case.exact_if_missing else 1e-8)
    sized, theta = case.model.from_params(case.params)
    _, log_likelihoods = case.twin(case.params, X, weights, prior, case.model)
    total = e_step(sized, theta, np.zeros(model_sizes(sized)[3]), X, weights)
    assert total == pytest.approx(log_likelihoods.sum(), rel=1e-10)


@all_models
@settings(max_examples=10, deadline=None, derandomize=True)
@given(shift=st.floats(-1e4, 1e4), power=st.integers(-6, 6))
def test_shifting_and_scaling_the_data_commute_with_learning(case, shift, power):
    X = drawn(case, missing=0.1)
    scale = 10.0**power
    spherical = getattr(case.model, "covariance_type", None) == "spherical"
    scales = np.full(D, scale) if spherical else scale * np.array([1.0, 2.0, 0.5])
    plain, moved = (sem.Learner(case.model, warmup=200, seed=5, starts=1, refresh_every=50) for _ in range(2))
    log_likelihood = plain.learn(X)
    moved_likelihood = moved.learn(X * scales + shift)
    tolerance = 1e-6 * max(1.0, abs(shift) / scale * 1e-5)
    found, expected = places(moved.params), places(plain.params) * scales + shift
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)
    seen = ~np.isnan(log_likelihood)
    jacobian = (~np.isnan(X) * np.log(scales)).sum(axis=1)
    np.testing.assert_allclose(
        moved_likelihood[seen] + jacobian[seen], log_likelihood[seen], rtol=tolerance, atol=100 * tolerance
    )


def places(params):
    """Return what shifts and scales with the data: means, or the location of a mixture of signals."""
    return params.means if hasattr(params, "means") else params.location


# The rows of an unmixing matrix are learned in turn, so that their order matters a little.
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_renaming_components_commutes_with_learning(case):
    X = drawn(case, missing=0.1)
    plain, renamed = (
        learner_of(case, refresh_every=50),
        sem.Learner(case.model, params=swapped(case.params), refresh_every=50),
    )
    np.testing.assert_allclose(plain.learn(X), renamed.learn(X), rtol=1e-9)
    close(renamed.params, swapped(plain.params), 1e-9)


def swapped(params):
    """Return the parameters with components 0 and 1 exchanged on every axis that lists components."""
    fields = {}
    for name, value in params._asdict().items():
        if name == "transitions":
            fields[name] = value[::-1, ::-1]
        elif name == "covariances" and value.shape == (D, D):
            fields[name] = value
        else:
            fields[name] = value[::-1]
    return type(params)(**fields)


@all_models
@pytest.mark.parametrize("at", [100, 300, 450])
def test_a_restored_learner_goes_on_bitwise(case, at, tmp_path):
    X = drawn(case, missing=0.05)
    plain = sem.Learner(case.model, warmup=200, refresh_every=50)
    stopped = sem.Learner(case.model, warmup=200, refresh_every=50)
    plain.learn(X[:at])
    stopped.learn(X[:at])
    sem.save(stopped, tmp_path / "model.safetensors")
    restored = sem.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(restored.learn(X[at:]), plain.learn(X[at:]))
    for name, array in plain.state._asdict().items():
        np.testing.assert_array_equal(getattr(restored.state, name), array, err_msg=name)


@all_models
def test_what_learning_tells_of_a_record_is_what_scoring_would_have_told_before(case):
    X = case.draw(np.random.default_rng(4), 300)
    X[5, 1], X[7] = np.nan, np.nan
    weights = np.linspace(0.5, 2, 300) if case.model.exchangeable else np.ones(300)
    quiet, telling = (sem.Learner(case.model, params=case.params, refresh_every=100, inhibit=0) for _ in range(2))
    for begin in range(0, 300, 100):
        part = slice(begin, begin + 100)
        posterior = np.zeros((100, case.model.n_components))
        expected = telling.posterior(X[part]), telling.log_likelihood(X[part])
        log_likelihood = telling.learn(X[part], weights[part], posterior=posterior)
        np.testing.assert_allclose(posterior, expected[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(log_likelihood, expected[1], rtol=1e-9)
        quiet.learn(X[part], weights[part])
    np.testing.assert_allclose(telling.state.theta, quiet.state.theta, rtol=1e-9, atol=1e-12)

"""Nothing in a stream stops a learner in its middle or makes a parameter NaN; what is wrong is said in one line."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import stream_em as sem
from stream_em.stepsize import Stepsize

D, N, WARMUP = 3, 700, 150
EPS = np.finfo(float).eps
TYPES = ["full", "tied", "diag", "spherical"]
KINDS = {"mixture": sem.GaussianMixture, "chain": sem.HiddenMarkov}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_type = pytest.mark.parametrize("covariance_type", TYPES)
compiled_types = pytest.mark.parametrize("covariance_type", ["full", "diag"])


def model_of(kind, covariance_type, K=3, priors=None, **options):
    if priors is not None:
        other = "weight_prior" if kind == "mixture" else "transition_prior"
        options |= {"covariance_prior": priors, other: priors}
    return KINDS[kind](n_components=K, covariance_type=covariance_type, **options)


def params_of(kind, means, variance=1.0, covariance_type="full"):
    """Return parameters with equal probabilities and alike covariances."""
    means = np.asarray(means, dtype=float)
    K, width = means.shape
    shapes = {
        "full": np.array([variance * np.eye(width)] * K),
        "tied": variance * np.eye(width),
        "diag": np.full((K, width), variance),
        "spherical": np.full(K, variance),
    }
    share = np.full(K, 1 / K)
    if kind == "mixture":
        return sem.GaussianMixture.params_type(share, means, shapes[covariance_type])
    return sem.HiddenMarkov.params_type(share, np.full((K, K), 1 / K), means, shapes[covariance_type])


def clusters(n=N, seed=0, spread=4.0, width=D):
    """Return records (n, width) about three centres."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)) + spread * rng.integers(0, 3, n)[:, np.newaxis]


def fed(learner, X, sizes=(1, 0, 7, 100, 256)):
    """Learn X in blocks of uneven sizes; return the log-likelihoods."""
    parts, begin, i = [], 0, 0
    while begin < len(X):
        parts.append(learner.learn(X[begin : begin + sizes[i % len(sizes)]]))
        begin, i = begin + sizes[i % len(sizes)], i + 1
    return np.concatenate(parts)


def assert_positive_definite(covariances, covariance_type):
    if covariance_type in ("diag", "spherical"):
        assert (covariances > 0).all()
        return
    for covariance in covariances if covariances.ndim == 3 else [covariances]:
        scale = np.sqrt(np.diag(covariance))
        assert (scale > 0).all()
        correlation = covariance / scale / scale[:, np.newaxis]
        np.testing.assert_allclose(correlation, correlation.T, rtol=0, atol=1e-12)
        # Correlations may be 1 to rounding; that they are not more is for the density to show.
        assert np.linalg.eigvalsh(correlation).min() > -10 * len(scale) * EPS


def assert_sound(learner, X):
    """Assert that the parameters are those of a distribution, and that it can be evaluated at the records."""
    for params in (learner.params, learner.averaged_params):
        for name, value in params._asdict().items():
            assert np.isfinite(value).all(), name
            if name in ("weights", "initial", "transitions"):
                assert (value >= 0).all(), name
                np.testing.assert_allclose(value.sum(axis=-1), 1.0, rtol=1e-9)
        assert_positive_definite(params.covariances, learner.model.covariance_type)
    for averaged in (False, True):
        posterior = learner.posterior(X, averaged=averaged)
        assert (posterior >= 0).all()
        np.testing.assert_allclose(posterior.sum(axis=1), 1.0, rtol=1e-9)
        assert np.isfinite(learner.log_likelihood(X, averaged=averaged)).all()
    assert np.isfinite(learner.state.s).all()


def arrays_of(learner):
    return {} if learner.state is None else {name: value.copy() for name, value in learner.state._asdict().items()}


def assert_same_state(learner, other):
    left, right = (of if isinstance(of, dict) else arrays_of(of) for of in (learner, other))
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


# Hard data


def _mixed(rng):
    return rng.choice([-1.0, 1.0], (N, D)) * 10.0 ** rng.uniform(-100, 100, (N, D))


def _thinned(rng, rate):
    X = clusters()
    X[rng.random(X.shape) < rate] = np.nan
    return X


def _with(X, rows, columns, value):
    X[rows, columns] = value
    return X


LATE = slice(WARMUP + 100, None)
HARD = {
    "zeros": lambda rng: np.zeros((N, D)),
    "all equal": lambda rng: np.full((N, D), 7.1),
    "all equal and far": lambda rng: np.full((N, D), -1e100),
    "two distinct records": lambda rng: np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0]])[rng.integers(0, 2, N)],
    "each record a hundred times": lambda rng: np.repeat(clusters(7), 100, axis=0),
    "a constant column": lambda rng: _with(clusters(), slice(None), 1, 5.5),
    "a constant column far out, tiny others": lambda rng: _with(1e-100 * clusters(), slice(None), 1, 9e99),
    "a constant column far out": lambda rng: _with(clusters(), slice(None), 1, 1e100),
    "a column never seen": lambda rng: _with(clusters(), slice(None), 2, np.nan),
    "a column seen once": lambda rng: _with(_with(clusters(), slice(None), 2, np.nan), 300, 2, 1e3),
    "a column seen late": lambda rng: _with(clusters(), slice(0, LATE.start), 2, np.nan),
    "a column lost": lambda rng: _with(clusters(), LATE, 2, np.nan),
    "all missing for a while": lambda rng: _with(clusters(), slice(200, 500), slice(None), np.nan),
    "proportional columns": lambda rng: clusters(width=1) * np.array([1.0, -3.0, 1e6]),
    "constant, then not": lambda rng: _with(clusters(), slice(0, LATE.start), slice(None), 3.0),
    "not constant, then constant": lambda rng: _with(clusters(), LATE, slice(None), 3.0),
    "zero, then huge": lambda rng: _with(1e100 * rng.uniform(-1, 1, (N, D)), slice(0, LATE.start), slice(None), 0.0),
    "a jump of a million deviations": lambda rng: clusters() + np.where(np.arange(N) < LATE.start, 0, 1e6)[:, None],
    "jumps to and fro": lambda rng: clusters() + 1e6 * (np.arange(N) // 50 % 2)[:, None],
    "an offset of 1e8": lambda rng: clusters() + 1e8,
    "huge": lambda rng: rng.uniform(-1e100, 1e100, (N, D)),
    "tiny": lambda rng: 1e-100 * rng.normal(size=(N, D)),
    "subnormal": lambda rng: 5e-324 * rng.integers(0, 1000, (N, D)),
    "tiny, then huge": lambda rng: np.where(np.arange(N) < LATE.start, 1e-100, 1e98)[:, None] * clusters(),
    "huge, then tiny": lambda rng: np.where(np.arange(N) < LATE.start, 1e98, 1e-100)[:, None] * clusters(),
    "columns of all magnitudes": lambda rng: clusters() * np.array([1e-100, 1.0, 1e98]),
    "values of all magnitudes": _mixed,
    "one outlier": lambda rng: _with(clusters(), 300, slice(None), 1e100),
    "one outlier first": lambda rng: _with(clusters(), 3, slice(None), 1e100),
    "heavy tails": lambda rng: np.clip(rng.standard_cauchy((N, D)) ** 9, -1e100, 1e100),
    "half missing": lambda rng: _thinned(rng, 0.5),
    "nearly all missing": lambda rng: _thinned(rng, 0.95),
    "counts": lambda rng: rng.poisson(0.05, (N, D)).astype(float),
}


@pytest.mark.parametrize("name", HARD)
@each_kind
@each_type
@pytest.mark.parametrize("priors", [None, 0.0], ids=["default-priors", "no-priors"])
def test_hard_data_leave_sound_parameters(name, kind, covariance_type, priors):
    X = HARD[name](np.random.default_rng(1))
    learner = sem.Learner(model_of(kind, covariance_type, priors=priors), warmup=WARMUP, starts=2, refresh_every=16)
    log_likelihood = fed(learner, X)
    counted = np.isfinite(X).any(axis=1) | (kind == "chain")
    n_warmup = np.flatnonzero(counted)[WARMUP - 1] + 1 if counted.sum() >= WARMUP else N
    assert np.isnan(log_likelihood[:n_warmup]).all()
    assert np.isfinite(log_likelihood[n_warmup:]).all()
    learner.start()
    assert_sound(learner, X)
    assert learner.count == (np.isfinite(X).any(axis=1).sum() if kind == "mixture" else N)


@pytest.mark.parametrize("name", HARD)
@each_kind
@compiled_types
def test_hard_data_from_given_parameters_with_an_m_step_a_record(name, kind, covariance_type):
    X = HARD[name](np.random.default_rng(1))
    params = params_of(kind, [[0.0] * D, [4.0] * D, [8.0] * D], covariance_type=covariance_type)
    learner = sem.Learner(model_of(kind, covariance_type, priors=0), params=params, refresh_every=1, inhibit=0)
    assert np.isfinite(fed(learner, X)).all()
    assert_sound(learner, X)


@pytest.mark.parametrize("name", HARD)
@each_kind
@each_type
@pytest.mark.parametrize("priors", [None, 0.0], ids=["default-priors", "no-priors"])
def test_batch_em_on_hard_data_is_sound_and_never_falls(name, kind, covariance_type, priors):
    X = HARD[name](np.random.default_rng(1))[:300]
    model = model_of(kind, covariance_type, priors=priors)
    fit = sem.batch_em(model, X, max_iter=30, starts=2)
    for field in fit.params:
        assert np.isfinite(field).all()
    assert_positive_definite(fit.params.covariances, covariance_type)
    assert np.isfinite(fit.log_likelihood_path).all()


@each_kind
@each_type
@pytest.mark.parametrize("power", [20, 27], ids=["1e6-deviations", "1e8"])
def test_a_far_mean_costs_no_digits(kind, covariance_type, power):
    # On a grid of 2^-20 the offset is added without rounding: both learners see the same differences.
    X, offset = np.round(clusters(1500) * 2.0**20) / 2.0**20, 2.0**power
    near, far = (sem.Learner(model_of(kind, covariance_type), warmup=300, starts=1) for _ in range(2))
    likelihoods = fed(near, X), fed(far, X + offset)
    # Statistics are kept about the first records' mean, which rounds by offset * eps; nothing else knows the offset.
    rounding = offset * EPS
    np.testing.assert_allclose(far.params.means - offset, near.params.means, rtol=0, atol=10 * rounding)
    np.testing.assert_allclose(far.params.covariances, near.params.covariances, rtol=0, atol=10 * rounding)
    np.testing.assert_allclose(*likelihoods, rtol=0, atol=1e3 * rounding)


# Few records, few features, few components


@each_kind
@each_type
@pytest.mark.parametrize(("n", "K"), [(1, 1), (1, 3), (2, 3), (5, 5), (4, 20), (30, 20)])
def test_fewer_records_than_components(kind, covariance_type, n, K):
    X = clusters(n)
    learner = sem.Learner(model_of(kind, covariance_type, K), warmup=10_000)
    learner.learn(X)
    learner.start()
    assert_sound(learner, X)
    fed(learner, clusters(100))
    assert_sound(learner, X)
    for priors in (None, 0.0):
        fit = sem.batch_em(model_of(kind, covariance_type, K, priors), X, max_iter=20)
        assert all(np.isfinite(field).all() for field in fit.params)
        assert_positive_definite(fit.params.covariances, covariance_type)


@each_kind
@each_type
def test_one_feature_and_one_component(kind, covariance_type):
    X = clusters(400, width=1)
    for K in (1, 3):
        learner = sem.Learner(model_of(kind, covariance_type, K), warmup=100, refresh_every=10)
        fed(learner, X)
        assert_sound(learner, X)
    fit = sem.batch_em(model_of(kind, covariance_type, 1, priors=0), X)
    assert fit.params.means[0, 0] == pytest.approx(X.mean(), rel=1e-12)
    assert np.ravel(fit.params.covariances)[0] == pytest.approx(X.var(), rel=1e-12)
    np.testing.assert_array_equal(sem.Learner(model_of(kind, covariance_type, 1), params=fit.params).posterior(X), 1.0)
    vector = sem.Learner(model_of(kind, covariance_type, 1), params=fit.params)
    np.testing.assert_array_equal(vector.learn(X[:, 0]), learner_log_likelihood(kind, covariance_type, fit.params, X))


def learner_log_likelihood(kind, covariance_type, params, X):
    return sem.Learner(model_of(kind, covariance_type, 1), params=params).learn(X)


@each_kind
def test_nothing_but_missing_records_first(kind):
    X, nothing = clusters(300), np.full((120, D), np.nan)
    learner, plain = (sem.Learner(model_of(kind, "full"), warmup=50, refresh_every=16) for _ in range(2))
    fed(learner, nothing, sizes=(40,))
    assert learner.count == (0 if kind == "mixture" else 120)
    fed(learner, X)
    assert learner.started
    assert_sound(learner, X)
    if kind == "mixture":
        fed(plain, X)
        assert_same_state(learner, plain)


# Schedules


@each_kind
@compiled_types
@pytest.mark.parametrize(
    "stepsize",
    [
        Stepsize.constant(1.0),
        Stepsize.constant(half_life=1e-3),
        Stepsize.constant(half_life=0.5),
        Stepsize.constant(1e-12),
        Stepsize.polynomial(1.0),
        Stepsize.polynomial(0.0),
        Stepsize.polynomial(0.6, offset=1e6),
        Stepsize.equal(floor=0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("refresh_every", [1, 10**6])
def test_extreme_schedules(kind, covariance_type, stepsize, refresh_every):
    X = clusters(300)
    X[::3, 0] = np.nan
    means = [[0.0] * D, [4.0] * D, [8.0] * D]
    for options in ({"params": params_of(kind, means, covariance_type=covariance_type)}, {"warmup": 50}):
        for priors in (None, 0.0):
            model = model_of(kind, covariance_type, priors=priors)
            learner = sem.Learner(model, stepsize=stepsize, refresh_every=refresh_every, inhibit=0, **options)
            fed(learner, X)
            assert_sound(learner, X)


def test_priors_weigh_against_the_records_seen():
    # Twenty records with nearly equal steps are worth twenty against one pseudo-record of a quarter of their variance.
    X = np.array([[-1.0], [1.0]] * 10)
    model = sem.GaussianMixture(n_components=1, covariance_prior=1.0)
    start = sem.GaussianMixture.params_type([1.0], [[0.0]], [[[0.25]]])
    for stepsize in (Stepsize.equal(), Stepsize.polynomial(0.6), Stepsize.constant(0.01)):
        learner = sem.Learner(model, params=start, stepsize=stepsize, refresh_every=20)
        learner.learn(X)
        variance = learner.params.covariances[0, 0, 0]
        assert 0.25 < variance < (20 * 1.0 + 1 * 0.25) / 21 + 1e-9


def test_a_component_dies_only_of_records_that_could_revive_it():
    # Before `inhibit` records nothing may move.
    start = params_of("mixture", [[0.0], [1e3]])
    learner = sem.Learner(sem.GaussianMixture(), params=start, refresh_every=1, inhibit=10**6)
    learner.learn(np.random.default_rng(0).normal(size=(500, 1)))
    np.testing.assert_allclose(learner.params.means, start.means, rtol=1e-12)
    assert not learner.events


@each_kind
@each_type
def test_a_starved_component_is_moved_and_reported(kind, covariance_type):
    rng = np.random.default_rng(2)
    centres = np.array([[0.0] * D, [20.0] * D, [-20.0, 20.0, 0.0]])
    X = centres[rng.integers(0, 3, 6000)] + rng.normal(size=(6000, D))
    lost = params_of(kind, [*centres[:2], [1e5] * D], covariance_type=covariance_type)
    learner = sem.Learner(model_of(kind, covariance_type, priors=0), params=lost, refresh_every=16)
    fed(learner, X)
    event = learner.events[0]
    assert event.kind == "reseeded"
    assert "component 2" in event.detail
    assert 0 < event.at <= 1000
    assert_sound(learner, X)
    # gamma = 6000^-0.6 makes about 2 / gamma = 370 records count, 123 of them in a cluster: six standard errors.
    nearest = np.linalg.norm(learner.params.means[:, np.newaxis] - centres, axis=2).argmin(axis=0)
    np.testing.assert_allclose(learner.params.means[nearest], centres, rtol=0, atol=6 / np.sqrt(123))


# Wrong input

BAD = {
    "infinite": [[1.0, np.inf, 2.0]],
    "minus infinite": [[1.0, 2.0, -np.inf]],
    "1e308": np.full((2, D), 1e308),
    "just above 1e100": [[0.0, 0.0, -1.0001e100]],
    "text": [["a", "b", "c"]],
    "one text": "abc",
    "too wide": np.zeros((4, D + 1)),
    "too narrow": np.zeros((4, D - 1)),
    "three axes": np.zeros((2, 2, D)),
    "no axis": 1.0,
    "ragged": [[1.0, 2.0, 3.0], [1.0]],
    "complex": np.zeros((2, D), dtype=complex),
    "objects": [[object(), 1.0, 2.0]],
    "a dictionary": {"a": 1.0},
    "nothing": None,
    "integers too large": [[10**200, 0, 10**400]],
}


@pytest.mark.parametrize("bad", BAD)
@each_kind
@pytest.mark.parametrize("before", [40, 400], ids=["warming-up", "started"])
def test_wrong_input_is_one_line_and_harms_nothing(bad, kind, before):
    X = clusters()
    undisturbed, learner = (sem.Learner(model_of(kind, "full"), warmup=WARMUP, refresh_every=16) for _ in range(2))
    undisturbed.learn(X[:before])
    learner.learn(X[:before])
    calls = [learner.learn] if before < WARMUP else [learner.learn, learner.posterior, learner.log_likelihood]
    for call in calls:
        with pytest.raises(sem.InputError) as error:
            call(BAD[bad])
        assert str(error.value)
        assert "\n" not in str(error.value)
    assert_same_state(learner, undisturbed)
    np.testing.assert_array_equal(learner.learn(X[before:]), undisturbed.learn(X[before:]))
    assert_same_state(learner, undisturbed)


@pytest.mark.parametrize(
    "weights", [[-1.0] * 4, [1.0, np.nan, 1.0, 1.0], [1.0, np.inf, 1.0, 1.0], [1.0] * 3, 2.0, "abcd"]
)
def test_wrong_weights_are_one_line_and_harm_nothing(weights):
    X, learner = clusters(), sem.Learner(model_of("mixture", "full"), warmup=WARMUP)
    learner.learn(X)
    before = arrays_of(learner)
    for call in (learner.learn, lambda X, weights: sem.batch_em(learner.model, X, weights=weights)):
        with pytest.raises(sem.InputError) as error:
            call(X[:4], weights)
        assert "\n" not in str(error.value)
    assert_same_state(before, learner)


@each_kind
def test_before_the_first_record_there_is_nothing(kind):
    learner = sem.Learner(model_of(kind, "full"))
    for ask in (
        lambda: learner.params,
        lambda: learner.averaged_params,
        lambda: learner.posterior(clusters(3)),
        lambda: learner.log_likelihood(clusters(3)),
        learner.start,
        lambda: sem.batch_em(learner.model, np.empty((0, D))),
    ):
        with pytest.raises(sem.InputError) as error:
            ask()
        assert "\n" not in str(error.value)
    assert learner.count == 0
    assert np.isnan(learner.mean_log_likelihood)


# Kinds of input


@each_kind
@compiled_types
def test_every_kind_of_array_gives_the_same_and_stays_as_it_is(kind, covariance_type):
    X = np.round(8 * clusters(400))  # whole numbers, so that no type rounds them
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((800, 2 * D))
    wide[::2, ::2] = X
    inputs = {
        "float32": X.astype(np.float32),
        "float16": X.astype(np.float16),
        "int64": X.astype(np.int64),
        "int16": X.astype(np.int16),
        "big-endian": X.astype(">f8"),
        "Fortran": np.asfortranarray(X),
        "read-only": read_only,
        "strided": wide[::2, ::2],
        "reversed twice": X[::-1].copy()[::-1],
        "list": X.tolist(),
        "tuples": tuple(map(tuple, X.tolist())),
        "block": sem.Block(X.copy()),
    }
    plain = sem.Learner(model_of(kind, covariance_type), warmup=WARMUP, refresh_every=16)
    log_likelihood = plain.learn(X)
    posterior = plain.posterior(X)
    for name, values in inputs.items():
        before = copy.deepcopy(values)
        learner = sem.Learner(model_of(kind, covariance_type), warmup=WARMUP, refresh_every=16)
        np.testing.assert_array_equal(learner.learn(values), log_likelihood, err_msg=name)
        assert_same_state(learner, plain)
        np.testing.assert_array_equal(learner.posterior(values), posterior, err_msg=name)
        pair = (values.values, before.values) if name == "block" else (values, before)
        np.testing.assert_array_equal(*pair, err_msg=name)


@each_kind
def test_empty_blocks_change_nothing(kind):
    nothing, X = np.empty((0, D)), clusters()
    plain, learner = (sem.Learner(model_of(kind, "full"), warmup=WARMUP, refresh_every=16) for _ in range(2))
    for part in np.split(X, [10, WARMUP, 300]):
        assert learner.learn(nothing).shape == (0,)
        np.testing.assert_array_equal(learner.learn(part), plain.learn(part))
    learner.learn(nothing)
    assert_same_state(learner, plain)
    assert learner.posterior(nothing).shape == (0, 3)
    assert learner.log_likelihood(nothing).shape == (0,)


# Weights


def test_weights_from_none_to_huge():
    X, model = clusters(600), model_of("mixture", "full")
    rng = np.random.default_rng(0)
    for weights in (
        np.full(600, 1e9),
        np.full(600, 1e-9),
        10.0 ** rng.uniform(-9, 9, 600),
        np.where(rng.random(600) < 0.9, 0.0, 1e9),
        np.where(np.arange(600) == 400, 1e9, 1.0),
    ):
        for stepsize in (Stepsize.polynomial(0.6), Stepsize.equal(), Stepsize.constant(0.01)):
            learner = sem.Learner(model, stepsize=stepsize, warmup=WARMUP, refresh_every=16)
            for part in np.split(np.arange(600), [50, WARMUP, 155, 400]):
                learner.learn(X[part], weights[part])
            learner.start()
            assert_sound(learner, X)
            assert learner.count == pytest.approx(weights.sum(), rel=1e-12)
        fit = sem.batch_em(model, X, weights=weights, max_iter=20)
        assert all(np.isfinite(field).all() for field in fit.params)


@each_type
@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_without_priors_only_the_ratios_of_weights_matter(covariance_type, factor):
    X, weights = clusters(300), np.random.default_rng(0).random(300)
    model = model_of("mixture", covariance_type, priors=0)
    start = params_of("mixture", [[0.0] * D, [4.0] * D, [8.0] * D], covariance_type=covariance_type)
    fits = [sem.batch_em(model, X, start, max_iter=10, tol=-1, weights=w) for w in (weights, factor * weights)]
    # Ten iterations of rounding.
    for left, right in zip(*(fit.params for fit in fits), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-11)


def test_records_of_weight_zero_are_scored_and_forgotten():
    X, Y = clusters(400), clusters(200, seed=9)
    learner = sem.Learner(model_of("mixture", "full"), warmup=WARMUP, refresh_every=16, inhibit=10**9)
    learner.learn(X)
    before, expected = arrays_of(learner), learner.log_likelihood(Y)
    np.testing.assert_allclose(learner.learn(Y, np.zeros(200)), expected, rtol=1e-12)
    after = arrays_of(learner)
    for name in ("theta", "s", "totals"):
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


# Frozen parameters

FREEZABLE = [(kind, name) for kind, model in KINDS.items() for name in model.freezable]


@pytest.mark.parametrize(("kind", "name"), FREEZABLE)
@each_type
def test_frozen_parameters_stay_and_the_others_move(kind, name, covariance_type):
    X = clusters(500)
    X[::7, 1] = np.nan
    start = params_of(kind, [[-1.0] * D, [3.0] * D, [9.0] * D], 2.0, covariance_type)
    model = model_of(kind, covariance_type, priors=0, frozen=(name,))
    fit = sem.batch_em(model, X, start, max_iter=25, tol=-1)
    learner = sem.Learner(model, params=start, refresh_every=16)
    fed(learner, X)
    for params in (fit.params, learner.params, learner.averaged_params):
        for field, before, after in zip(start._fields, start, params, strict=True):
            if field == name:
                # They pass through the units of the records and back.
                np.testing.assert_allclose(after, before, rtol=1e-14, atol=1e-14)
            else:
                assert np.abs(after - before).max() > 1e-3, field
    gains = np.diff(fit.log_likelihood_path)
    assert gains.min() >= -1e-12 * abs(fit.log_likelihood_path[-1])
    assert gains[0] > 0


@each_kind
@each_type
def test_with_everything_frozen_nothing_is_learned(kind, covariance_type):
    X, start = clusters(500), params_of(kind, [[0.0] * D, [4.0] * D, [8.0] * D], 2.0, covariance_type)
    model = model_of(kind, covariance_type, frozen=KINDS[kind].freezable)
    learner = sem.Learner(model, params=start, refresh_every=16)
    fed(learner, X)
    for before, after in zip(start, learner.params, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-14, atol=1e-14)
    assert np.ptp(sem.batch_em(model, X, start, max_iter=3, tol=-1).log_likelihood_path) == 0


# Asking, copying


@each_kind
@pytest.mark.parametrize("before", [40, 400], ids=["warming-up", "started"])
def test_asking_changes_nothing(kind, before):
    X = clusters()
    X[::5, 0] = np.nan
    asked, plain = (sem.Learner(model_of(kind, "full"), warmup=WARMUP, refresh_every=16, seed=3) for _ in range(2))
    asked.learn(X[:before])
    plain.learn(X[:before])
    for _ in range(2):
        params, again = asked.params, asked.params
        for left, right in zip(params, again, strict=True):
            np.testing.assert_array_equal(left, right)
            left[...] = -1.0  # what is given out is the asker's
        asked.averaged_params, asked.mean_log_likelihood, asked.count  # noqa: B018
        np.testing.assert_array_equal(asked.posterior(X), asked.posterior(X))
        np.testing.assert_array_equal(asked.log_likelihood(X, averaged=True), asked.log_likelihood(X, averaged=True))
        np.testing.assert_allclose(asked.posterior(X).sum(axis=1), 1.0, rtol=1e-12)
        assert asked.started == (before > WARMUP)
        assert_same_state(asked, plain)
    np.testing.assert_array_equal(asked.learn(X[before:]), plain.learn(X[before:]))
    assert_same_state(asked, plain)


@each_kind
@compiled_types
@pytest.mark.parametrize("before", [0, 40, 400], ids=["fresh", "warming-up", "started"])
@pytest.mark.parametrize("twin", [copy.deepcopy, lambda learner: pickle.loads(pickle.dumps(learner))])
def test_a_copy_goes_on_identically(kind, covariance_type, before, twin):
    X = clusters()
    learner = sem.Learner(model_of(kind, covariance_type), warmup=WARMUP, refresh_every=16)
    learner.learn(X[:before])
    other, kept = twin(learner), arrays_of(learner)
    log_likelihood = other.learn(X[before:])
    assert_same_state(kept, learner)
    np.testing.assert_array_equal(learner.learn(X[before:]), log_likelihood)
    assert_same_state(learner, other)
    assert learner.events == other.events
    assert learner.settings == other.settings
    assert learner.model == other.model


# Anything

magnitudes = st.sampled_from([0.0, 1e-320, 1e-100, 1e-8, 1.0, 1.0, 1.0, 1e6, 1e50, 1e99])
blocks = st.tuples(
    st.integers(0, 2**32 - 1),  # seed
    st.integers(0, 60),  # records
    st.tuples(*[magnitudes] * D),  # spread of each column
    st.tuples(*[st.sampled_from([0.0, 0.0, 1.0, -1e8, 9e99])] * D),  # its offset
    st.sampled_from([0.0, 0.0, 0.3, 0.95, 1.0]),  # share of missing values
    st.booleans(),  # repeated records
)


def block_of(seed, n, spreads, offsets, missing, repeated):
    rng = np.random.default_rng(seed)
    X = np.clip(rng.normal(size=(n, D)) * spreads + offsets, -1e100, 1e100)
    X[rng.random(X.shape) < missing] = np.nan
    return X[rng.integers(0, 3, n)] if repeated and n >= 3 else X


@each_kind
@each_type
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    stream=st.lists(blocks, min_size=1, max_size=8),
    K=st.integers(1, 4),
    warmup=st.integers(1, 80),
    refresh_every=st.sampled_from([1, 5, 64]),
    priors=st.sampled_from([None, 0.0, 10.0]),
    stepsize=st.sampled_from([Stepsize(), Stepsize.equal(), Stepsize.constant(0.5), Stepsize.constant(1.0)]),
)
@example(
    # A missing value inferred from another column's may lie beyond anything that could be sent.
    stream=[
        (4112907223, 49, (1e99, 1.0, 1e6), (1.0, -1e8, 9e99), 0.0, False),
        (1358479550, 7, (1e-8, 1.0, 1.0), (0.0, 9e99, 0.0), 0.3, True),
    ],
    K=1,
    warmup=10,
    refresh_every=1,
    priors=None,
    stepsize=Stepsize(),
)
@example(
    stream=[
        (635194521, 12, (1e6, 1e6, 1e-100), (9e99, 9e99, 0.0), 0.0, False),
        (3855408657, 4, (1e-100, 1e-8, 1.0), (0.0, 1.0, -1e8), 0.3, False),
        (1731153954, 13, (1.0, 1e99, 1e6), (9e99, -1e8, 9e99), 0.95, False),
    ],
    K=1,
    warmup=19,
    refresh_every=1,
    priors=None,
    stepsize=Stepsize(),
)
def test_any_stream(kind, covariance_type, stream, K, warmup, refresh_every, priors, stepsize):
    model = model_of(kind, covariance_type, K, priors)
    learner = sem.Learner(model, warmup=warmup, starts=1, refresh_every=refresh_every, stepsize=stepsize, inhibit=1)
    for block in stream:
        X = block_of(*block)
        learner.learn(X)
        if learner.count > 0:
            learner.log_likelihood(X)
    if learner.count > 0:
        learner.start()
        assert_sound(learner, X)

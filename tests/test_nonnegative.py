"""Non-negative factorisation: the laws, the twin, scikit-learn, zeros and holes, what is refused, the command line."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import test_laws
from models import COMPONENTS, nonnegative
from scipy.special import gammaln
from sklearn.decomposition import NMF
from sklearn.decomposition._nmf import _beta_divergence
from sklearn.exceptions import ConvergenceWarning
from twins_nonnegative import em_step

import stream_em as sem
from stream_em.em import e_step, maximise, model_sizes
from stream_em.estimators import river, sklearn
from stream_em.kernels.factorials import log_factorial_in_place
from stream_em.models.nonnegative_factorization import NonnegativeFactorizationParams as Params

EXACT = {"n_inner": 20_000, "tolerance": 1e-12}
CASES = [nonnegative("kullback-leibler"), nonnegative("itakura-saito")]
both = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@both
def test_the_laws(case, tmp_path):
    for missing in (0.0, 0.2):
        test_laws.test_equal_steps_with_frozen_parameters_give_the_mean_statistics(case, missing)
    cut = [5, 5, 130, 599]
    test_laws.test_with_frozen_parameters_blocks_do_not_matter.hypothesis.inner_test(case, cut, True)
    test_laws.test_with_the_same_refresh_points_arrival_does_not_matter.hypothesis.inner_test(case, cut)
    test_laws.test_two_shards_merged_equal_the_whole(case)
    test_laws.test_an_integer_weight_equals_a_repeated_record(case, sem.Stepsize.equal())
    test_laws.test_an_all_missing_record_changes_nothing(case)
    test_laws.test_renaming_components_commutes_with_learning(case)
    test_laws.test_a_restored_learner_goes_on_bitwise(case, 300, tmp_path)
    test_laws.test_what_learning_tells_of_a_record_is_what_scoring_would_have_told_before(case)


@both
def test_learners_that_agree_on_a_start_merge(case):
    test_laws.test_learners_that_agree_on_a_start_merge(case)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_batch_em_never_lowers_the_objective_of_counts(missing):
    test_laws.test_batch_em_never_lowers_the_penalised_log_likelihood(nonnegative("kullback-leibler", **EXACT), missing)


@both
def test_the_m_step_never_lowers_the_objective_at_the_same_activations(case):
    """For powers the activations have several local optima, and from one W to the next another may be found."""
    X = test_laws.drawn(case, missing=0.2)
    model = nonnegative(case.name, components_prior=0.0).model
    sized, theta = model.from_params(case.params)
    s, weights = np.zeros(model_sizes(sized)[3]), np.ones(len(X))

    def value(activations, components):
        v = np.maximum(np.where(np.isnan(X), 1.0, activations @ components), 1e-290)
        x = np.where(np.isnan(X), 1.0, X)
        each = x * np.log(v) - v if model.counts else -np.log(v) - x / v
        return each[~np.isnan(X)].sum()

    for _ in range(20):
        before = model.params(sized, theta).components
        activations = sem.Learner(model, params=model.params(sized, theta)).posterior(X)
        e_step(sized, theta, s, X, weights)
        maximise(sized, theta, s, float(len(X)))
        after = model.params(sized, theta).components
        # The rows were rescaled, which the activations make up for.
        best = max(value(activations * c, after) for c in np.linspace(0.98, 1.02, 81))
        assert best >= value(activations, before) - 1e-6 * abs(best)


@both
def test_one_iteration_equals_the_twin(case):
    exact = nonnegative(case.name, **EXACT)
    X = test_laws.drawn(case, 200, missing=0.2)
    weights = np.linspace(0.5, 2.0, 200) * ~np.isnan(X).all(axis=1)
    sized = exact.model.sized(3)
    theta = exact.model.unit_theta(sized, X, weights)
    pseudo_record, scale = exact.model.units(sized, theta)
    exact.model.set_params(sized, theta, case.params)
    inside = case.params.components / scale
    inside /= inside.sum(axis=1, keepdims=True)
    expected, log_likelihoods = em_step(inside, X / scale, weights, exact.model.counts, 0.01, pseudo_record)
    expected = expected * scale
    fit = sem.batch_em(exact.model, X, case.params, max_iter=1, weights=weights)
    np.testing.assert_allclose(fit.params.components, expected / expected.sum(axis=1, keepdims=True), rtol=1e-7)
    s = np.zeros(model_sizes(sized)[3])
    jacobian = 0.0 if exact.model.counts else float(weights @ (~np.isnan(X) @ np.log(scale)))
    total = e_step(sized, theta, s, X, weights)
    assert total == pytest.approx(weights @ log_likelihoods - jacobian, rel=1e-9)


def wide(beta_loss, n, seed):
    """Return components (3, 12) which each have a feature of their own, and records of them."""
    rng = np.random.default_rng(seed)
    components = rng.dirichlet(np.full(9, 0.5), 3) @ np.eye(9, 12, 3) * 0.7 + 0.3 * np.eye(3, 12)
    means = rng.gamma(1.0, 300.0, (n, 3)) @ components
    return components, rng.poisson(means).astype(float) if beta_loss == "kullback-leibler" else rng.exponential(means)


@both
def test_scikit_learn_reaches_the_same_objective(case):
    components, X = wide(case.name, 300, 4)
    X = np.maximum(X, 1e-3)
    start = Params(0.5 * components + 0.5 / 12, np.full(3, 300.0))
    model = sem.NonnegativeFactorization(n_components=3, beta_loss=case.name, components_prior=0.0)
    fit = sem.batch_em(model, X, start, max_iter=300)
    activations = sem.Learner(model, params=fit.params).posterior(X)
    first = {"W": np.repeat(X.sum(axis=1, keepdims=True) / 3, 3, axis=1), "H": start.components.copy()}
    theirs = NMF(3, init="custom", solver="mu", beta_loss=case.name, max_iter=5000, tol=1e-7)
    W = theirs.fit_transform(X, **first)
    ours, peer = (
        _beta_divergence(X, h, w, case.name) for h, w in ((activations, fit.params.components), (W, theirs.components_))
    )
    assert ours == pytest.approx(peer, rel=2e-3)


def test_components_are_found_again_online():
    components, X = wide("kullback-leibler", 20_000, 5)
    learner = sem.Learner(sem.NonnegativeFactorization(n_components=3), starts=3, refresh_every=256)
    for part in np.split(X, 20):
        learner.learn(part)
    found = learner.params.components
    found = found[found[:, :3].argmax(axis=0)]
    np.testing.assert_allclose(found, components, atol=0.02)
    assert learner.params.activations == pytest.approx(np.full(3, 300.0), rel=0.05)


def test_what_is_left_to_gain_is_bounded():
    """The criterion for counts: the log-likelihood lies within tolerance times the sum of the record of its maximum."""
    X = CASES[0].draw(np.random.default_rng(6), 500)
    rough, exact = (nonnegative("kullback-leibler", n_inner=20_000, tolerance=t) for t in (1e-2, 1e-12))
    got, best = (sem.Learner(case.model, params=case.params).log_likelihood(X) for case in (rough, exact))
    assert (got <= best + 1e-9).all()
    assert (got >= best - 1e-2 * X.sum(axis=1) - 1e-9).all()
    assert (got < best - 1e-9).any()


@both
def test_frozen_components_stay_and_the_activations_are_found(case):
    model = sem.NonnegativeFactorization(n_components=2, beta_loss=case.name, frozen=("components",))
    params = Params(COMPONENTS, np.array([1.0, 1.0]))
    learner = sem.Learner(model, params=params, refresh_every=100)
    learner.learn(test_laws.drawn(case, 4000))
    np.testing.assert_allclose(learner.params.components, COMPONENTS, rtol=1e-12)
    assert learner.params.activations == pytest.approx([30.0, 30.0], rel=0.15)
    with pytest.raises(sem.InputError, match="frozen components need values"):
        sem.Learner(model).learn(test_laws.drawn(case, 10))


@both
def test_zeros_and_silence_stay_finite(case):
    X = test_laws.drawn(case, 800)
    X[:, 1] = 0.0
    X[100:200] = 0.0
    X[300] = [1e90, 0.0, 3.0]
    learner = sem.Learner(sem.NonnegativeFactorization(n_components=3, beta_loss=case.name), refresh_every=50)
    log_likelihood = learner.learn(X)
    assert np.isfinite(log_likelihood[500:]).all()
    assert np.isfinite(learner.log_likelihood(np.array([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0]]))).all()
    for value in learner.params:
        assert np.isfinite(value).all()
    np.testing.assert_allclose(learner.params.components.sum(axis=1), 1.0)
    nothing = sem.Learner(sem.NonnegativeFactorization(n_components=2, beta_loss=case.name))
    nothing.learn(np.zeros((600, 3)))
    assert np.isfinite(nothing.params.components).all()


@both
def test_scaling_the_data_scales_the_activations(case):
    X = test_laws.drawn(case, 900)
    one, other = (sem.Learner(case.model, refresh_every=100, starts=2) for _ in range(2))
    one.learn(X)
    other.learn(X * 1024.0)
    np.testing.assert_allclose(other.params.components, one.params.components, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other.params.activations, 1024.0 * one.params.activations, rtol=1e-6)


def test_a_component_without_a_part_is_started_anew():
    X = CASES[0].draw(np.random.default_rng(7), 3000)
    components = np.array([[0.7, 0.2, 0.1], [0.05, 0.25, 0.7], [0.3, 0.4, 0.3]])
    params = Params(components, np.array([1.0, 1.0, 1.0]))
    learner = sem.Learner(sem.NonnegativeFactorization(n_components=3), params=params, refresh_every=16, inhibit=0)
    learner.learn(X[:1000])
    learner.model.reseed(learner.sized, learner.state.theta, learner.state.s, 2, np.array([0.0, 200.0, np.nan]))
    shares = learner.model.component_mass(learner.sized, learner.state.s)
    assert 0.01 < shares[2] < 0.1
    assert learner.params.components[2, 1] > 0.5
    assert np.isfinite(learner.learn(X[1000:])).all()


def test_log_factorials():
    x = np.concatenate([np.linspace(0.0, 30.0, 1001), np.logspace(-12, 100, 1000)])
    found = x.copy()
    log_factorial_in_place(found, np.empty_like(x), np.empty_like(x))
    np.testing.assert_allclose(found, gammaln(x + 1.0), rtol=1e-14, atol=1e-11)


def test_negative_values_are_refused():
    learner = sem.Learner(sem.NonnegativeFactorization(), params=CASES[0].params)
    X = np.ones((5, 3))
    X[3, 1] = -2.5
    for call in (learner.learn, learner.log_likelihood, lambda X: sem.batch_em(learner.model, X)):
        with pytest.raises(sem.InputError, match=r"Negative values in data: record 3, column 1 is -2\.5"):
            call(X)
    assert learner.count == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta_loss": "frobenius"}, "beta_loss"),
        ({"n_inner": 0}, "n_inner must be"),
        ({"tolerance": 1.0}, "tolerance must be"),
        ({"components_prior": -1.0}, "components_prior must be"),
        ({"frozen": ("activations",)}, "frozen may name components"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(sem.InputError, match=message):
        sem.NonnegativeFactorization(**settings)


@pytest.mark.parametrize(
    ("components", "activations", "message"),
    [
        (-COMPONENTS, np.ones(2), "components must be 0 or more"),
        (0 * COMPONENTS, np.ones(2), "a value above 0"),
        (COMPONENTS, -np.ones(2), "activations must be 0 or more"),
        (COMPONENTS[:1], np.ones(2), r"components must have shape \(2, 3\)"),
    ],
)
def test_impossible_params_are_refused(components, activations, message):
    with pytest.raises(sem.InputError, match=message):
        sem.Learner(sem.NonnegativeFactorization(), params=Params(components, activations))


@both
def test_named_params_come_back(case):
    sized, theta = case.model.from_params(case.params)
    test_laws.close(case.model.params(sized, theta), case.params, 1e-12)


def test_the_command_line(tmp_path, run):
    X = CASES[0].draw(np.random.default_rng(8), 2000)
    data, out = tmp_path / "counts.csv", tmp_path / "run"
    np.savetxt(data, X, fmt="%d", delimiter=",", header="a,b,c", comments="")
    code, text, _ = run("fit", data, "--model", "nonnegative-factorization", "--components", 2, "--out", out)
    assert code == 0
    assert "activations" in text
    code, text, _ = run("show", out, "--json")
    assert code == 0
    assert np.shape(json.loads(text)["params"]["components"]) == (2, 3)
    code, text, _ = run("score", out, data)
    assert code == 0
    assert text.count("\n") == 2001
    data.write_text("a,b,c\n1,2,3\n1,-2,3\n")
    code, _, error = run("fit", data, "--model", "nonnegative-factorization")
    assert code == 2
    assert "record 1, column 1 is -2" in error


def test_the_face_for_scikit_learn():
    components, X = wide("kullback-leibler", 2000, 9)
    batch = sklearn.NonnegativeFactorization(3, n_init=3, random_state=0, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        activations = batch.fit_transform(X)
    found = batch.components_[batch.components_[:, :3].argmax(axis=0)]
    np.testing.assert_allclose(found, components, atol=0.03)
    # Counts of about 75 a value are met to within three standard deviations.
    assert np.abs(batch.inverse_transform(activations) - X).mean() < 3 * np.sqrt(X.mean())
    online = sklearn.NonnegativeFactorization(3, random_state=0)
    for part in np.split(X, 4):
        online.partial_fit(part)
    assert online.score(X) == pytest.approx(batch.score(X), rel=0.02)
    assert list(online.get_feature_names_out()) == [f"nonnegativefactorization{k}" for k in range(3)]
    assert sklearn.NonnegativeFactorization(max_iter=2, tol=1e9).fit(X[:100]).components_.shape == (12, 12)
    with pytest.raises(sem.InputError, match="Negative values"):
        online.transform(-X)


def test_the_face_for_river():
    _, X = wide("kullback-leibler", 1500, 10)
    names = [f"x{i:02}" for i in range(12)]
    model = river.NonnegativeFactorization(3)
    for row in X[:200]:
        model.learn_one(dict(zip(names, row, strict=True)))
    model.learn_many(pd.DataFrame(X[200:], columns=names))
    one = dict(zip(names, X[-1], strict=True))
    activations = model.transform_one(one)
    assert sum(activations.values()) == pytest.approx(X[-1].sum(), rel=1e-3)
    assert np.isfinite(model.score_one(one))
    with pytest.raises(sem.InputError, match="Negative values"):
        model.learn_one(one | {"x00": -1.0})
    assert model.features == names
    filled = river.Imputer(model).transform_one(one | {"x03": None})
    assert filled["x03"] == pytest.approx(one["x03"], abs=5 * np.sqrt(one["x03"] + 9))


def test_a_change_of_the_components_is_acted_on():
    rng = np.random.default_rng(11)
    before, after = rng.dirichlet(np.full(12, 0.3), 3), rng.dirichlet(np.full(12, 0.3), 3)
    activations = rng.gamma(1.0, 50.0, (14_000, 3))
    X = np.concatenate([rng.poisson(activations[:8000] @ before), rng.poisson(activations[8000:] @ after)]).astype(
        float
    )
    learner = sem.Learner(sem.NonnegativeFactorization(n_components=3), drift=sem.DriftSettings(), starts=2)
    learner.learn(X[:8000])
    assert not [event for event in learner.events if event.kind == "drift"]
    learner.learn(X[8000:])
    assert [event for event in learner.events if event.kind == "replaced"]
    lasting = sem.Learner(sem.NonnegativeFactorization(n_components=3), starts=2)
    lasting.learn(X)
    assert learner.log_likelihood(X[8000:]).mean() > lasting.log_likelihood(X[8000:]).mean()


@pytest.mark.parametrize(("beta_loss", "share"), [("kullback-leibler", 0.9), ("itakura-saito", 0.0)])
def test_a_stream_that_begins_with_zeros_is_learned_all_the_same(beta_loss, share):
    rng = np.random.default_rng(0)
    components = rng.dirichlet(np.full(5, 0.3), 2)
    X = np.concatenate([np.zeros((1500, 5)), rng.gamma(1.0, 100.0, (3000, 2)) @ components])
    told = []
    for K, stream in (2, X), (2, X[1500:]), (1, X[1500:]):
        learner = sem.Learner(sem.NonnegativeFactorization(K, beta_loss=beta_loss))
        learner.learn(stream)
        told.append(learner.log_likelihood(X[-500:]).mean())
    # Two components that are alike are no better than one. Powers of 0 fade more slowly: they are far from what comes.
    assert told[0] > told[2] + share * (told[1] - told[2])

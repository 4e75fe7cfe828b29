"""The faces for river: river's own checks on what ships in its wheel, and what they do not cover."""

import functools
import itertools
import math
import pickle
import random
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from river import base, checks, compose, datasets, drift, evaluate, metrics, optim, preprocessing
from river.anomaly import QuantileFilter
from river.checks import anomaly as anomaly_checks
from river.checks import common
from river.compat import convert_river_to_sklearn

import stream_em as sem
from stream_em.errors import InputError
from stream_em.estimators import river as faces
from stream_em.models import all_models
from stream_em.models.convolutive_unmixing import ConvolutiveUnmixing


class First:
    """The first n records of a dataset, features as floats."""

    def __init__(self, dataset, n):
        self.dataset, self.n = dataset, n

    def __iter__(self):
        for x, y in itertools.islice(iter(self.dataset), self.n):
            yield {name: float(value) for name, value in x.items()}, y


class Seen:
    """A dataset as a model may have it: without signs, or only the first of its features."""

    def __init__(self, dataset, of):
        self.dataset, self.of = dataset, of

    def __iter__(self):
        for x, y in self.dataset:
            yield self.of(x), y


def without_signs(x):
    return {name: abs(value) for name, value in x.items()}


def first_alone(x):
    name = min(x)
    return {name: x[name]}


class Planted:
    """Two blobs and 2 % far points, which y tells."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        rng = random.Random(0)
        for _ in range(self.n):
            far = rng.random() < 0.02
            center = 12 if far else rng.choice((-3, 3))
            yield {f"x{j}": rng.gauss(center, 1) for j in range(6)}, far


MAKE = {
    "mixture": faces.GaussianMixture,
    "diagonal": lambda: faces.GaussianMixture(3, covariance_type="diag"),
    "chain": faces.HiddenMarkov,
    "unmixing": faces.SignalUnmixing,
    "unmixing by sample": lambda: faces.SignalUnmixing(2, sources="sample"),
    "unmixing of mixtures": lambda: faces.SignalUnmixing(2, sources="mixture"),
    "factorisation": lambda: faces.NonnegativeFactorization(2),
    "sinusoids": lambda: faces.SuperimposedSinusoids(1),
    "detector": faces.AnomalyDetector,
    "calibrated": lambda: faces.AnomalyDetector(faces.GaussianMixture(), calibrated=True),
    "imputer": faces.Imputer,
}
SHORT = {
    "bananas": First(datasets.Bananas(), 200),
    "segments": First(datasets.ImageSegments(), 200),
    "planted": Planted(200),
}
SEES = {faces.NonnegativeFactorization: without_signs, faces.SuperimposedSinusoids: first_alone}
ON_DATA = [
    "check_learn_one",
    "check_pickling",
    "check_shuffle_features_no_impact",
    "check_emerging_features",
    "check_disappearing_features",
    "check_radically_disappearing_features",
    "check_predict_one_pure",
    "check_predict_one_before_any_learn",
    "check_no_state_aliasing_with_input",
    "check_clone_is_independent",
    "check_learn_many_matches_learn_one",
]


def checks_for(model):
    """Yield (name, check) of all of river's checks that apply."""
    for check in checks.yield_checks(model):
        if not isinstance(check, functools.partial):
            yield check.__name__, check
    names = list(ON_DATA)
    if isinstance(model, base.Transformer):
        names += ["check_transform_one", "check_transform_many_matches_transform_one"]
    sees = SEES.get(type(model), dict)
    for name in names:
        for label, dataset in SHORT.items():
            yield f"{name}-{label}", functools.partial(getattr(common, name), dataset=Seen(dataset, sees))
    if isinstance(model, base.AnomalyDetector):
        yield "check_roc_auc", functools.partial(anomaly_checks.check_roc_auc, dataset=Planted(1000))
    shuttle = Seen(First(datasets.Shuttle(), 4000), sees)
    yield "check_bounded_memory_growth", functools.partial(common.check_bounded_memory_growth, dataset=shuttle)


CHECKS = [
    pytest.param(make, check, id=f"{label}-{name}")
    for label, make in MAKE.items()
    for name, check in checks_for(make())
    if name.partition("-")[0] not in make()._unit_test_skips()
]


@pytest.mark.parametrize(("make", "check"), CHECKS)
def test_check_of_river(make, check):
    random.seed(0)
    check(make())


def test_no_check_is_skipped_without_a_reason():
    skipped = {label: make()._unit_test_skips() for label, make in MAKE.items() if make()._unit_test_skips()}
    # Its rows follow one another in time: the second is not what it would be if it came first.
    assert skipped == {"sinusoids": {"check_transform_many_matches_transform_one"}}


def test_every_model_has_a_face():
    reached = {face.of for face in vars(faces).values() if hasattr(face, "of")}
    # With echoes the sources of a record come a window later, which nothing that transforms rows may do.
    assert reached >= set(all_models().values()) - {ConvolutiveUnmixing}


def records(n, K=3, D=4, seed=0, missing=0.0):
    """Return (n, D) records of K clusters, and their clusters."""
    rng = np.random.default_rng(seed)
    means, labels = rng.normal(0, 5, (K, D)), rng.integers(K, size=n)
    X = means[labels] + rng.normal(size=(n, D))
    X[rng.random(X.shape) < missing] = np.nan
    return X, labels


def as_dicts(X):
    return [dict(zip("abcdefgh", row, strict=False)) for row in X.tolist()]


@pytest.mark.parametrize(
    ("face", "model"), [(faces.GaussianMixture, sem.GaussianMixture), (faces.HiddenMarkov, sem.HiddenMarkov)]
)
def test_predictions_are_those_of_a_learner_that_learns_record_by_record(face, model):
    X, _ = records(2000, missing=0.05)
    ours, learner = face(3), sem.Learner(model(n_components=3), refresh_every=512)
    query, row = {"a": 1.0, "c": -2.0}, np.array([[1.0, np.nan, -2.0, np.nan]])
    for i, x in enumerate(as_dicts(X)):
        ours.learn_one(x)
        learner.learn(X[i : i + 1])
        if i >= 500 and i % 13 == 0:
            before = pickle.dumps(ours)
            assert ours.score_one(query) == pytest.approx(learner.log_likelihood(row)[0], abs=1e-9)
            found = list(ours.predict_proba_one(query).values())
            np.testing.assert_allclose(found, learner.posterior(row)[0], atol=1e-9)
            assert pickle.dumps(ours) == before


def test_drift_is_acted_on_at_the_same_record_however_records_wait():
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.normal(0, 1, (8000, 2)), rng.normal(8, 1, (2500, 2))])
    drift_settings = sem.DriftSettings()
    ours = faces.GaussianMixture(2, drift=drift_settings)
    learner = sem.Learner(sem.GaussianMixture(n_components=2), refresh_every=512, drift=drift_settings, recent=2048)
    ours.learn_many(pd.DataFrame(X[:8000], columns=["a", "b"]))
    learner.learn(X[:8000])
    for i, x in enumerate(as_dicts(X[8000:]), 8000):
        ours.learn_one(x)
        learner.learn(X[i : i + 1])
    assert any(event.kind == "drift" for event in learner.events)
    query = {"a": 8.0, "b": 8.0}
    assert ours.score_one(query) == pytest.approx(learner.log_likelihood([[8.0, 8.0]])[0], abs=1e-7)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_many_agree_with_one(frame):
    X, _ = records(1500, missing=0.02)
    one, many = faces.GaussianMixture(3), faces.GaussianMixture(3)
    for x in as_dicts(X):
        one.learn_one(x)
    for begin in range(0, len(X), 250):
        many.learn_many(frame({name: X[begin : begin + 250, d] for d, name in enumerate("abcd")}))
    np.testing.assert_allclose(many.params.means, one.params.means, rtol=1e-9)
    table = frame({name: X[:20, d] for d, name in enumerate("abcd")})
    assert isinstance(many.predict_proba_many(table), frame)
    assert list(many.predict_many(table)) == [one.predict_one(x) for x in as_dicts(X[:20])]
    np.testing.assert_allclose(list(many.score_many(table)), [one.score_one(x) for x in as_dicts(X[:20])])


def test_a_new_feature_joins_the_model_and_an_absent_one_is_marginalised():
    rng = np.random.default_rng(0)
    model = faces.GaussianMixture(2)
    for i in range(4000):
        x = {"a": rng.normal(i % 2 * 6.0), "b": rng.normal()}
        if i >= 2000:
            x["new"] = rng.normal(100 + 20 * (i % 2), 2.0)
        model.learn_one(x)
    low = min(model.centers.values(), key=lambda center: center["a"])
    assert low["new"] == pytest.approx(100, abs=0.5)
    assert model.predict_one({"new": 100}) == model.predict_one({"a": 0.0}) != model.predict_one({"new": 120})


def test_new_features_join_however_the_records_come():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 3))
    X[:700, 2] = np.nan
    one, many = faces.GaussianMixture(2, warmup=300), faces.GaussianMixture(2, warmup=300)
    for i, x in enumerate(as_dicts(X)):
        one.learn_one(x if i >= 700 else {"a": x["a"], "b": x["b"]})
    many.learn_many(pd.DataFrame(X[:700, :2], columns=["a", "b"]))
    many.learn_many(pd.DataFrame(X[700:], columns=["a", "b", "c"]))
    np.testing.assert_allclose(many.params.covariances, one.params.covariances, rtol=1e-9)


def test_weights_count_records():
    X, _ = records(900)
    weighted, plain = faces.GaussianMixture(2, warmup=300, stepsize="equal"), None
    for x in as_dicts(X):
        weighted.learn_one(x, w=2.0)
    assert weighted.learner.count == pytest.approx(1800, abs=130)
    with pytest.raises(InputError, match="weight"):
        weighted.learn_one({"a": 1.0}, w=-1.0)
    plain = faces.HiddenMarkov()
    with pytest.raises(InputError, match="weighted"):
        plain.learn_one({"a": 1.0}, w=2.0)


def test_in_a_pipeline_with_metrics():
    X, labels = records(1500)
    stream = list(zip(as_dicts(X), labels.tolist(), strict=True))
    model = compose.Select("a", "b", "c", "d") | preprocessing.StandardScaler() | faces.GaussianMixture(3, warmup=300)
    assert evaluate.progressive_val_score(stream, model, metrics.AdjustedRand()).get() > 0.6
    silhouette = metrics.Silhouette()
    for x, _ in stream[-200:]:
        silhouette.update(x, model.predict_one(x), model["GaussianMixture"].centers)
    assert 0.0 < silhouette.get() < 1.0


def test_through_compat_and_a_quantile_filter():
    X, _ = records(400)
    found = convert_river_to_sklearn(faces.GaussianMixture(3, warmup=200)).fit(X).predict(X)
    assert set(np.unique(found)) <= {0, 1, 2}
    guard = QuantileFilter(faces.AnomalyDetector(faces.GaussianMixture(3, warmup=200)), q=0.95)
    for x in as_dicts(X):
        guard.learn_one(x)
    assert guard.classify(guard.score_one({"a": 500.0}))


@pytest.mark.parametrize(
    "stepsize",
    [optim.schedulers.Constant(0.01), optim.schedulers.InverseScaling(0.5), "half-life:500", 0.02, sem.Stepsize()],
)
def test_any_scheduler_is_a_stepsize(stepsize):
    X, _ = records(1000, K=2)
    model = faces.GaussianMixture(2, warmup=300, stepsize=stepsize)
    for x in as_dicts(X):
        model.learn_one(x)
    assert math.isfinite(model.clone().score_one({}))
    assert math.isfinite(model.score_one(as_dicts(X)[0]))
    if not isinstance(stepsize, str | float | sem.Stepsize):
        steps = model.learner.settings.stepsize.gamma(np.arange(1, 4))
        np.testing.assert_allclose(steps, [stepsize.get(t) for t in range(3)])


def test_a_half_life_in_time_is_that_of_the_learner():
    rng = np.random.default_rng(4)
    X, times = rng.normal(size=(900, 2)) + np.repeat([[0.0], [3.0], [0.0]], 300, axis=0), np.cumsum(rng.random(900))
    stepsize = "half-life:1m"
    one, many = (faces.GaussianMixture(1, stepsize=stepsize, refresh_every=50, warmup=100) for _ in range(2))
    for row, time in zip(X.tolist(), times.tolist(), strict=True):
        one.learn_one(dict(enumerate(row)), t=datetime.fromtimestamp(time, UTC))
    many.learn_many(pd.DataFrame(X), t=times)
    learner = sem.Learner(one._feed.model, stepsize=sem.Stepsize.parse(stepsize), refresh_every=50, warmup=100)
    learner.learn(X, timestamps=times)
    for model in one, many:
        np.testing.assert_allclose(model.params.means, learner.params.means, rtol=1e-9)
    with pytest.raises(InputError, match=r"needs the time of each record"):
        one.learn_one({0: 1.0, 1: 2.0})
    with pytest.raises(InputError, match="needs the time of each record"):
        many.learn_many(pd.DataFrame(X))
    with pytest.raises(InputError, match="t must be seconds or a datetime, not 'noon'"):
        one.learn_one({0: 1.0, 1: 2.0}, t="noon")
    with pytest.raises(InputError, match="times must be one for each of 900 records, not 3"):
        many.learn_many(pd.DataFrame(X), t=times[:3])


def test_features_may_join_where_time_counts():
    rng = np.random.default_rng(5)
    model = faces.GaussianMixture(1, stepsize="half-life:1h", warmup=100)
    for i, row in enumerate(rng.normal([0.0, 5.0], 1.0, (500, 2)).tolist()):
        model.learn_one(dict(enumerate(row[: 1 if i < 200 else 2])), t=float(i))
    np.testing.assert_allclose(model.params.means, [[0.0, 5.0]], atol=0.4)


def test_a_detector_of_river_watches():
    rng = np.random.default_rng(0)
    model = faces.GaussianMixture(1, drift=drift.ADWIN(), warmup=200)
    model.learn_many(pd.DataFrame({"a": np.concatenate([rng.normal(0, 1, 4000), rng.normal(30, 1, 2000)])}))
    assert any(event.kind == "drift" for event in model.learner.events)
    assert model.params.means[0, 0] == pytest.approx(30, abs=2)


def test_the_state_of_a_chain_moves_only_when_it_learns():
    X, _ = records(1000, K=2)
    model = faces.HiddenMarkov(2, warmup=300)
    learner = sem.Learner(sem.HiddenMarkov(n_components=2), warmup=300, refresh_every=512)
    last = np.empty((1, 2))
    for i, x in enumerate(as_dicts(X)):
        model.learn_one(x)
        learner.learn(X[i : i + 1], posterior=last)
    before = model.state_probabilities
    np.testing.assert_allclose(list(before.values()), last[0], atol=1e-9)
    model.predict_one({"a": 3.0})
    assert model.state_probabilities == before


def test_calibrated_scores_are_uniform():
    X, _ = records(4000, K=2)
    detector = faces.AnomalyDetector(faces.GaussianMixture(2), calibrated=True)
    scores = []
    for x in as_dicts(X):
        scores.append(detector.score_one(x))
        detector.learn_one(x)
    scores = np.sort(scores[2000:])
    # Kolmogorov–Smirnov: 1.95 / sqrt(n) is passed once in 1,000; the rank among 1,000 adds as much as n = 1,000.
    distance = np.abs(scores - (np.arange(2000) + 0.5) / 2000).max()
    assert distance < 1.95 * math.sqrt(1 / 2000 + 1 / 1000)
    assert detector.score_one({"a": 1e6}) > 0.998


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_missing_values_get_their_conditional_mean(covariance_type):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1500, 1))
    X = np.concatenate([z, 2 * z + 0.5 * rng.normal(size=(1500, 1)), rng.normal(5, 1, (1500, 1))], axis=1)
    imputer = faces.Imputer(faces.GaussianMixture(2, covariance_type=covariance_type, warmup=300))
    imputer.learn_many(pd.DataFrame(X, columns=list("abc")))
    found = imputer.transform_one({"a": 1.5, "c": None, "text": "kept"})
    params = imputer.model.params
    covariances = np.broadcast_to(
        {
            "full": lambda: params.covariances,
            "tied": lambda: params.covariances[np.newaxis],
            "diag": lambda: params.covariances[:, np.newaxis] * np.eye(3),
            "spherical": lambda: params.covariances[:, np.newaxis, np.newaxis] * np.eye(3),
        }[covariance_type](),
        (2, 3, 3),
    )
    share = params.weights * np.exp(-0.5 * (1.5 - params.means[:, 0]) ** 2 / covariances[:, 0, 0])
    share /= np.sqrt(covariances[:, 0, 0])
    slopes = covariances[:, 1:, 0] / covariances[:, :1, 0]
    expected = share @ (params.means[:, 1:] + slopes * (1.5 - params.means[:, :1])) / share.sum()
    assert found == {"a": 1.5, "text": "kept", "b": pytest.approx(expected[0]), "c": pytest.approx(expected[1])}


def test_bad_values_are_refused_with_their_feature_and_nothing_is_learned():
    model = faces.GaussianMixture(2)
    model.learn_one({"a": 1.0, "b": 2.0})
    before = model.score_one({"a": 1.0})
    for bad, words in (({"a": "red", "b": 1}, "'a' is not a number"), ({"a": 1, "b": math.inf}, "'b'.*infinite")):
        with pytest.raises(InputError, match=words):
            model.learn_one(bad)
    with pytest.raises(InputError, match="n_components"):
        faces.GaussianMixture(n_components=0)
    with pytest.raises(InputError, match="stepsize"):
        faces.GaussianMixture(stepsize=[1])
    assert model.score_one({"a": 1.0}) == before


def test_an_import_is_light():
    code = "import sys, stream_em.estimators.river; print([m for m in sys.modules if m in set(sys.argv[1:])])"
    heavy = ["pandas", "sklearn", "scipy.stats", "river.drift", "river.metrics", "polars"]
    found = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_pickle_goes_on_like_the_model():
    X, _ = records(900)
    model = faces.GaussianMixture(3, warmup=300)
    for x in as_dicts(X[:777]):
        model.learn_one(x)
    twin = pickle.loads(pickle.dumps(model))
    for x in as_dicts(X[777:]):
        model.learn_one(x)
        twin.learn_one(x)
    assert np.array_equal(twin.params.means, model.params.means)


def test_signals_are_told_apart():
    rng = np.random.default_rng(0)
    S = rng.standard_t(4, (12_000, 2)) * np.repeat(rng.gamma(1.0, 1.0, (75, 2)), 160, axis=0)
    X = S @ np.array([[1.0, 0.6], [0.5, 1.0]])
    unmixing = faces.SignalUnmixing(2)
    unmixing.learn_many(pd.DataFrame(X, columns=["left", "right"]))
    found = unmixing.transform_many(pd.DataFrame(X[-3000:], columns=["left", "right"]))
    correlations = np.abs(np.corrcoef(S[-3000:].T, found.to_numpy().T)[:2, 2:])
    assert correlations.max(axis=1).min() > 0.99
    one = unmixing.transform_one({"right": X[-3000, 1], "left": X[-3000, 0]})
    assert list(one.values()) == pytest.approx(found.iloc[0].tolist())

"""The faces for scikit-learn: its own checks, and its own class as the reference."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from river import datasets as river_datasets
from sklearn import mixture
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import stream_em as sem
from stream_em.errors import InputError
from stream_em.estimators import sklearn as faces
from stream_em.models import all_models
from stream_em.models.convolutive_unmixing import ConvolutiveUnmixing

EXPECTED = {
    "GaussianMixture(n_components=2)": {
        "check_sample_weight_equivalence_on_dense_data": "k-means++ draws other records if they are repeated than if"
        " they are weighted, and finds the components in another order; scikit-learn's KMeans fails this check too"
    }
}
A_SEQUENCE = "records of a block share a scale, so that they cannot be taken in another order or apart"
EXPECTED["SignalUnmixing()"] = {
    "check_methods_sample_order_invariance": A_SEQUENCE,
    "check_methods_subset_invariance": A_SEQUENCE,
}
EXPECTED["NonnegativeFactorization(n_components=2)"] = {
    "check_sample_weight_equivalence_on_dense_data": "the start draws other records if they are repeated than if"
    " they are weighted, and the factorisation has local optima"
}
COVARIANCE_TYPES = ["full", "tied", "diag", "spherical"]


@pytest.mark.parametrize(
    "estimator",
    [
        faces.GaussianMixture(),
        faces.GaussianMixture(2),
        faces.HiddenMarkov(),
        faces.HiddenMarkov(2),
        faces.SignalUnmixing(),
        faces.SignalUnmixing(sources="sample"),
        faces.SignalUnmixing(sources="mixture"),
        faces.NonnegativeFactorization(2),
    ],
    ids=repr,
)
def test_checks_of_scikit_learn(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(estimator, expected_failed_checks=EXPECTED.get(repr(estimator)), on_fail=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed
    # The only one that is not run is of arrays on other devices, which ask for SCIPY_ARRAY_API.
    assert {result["check_name"] for result in results if result["status"] == "skipped"} <= {"check_array_api_input"}


def test_every_model_has_a_face():
    reached = {face.of for face in vars(faces).values() if hasattr(face, "of")}
    # With echoes the sources of a record come a window later, which nothing that transforms rows may do.
    assert reached >= set(all_models().values()) - {ConvolutiveUnmixing}


def of_river(dataset):
    return np.array([[float(value) for value in x.values()] for x, _ in dataset])


PANEL = {
    "iris": lambda: load_iris().data,
    "wine": lambda: load_wine().data,
    "breast cancer": lambda: load_breast_cancer().data,
    "diabetes": lambda: load_diabetes().data,
    "digits": lambda: load_digits().data,
    "bananas": lambda: of_river(river_datasets.Bananas()),
    "segments": lambda: of_river(river_datasets.ImageSegments()),
    "phishing": lambda: of_river(river_datasets.Phishing()),
    "stocks": lambda: of_river(river_datasets.SP500Stocks()),
    "approval": lambda: of_river(river_datasets.TrumpApproval()),
}


@pytest.mark.parametrize("name", PANEL)
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_fit_is_at_least_as_good_as_that_of_scikit_learn(name, covariance_type):
    X = PANEL[name]()
    theirs, ours = (
        kind(n_components=3, covariance_type=covariance_type, random_state=0).fit(X)
        for kind in (mixture.GaussianMixture, faces.GaussianMixture)
    )
    assert ours.score(X) >= theirs.score(X) - 1e-8
    assert ours.converged_


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_attributes_are_those_of_scikit_learn(covariance_type):
    X = load_iris().data
    theirs, ours = (
        kind(3, covariance_type=covariance_type, random_state=0, tol=1e-9, max_iter=2000).fit(X)
        for kind in (mixture.GaussianMixture, faces.GaussianMixture)
    )
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-3, atol=1e-4)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, abs=1e-6)
    assert ours.bic(X) == pytest.approx(theirs.bic(X), abs=1e-3)
    assert ours.aic(X) == pytest.approx(theirs.aic(X), abs=1e-3)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), atol=1e-3)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert theirs.get_params().keys() <= ours.get_params().keys()
    shared = {name: ours.get_params()[name] for name in theirs.get_params()}
    assert shared == theirs.get_params()


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_every_way_to_begin(init_params):
    X = load_iris().data
    kinds = (mixture.GaussianMixture, faces.GaussianMixture)
    settings = {"init_params": init_params, "random_state": 3, "n_init": 2, "max_iter": 500}
    theirs, ours = (kind(3, **settings).fit(X) for kind in kinds)
    assert ours.score(X) >= theirs.score(X) - 1e-8


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_given_parameters_are_where_it_begins(covariance_type):
    X = load_iris().data
    fitted = mixture.GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-7, max_iter=999).fit(X)
    given = {name: getattr(fitted, f"{name[:-5]}_") for name in ("weights_init", "means_init", "precisions_init")}
    ours = faces.GaussianMixture(3, covariance_type=covariance_type, random_state=9, **given).fit(X)
    assert ours.n_iter_ <= 3
    np.testing.assert_allclose(ours.means_, fitted.means_, rtol=1e-3)


def test_warm_start_goes_on():
    X = load_wine().data
    ours = faces.GaussianMixture(3, random_state=0, warm_start=True, max_iter=2)
    bounds = []
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            bounds.append(ours.fit(X).lower_bound_)
    assert bounds[0] < bounds[1] <= bounds[2] + 1e-9


def test_what_has_not_converged_warns():
    with pytest.warns(ConvergenceWarning):
        faces.GaussianMixture(3, random_state=0, max_iter=1).fit(load_wine().data)


def test_weights_equal_repeats_and_zero_leaves_out():
    rng = np.random.default_rng(0)
    X, weights = load_iris().data, rng.integers(0, 4, 150)
    start = {"means_init": X[[0, 75, 149]], "random_state": 0, "tol": 1e-9, "max_iter": 3000}
    weighted = faces.GaussianMixture(3, covariance_type="diag", **start).fit(X, sample_weight=weights)
    repeated = faces.GaussianMixture(3, covariance_type="diag", **start).fit(np.repeat(X, weights, axis=0))
    order, other = np.argsort(weighted.means_[:, 0]), np.argsort(repeated.means_[:, 0])
    np.testing.assert_allclose(weighted.means_[order], repeated.means_[other], rtol=1e-4)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_with_missing_values(frame):
    rng = np.random.default_rng(0)
    X = load_iris().data.copy()
    X[rng.random(X.shape) < 0.1] = np.nan
    table = frame({name: X[:, d] for d, name in enumerate("abcd")})
    ours = faces.GaussianMixture(3, random_state=0).fit(table)
    assert list(ours.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(ours.predict(table), faces.GaussianMixture(3, random_state=0).fit(X).predict(X))
    reference = sem.batch_em(ours._model(), X, ours._params, 1).log_likelihood_path[0] / len(X)
    assert ours.score(table) == pytest.approx(reference, abs=1e-3)
    kind = "pandas" if frame is pd.DataFrame else "polars"
    told = clone(ours).set_output(transform=kind).fit(table).transform(table)
    assert isinstance(told, frame)
    assert list(told.columns) == ["gaussianmixture0", "gaussianmixture1", "gaussianmixture2"]
    assert list(ours.get_feature_names_out()) == list(told.columns)


@pytest.mark.parametrize("face", [faces.GaussianMixture, faces.HiddenMarkov])
def test_partial_fit_learns_as_a_learner_does(face):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 2)) + 6.0 * (np.cumsum(rng.random(3000) < 0.05) % 2)[:, np.newaxis]
    ours = face(2, random_state=0)
    with pytest.raises(NotFittedError):
        ours.predict(X)
    for begin in range(0, 3000, 300):
        ours.partial_fit(X[begin : begin + 300])
        assert ours.predict_proba(X[:5]).shape == (5, 2)
    learner = sem.Learner(ours._model(), seed=ours._seed())
    learner.learn(X)
    np.testing.assert_allclose(ours.means_, learner.params.means, rtol=1e-9)
    np.testing.assert_allclose(np.sort(ours.means_[:, 0]), [0, 6], atol=0.3)


def test_partial_fit_goes_on_from_a_fit():
    X = load_iris().data
    ours = faces.GaussianMixture(3, random_state=0, refresh_every=10).fit(X)
    before, expected = ours.means_.copy(), copy.deepcopy(ours._learner)
    ours.partial_fit(X[::-1] + 0.5)
    expected.learn(X[::-1] + 0.5)
    np.testing.assert_array_equal(ours.means_, expected.params.means)
    assert expected.count == pytest.approx(300)
    assert 0 < np.abs(ours.means_ - before).max() < 0.5


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("face", [faces.GaussianMixture, faces.HiddenMarkov])
def test_samples_have_the_moments_of_the_model(face, covariance_type):
    ours = face(3, covariance_type=covariance_type, random_state=0).fit(load_iris().data)
    X, labels = ours.sample(20_000)
    for k in range(3):
        own = X[labels == k]
        deviation = own.std(axis=0) / np.sqrt(len(own))
        assert (np.abs(own.mean(axis=0) - ours.means_[k]) < 5 * deviation).all()
    if face is faces.GaussianMixture:
        shares = np.bincount(labels, minlength=3) / 20_000
        assert np.abs(shares - ours.weights_).max() < 5 * np.sqrt(0.25 / 20_000)
    with pytest.raises(InputError, match="n_samples"):
        ours.sample(0)


def test_in_a_pipeline_and_a_grid():
    X = load_iris().data
    grid = GridSearchCV(
        make_pipeline(StandardScaler(), faces.GaussianMixture(random_state=0)),
        {"gaussianmixture__n_components": [1, 2], "gaussianmixture__covariance_type": ["full", "diag"]},
        cv=3,
    ).fit(np.random.default_rng(0).permutation(X))
    assert grid.best_params_["gaussianmixture__covariance_type"] == "full"
    twin = pickle.loads(pickle.dumps(grid.best_estimator_))
    np.testing.assert_array_equal(twin.predict(X), grid.predict(X))


def test_impossible_settings_are_refused():
    X = load_iris().data
    with pytest.raises(InputError, match="n_samples"):
        faces.GaussianMixture(5).fit(X[:3])
    with pytest.raises(InputError, match="init_params"):
        faces.GaussianMixture(2, init_params="luck").fit(X)
    with pytest.raises(InputError, match="covariance_type"):
        faces.GaussianMixture(2, covariance_type="round").fit(X)
    with pytest.raises(InputError, match="reg_covar"):
        faces.GaussianMixture(2, reg_covar=-1.0).fit(X)
    with pytest.raises(TypeError):
        faces.GaussianMixture(2, "full")


@pytest.mark.parametrize("online", [False, True])
def test_signals_are_told_apart(online):
    rng = np.random.default_rng(0)
    S = rng.standard_t(4, (20_000, 2)) * np.repeat(rng.gamma(1.0, 1.0, (125, 2)), 160, axis=0)
    X = S @ np.array([[1.0, 0.6], [0.5, 1.0]]) + [3.0, -1.0]
    unmixing = faces.SignalUnmixing(random_state=0)
    for begin in range(0, len(X), 4000) if online else ():
        unmixing.partial_fit(X[begin : begin + 4000])
    found = (unmixing if online else unmixing.fit(X)).transform(X)
    # Each signal is one of the sources: a correlation of 0.99 leaves 2 % of its power to the other.
    correlations = np.abs(np.corrcoef(S.T, found.T)[:2, 2:])
    assert correlations.max(axis=1).min() > 0.99
    np.testing.assert_allclose(unmixing.inverse_transform(found), X, atol=1e-6)
    np.testing.assert_allclose(unmixing.components_ @ unmixing.mixing_, np.eye(2), atol=1e-9)
    assert list(unmixing.get_feature_names_out()) == ["signalunmixing0", "signalunmixing1"]

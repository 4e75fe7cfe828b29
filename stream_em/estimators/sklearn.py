"""The models as estimators of scikit-learn: batch EM by `fit`, online EM by `partial_fit`; NaN is missing.

Parameters and attributes have scikit-learn's names where it has the class too. `fit` begins where scikit-learn would
with the same `random_state`, and goes on until an iteration gains less than a hundredth of `tol`.
"""

import copy
import warnings
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from stream_em.arrays import FloatArray, IntArray
from stream_em.em import score
from stream_em.emissions.gaussian import precisions_cholesky
from stream_em.errors import InputError
from stream_em.estimators.scheduled import as_stepsize
from stream_em.estimators.signatures import initialiser
from stream_em.learning.batch import BatchFit, batch_em, start_from
from stream_em.learning.learner import Learner
from stream_em.models import (
    gaussian_mixture,
    hidden_markov,
    nonnegative_factorization,
    signal_unmixing,
    superimposed_sinusoids,
)
from stream_em.models.interface import Settings

FITTING = {
    "tol": 1e-3,
    "reg_covar": 1e-6,
    "max_iter": 100,
    "n_init": 1,
    "init_params": "kmeans",
    "random_state": None,
    "warm_start": False,
    "verbose": 0,
    "verbose_interval": 10,
    "stepsize": None,
    "refresh_every": 512,
}
WITHOUT = ("reg_covar", "init_params", "verbose", "verbose_interval")
"""What makes no sense for models that are no mixtures."""
INITIAL = ("kmeans", "k-means++", "random", "random_from_data")
TOL_SHARE = 0.01
MOST_SEEDS = 2**31 - 1


class Face(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The estimator of a model; a class for one is made by `class Name(Face, of=Model)`.

    Its parameters are those of the model, with scikit-learn's defaults and priors of 0; `tol`, `max_iter`, `n_init`,
    `init_params` and the like, which mean what they do in scikit-learn; and for `partial_fit` `stepsize` (a `Stepsize`,
    its spelling, or a constant) and `refresh_every`.
    """

    of: ClassVar[type[Settings]]
    initials: ClassVar[tuple[str, ...]] = ()
    """Parameters of the model that `NAME_init` can give."""
    usual_components: ClassVar[int | None] = 1
    without: ClassVar[tuple[str, ...]] = ()
    """Settings of fitting that make no sense."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        raise NotImplementedError

    def __init_subclass__(cls, of: type[Settings] | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if of is not None:
            cls.of = of
            defaults = {field.name: field.default for field in msgspec.structs.fields(of) if field.name != "frozen"}
            defaults |= {name: 0.0 for name in defaults if name.endswith("_prior")} | {
                "n_components": cls.usual_components
            }
            fitting = {name: value for name, value in FITTING.items() if name not in cls.without}
            fitting |= dict.fromkeys(f"{name}_init" for name in cls.initials)
            first = {name: defaults[name] for name in ("n_components", "covariance_type") if name in defaults}
            ordered = first | fitting | {name: default for name, default in defaults.items() if name not in fitting}
            cls.__init__ = initialiser(ordered, positional=1)  # type: ignore[method-assign]

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit by batch EM to convergence, from the best of `n_init` starts; records (n, D), NaN is missing."""
        return self._fit(X, sample_weight)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn records online, each once; the first are collected for the start. Goes on from a `fit`."""
        return self._partial_fit(X, sample_weight)

    def transform(self, X: Any) -> FloatArray:
        """Return what is told of the hidden variables (n, K): probabilities, or the signals themselves."""
        return self._scored(X)[0]

    def score_samples(self, X: Any) -> FloatArray:
        """Return the log-likelihood (n,) of each record in nats."""
        return self._scored(X)[1]

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log-likelihood of a record."""
        return float(self._scored(X)[1].mean())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components)

    def _model(self) -> Settings:
        names = [field.name for field in msgspec.structs.fields(self.of) if field.name != "frozen"]
        settings = {name: getattr(self, name) for name in names}
        if settings["n_components"] is None:
            settings["n_components"] = self.n_features_in_
        return self.of(**settings)

    def _records(self, X: Any, reset: bool, least: int = 1) -> FloatArray:
        return np.asarray(
            validate_data(
                self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=least
            )
        )

    def _fit(self, X: Any, sample_weight: Any = None) -> Self:
        records = self._records(X, True, 2)
        model = self._model()
        if len(records) < model.n_components:
            raise InputError(
                f"Expected n_samples >= n_components but got n_components = {model.n_components},"
                f" n_samples = {len(records)}"
            )
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, records, dtype=np.float64)
        best = self._best_fit(model, records, weights)
        self._learner = Learner.after(model, records.shape[1], best, **self._online())
        # So does scikit-learn: the statistics of the last E-step are used.
        self._learner.refresh()
        total = len(records) if weights is None else weights.sum()
        self.lower_bounds_ = (best.log_likelihood_path / total).tolist()
        self.lower_bound_, self.n_iter_ = self.lower_bounds_[-1], best.n_iter
        last_gain = float(np.diff(self.lower_bounds_[-2:], prepend=-np.inf)[-1])
        self.converged_ = best.converged or last_gain < self.tol
        if not self.converged_:
            words = f"EM did not converge in {best.n_iter} iterations; raise max_iter or tol, or look at the data"
            warnings.warn(words, ConvergenceWarning, stacklevel=3)
        return self._know(self._learner)

    def _partial_fit(self, X: Any, sample_weight: Any = None) -> Self:
        first = not hasattr(self, "_learner")
        records = self._records(X, first)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, records, dtype=np.float64)
        learner = Learner(self._model(), **self._online()) if first else self._learner
        learner.learn(records, weights)
        self._learner = learner
        if not learner.started:
            learner = copy.deepcopy(learner)
            learner.start()
        return self._know(learner)

    def _online(self) -> dict[str, Any]:
        return {
            "stepsize": as_stepsize(self.stepsize),
            "refresh_every": self.refresh_every,
            "seed": self._seed(),
        }

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(MOST_SEEDS))

    def _know(self, learner: Learner) -> Self:
        """Take parameters to predict with."""
        state = learner.state
        assert state is not None
        self._sized, self._theta, self._n_statistics = learner.sized, state.theta.copy(), len(state.s)
        self._params = learner.params
        for name, value in self._params._asdict().items():
            setattr(self, f"{name}_", value)
        return self

    def _scored(self, X: Any) -> tuple[FloatArray, FloatArray]:
        check_is_fitted(self)
        records = np.require(self._records(X, False), requirements=["C", "W", "A"])
        self._model().check_records(records)
        return score(self._sized, self._theta, np.zeros(self._n_statistics), records)

    def _best_fit(self, model: Settings, records: FloatArray, weights: FloatArray | None) -> BatchFit:
        seed = {"starts": self.n_init, "seed": self._seed()}
        start = {"params": self._params} if self.warm_start and hasattr(self, "_params") else seed
        return batch_em(model, records, max_iter=self.max_iter, tol=TOL_SHARE * self.tol, weights=weights, **start)


class Clusterer(DensityMixin, Face):
    """The estimator of a model whose hidden variable is one of K; parameters as in `Face`."""

    score = Face.score  # that of DensityMixin does nothing

    def fit_predict(self, X: Any, y: Any = None) -> IntArray:
        """Fit, and return the most probable component of each record."""
        return self.fit(X).predict(X)

    def predict_proba(self, X: Any) -> FloatArray:
        """Return the probability (n, K) of each component."""
        return self._scored(X)[0]

    def predict(self, X: Any) -> IntArray:
        """Return the most probable component (n,) of each record."""
        return np.asarray(self._scored(X)[0].argmax(axis=1))

    def sample(self, n_samples: int = 1) -> tuple[FloatArray, IntArray]:
        """Draw records (n, D) and their components (n,)."""
        check_is_fitted(self)
        if n_samples < 1:
            raise InputError(f"n_samples must be 1 or more, not {n_samples}")
        rng = np.random.default_rng(self._seed())
        return self._model().sample(self._params, n_samples, rng)

    def bic(self, X: Any) -> float:
        """Return the Bayesian information criterion on X: the lower, the better."""
        log_likelihood = self.score_samples(X)
        n_parameters = self._model().n_parameters(self.n_features_in_)
        return float(n_parameters * np.log(len(log_likelihood)) - 2.0 * log_likelihood.sum())

    def aic(self, X: Any) -> float:
        """Return the Akaike information criterion on X: the lower, the better."""
        return float(2.0 * self._model().n_parameters(self.n_features_in_) - 2.0 * self.score_samples(X).sum())

    def _best_fit(self, model: Settings, records: FloatArray, weights: FloatArray | None) -> BatchFit:
        if self.init_params not in INITIAL:
            raise InputError(f"init_params must be one of {', '.join(INITIAL)}, not {self.init_params!r}")
        fit: Any = {"max_iter": self.max_iter, "tol": TOL_SHARE * self.tol, "weights": weights}
        if self.warm_start and hasattr(self, "_params"):
            return batch_em(model, records, self._params, **fit)
        random, found = check_random_state(self.random_state), []
        given = {name: getattr(self, f"{name}_init") for name in self.initials}
        given = {name: value for name, value in given.items() if value is not None}
        for _ in range(self.n_init):
            posterior = self._first_posterior(records, weights, random)
            if given:
                params = self._with_given(start_from(model, records, posterior, weights), given)
                found.append(batch_em(model, records, params, **fit))
            else:
                found.append(batch_em(model, records, posterior=posterior, **fit))
        return max(found, key=lambda each: float(each.log_likelihood_path[-1]))

    def _with_given(self, params: Any, given: dict[str, Any]) -> Any:
        return params._replace(**given)

    def _first_posterior(self, records: FloatArray, weights: FloatArray | None, random: Any) -> FloatArray:
        """Return the probabilities (n, K) that scikit-learn would begin with."""
        K, way = self.n_components, self.init_params
        missing = np.isnan(records)
        if missing.any():
            seen = np.maximum((~missing).sum(axis=0), 1)
            records = np.where(missing, np.where(missing, 0.0, records).sum(axis=0) / seen, records)
        if way == "random":
            chances = np.asarray(random.uniform(size=(len(records), K)))
            return np.asarray(chances / chances.sum(axis=1)[:, np.newaxis])
        posterior = np.zeros((len(records), K))
        if way == "kmeans":
            found = KMeans(n_clusters=K, n_init=1, random_state=random).fit(records, sample_weight=weights)
            posterior[np.arange(len(records)), found.labels_] = 1.0
        elif way == "random_from_data":
            posterior[random.choice(len(records), size=K, replace=False), np.arange(K)] = 1.0
        else:
            posterior[kmeans_plusplus(records, K, random_state=random)[1], np.arange(K)] = 1.0
        return posterior


class GaussianMixture(Clusterer, of=gaussian_mixture.GaussianMixture):
    """A mixture of Gaussian densities: scikit-learn's class, with NaN, weights and `partial_fit`.

    >>> X = np.r_[np.arange(5.0), np.arange(50.0, 55.0)].reshape(-1, 1)
    >>> mixture = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> np.sort(mixture.means_[:, 0]).round(2)
    array([ 2., 52.])
    """

    initials = ("weights", "means", "precisions")

    def _know(self, learner: Learner) -> Self:
        super()._know(learner)
        self.precisions_cholesky_ = precisions_cholesky(self._params.covariances, self.covariance_type)
        factor = self.precisions_cholesky_
        dense = self.covariance_type in ("full", "tied")
        self.precisions_ = factor @ np.swapaxes(factor, -1, -2) if dense else factor**2
        return self

    def _with_given(self, params: Any, given: dict[str, Any]) -> Any:
        precisions = given.pop("precisions", None)
        if precisions is not None:
            dense = self.covariance_type in ("full", "tied")
            given["covariances"] = np.linalg.inv(precisions) if dense else 1.0 / np.asarray(precisions)
        return super()._with_given(params, given)


class HiddenMarkov(Clusterer, of=hidden_markov.HiddenMarkov):
    """A hidden Markov model of one sequence, whose records cannot be weighted.

    Predictions filter: each is that of the state given the records of X up to it.

    >>> X = np.arange(1000).reshape(-1, 1) // 20 % 2 * 9.0 + np.arange(1000).reshape(-1, 1) % 7 * 0.1
    >>> chain = HiddenMarkov(n_components=2, random_state=0).fit(X)
    >>> np.sort(chain.means_[:, 0]).round(1), np.diag(chain.transitions_).round(2)
    (array([0.3, 9.3]), array([0.95, 0.95]))
    """

    def fit(self, X: Any, y: Any = None) -> Self:  # type: ignore[override]
        """Fit by batch EM to convergence; X (n, D) is one sequence, NaN is missing."""
        return self._fit(X)

    def partial_fit(self, X: Any, y: Any = None) -> Self:  # type: ignore[override]
        """Learn the next records of the sequence online, each once."""
        return self._partial_fit(X)


class SignalUnmixing(Face, of=signal_unmixing.SignalUnmixing):
    """Superimposed signals told apart: independent component analysis of one sequence, by EM.

    `transform` gives the sources, as many as channels if `n_components` is None; `components_`, `mixing_` and `mean_`
    are named as in scikit-learn's FastICA.

    >>> rng = np.random.default_rng(0)
    >>> loudness = np.repeat(np.exp(rng.normal(size=(100, 2))), 160, axis=0)
    >>> X = loudness * rng.normal(size=(16_000, 2)) @ [[1.0, 0.4], [0.7, 1.0]]
    >>> unmixing = SignalUnmixing().fit(X)
    >>> bool(np.allclose(unmixing.inverse_transform(unmixing.transform(X)), X))
    True
    """

    usual_components = None
    without = WITHOUT

    def fit(self, X: Any, y: Any = None) -> Self:  # type: ignore[override]
        """Fit by batch EM; X (n, D) is one sequence."""
        return self._fit(X)

    def partial_fit(self, X: Any, y: Any = None) -> Self:  # type: ignore[override]
        """Learn the next records of the sequence online, each once."""
        return self._partial_fit(X)

    def inverse_transform(self, X: Any) -> FloatArray:
        """Return the records (n, D) in which sources (n, K) are superimposed."""
        check_is_fitted(self)
        return np.asarray(np.asarray(X, dtype=np.float64) @ self.mixing_.T + self.mean_)

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def _know(self, learner: Learner) -> Self:
        super()._know(learner)
        self.components_, self.mean_ = self.unmixing_, self.location_
        return self


class NonnegativeFactorization(Face, of=nonnegative_factorization.NonnegativeFactorization):
    """Non-negative matrix factorisation, as many components as features if `n_components` is None.

    `transform` gives the activations of the components; `components_` is that of scikit-learn's NMF, but its rows sum
    to 1. NaN is missing.
    """

    usual_components = None
    without = WITHOUT

    def inverse_transform(self, X: Any) -> FloatArray:
        """Return the records (n, D) that activations (n, K) make."""
        check_is_fitted(self)
        return np.asarray(np.asarray(X, dtype=np.float64) @ self.components_)

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


class SuperimposedSinusoids(Face, of=superimposed_sinusoids.SuperimposedSinusoids):
    """One signal as a sum of lines in noise; X (n, 1) is one sequence. `transform` gives the lines, (n, K)."""

    without = WITHOUT

    def fit(self, X: Any, y: Any = None) -> Self:  # type: ignore[override]
        """Fit by recursive EM over the whole signal, again and again."""
        return self._fit(X)

    def partial_fit(self, X: Any, y: Any = None) -> Self:  # type: ignore[override]
        """Learn the next samples online, each once."""
        return self._partial_fit(X)

"""The models as estimators of river: clusterers, an anomaly detector, an imputer, a filter.

Records are dicts from feature to number. A feature that is absent, None or NaN is missing and marginalised; one that is
new joins the model after 100 records. Predictions are pure, and there are some from the first record on: makeshift
parameters in the warm-up.
"""

from collections.abc import Hashable, Iterator
from typing import Any, ClassVar

import msgspec
import numpy as np
from river import base

from stream_em.arrays import FloatArray
from stream_em.estimators.feed import Feed
from stream_em.estimators.scheduled import as_stepsize
from stream_em.estimators.signatures import initialiser
from stream_em.learning.detectors import LogLikelihoodDetector
from stream_em.learning.drift import DriftSettings
from stream_em.learning.learner import Learner
from stream_em.models import (
    gaussian_mixture,
    hidden_markov,
    nonnegative_factorization,
    signal_unmixing,
    superimposed_sinusoids,
)
from stream_em.models.interface import Settings

LEARNING = {"stepsize": None, "refresh_every": 512, "starts": 8, "warmup": None, "robust": None, "drift": None}
LEARNING["seed"] = 0


class Face(base.Estimator):
    """The estimator of a model; a class for one is made by `class Name(Clusterer, of=Model)`.

    Its parameters are those of the model and:

    * `stepsize`: a `Stepsize`, its spelling such as "half-life:1000" (records) or "half-life:2h" (the records' time,
      which `learn_one` is then told), a constant, or a scheduler of river's `optim`.
    * `refresh_every`: records between two M-steps.
    * `starts`, `warmup`, `robust`, `seed`: as in `Learner`.
    * `drift`: what watches for drift, so that challengers enter: `DriftSettings`, "adwin", "page-hinkley" or "kswin",
      or a drift detector of river, which is cloned.
    """

    of: ClassVar[type[Settings]]
    warmup: int | None
    stepsize: Any

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        raise NotImplementedError

    def __init_subclass__(cls, of: type[Settings] | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if of is not None:
            cls.of = of
            # `clone` of river cannot take an empty tuple: None stands for it.
            fields = {field.name: field.default for field in msgspec.structs.fields(of)}
            defaults = {name: None if default == () else default for name, default in fields.items()}
            cls.__init__ = initialiser(defaults | LEARNING, cls._prepare)  # type: ignore[method-assign]

    def _prepare(self) -> None:
        given = {field.name: getattr(self, field.name) for field in msgspec.structs.fields(self.of)}
        self._feed = Feed(
            self.of(**{name: value for name, value in given.items() if value is not None}),
            self._learner,
            self.warmup,
            timed=as_stepsize(self.stepsize).seconds is not None,
        )
        self._learner(warmup=1)  # impossible settings are refused here, not at the first record

    def _learner(self, **more: Any) -> Learner:
        given: Any = {name: getattr(self, name) for name in LEARNING}
        drift, given["stepsize"] = given.pop("drift"), as_stepsize(given["stepsize"])
        if isinstance(drift, str):
            drift = msgspec.convert({"detectors": (drift,)}, DriftSettings)
        settings = isinstance(drift, DriftSettings)
        if drift is not None:
            given["recent"] = self._feed.model.recent_records
        learner = Learner(self._feed.model, **(given | more), drift=drift if settings else None)
        if drift is not None and not settings:
            name = type(drift).__name__
            learner.watchers.append(LogLikelihoodDetector(drift.clone, name, bounded=name == "ADWIN"))
        return learner

    @property
    def learner(self) -> Learner | None:
        """What has learned all records but the latest few, which wait for the next M-step; None before the eighth."""
        return self._feed.learner

    @property
    def params(self) -> Any:
        """The parameters of now, in the records' units; features in the order of `features`. None before there are."""
        return self._feed.params

    @property
    def features(self) -> list[Hashable]:
        """The names of the features that the model knows."""
        return self._feed.names[: 0 if self.learner is None else self.learner.n_features]

    def learn_one(self, x: dict[Hashable, Any], w: float = 1.0, t: Any = None) -> None:
        """Learn a record that counts as `w`, of the time `t` (seconds, or a datetime) if the stepsize goes by time."""
        self._feed.learn(x, w, t)

    def score_one(self, x: dict[Hashable, Any]) -> float:
        """Return the log-likelihood of a record in nats: the higher, the more usual; 0 before there are parameters."""
        return self._feed.predict(x)[1]

    def learn_many(self, X: Any, w: Any = None, t: Any = None) -> None:
        """Learn the rows of a frame (pandas, polars, pyarrow, ...), as `learn_one` would one after the other.

        `w` and `t` have one number a row.
        """
        if type(X).__module__.partition(".")[0] == "pandas":
            # narwhals takes a quarter of the time that it takes to learn 1,000 records.
            names, values = X.columns.tolist(), X.to_numpy(np.float64, na_value=np.nan)
        else:
            _, names, values = _table(X)
        self._feed.learn_many(names, values, w, t)

    def score_many(self, X: Any) -> Any:
        """Return the log-likelihood of each row, as a series."""
        from river.utils.dataframe import to_native_series

        frame, names, values = _table(X)
        return to_native_series(self._feed.predict_many(names, values)[1], name=None, like=frame)


class Clusterer(Face, base.Clusterer):
    """The clusterer of a model whose hidden variable is one of K; parameters as in `Face`."""

    @property
    def centers(self) -> dict[int, dict[Hashable, float]]:
        """The mean of each component."""
        if self.params is None:
            return {}
        return {k: dict(zip(self.features, mean.tolist(), strict=True)) for k, mean in enumerate(self.params.means)}

    def predict_one(self, x: dict[Hashable, Any]) -> int:
        """Return the most probable component."""
        return int(self._feed.predict(x)[0].argmax())

    def predict_proba_one(self, x: dict[Hashable, Any]) -> dict[int, float]:
        """Return the probability of each component."""
        return dict(enumerate(self._feed.predict(x)[0].tolist()))

    def predict_many(self, X: Any) -> Any:
        """Return the most probable component of each row, as a series like the frame."""
        from river.utils.dataframe import to_native_series

        frame, names, values = _table(X)
        return to_native_series(self._feed.predict_many(names, values)[0].argmax(axis=1), name=None, like=frame)

    def predict_proba_many(self, X: Any) -> Any:
        """Return the probability of each component for each row, as a frame."""
        from river.utils.dataframe import to_native_frame

        frame, names, values = _table(X)
        probabilities = self._feed.predict_many(names, values)[0]
        return to_native_frame(dict(enumerate(probabilities.T)), like=frame)


class GaussianMixture(Clusterer, of=gaussian_mixture.GaussianMixture):
    """A mixture of Gaussian densities, learned by online EM.

    Parameters as in `stream_em.GaussianMixture` and `Face`.

    >>> model = GaussianMixture(n_components=2, warmup=100)
    >>> for i in range(1000):
    ...     model.learn_one({"a": i % 2 * 9.0 + i % 7 * 0.1, "b": i % 5 * 0.2})
    >>> model.predict_one({"a": 9.0}) != model.predict_one({"a": 0.5})
    True
    >>> sorted(round(center["a"], 1) for center in model.centers.values())
    [0.3, 9.3]
    """


class HiddenMarkov(Clusterer, of=hidden_markov.HiddenMarkov):
    """A hidden Markov model as a filter over one endless sequence; parameters as in `stream_em.HiddenMarkov`.

    Predictions say what the state will be if the record comes next; the filter itself moves only when it is learned.

    >>> model = HiddenMarkov(n_components=2, warmup=100)
    >>> for i in range(1000):
    ...     model.learn_one({"a": i // 20 % 2 * 9.0 + i % 7 * 0.1})
    >>> max(model.state_probabilities.values()) > 0.99
    True
    """

    @property
    def state_probabilities(self) -> dict[int, float]:
        """The probability of each state, given all records learned so far."""
        return dict(enumerate(self._feed.filter().tolist()))


class Transformer(Face, base.MiniBatchTransformer):
    """The transformer of a model whose hidden variables are K numbers; parameters as in `Face`.

    They are named 0, 1, ... and are 0 before there are parameters.
    """

    def transform_one(self, x: dict[Hashable, Any]) -> dict[int, float]:  # type: ignore[override]
        """Return the hidden variables of a record."""
        return dict(enumerate(self._feed.predict(x)[0].tolist()))

    def transform_many(self, X: Any) -> Any:
        """Return the hidden variables of each row, as a frame."""
        from river.utils.dataframe import to_native_frame

        frame, names, values = _table(X)
        return to_native_frame(dict(enumerate(self._feed.predict_many(names, values)[0].T)), like=frame)


class SignalUnmixing(Transformer, of=signal_unmixing.SignalUnmixing):
    """Signals that were superimposed, told apart; parameters as in `stream_em.SignalUnmixing` and `Face`.

    `transform_one` gives the sources in the units of the channels, which must be at least as many.

    >>> rng = np.random.default_rng(0)
    >>> model = SignalUnmixing(n_components=2)
    >>> for a, b in rng.laplace(size=(1000, 2)) @ [[1.0, 0.4], [0.7, 1.0]]:
    ...     model.learn_one({"left": a, "right": b})
    >>> list(model.transform_one({"left": 1.0, "right": 0.4}))
    [0, 1]
    """


class NonnegativeFactorization(Transformer, of=nonnegative_factorization.NonnegativeFactorization):
    """Non-negative records as superimposed components.

    Parameters as in `stream_em.NonnegativeFactorization` and `Face`. `transform_one` gives the activations.
    """


class SuperimposedSinusoids(Transformer, of=superimposed_sinusoids.SuperimposedSinusoids):
    """One signal as a sum of lines in noise; parameters as in `stream_em.SuperimposedSinusoids` and `Face`.

    A record has one feature, the next sample. `transform_one` gives the lines in it, `transform_many` those in rows
    that follow one another.
    """

    def _unit_test_skips(self) -> set[str]:
        """Return the check that takes the rows of a table for alternatives."""
        return {"check_transform_many_matches_transform_one"}


class AnomalyDetector(base.AnomalyDetector):
    """Scores records by how improbable they are under a model: any clusterer, or `SignalUnmixing`, of this module.

    It learns the model. `score_one` is the negative log-likelihood in nats. If `calibrated`, it is 1 - p instead, where
    p is the share of the latest 1,000 records that were no more probable before they were learned: a threshold of 0.999
    gives a false alarm in 1,000 usual records, whatever their distribution.

    >>> detector = AnomalyDetector(GaussianMixture(n_components=1, warmup=50), calibrated=True)
    >>> for i in range(500):
    ...     detector.learn_one({"a": i % 10, "b": i % 3})
    >>> detector.score_one({"a": 5, "b": 1}) < 0.9 < detector.score_one({"a": 500, "b": 1})
    True
    """

    def __init__(self, model: Face | None = None, calibrated: bool = False) -> None:
        self.model = model
        self.calibrated = calibrated
        self._model: Face = GaussianMixture() if model is None else model

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {}
        yield {"model": HiddenMarkov(), "calibrated": True}

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Learn a record."""
        self._model.learn_one(x)

    def learn_many(self, X: Any) -> None:
        """Learn the rows of a frame."""
        self._model.learn_many(X)

    def score_one(self, x: dict[Hashable, Any]) -> float:
        """Return how anomalous a record is."""
        return 1.0 - self.p_value_one(x) if self.calibrated else -self._model.score_one(x)

    def p_value_one(self, x: dict[Hashable, Any]) -> float:
        """Return how probable it is that a usual record is no more probable than this; 1 before any was scored."""
        return self._model._feed.p_value(self._model.score_one(x))


class Imputer(base.MiniBatchTransformer):
    """Fills what is missing with its mean given what is there, under a model: any clusterer of this module.

    It learns the model. A feature is missing if it is absent, None or NaN; before there is a model nothing is filled.

    >>> imputer = Imputer(GaussianMixture(n_components=1, warmup=50))
    >>> for i in range(500):
    ...     imputer.learn_one({"a": i % 10, "b": i % 10 * 2 + i % 3})
    >>> round(imputer.transform_one({"a": 4, "b": None})["b"])
    9
    """

    def __init__(self, model: Clusterer | None = None) -> None:
        self.model = model
        self._model = GaussianMixture(n_components=1) if model is None else model

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Learn a record."""
        self._model.learn_one(x)

    def transform_one(self, x: dict[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the record with every feature that the model knows."""
        filled = {name: value for name, value in self._model._feed.filled(x).items() if _missing(x.get(name))}
        return {**x, **filled}

    def learn_many(self, X: Any) -> None:
        """Learn the rows of a frame."""
        self._model.learn_many(X)

    def transform_many(self, X: Any) -> Any:
        """Return the frame with every feature that the model knows."""
        from river.utils.dataframe import to_native_frame

        frame, names, values = _table(X)
        rows = [self.transform_one(dict(zip(names, row, strict=True))) for row in values.tolist()]
        columns = list(dict.fromkeys([*names, *self._model.features]))
        return to_native_frame({name: [row[name] for row in rows] for name in columns}, like=frame)


def _missing(value: Any) -> bool:
    return value is None or value != value


def _table(X: Any) -> tuple[Any, list[Hashable], FloatArray]:
    """Return a frame of any kind as narwhals sees it, its columns, and its values (n, D), NaN where missing."""
    from river.utils.dataframe import into_frame, to_numpy

    frame = into_frame(X)
    return frame, list(frame.columns), np.asarray(to_numpy(frame))

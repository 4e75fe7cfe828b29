"""Non-negative matrix factorisation: settings, and parameters as users see them. `nonnegative` has the mathematics."""

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import maximise, model_sizes, params_of, stats_of
from stream_em.emissions.gaussian import checked
from stream_em.errors import InputError
from stream_em.models.interface import Settings
from stream_em.models.nonnegative import Nonnegative

BetaLoss = Literal["kullback-leibler", "itakura-saito"]
LEAST_PRIOR = 1e-3
"""A pseudo-record holds at least this part of its mean value of each feature, so that no component rules one out."""
START_TOLERANCE = 1e-4
SHARE_OF_MEAN = 0.1
"""What a component that begins at a record has of the mean record, so that none of its features is ruled out."""
REVIVED_SHARE = 0.1
"""A component that is started anew has this part of the mean activation."""


class NonnegativeFactorizationParams(NamedTuple):
    """Parameters in the records' units: a record is about activations @ components."""

    components: FloatArray
    """(K, D), each row sums to 1."""
    activations: FloatArray
    """(K,): mean activation of each component in a record."""


class NonnegativeFactorization(Settings, frozen=True, forbid_unknown_fields=True):
    """Non-negative records as superimposed components, whose activations are each record's own; NaN is missing.

    `beta_loss` is "kullback-leibler" for counts (Poisson) and amplitudes, "itakura-saito" for powers, such as those of
    a spectrogram (exponential: the power of superimposed Gaussians), of which less than 1e-10 of a feature's mean
    counts as that. The activations of a record are fitted in at most `n_inner` iterations, until no more than about
    `tolerance` nats times its sum (for powers: times the number of features) is to be gained.
    `components_prior` pseudo-records, like the mean record, are added to each component. The log-likelihood of a record
    is its log-density at its own fitted activations: it compares components, but is no predictive density. With
    `frozen=("components",)` only the activations are found.

    >>> NonnegativeFactorization(n_components=8, beta_loss="itakura-saito").n_inner
    50
    """

    beta_loss: BetaLoss = "kullback-leibler"
    n_inner: int = 50
    tolerance: float = 1e-3
    components_prior: float = 0.01

    name: ClassVar[str] = "nonnegative-factorization"
    summary: ClassVar[str] = "superimposed non-negative components (Poisson or exponential matrix factorisation)"
    params_type: ClassVar[type] = NonnegativeFactorizationParams
    freezable: ClassVar[tuple[str, ...]] = ("components",)
    assignable: ClassVar[bool] = False

    def _check(self, field: str, value: Any) -> None:
        super()._check(field, value)
        if field == "n_inner" and not 1 <= value <= 1_000_000:
            raise InputError(f"n_inner must be from 1 to 1,000,000 iterations, not {value}")
        if field == "tolerance" and not 0 <= value < 1:
            raise InputError(f"tolerance must be from 0 to 1, not {value}")

    @property
    def counts(self) -> bool:
        """Whether values are Poisson, not exponential."""
        return self.beta_loss == "kullback-leibler"

    @property
    def records_together(self) -> int:
        """Each alone."""
        return 1

    def sized(self, n_features: int) -> Nonnegative:
        """Return the compiled form for records of `n_features` features."""
        return Nonnegative(
            self.n_components,
            n_features,
            int(self.counts),
            self.n_inner,
            float(self.tolerance),
            float(self.components_prior),
            int("components" not in self.frozen),
        )

    def counted_features(self, n_features: int) -> int:
        """Return 1: each value of a record tells of another value of the components, so width needs no more records."""
        return 1

    def check_records(self, records: FloatArray) -> None:
        """Raise `InputError` if a value is negative."""
        if records.size and np.fmin.reduce(records, axis=None) < 0.0:
            row, column = np.argwhere(records < 0.0)[0]
            raise InputError(
                f"Negative values in data: record {row}, column {column} is {records[row, column]:g};"
                f" {self.name} needs values of 0 or more, or none (missing)"
            )

    def n_features(self, sized: Any) -> int:
        """Return the width of a record."""
        return int(sized.n_features)

    def n_parameters(self, n_features: int) -> int:
        """Return the number of free parameters of the components."""
        return self.n_components * (n_features - 1)

    def sketch(self, params: Any) -> FloatArray:
        """Return records (K, D), each of one component only, as strong as all of them are in the mean."""
        components, activations = self._checked(params, np.shape(params.components)[-1])
        total = activations.sum()
        return np.asarray(components * (total if total > 0 else 1.0))

    def units(self, sized: Any, theta: FloatArray) -> FloatArray:
        """Return the pseudo-record of the prior and the scale (2, D) of the features."""
        windows = params_of(sized, theta)
        return np.stack([windows.prior, windows.scale])

    def unit_theta(self, sized: Any, records: FloatArray, weights: FloatArray) -> FloatArray:
        """Return theta in the units of the records (n, D): a start that is the same for the same records."""
        return self.another_start(sized, records, weights, np.random.default_rng(0))

    def another_start(
        self, sized: Any, records: FloatArray, weights: FloatArray, rng: np.random.Generator
    ) -> FloatArray:
        """Return theta whose components are records (n, D) that are far from each other, by k-means++ seeding.

        Arthur & Vassilvitskii (2007), with Hellinger distances between the records as distributions over the features.
        """
        theta = np.zeros(model_sizes(sized)[1])
        windows = params_of(sized, theta)
        mean = _mean_record(records, weights)
        windows.scale[:] = 1.0 if self.counts else mean
        windows.prior[:] = np.maximum(mean, LEAST_PRIOR * mean.mean()) if self.counts else 1.0
        mean = mean / windows.scale
        x = np.where(np.isnan(records), mean, records / windows.scale) + SHARE_OF_MEAN * mean
        sums = x.sum(axis=1, keepdims=True)
        shapes = x / sums
        for k, row in enumerate(_apart(np.sqrt(shapes), self.n_components, rng)):
            windows.components[k] = shapes[row]
            if (windows.components[:k] == shapes[row]).all(axis=1).any():
                # Components that begin alike stay so.
                windows.components[k] *= rng.uniform(0.5, 1.5, len(mean))
                windows.components[k] /= windows.components[k].sum()
        windows.activations[:] = weights @ sums[:, 0] / max(weights.sum(), 1e-300) / self.n_components
        maximise(sized, theta, np.empty(0), 0.0)
        return theta

    def start_gain(self, records: FloatArray) -> float:
        """Return the gain that counts, relative to what `tolerance` is relative to: more passes do the rest."""
        size = float(np.nansum(records)) / max(len(records), 1) if self.counts else float(records.shape[1])
        return START_TOLERANCE * size

    def set_params(self, sized: Any, theta: FloatArray, params: Any) -> None:
        """Set theta from parameters in the records' units, or raise `InputError`."""
        components, activations = self._checked(params, sized.n_features)
        windows = params_of(sized, theta)
        inside = components / components.sum(axis=1, keepdims=True) / windows.scale
        sums = inside.sum(axis=1)
        windows.components[:] = inside / sums[:, np.newaxis]
        windows.activations[:] = activations * sums
        maximise(sized, theta, np.empty(0), 0.0)

    def _checked(self, params: Any, n_features: int) -> tuple[FloatArray, FloatArray]:
        components = checked("components", params.components, (self.n_components, n_features))
        activations = checked("activations", params.activations, (self.n_components,))
        if components.min() < 0 or not components.sum(axis=1).min() > 0:
            raise InputError("components must be 0 or more, and each must have a value above 0")
        if activations.min() < 0:
            raise InputError("activations must be 0 or more")
        return components, activations

    def params(self, sized: Any, theta: FloatArray) -> NonnegativeFactorizationParams:
        """Return the parameters in the records' units."""
        windows = params_of(sized, theta)
        components = windows.components * windows.scale / windows.gains[:, np.newaxis]
        return NonnegativeFactorizationParams(components, windows.activations * windows.gains)

    def shares(self, posterior: FloatArray) -> FloatArray:
        """Return the share (n, K) of each component in each record, given their activations (n, K)."""
        total = posterior.sum(axis=1, keepdims=True)
        return np.asarray(np.where(total > 0, posterior / np.where(total > 0, total, 1.0), 1.0 / self.n_components))

    def component_mass(self, sized: Any, s: FloatArray) -> FloatArray:
        """Return each component's share (K,) of the activations in s."""
        return np.asarray(self.shares(stats_of(sized, s).activations[np.newaxis])[0])

    def reseed(self, sized: Any, theta: FloatArray, s: FloatArray, k: int, record: FloatArray) -> None:
        """Start component k anew at a record (D,), with a tenth of the mean activation."""
        windows, stats = params_of(sized, theta), stats_of(sized, s)
        mean = windows.activations @ windows.components
        mean = mean if mean.sum() > 0 else np.full_like(mean, 1.0)
        x = np.where(np.isnan(record), mean, record / windows.scale) + SHARE_OF_MEAN * mean
        row = x / x.sum()
        others = np.delete(np.arange(self.n_components), k)
        activation = REVIVED_SHARE * float(stats.activations.mean())
        usual = stats.below[others].mean(axis=0) if len(others) else stats.below[k]
        below = activation if self.counts else REVIVED_SHARE * usual
        stats.below[k], stats.activations[k] = below, activation
        stats.above[k] = row * below if self.counts else row**2 * below
        windows.components[k], windows.activations[k] = row, activation
        maximise(sized, theta, np.empty(0), 0.0)


def _mean_record(records: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the mean (D,) of what was seen of (n, D) records; where that is 0, a little of the other features'."""
    seen = ~np.isnan(records) * weights[:, np.newaxis]
    n_seen = seen.sum(axis=0)
    mean = (np.nan_to_num(records) * seen).sum(axis=0) / np.where(n_seen > 0, n_seen, 1.0)
    positive = mean[mean > 0]
    return np.asarray(np.maximum(mean, LEAST_PRIOR * positive.mean() if len(positive) else 1.0))


def _apart(points: FloatArray, n: int, rng: np.random.Generator) -> list[int]:
    """Return n of the points (m, D), each drawn with a chance that goes by its squared distance from those before."""
    chosen = [int(rng.integers(len(points)))]
    nearest = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < n:
        total = nearest.sum()
        row = int(rng.choice(len(points), p=nearest / total) if total > 0 else rng.integers(len(points)))
        chosen.append(row)
        nearest = np.minimum(nearest, ((points - points[row]) ** 2).sum(axis=1))
    return chosen

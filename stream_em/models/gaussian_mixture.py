"""The Gaussian mixture: settings, and parameters as its users see them. The mathematics is in `mixture` and
`emissions`.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.em import maximise, model_sizes, params_of, stats_of
from stream_em.emissions.gaussian import (
    checked,
    component_at,
    covariances_of,
    drawn,
    means_of,
    n_gaussian,
    set_gaussian,
    unit_gaussian,
)
from stream_em.errors import InputError
from stream_em.models.gaussian_settings import GaussianSettings
from stream_em.models.mixture import Mixture


class GaussianMixtureParams(NamedTuple):
    """Parameters in the records' units."""

    weights: FloatArray
    """(K,), positive, summing to 1."""
    means: FloatArray
    """(K, D)."""
    covariances: FloatArray
    """(K, D, D), (D, D), (K, D) or (K,) for covariance_type full, tied, diag, spherical."""


class GaussianMixture(GaussianSettings, frozen=True, forbid_unknown_fields=True):
    """A mixture of Gaussian densities over independent records; NaN is missing and marginalised exactly.

    `reg_covar` is added to every variance, in squared units of the records.
    `covariance_prior` and `weight_prior` are the strengths of the priors in pseudo-records a component (0: maximum
    likelihood, and a covariance may then only be kept from singularity, not drawn towards the data's). So many as
    `spared_records` of a component's records are not forgotten while it is not visited: mean and covariance are still
    there when it returns; its weight is forgotten like the others. In a tied covariance they go on to count. Parameters
    named in `frozen` ("weights", "means", "covariances") keep their starting values.

    >>> GaussianMixture(n_components=3).covariance_type
    'full'
    >>> GaussianMixture(n_components=0)
    Traceback (most recent call last):
        ...
    stream_em.errors.InputError: n_components must be at least 1, not 0
    """

    weight_prior: float = 0.01

    name: ClassVar[str] = "gaussian-mixture"
    summary: ClassVar[str] = "mixture of Gaussian densities (full, tied, diag or spherical covariances)"
    params_type: ClassVar[type] = GaussianMixtureParams
    freezable: ClassVar[tuple[str, ...]] = GaussianMixtureParams._fields

    @property
    def records_together(self) -> int:
        """One: each has a component of its own."""
        return 1

    def sized(self, n_features: int) -> Mixture:
        """Return the compiled form for records of `n_features` features."""
        learn_weights = int("weights" not in self.frozen)
        return Mixture(self.emission(n_features), learn_weights, float(self.weight_prior), float(self.spared_records))

    def unit_theta(self, sized: Any, records: FloatArray, weights: FloatArray) -> FloatArray:
        """Return theta in the units of the records (n, D), every component at their overall mean and covariance."""
        theta = np.zeros(model_sizes(sized)[1])
        params = params_of(sized, theta)
        params.weights[:] = 1.0 / self.n_components
        unit_gaussian(sized.emission, params.emission, records, weights)
        maximise(sized, theta, np.empty(0), 0.0)
        return theta

    def set_params(self, sized: Any, theta: FloatArray, params: Any) -> None:
        """Set theta from parameters in the records' units, or raise `InputError`."""
        weights = checked("weights", params.weights, (self.n_components,))
        if weights.min() < 0 or abs(weights.sum() - 1) > 1e-6:
            raise InputError("weights must be non-negative and sum to 1")
        windows = params_of(sized, theta)
        windows.weights[:] = weights
        set_gaussian(sized.emission, windows.emission, params.means, params.covariances)
        maximise(sized, theta, np.empty(0), 0.0)

    def params(self, sized: Any, theta: FloatArray) -> GaussianMixtureParams:
        """Return the parameters in the records' units."""
        windows = params_of(sized, theta)
        return GaussianMixtureParams(
            windows.weights.copy(),
            means_of(windows.emission),
            covariances_of(sized.emission, windows.emission),
        )

    def sample(self, params: Any, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Draw n records (n, D) and their components (n,)."""
        labels = rng.choice(self.n_components, size=n, p=params.weights / params.weights.sum())
        return drawn(params, labels, self.covariance_type, rng), labels

    def n_parameters(self, n_features: int) -> int:
        """Return the number of free parameters."""
        return n_gaussian(self.n_components, n_features, self.covariance_type) + self.n_components - 1

    def component_mass(self, sized: Any, s: FloatArray) -> FloatArray:
        """Return each component's share (K,) of the records in s."""
        stats = stats_of(sized, s)
        mass = stats.mass if len(stats.mass) else stats.emission[:, 0]
        return np.asarray(mass / mass.sum())

    def reseed(self, sized: Any, theta: FloatArray, s: FloatArray, k: int, record: FloatArray) -> None:
        """Start component k anew at a record (D,), with a small share of the records."""
        windows, stats = params_of(sized, theta), stats_of(sized, s)
        share = self.revived_share(sized, s)
        row = component_at(sized.emission, windows.emission, windows.weights, k, record)
        mass = stats.mass if len(stats.mass) else stats.emission[:, 0]
        stats.emission[k] = row * share * mass.sum()
        if len(stats.mass):
            stats.mass[k], stats.stood_for[k] = stats.emission[k, 0], 0.0
        windows.weights[k] = share
        windows.weights[:] /= windows.weights.sum()
        maximise(sized, theta, np.empty(0), 0.0)

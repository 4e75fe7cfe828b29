"""What the settings of every model with Gaussian emissions share."""

from typing import Any, ClassVar

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import params_of, records_behind, stats_of
from stream_em.emissions.gaussian import CovarianceType, extended, gaussian_emission, sketch
from stream_em.errors import InputError
from stream_em.models.interface import STRONGEST_PRIOR, Settings

REVIVED_RECORDS = 20
"""How many records per feature a revived component is taken to stand for."""

LARGEST_RIDGE = 1e100


class GaussianSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of a model with Gaussian emissions; not a model itself."""

    covariance_type: CovarianceType = "full"
    covariance_prior: float = 0.01
    spared_records: float = 0.0
    reg_covar: float = 0.0

    tells_surprise: ClassVar[bool] = True

    def emission(self, n_features: int) -> Any:
        """Return the compiled form of the emission."""
        return gaussian_emission(
            self.n_components, n_features, self.covariance_type, self.covariance_prior, self.frozen, self.reg_covar
        )

    def _check(self, field: str, value: Any) -> None:
        super()._check(field, value)
        if field == "reg_covar" and not 0 <= value <= LARGEST_RIDGE:
            raise InputError(f"reg_covar must be a variance from 0 to {LARGEST_RIDGE:g}, not {value}")
        if field == "spared_records" and not 0 <= value <= STRONGEST_PRIOR:
            raise InputError(f"spared_records must be a number of records from 0 to {STRONGEST_PRIOR:g}, not {value}")

    def component_records(self, sized: Any, s: FloatArray) -> FloatArray:
        """Return how many records (K,) each component's mean and covariance stand for."""
        records, stats = super().component_records(sized, s), stats_of(sized, s)
        return np.maximum(records, stats.stood_for) if len(stats.stood_for) else records

    def n_features(self, sized: Any) -> int:
        """Return the width of a record."""
        return int(sized.emission.n_features)

    def sketch(self, params: Any) -> FloatArray:
        """Return records (2K, D) one standard deviation either side of each mean."""
        return sketch(params.means, params.covariances, self.covariance_type)

    def with_features(self, params: Any, posterior: FloatArray, records: FloatArray) -> Any:
        """Return parameters that know the last columns of (n, D) records too, uncorrelated with the others."""
        return extended(params, posterior, records[:, params.means.shape[1] :], self.covariance_type)

    def revived_share(self, sized: Any, s: FloatArray) -> float:
        """Return the share of the records that a revived component starts with: enough for it to find its own."""
        enough = REVIVED_RECORDS * self.n_features(sized) / records_behind(s)
        return float(min(0.5 / self.n_components, enough))

    def units(self, sized: Any, theta: FloatArray) -> FloatArray:
        """Return shift and scale (2, D) of the statistics."""
        emission = params_of(sized, theta).emission
        return np.stack([emission.shift, emission.scale])

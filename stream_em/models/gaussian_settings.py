"""What the settings of every model with Gaussian emissions share."""

from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import params_of, records_behind
from stream_em.emissions.gaussian import CovarianceType, gaussian_emission, sketch
from stream_em.models.interface import Settings

REVIVED_RECORDS = 20
"""How many records per feature a revived component is taken to stand for."""


class GaussianSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of a model with Gaussian emissions; not a model itself."""

    covariance_type: CovarianceType = "full"
    covariance_prior: float = 0.01

    def emission(self, n_features: int) -> Any:
        """Return the compiled form of the emission."""
        return gaussian_emission(
            self.n_components, n_features, self.covariance_type, self.covariance_prior, self.frozen
        )

    def n_features(self, sized: Any) -> int:
        """Return the width of a record."""
        return int(sized.emission.n_features)

    def sketch(self, params: Any) -> FloatArray:
        """Return records (2K, D) one standard deviation either side of each mean."""
        return sketch(params.means, params.covariances, self.covariance_type)

    def revived_share(self, sized: Any, s: FloatArray) -> float:
        """Return the share of the records that a revived component starts with: enough for it to find its own."""
        enough = REVIVED_RECORDS * self.n_features(sized) / records_behind(s)
        return float(min(0.5 / self.n_components, enough))

    def units(self, sized: Any, theta: FloatArray) -> FloatArray:
        """Return shift and scale (2, D) of the statistics."""
        emission = params_of(sized, theta).emission
        return np.stack([emission.shift, emission.scale])

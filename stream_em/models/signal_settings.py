"""What the settings of every model whose hidden variables are signals share."""

from typing import Any, ClassVar

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import params_of
from stream_em.models.interface import Settings


class SignalSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of a model that tells signals; not a model itself."""

    tells_signals: ClassVar[bool] = True
    assignable: ClassVar[bool] = False

    def n_features(self, sized: Any) -> int:
        """Return the width of a record."""
        return int(sized.n_features)

    def units(self, sized: Any, theta: FloatArray) -> FloatArray:
        """Return shift and scale (2, D) of the channels."""
        windows = params_of(sized, theta)
        return np.stack([windows.shift, windows.scale])

    def shares(self, posterior: FloatArray) -> FloatArray:
        """Return the share (n, K) of each source in the power of all, given the sources (n, K)."""
        powers = posterior**2
        total = powers.sum(axis=1, keepdims=True)
        return np.asarray(np.where(total > 0, powers / np.where(total > 0, total, 1.0), 1.0 / self.n_components))

    def component_mass(self, sized: Any, s: FloatArray) -> FloatArray:
        """Return equal shares (K,): all signals are in every record, and none can die."""
        return np.full(self.n_components, 1.0 / self.n_components)

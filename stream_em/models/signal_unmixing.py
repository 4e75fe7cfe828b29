"""Superimposed signals told apart: settings, and parameters as users see them. The mathematics is in `unmixing`."""

from typing import Any, ClassVar, Literal

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import maximise, model_sizes, params_of, stats_of
from stream_em.emissions.gaussian import checked
from stream_em.emissions.standardise import units
from stream_em.errors import InputError
from stream_em.kernels.linalg import unpack
from stream_em.models import (  # noqa: F401 - what they register is compiled
    mixture_sources_e_step,
    mixture_sources_m_step,
    unmixing_e_step,
    unmixing_m_step,
)
from stream_em.models.mixture_sources import MixtureSources
from stream_em.models.signal_settings import SignalSettings
from stream_em.models.unmixing import Unmixing
from stream_em.models.unmixing_params import MixtureUnmixingParams, SignalUnmixingParams, checked_densities
from stream_em.models.unmixing_start import first_densities, independent_directions

Sources = Literal["block", "sample", "mixture"]


class SignalUnmixing(SignalSettings, frozen=True, forbid_unknown_fields=True):
    """Independent component analysis by EM: signals that were superimposed, told apart.

    A source's scale is latent, and shared by `block` consecutive records ("block": sound, or whatever is loud and
    quiet in turn) or each record's own ("sample"); `nu` are the degrees of freedom of the Student-t that this makes of
    a source. Or a source's density is a mixture of `n_gaussians` Gaussians ("mixture"): flat, two-humped, heavy-tailed.
    Blocks whose power is more than `gate` times the usual are left out (None: none is); where sources have no blocks,
    records are. Sources come out as they are at channel `reference`, or, if None, as loud as they are over all channels
    (root mean square).

    >>> import stream_em as sem
    >>> rng = np.random.default_rng(0)
    >>> loudness = np.repeat(np.exp(rng.normal(size=(100, 2))), 160, axis=0)
    >>> X = loudness * rng.normal(size=(16_000, 2)) @ [[1.0, 0.4], [0.7, 1.0]]
    >>> mixing = sem.batch_em(SignalUnmixing(n_components=2), X).params.mixing
    >>> np.sort(mixing[1] / mixing[0]).round(1)  # 0.4 / 1 and 1 / 0.7, in any order
    array([0.4, 1.4])
    """

    sources: Sources = "block"
    block: int = 160
    nu: float = 4.0
    gate: float | None = None
    reference: int | None = None
    n_gaussians: int = 3

    name: ClassVar[str] = "signal-unmixing"
    summary: ClassVar[str] = "superimposed signals told apart (independent component analysis by EM)"
    params_type: ClassVar[type] = SignalUnmixingParams
    freezable: ClassVar[tuple[str, ...]] = ()
    has_mixing: ClassVar[bool] = True

    def _check(self, field: str, value: Any) -> None:
        super()._check(field, value)
        if field == "block" and not 1 <= value <= 1_000_000:
            raise InputError(f"block must be from 1 to 1,000,000 records, not {value}")
        if field == "nu" and not 0.1 <= value <= 1e6:
            raise InputError(f"nu must be from 0.1 to 1e6 degrees of freedom, not {value}")
        if field == "gate" and value is not None and not value > 1.0:
            raise InputError(f"gate must be above 1 times the usual power, not {value}")
        if field == "reference" and value is not None and value < 0:
            raise InputError(f"reference must be a channel, counted from 0, not {value}")
        if field == "n_gaussians" and not 2 <= value <= 100:
            raise InputError(f"n_gaussians must be from 2 to 100, not {value}")

    @property
    def records_together(self) -> int:
        """How many records share a scale."""
        return self.block if self.sources == "block" else 1

    def sized(self, n_features: int) -> Unmixing | MixtureSources:
        """Return the compiled form for records of `n_features` channels."""
        if self.n_components > n_features:
            raise InputError(f"n_components must be at most the {n_features} channels, not {self.n_components}")
        if self.reference is not None and self.reference >= n_features:
            raise InputError(f"reference must be a channel below {n_features}, not {self.reference}")
        reference = -1 if self.reference is None else self.reference
        gate = float(self.gate or 0.0)
        if self.sources == "mixture":
            return MixtureSources(self.n_components, n_features, self.n_gaussians, gate, reference)
        return Unmixing(self.n_components, n_features, self.records_together, float(self.nu), gate, reference)

    @property
    def least_features(self) -> int:
        """How many channels there must be at least: as many as sources."""
        return self.n_components

    @property
    def recent_records(self) -> int:
        """How many of the latest records challengers are made from, unless a learner is told: 100 blocks."""
        return 100 * self.block

    def sketch(self, params: Any) -> FloatArray:
        """Return records (2K + 2D, D) one unit of each source and of noise either side of the location."""
        steps = np.concatenate([(params.mixing * params.scales).T, np.diag(np.sqrt(params.noise))]) * np.sqrt(
            len(params.mixing)
        )
        return np.asarray(params.location + np.concatenate([steps, -steps]))

    def unit_theta(self, sized: Any, records: FloatArray, weights: FloatArray) -> FloatArray:
        """Return theta that makes the sources of the records (n, D) uncorrelated, of unit power: sphering.

        With fewer sources than channels they span the principal subspace. Mixture sources are also turned until they
        are independent, as far as FastICA sees it.
        """
        K, D = self.n_components, sized.n_features
        theta = np.zeros(model_sizes(sized)[1])
        windows = params_of(sized, theta)
        windows.shift[:], windows.scale[:] = units(records, weights, K < D)
        z = np.nan_to_num((records - windows.shift) / windows.scale)
        variances, axes = np.linalg.eigh((z.T * weights) @ z / weights.sum())
        least = np.finfo(float).eps * D * max(variances[-1], np.finfo(float).tiny)
        deviations = np.sqrt(np.maximum(variances, least if variances[-1] > 0 else 1.0))
        if K == D:
            windows.unmixing[:] = axes / deviations @ axes.T
        else:
            windows.projection[:] = axes[:, : -K - 1 : -1].T
            windows.unmixing[:] = np.diag(1.0 / deviations[: -K - 1 : -1])
            windows.noise[:] = max(float(variances[:-K].mean()), 1e-11)
        if self.sources == "mixture":
            whitened = (z @ windows.projection.T if K < D else z) @ windows.unmixing.T
            rotation = independent_directions(whitened, weights)
            windows.unmixing[:] = rotation @ windows.unmixing
            windows.weights[:] = 1.0 / self.n_gaussians
            densities = first_densities(whitened @ rotation.T, weights, self.n_gaussians)
            windows.means[:], windows.deviations[:] = densities
        maximise(sized, theta, np.empty(0), 0.0)
        return theta

    def set_params(self, sized: Any, theta: FloatArray, params: Any) -> None:
        """Set theta from parameters in the records' units, or raise `InputError`."""
        K, D = self.n_components, sized.n_features
        mixing = checked("mixing", params.mixing, (D, K))
        location = checked("location", params.location, (D,))
        noise, scales = checked("noise", params.noise, (D,)), checked("scales", params.scales, (K,))
        windows = params_of(sized, theta)
        inside = mixing * scales / windows.scale[:, np.newaxis]
        if not np.linalg.matrix_rank(inside) == K:
            raise InputError("the columns of mixing must be linearly independent")
        if K < D:
            windows.projection[:] = np.linalg.qr(inside)[0].T
            windows.noise[:] = max(float(np.mean(noise / windows.scale**2)), 1e-11)
            inside = windows.projection @ inside
        windows.unmixing[:] = np.linalg.inv(inside)
        full = windows.unmixing @ windows.projection if K < D else windows.unmixing
        windows.offset[:] = full @ ((location - windows.shift) / windows.scale)
        if self.sources == "mixture":
            windows.weights[:], means, deviations = checked_densities(params, (K, self.n_gaussians))
            windows.means[:] = means / scales[:, np.newaxis]
            windows.deviations[:] = deviations / np.abs(scales)[:, np.newaxis]
        maximise(sized, theta, np.empty(0), 0.0)

    def params(self, sized: Any, theta: FloatArray) -> SignalUnmixingParams | MixtureUnmixingParams:
        """Return the parameters in the records' units."""
        windows = params_of(sized, theta)
        location = windows.shift + windows.scale * (windows.mixing @ windows.offset)
        found = SignalUnmixingParams(
            windows.rows[:, 1:] / windows.scale * windows.scales[:, np.newaxis],
            windows.mixing * windows.scale[:, np.newaxis] / windows.scales,
            location,
            windows.scales.copy(),
            windows.noise * windows.scale**2 if len(windows.projection) else np.zeros_like(location),
        )
        if self.sources != "mixture":
            return found
        scales = windows.scales[:, np.newaxis]
        densities = windows.weights.copy(), windows.means * scales, windows.deviations * np.abs(scales)
        return MixtureUnmixingParams(*found, *densities)

    def off_diagonal(self, sized: Any, theta: FloatArray, s: FloatArray) -> float:
        """Return how far W is from its fixed point: the root mean square of w_k' (V_l w_l - b_l) over all k != l.

        Where k = l that is 1. V_l and b_l (0 but for mixture sources) are what row l is learned from.
        """
        windows, stats, K = params_of(sized, theta), stats_of(sized, s), self.n_components
        full, total = np.zeros((sized.n_features + 1, sized.n_features + 1)), 0.0
        for k in range(K):
            if self.sources == "mixture":
                precisions = 1.0 / windows.deviations[k] ** 2
                moments = stats.moments[k * self.n_gaussians : (k + 1) * self.n_gaussians]
                unpack(precisions @ moments, full)
                pull = (windows.means[k] * precisions) @ moments[:, : len(full)]
            else:
                unpack(stats.weighted[k], full)
                pull = np.zeros(len(full))
            products = windows.rows @ (full @ windows.rows[k] - pull)
            total += float((np.delete(products, k) ** 2).sum()) / max(float(products[k] ** 2), np.finfo(float).tiny)
        return float(np.sqrt(total / max(1, K * (K - 1))))

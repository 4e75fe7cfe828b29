"""The Gaussian emission as its users see it: covariance types, shapes and units of the records."""

from typing import Any, Literal

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.emissions.dense_gaussian import DenseGaussian
from stream_em.emissions.diagonal_gaussian import DiagonalGaussian
from stream_em.emissions.standardise import units
from stream_em.errors import InputError

CovarianceType = Literal["full", "tied", "diag", "spherical"]


LARGEST_MEAN = 1e100
SMALLEST_SPREAD = 1e-12
"""A variance is taken to be at least so large a part of the squared mean."""


def gaussian_emission(
    n_components: int,
    n_features: int,
    covariance_type: CovarianceType,
    prior_records: float,
    frozen: tuple[str, ...],
    ridge: float = 0.0,
) -> DenseGaussian | DiagonalGaussian:
    """Return the compiled form of a Gaussian emission.

    The prior is `prior_records` pseudo-records per covariance, whose variances are those of the data divided by
    n_components^(2/D): what is left when the components share the volume (Fraley & Raftery 2007). `ridge` is added to
    each variance, in squared units of the records.
    """
    dense = covariance_type in ("full", "tied")
    kind = DenseGaussian if dense else DiagonalGaussian
    return kind(
        n_components,
        n_features,
        int(covariance_type in ("tied", "spherical")),
        int("means" not in frozen),
        int("covariances" not in frozen),
        float(prior_records),
        float(n_components ** (-2.0 / n_features)),
        float(ridge),
    )


def unit_gaussian(emission: Any, windows: Any, records: FloatArray, weights: FloatArray) -> None:
    """Set the units from the records (n, D) with weights (n,), and every component to their mean and variance."""
    spherical = isinstance(emission, DiagonalGaussian) and bool(emission.spherical)
    windows.shift[:], windows.scale[:] = units(records, weights, spherical)
    windows.means[:] = 0.0
    windows.covariances[:] = np.eye(emission.n_features) if isinstance(emission, DenseGaussian) else 1.0


def covariances_of(emission: Any, windows: Any) -> FloatArray:
    """Return the covariances in the records' units and in scikit-learn's shape for their type."""
    covariances = np.asarray(windows.covariances) * _squared_units(emission, windows)
    pooled = emission.tied if isinstance(emission, DenseGaussian) else emission.spherical
    if not pooled:
        return covariances
    return covariances[0] if isinstance(emission, DenseGaussian) else covariances[:, 0]


def means_of(windows: Any) -> FloatArray:
    """Return the means (K, D) in the records' units."""
    return np.asarray(windows.shift + windows.means * windows.scale)


def set_gaussian(emission: Any, windows: Any, means: Any, covariances: Any) -> None:
    """Set the parameters from values in the records' units; the units themselves stay as they are.

    Raises `InputError` for a wrong shape, a value that is not finite, or a covariance that is not positive definite.
    """
    K, D = emission.n_components, emission.n_features
    dense = isinstance(emission, DenseGaussian)
    shapes: dict[tuple[bool, bool], tuple[int, ...]]
    shapes = {(True, False): (K, D, D), (True, True): (D, D), (False, False): (K, D), (False, True): (K,)}
    shape = shapes[dense, bool(emission.tied if dense else emission.spherical)]
    means = checked("means", means, (K, D))
    covariances = checked("covariances", covariances, shape)
    if np.abs(means).max() > LARGEST_MEAN or np.abs(covariances).max() > LARGEST_MEAN**2:
        raise InputError(f"means must be within {LARGEST_MEAN:g}, and covariances within its square")
    if dense:
        symmetric = np.allclose(covariances, np.swapaxes(covariances, -1, -2), rtol=1e-6)
        if not symmetric or np.linalg.eigvalsh(covariances).min() <= 0:
            raise InputError("covariances must be symmetric and positive definite")
    elif covariances.min() <= 0:
        raise InputError("covariances must be positive")
    if not dense and emission.spherical:
        covariances = covariances[:, np.newaxis]
    windows.means[:] = (means - windows.shift) / windows.scale
    windows.covariances[:] = covariances / _squared_units(emission, windows)


def sketch(means: Any, covariances: Any, covariance_type: CovarianceType) -> FloatArray:
    """Return (2K, D) records one standard deviation either side of each mean; `InputError` if the shapes do not fit."""
    if np.ndim(means) != 2:
        raise InputError(f"means must have two axes (components, features), not {np.ndim(means)}")
    K, D = np.shape(means)
    means = checked("means", means, (K, D))
    shapes = {"full": (K, D, D), "tied": (D, D), "diag": (K, D), "spherical": (K,)}
    covariances = checked("covariances", covariances, shapes[covariance_type])
    if covariance_type in ("full", "tied"):
        covariances = np.diagonal(covariances, axis1=-2, axis2=-1)
    spread = np.sqrt(np.abs(covariances))
    spread = np.broadcast_to(spread[:, np.newaxis] if covariance_type == "spherical" else spread, (K, D))
    return np.concatenate([means + spread, means - spread])


def extended(params: Any, posterior: FloatArray, columns: FloatArray, covariance_type: CovarianceType) -> Any:
    """Return parameters with more features: the moments of (n, d) columns, NaN where missing, in each component.

    `posterior` (n, K) says of which component each record is. The moments are those of its records and of one more that
    is like all; the new features are uncorrelated with the others. A spherical variance stays.
    """
    seen = ~np.isnan(columns)
    values = np.where(seen, columns, 0.0)
    overall = values.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    spread = (np.where(seen, columns - overall, 0.0) ** 2).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    smallest = np.where(overall == 0.0, 1.0, SMALLEST_SPREAD * overall**2)
    spread = np.maximum(spread, smallest)
    mass = posterior.T @ seen + 1.0
    means = (posterior.T @ values + overall) / mass
    deviations = np.where(seen[:, np.newaxis], columns[:, np.newaxis] - means, 0.0)
    squares = np.einsum("nk,nkd->kd", posterior, deviations**2)
    variances = np.maximum((squares + spread) / mass, smallest)
    covariances = np.asarray(params.covariances)
    if covariance_type == "diag":
        covariances = np.concatenate([covariances, variances], axis=1)
    elif covariance_type != "spherical":
        if covariance_type == "tied":
            variances = posterior.sum(axis=0) @ variances / posterior.sum()
        d = columns.shape[1]
        corner = variances[..., np.newaxis] * np.eye(d)
        covariances = np.pad(covariances, [(0, 0)] * (covariances.ndim - 2) + [(0, d), (0, d)])
        covariances[..., -d:, -d:] = corner
    return params._replace(means=np.concatenate([params.means, means], axis=1), covariances=covariances)


def drawn(params: Any, labels: IntArray, covariance_type: CovarianceType, rng: np.random.Generator) -> FloatArray:
    """Draw a record (D,) of each component that `labels` (n,) names."""
    K, D = params.means.shape
    normal = rng.standard_normal((len(labels), D))
    if covariance_type in ("diag", "spherical"):
        deviations = np.broadcast_to(np.sqrt(params.covariances).reshape(K, -1), (K, D))
        return np.asarray(params.means[labels] + normal * deviations[labels])
    factors = np.broadcast_to(np.linalg.cholesky(params.covariances), (K, D, D))
    return np.asarray(params.means[labels] + np.einsum("nde,ne->nd", factors[labels], normal))


def precisions_cholesky(covariances: FloatArray, covariance_type: CovarianceType) -> FloatArray:
    """Return upper triangular factors U of the inverse covariances, U Uᵀ; 1 / deviation where they are diagonal."""
    if covariance_type in ("diag", "spherical"):
        return np.asarray(1.0 / np.sqrt(covariances))
    lower = np.linalg.cholesky(covariances)
    inverse = np.linalg.solve(lower, np.broadcast_to(np.eye(lower.shape[-1]), lower.shape))
    return np.asarray(np.triu(np.swapaxes(inverse, -1, -2)))


def n_gaussian(n_components: int, n_features: int, covariance_type: CovarianceType) -> int:
    """Return the number of free parameters in means and covariances."""
    packed = n_features * (n_features + 1) // 2
    covariances = {
        "full": n_components * packed,
        "tied": packed,
        "diag": n_components * n_features,
        "spherical": n_components,
    }
    return n_components * n_features + covariances[covariance_type]


def checked(name: str, values: Any, shape: tuple[int, ...]) -> FloatArray:
    """Return `values` as a float64 array of the given shape, or raise an `InputError` that names the parameter."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers: {error}") from None
    if array.shape != shape:
        raise InputError(f"{name} must have shape {shape}, not {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite")
    return array


def component_at(emission: Any, windows: Any, weights: FloatArray, k: int, record: FloatArray) -> FloatArray:
    """Move component k to a record (D,), with the mean covariance of all; return its statistics (P,) per record.

    Missing values of the record are taken from the overall mean.
    """
    z = (record - windows.shift) / windows.scale
    overall = weights @ windows.means
    z = np.where(np.isnan(z), overall, np.clip(z, -1e60, 1e60))
    covariance = np.tensordot(weights, windows.covariances, 1)
    windows.means[k], windows.covariances[k] = z, covariance
    if isinstance(emission, DenseGaussian):
        second = (np.outer(z, z) + covariance)[np.triu_indices(emission.n_features)]
    else:
        second = z**2 + covariance
    return np.concatenate([[1.0], z, second])


def _squared_units(emission: Any, windows: Any) -> FloatArray:
    scale = np.asarray(windows.scale)
    return np.outer(scale, scale) if isinstance(emission, DenseGaussian) else scale**2

"""Where mixture sources begin: EM by itself may end where they are still mixed, if it begins far from the truth."""

import numpy as np

from stream_em.arrays import FloatArray

ITERATIONS = 30
LARGEST_SAMPLE = 20_000
"""Records that the directions are found from, at most."""
WIDTH = 1.2
"""Deviation of the first Gaussians, times their number, in units of the source."""


def independent_directions(whitened: FloatArray, weights: FloatArray) -> FloatArray:
    """Return a rotation (K, K) of white (n, K) records with weights (n,) to sources, whatever the sign of kurtosis.

    Symmetric FastICA with tanh: Hyvärinen (1999), Fast and robust fixed-point algorithms for independent component
    analysis, IEEE TNN 10(3).
    """
    step = 1 + (len(whitened) - 1) // LARGEST_SAMPLE
    Z, share = whitened[::step], weights[::step] / max(float(weights[::step].sum()), np.finfo(float).tiny)
    rotation = np.eye(whitened.shape[1])
    for _ in range(ITERATIONS):
        bent = np.tanh(Z @ rotation.T)
        moved = (bent.T * share) @ Z - (share @ (1.0 - bent**2))[:, np.newaxis] * rotation
        left, _, right = np.linalg.svd(moved)
        rotation = left @ right
    return rotation


def first_densities(sources: FloatArray, weights: FloatArray, n_gaussians: int) -> tuple[FloatArray, FloatArray]:
    """Return means and deviations (K, J) of equally probable Gaussians, spread over (n, K) sources of unit power."""
    levels = (np.arange(n_gaussians) + 0.5) / n_gaussians
    means = np.quantile(sources, levels, axis=0, weights=weights, method="inverted_cdf").T
    return means, np.full(means.shape, WIDTH / n_gaussians)

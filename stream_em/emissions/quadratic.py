"""The quadratic exponential family: features (1, z, packed z zᵀ) and a Gaussian's coefficients for them."""

import numpy as np

from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import invert_covariance, pair_products, row_dot

LOG_2PI = 1.8378770664093453


@kernel
def quadratic_features(z, phi):
    """Fill rows 0 and D+1 onward of `phi` (P, n) from `z` (D, n); z may be rows 1 to D of phi itself."""
    D, n = z.shape
    for t in range(n):
        phi[0, t] = 1.0
    pair_products(z, phi[1 + D :])


@kernel
def natural_parameters(mean, covariance, natural):
    """Write the coefficients (P,) of phi; return log det of the covariance, which is raised in place if singular."""
    D = len(mean)
    precision = np.empty((D, D))
    log_det = invert_covariance(covariance, precision)
    quadratic = 0.0
    for i in range(D):
        natural[1 + i] = row_dot(precision[i], mean, D)
        quadratic += natural[1 + i] * mean[i]
    natural[0] = -0.5 * (D * LOG_2PI + log_det + quadratic)
    position = 1 + D
    for i in range(D):
        natural[position] = -0.5 * precision[i, i]
        for j in range(i + 1, D):
            natural[position + j - i] = -precision[i, j]
        position += D - i
    return log_det

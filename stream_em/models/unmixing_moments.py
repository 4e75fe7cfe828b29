"""Parts of the M-step of unmixing that any densities of the sources need: moments, the subspace, what is derived."""

import numpy as np

from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import row_dot, unpack
from stream_em.kernels.rows import orthonormalise

RIDGE = 1e-11
"""White noise that each covariance is taken to hold, in units of the channels: it keeps singular ones finite."""


@kernel
def mean_squares(packed, rows, full, powers):
    """Write the mean square (K,) of each source y = rows (1, x), given a packed sum of (1, x)(1, x)'."""
    unpack(packed, full)
    E, mass = len(full), full[0, 0]
    for k in range(len(rows)):
        row, total = rows[k], 0.0
        for c in range(E):
            total += row[c] * row_dot(full[c], row, E)
        powers[k] = total / mass if mass > 0.0 else 0.0


@kernel
def centred(full, mass, projection, half, covariance, centre):
    """Write the projected mean (K,) and, per unit of `mass`, the projected covariance (K, K) of a full sum."""
    K, D = half.shape
    weight = full[0, 0]
    mean = full[0] / weight
    if len(projection) == 0:
        for c in range(D):
            centre[c] = mean[c + 1]
            for d in range(D):
                covariance[c, d] = (full[c + 1, d + 1] - weight * mean[c + 1] * mean[d + 1]) / mass
        return
    for k in range(K):
        out = half[k]
        out[:] = 0.0
        for c in range(D):
            factor, row = projection[k, c], full[c + 1]
            for d in range(D):
                out[d] += factor * row[d + 1]
        centre[k] = row_dot(projection[k], mean[1:], D)
    for k in range(K):
        for j in range(K):
            covariance[k, j] = (row_dot(half[k], projection[j], D) - weight * centre[k] * centre[j]) / mass


@kernel
def turn(plain, params, full):
    """Turn the subspace by one orthogonal iteration on the covariance, the rows of W with it; set the noise."""
    K, D = params.projection.shape
    unpack(plain, full)
    mass, old, turned = full[0, 0], params.projection.copy(), np.empty(K)
    total = 0.0
    for d in range(D):
        total += full[d + 1, d + 1] / mass
    for k in range(K):
        new = params.projection[k]
        mean = row_dot(old[k], full[0, 1:], D) / mass
        for d in range(D):
            new[d] = RIDGE * old[k, d] + row_dot(old[k], full[d + 1, 1:], D) / mass - mean * full[0, d + 1] / mass
    orthonormalise(params.projection)
    for k in range(K):
        for j in range(K):
            turned[j] = 0.0
            for i in range(K):
                turned[j] += params.unmixing[k, i] * row_dot(old[i], params.projection[j], D)
        params.unmixing[k] = turned
        for d in range(D):
            total -= params.projection[k, d] * row_dot(full[d + 1, 1:], params.projection[k], D) / mass
    params.noise[0] = max(total / (D - K), RIDGE)


@kernel
def derive(model, params, inverse, log_det):
    """Set what follows from W, its inverse (K, K) and log|det W|."""
    K, D = model.n_components, model.n_features
    params.log_factor[0] = log_det
    for d in range(D):
        params.log_factor[0] -= np.log(params.scale[d])
    for k in range(K):
        params.rows[k, 0] = -params.offset[k]
    if K == D:
        params.rows[:, 1:] = params.unmixing
        params.mixing[:] = inverse
    else:
        params.log_factor[0] -= 0.5 * (D - K) * np.log(2.0 * np.pi * params.noise[0])
        params.basis[:, 0] = 0.0
        params.basis[:, 1:] = params.projection
        for d in range(D):
            for k in range(K):
                params.rows[k, d + 1] = params.mixing[d, k] = 0.0
                for j in range(K):
                    params.rows[k, d + 1] += params.unmixing[k, j] * params.projection[j, d]
                    params.mixing[d, k] += params.projection[j, d] * inverse[j, k]
    for k in range(K):
        if model.reference < 0:
            params.scales[k] = 0.0
            for d in range(D):
                params.scales[k] += (params.mixing[d, k] * params.scale[d]) ** 2 / D
            params.scales[k] = np.sqrt(params.scales[k])
        else:
            params.scales[k] = params.mixing[model.reference, k] * params.scale[model.reference]

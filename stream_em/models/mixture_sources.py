"""Superimposed signals whose densities are mixtures of Gaussians: x = c + A y, and W is the inverse of A.

Source i is Gaussian j with probability pi_ij, mean m_ij and deviation s_ij, whatever the other sources: any density,
flat, two-humped or heavy-tailed (Attias 1999, Independent factor analysis, without noise). With y = W x - offset,

    E-step      r_ij = pi_ij N(y_i; m_ij, s_ij²) / sum_l pi_il N(y_i; m_il, s_il²)
    statistics  S_ij = mean over the records of r_ij (1, x)(1, x)'
    M-step      V_i = sum_j S_ij / s_ij² and b_i = sum_j m_ij S_ij (1, 0)' / s_ij² give row i of W, exactly
                (`kernels.rows`); then S_ij gives pi_ij, m_ij and s_ij

so that neither step lowers the likelihood. These statistics do not depend on the units of y, which are then free: each
source has mean 0 and power 1. With fewer sources than channels the rows of W lie in the principal subspace, as in
`unmixing`.
"""

from typing import NamedTuple

import numpy as np

from stream_em.em import model_sizes, n_hidden, params_of, stats_of


class MixtureSources(NamedTuple):
    """Sizes and settings; `gate` is 0 if no record is left out, `reference` -1 if all channels give the scale."""

    n_components: int
    n_features: int
    n_gaussians: int
    gate: float
    reference: int


class MixtureSourcesParams(NamedTuple):
    """Windows on theta; x is in units of the channels, z = P x, y = W z - offset."""

    unmixing: np.ndarray  # (K, K): W
    offset: np.ndarray  # (K,)
    projection: np.ndarray  # (K, D): P, rows orthonormal; (0, D) if K = D, where z is x
    noise: np.ndarray  # (1,): variance in each direction that no source has
    weights: np.ndarray  # (K, J): pi
    means: np.ndarray  # (K, J): m
    deviations: np.ndarray  # (K, J): s
    mixing: np.ndarray  # (D, K)
    rows: np.ndarray  # (K, D + 1): (-offset, W P)
    basis: np.ndarray  # (K, D + 1): (0, P); (0, D + 1) if K = D
    log_factor: np.ndarray  # (1,): of the density in the records' own units: log|det W| and what is constant
    power: np.ndarray  # (K,): mean square of each source
    scales: np.ndarray  # (K,): of y in the records' own units: at the reference channel, or root mean square over all
    log_heights: np.ndarray  # (K, J): of the Gaussians, times their weights
    shift: np.ndarray  # (D,)
    scale: np.ndarray  # (D,)


class MixtureSourcesStats(NamedTuple):
    """Windows on s."""

    moments: np.ndarray  # (K J, P): packed symmetric (D + 1, D + 1) means over the records of r_ij (1, x)(1, x)'
    tally: np.ndarray  # (5,): 0; records left out in a row, and in all; silent ones; summed log-likelihood


@model_sizes.register(MixtureSources)
def _(model):
    K, D, J = model.n_components, model.n_features, model.n_gaussians
    R = K if K < D else 0
    n_own = K * K + K + R * D + 1 + 3 * K * J
    n_theta = n_own + D * K + K * (D + 1) + R * (D + 1) + 1 + 2 * K + K * J + 2 * D
    n_blended = 2 + K * J * ((D + 1) * (D + 2) // 2)
    return n_own, n_theta, n_blended, n_blended + 5


@n_hidden.register(MixtureSources)
def _(model):
    return model.n_components


@params_of.register(MixtureSources)
def _(model, theta):
    K, D, J = model.n_components, model.n_features, model.n_gaussians
    R = K if K < D else 0
    a = K * K
    b = a + K
    c = b + R * D
    d = c + 1
    e = d + K * J
    f = e + K * J
    g = f + K * J
    h = g + D * K
    i = h + K * (D + 1)
    j = i + R * (D + 1)
    k = j + 1
    m = k + 2 * K
    n = m + K * J
    return MixtureSourcesParams(
        theta[:a].reshape(K, K),
        theta[a:b],
        theta[b:c].reshape(R, D),
        theta[c:d],
        theta[d:e].reshape(K, J),
        theta[e:f].reshape(K, J),
        theta[f:g].reshape(K, J),
        theta[g:h].reshape(D, K),
        theta[h:i].reshape(K, D + 1),
        theta[i:j].reshape(R, D + 1),
        theta[j:k],
        theta[k : k + K],
        theta[k + K : m],
        theta[m:n].reshape(K, J),
        theta[n : n + D],
        theta[n + D :],
    )


@stats_of.register(MixtureSources)
def _(model, s):
    n_blended = model_sizes(model)[2]
    rows = model.n_components * model.n_gaussians
    return MixtureSourcesStats(s[2:n_blended].reshape(rows, (n_blended - 2) // rows), s[n_blended:])

"""Superimposed signals: x = c + A y (and noise, where there are more channels than sources); W is the inverse of A.

Each source is a Gaussian whose scale is latent and shared by a block of L consecutive records, with a gamma prior on
its precision: within a block it is a multivariate Student-t with nu degrees of freedom. With q_i the sum of y_i² in a
block,

    E-step      u_i = (nu + L) / (nu + q_i)
    statistics  V_i = mean over the records of u_i (1, x)(1, x)'
    M-step      each source's centre, then each row of W in turn (`kernels.rows`), exactly.

L = 1 is ICA with Student-t sources, as in Ablin, Gramfort, Cardoso & Bach (2019), Stochastic algorithms with descent
guarantees for ICA; longer blocks are the time-varying Gaussian sources of Pham & Cardoso (2001) and Ono (2011), with a
prior. Given what came before it in its block, a source is Student-t with nu + m degrees of freedom and scale²
(nu + q) / (nu + m): its predictive density is exact, and waits for nothing.

With fewer sources than channels the rows of W lie in the principal subspace, which one step of orthogonal iteration an
M-step follows: EM for principal components without noise (Roweis 1998).
"""

from typing import NamedTuple

import numpy as np

from stream_em.em import model_sizes, n_hidden, params_of, stats_of


class Unmixing(NamedTuple):
    """Sizes and settings; `gate` is 0 if no block is left out, `reference` -1 if all channels give the scale."""

    n_components: int
    n_features: int
    block: int
    freedom: float
    gate: float
    reference: int


class UnmixingParams(NamedTuple):
    """Windows on theta; x is in units of the channels, z = P x, y = W z - offset."""

    unmixing: np.ndarray  # (K, K): W
    offset: np.ndarray  # (K,)
    projection: np.ndarray  # (K, D): P, rows orthonormal; (0, D) if K = D, where z is x
    noise: np.ndarray  # (1,): variance in each direction that no source has
    mixing: np.ndarray  # (D, K)
    rows: np.ndarray  # (K, D + 1): (-offset, W P)
    basis: np.ndarray  # (K, D + 1): (0, P); (0, D + 1) if K = D
    log_factor: np.ndarray  # (1,): of the density in the records' own units: log|det W| and what is constant
    power: np.ndarray  # (K,): mean square of each source
    scales: np.ndarray  # (K,): of y in the records' own units: at the reference channel, or root mean square over all
    constants: np.ndarray  # (L,): of the predictive density of the m-th record of a block
    shift: np.ndarray  # (D,)
    scale: np.ndarray  # (D,)


class UnmixingStats(NamedTuple):
    """Windows on s: packed symmetric (D + 1, D + 1) means over the records, and what belongs to the block begun."""

    sums: np.ndarray  # (K + 1, P): the next two
    weighted: np.ndarray  # (K, P): of u_i (1, x)(1, x)'
    plain: np.ndarray  # (P,): of (1, x)(1, x)'
    begun: np.ndarray  # (P,): the same of the block begun, which is not yet in the others
    tally: np.ndarray  # (5,): records of the block begun; blocks left out in a row, and in all; silent ones; summed
    # log-likelihood
    squares: np.ndarray  # (K,): sum of y² over the block begun


@model_sizes.register(Unmixing)
def _(model):
    K, D = model.n_components, model.n_features
    R = K if K < D else 0
    P = (D + 1) * (D + 2) // 2
    n_own = K * K + K + R * D + 1
    n_theta = n_own + D * K + K * (D + 1) + R * (D + 1) + 1 + 2 * K + model.block + 2 * D
    n_blended = 2 + (K + 2) * P
    return n_own, n_theta, n_blended, n_blended + 5 + K


@n_hidden.register(Unmixing)
def _(model):
    return model.n_components


@params_of.register(Unmixing)
def _(model, theta):
    K, D = model.n_components, model.n_features
    R = K if K < D else 0
    a = K * K
    b = a + K
    c = b + R * D
    d = c + 1
    e = d + D * K
    f = e + K * (D + 1)
    g = f + R * (D + 1)
    h = g + 1
    i = h + 2 * K
    j = i + model.block
    return UnmixingParams(
        theta[:a].reshape(K, K),
        theta[a:b],
        theta[b:c].reshape(R, D),
        theta[c:d],
        theta[d:e].reshape(D, K),
        theta[e:f].reshape(K, D + 1),
        theta[f:g].reshape(R, D + 1),
        theta[g:h],
        theta[h : h + K],
        theta[h + K : i],
        theta[i:j],
        theta[j : j + D],
        theta[j + D :],
    )


@stats_of.register(Unmixing)
def _(model, s):
    K = model.n_components
    P = (model.n_features + 1) * (model.n_features + 2) // 2
    a = 2 + K * P
    b = a + P
    c = b + P
    return UnmixingStats(s[2:b].reshape(K + 1, P), s[2:a].reshape(K, P), s[a:b], s[b:c], s[c : c + 5], s[c + 5 :])

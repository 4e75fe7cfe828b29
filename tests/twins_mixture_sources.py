"""Plain NumPy twins of unmixing with mixture sources: record by record, Gaussian by Gaussian, with missing values."""

import numpy as np
from scipy.stats import multivariate_normal, norm

from stream_em.models.unmixing_params import MixtureUnmixingParams


def row_with_pull(V, b, a):
    """Return the maximiser w of log(w'a) + w'b - w'Vw / 2, written as in `kernels.rows`."""
    solved = np.linalg.solve(V, np.stack([a, b], axis=1))
    alpha, beta = a @ solved
    return solved[:, 1] + (np.sqrt(beta**2 + 4 * alpha) - beta) / (2 * alpha) * solved[:, 0]


def row_objective(w, V, b, a):
    """Return what a row is to maximise."""
    return np.log(max(w @ a, 1e-300)) + w @ b - w @ V @ w / 2


def expected_moments(params, x):
    """Return the moments (K, J, E, E) of (1, x) of one record times r_ij, and its log-density.

    Where channels are missing, the other sources are Gaussians of their variance while one is in its Gaussian j.
    """
    K, J = params.source_weights.shape
    D, o = len(x), ~np.isnan(x)
    if not o.any():
        return np.zeros((K, J, D + 1, D + 1)), 0.0
    A, power = params.mixing, (params.source_weights * (params.source_deviations**2 + params.source_means**2)).sum(1)
    moments, r = np.zeros((K, J, D + 1, D + 1)), np.zeros((K, J))
    if o.all():
        y = params.unmixing @ (x - params.location)
        densities = params.source_weights * norm.pdf(y[:, None], params.source_means, params.source_deviations)
        full = np.r_[1.0, x]
        for i in range(K):
            moments[i] = (densities[i] / densities[i].sum())[:, None, None] * np.outer(full, full)
        return moments, np.linalg.slogdet(params.unmixing)[1] + np.log(densities.sum(axis=1)).sum()

    def observed(means, variances):
        """Return the log-density of what is there, and E[x] and Var[x], if sources are such Gaussians."""
        centre, covariance = params.location + A @ means, (A * variances) @ A.T
        seen = covariance[np.ix_(o, o)]
        gain = covariance[:, o] @ np.linalg.inv(seen)
        spread = covariance - gain @ covariance[o]
        spread[o] = spread[:, o] = 0.0
        expected = np.where(o, x, centre + gain @ (x - centre)[o])
        return multivariate_normal(centre[o], seen).logpdf(x[o]), expected, spread

    base = observed(np.zeros(K), power)[0]
    total = base
    for i in range(K):
        for j in range(J):
            means, variances = np.zeros(K), power.copy()
            means[i], variances[i] = params.source_means[i, j], params.source_deviations[i, j] ** 2
            evidence, expected, spread = observed(means, variances)
            r[i, j] = params.source_weights[i, j] * np.exp(evidence - base)
            full = np.r_[1.0, expected]
            moments[i, j] = np.outer(full, full)
            moments[i, j, 1:, 1:] += spread
        total += np.log(r[i].sum())
        moments[i] *= (r[i] / r[i].sum())[:, None, None]
    return moments, total


def mixture_sources_em_step(params, X, weights, prior_covariance, model):
    """Return the parameters after one EM iteration, as many sources as channels, and the log-likelihoods before it."""
    found = [expected_moments(params, x) for x in X]
    S = sum(w * moments for w, (moments, _) in zip(weights, found, strict=True))
    mass = S[0, :, 0, 0].sum()
    W, offset = params.unmixing.copy(), params.unmixing @ params.location
    pi, m, s = params.source_weights.copy(), params.source_means.copy(), params.source_deviations.copy()
    for k in range(len(W)):
        V = (S[k] / s[k][:, None, None] ** 2).sum(0) / mass
        b = (S[k, :, 0] * (m[k] / s[k] ** 2)[:, None]).sum(0) / mass
        centre = V[0, 1:] / V[0, 0]
        V_centred, b_centred = V[1:, 1:] - V[0, 0] * np.outer(centre, centre), b[1:] - b[0] * centre
        w = row_with_pull(V_centred, b_centred, np.linalg.inv(W)[:, k])
        row = np.r_[b[0] / V[0, 0] - centre @ w, w]
        n = S[k, :, 0, 0]
        pi[k], m[k] = n / n.sum(), S[k, :, 0] @ row / n
        variances = np.einsum("jab,a,b->j", S[k], row, row) / n - m[k] ** 2
        mean, power = pi[k] @ m[k], pi[k] @ (variances + m[k] ** 2)
        scale = np.sqrt(power - mean**2)
        W[k], offset[k] = w / scale, (mean - row[0]) / scale
        m[k], s[k] = (m[k] - mean) / scale, np.sqrt(variances) / scale
    A = np.linalg.inv(W)
    scales = np.sqrt((A**2).mean(axis=0))
    new = MixtureUnmixingParams(
        W * scales[:, None], A / scales, A @ offset, scales, np.zeros(len(W)), pi, m * scales[:, None],
        s * scales[:, None],
    )  # fmt: skip
    return new, np.array([score for _, score in found])

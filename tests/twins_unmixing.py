"""Plain NumPy twins of the unmixing formulas: block by block, row by row."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import multivariate_normal, multivariate_t
from scipy.stats import t as student_t


def row_sweep(V, W):
    """Return W (K, K) after each row, in turn, was set to its maximiser given V (K, K, K)."""
    W = W.copy()
    for i, covariance in enumerate(V):
        a = np.linalg.inv(W)[:, i]
        solution = np.linalg.solve(covariance, a)
        W[i] = solution / np.sqrt(a @ solution)
    return W


def surrogate(V, W):
    """Return what the rows are to minimise: sum_i w_i' V_i w_i / 2 - log|det W|."""
    return sum(w @ v @ w for w, v in zip(W, V, strict=True)) / 2 - np.linalg.slogdet(W)[1]


def block_log_likelihood(X, W, offset, L, nu):
    """Return the log-density of records (n, D) whose sources W x - offset are multivariate Student-t in each block."""
    Y = X @ W.T - offset
    total = len(X) * np.linalg.slogdet(W)[1]
    for begin in range(0, len(Y), L):
        part = Y[begin : begin + L]
        density = multivariate_t(np.zeros(len(part)), np.eye(len(part)), df=nu)
        total += sum(density.logpdf(part[:, i]) for i in range(Y.shape[1]))
    return total


def em_step(X, W, offset, L, nu, ridge=0.0):
    """Return W (D, D) and offset (D,) after one EM iteration on records (n, D), which have as many sources."""
    n, D = X.shape
    V, centres = np.zeros((D, D, D)), np.zeros((D, D))
    Y = X @ W.T - offset
    for i in range(D):
        u = np.zeros(n)
        for begin in range(0, n, L):
            part = Y[begin : begin + L, i]
            u[begin : begin + L] = (nu + len(part)) / (nu + part @ part)
        centres[i] = u @ X / u.sum()
        centred = X - centres[i]
        V[i] = (centred * u[:, np.newaxis]).T @ centred / n + ridge * np.eye(D)
    W = row_sweep(V, W)
    return W, (W * centres).sum(axis=1)


def isr(unmixing, mixing):
    """Return the mean interference-to-signal ratio in dB of sources of unit power."""
    power = (unmixing @ mixing) ** 2
    power /= power.sum(axis=1, keepdims=True)
    rows, columns = linear_sum_assignment(-power)
    own = power[rows, columns]
    return 10 * np.log10(((power.sum(axis=1) - own) / own).mean())


def loud_and_quiet(rng, n, K, L=20, spread=1.0):
    """Return n records of K independent sources, each of which changes its loudness every L records; unit power."""
    loudness = np.repeat(np.exp(spread * rng.normal(size=(-(-n // L), K))), L, axis=0)[:n]
    sources = loudness * rng.normal(size=(n, K))
    return sources / sources.std(axis=0)


def scale_sources_em_step(params, X, weights, prior_covariance, model):
    """Return the parameters after one EM iteration with one latent scale a block, and the log-likelihoods (n,) before.

    As many sources as channels; where some are missing, the sources are Gaussians of their predictive variances.
    """
    (D, K), L, nu = params.mixing.shape, model.records_together, model.nu
    A = params.mixing * params.scales
    W = np.linalg.inv(A)
    V, B, q, m = np.zeros((K, D + 1, D + 1)), np.zeros((D + 1, D + 1)), np.zeros(K), 0
    scores = np.zeros(len(X))
    for t, x in enumerate(X):
        o, variances = ~np.isnan(x), (nu + q) / (nu + m)
        spread, expected = np.zeros((D, D)), x
        if o.all():
            y = W @ (x - params.location)
            scores[t] = np.linalg.slogdet(W)[1] + student_t(nu + m, scale=np.sqrt(variances)).logpdf(y).sum()
        else:
            covariance = (A * variances) @ A.T
            gain = covariance[:, o] @ np.linalg.inv(covariance[np.ix_(o, o)])
            spread = covariance - gain @ covariance[o]
            spread[o] = spread[:, o] = 0.0
            expected = np.where(o, x, params.location + gain @ (x - params.location)[o])
            if o.any():
                scores[t] = multivariate_normal(params.location[o], covariance[np.ix_(o, o)]).logpdf(x[o])
        q, m = q + (W @ (expected - params.location)) ** 2 + np.diag(W @ spread @ W.T), m + 1
        B += weights[t] * np.outer(np.r_[1.0, expected], np.r_[1.0, expected])
        B[1:, 1:] += weights[t] * spread
        if m == L or t == len(X) - 1:
            V += ((nu + m) / (nu + q))[:, np.newaxis, np.newaxis] * B
            B, q, m = np.zeros_like(B), np.zeros(K), 0
    centres = V[:, 0, 1:] / V[:, 0, :1]
    centred = [v[1:, 1:] - v[0, 0] * np.outer(c, c) for v, c in zip(V / weights.sum(), centres, strict=True)]
    W = row_sweep(centred, W)
    A = np.linalg.inv(W)
    scales = np.sqrt((A**2).mean(axis=0))
    location = A @ (W * centres).sum(axis=1)
    return type(params)(W * scales[:, np.newaxis], A / scales, location, scales, np.zeros(D)), scores

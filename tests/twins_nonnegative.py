"""Plain NumPy twins of non-negative matrix factorisation: record by record, with missing values."""

import numpy as np
from scipy.special import gammaln


def activations(x, W, counts, n_inner=20_000):
    """Return the activations (K,) that fit one record (F,), by multiplicative updates."""
    seen, c = ~np.isnan(x), 1 if counts else 2
    if not seen.any():
        return np.zeros(len(W))
    x, W = x[seen], W[:, seen]
    h = np.full(len(W), x.sum() / W.sum())
    for _ in range(n_inner):
        v = np.maximum(h @ W, 1e-290)
        now = h * (W @ (x / v**c)) / (W @ (1.0 / v ** (c - 1)))
        if np.abs(now - h).max() <= 1e-14 * np.abs(h).max():
            break
        h = now
    return h


def log_density(x, v, counts):
    """Return the log-density of one record (F,) with means v (F,), of what was seen of it."""
    seen = ~np.isnan(x)
    x, v = x[seen], np.maximum(v[seen], 1e-290)
    each = x * np.log(v) - v - gammaln(x + 1) if counts else -np.log(v) - x / v
    return each.sum()


def em_step(W, X, weights, counts, prior_records, pseudo_record):
    """Return the components (K, F), rows of sum 1, after one iteration, and the log-likelihoods (n,) before it."""
    c = 1 if counts else 2
    A, B, log_likelihoods = np.zeros_like(W), np.zeros_like(W), np.zeros(len(X))
    for i, (x, weight) in enumerate(zip(X, weights, strict=True)):
        h = activations(x, W, counts)
        v, seen = h @ W, ~np.isnan(x)
        log_likelihoods[i] = log_density(x, v, counts)
        for k in range(len(W)):
            A[k, seen] += weight * W[k, seen] ** c * h[k] * x[seen] / np.maximum(v[seen], 1e-290) ** c
            B[k, seen] += weight * h[k] / v[seen] ** (c - 1)
    alpha = prior_records * pseudo_record
    below = B + alpha.sum()
    new = (A + alpha) / below if counts else (alpha + np.sqrt(alpha**2 + 4 * below * A)) / (2 * below)
    return new / new.sum(axis=1, keepdims=True), log_likelihoods

"""Plain NumPy twins of the formulas for signals with echoes: frame by frame, frequency by frequency."""

import numpy as np
from scipy.stats import multivariate_t, norm


def sine_window(N):
    return np.sin(np.pi * (np.arange(N) + 0.5) / N)


def frames(X, N, hop):
    """Return the transforms (J, F, D) of all frames of (n, D) records, zeros before them, in the kernels' order."""
    padded = np.concatenate([np.zeros((N - hop, X.shape[1])), X[: len(X) // hop * hop]])
    n = np.arange(N)
    parts = [padded[begin : begin + N] for begin in range(0, len(padded) - N + 1, hop)]
    turned = np.stack(parts) * (sine_window(N) * np.exp(-1j * np.pi * n / N))[:, np.newaxis]
    return np.fft.fft(turned, axis=1)[:, ::2] * np.sqrt(2 / N)


def complex_rows(parts):
    """Return (F, K, K) complex matrices from the windows (2, K, K, F) on theta."""
    return np.moveaxis(parts[0] + 1j * parts[1], 2, 0)


def real_parts(matrices):
    """Return the inverse of `complex_rows`."""
    return np.moveaxis(np.stack([matrices.real, matrices.imag]), 1, 3).copy()


def packed(V):
    """Return (K, D², F) real numbers for Hermitian matrices (K, F, D, D)."""
    D, rows = V.shape[-1], []
    for i in range(D):
        for j in range(i + 1):
            rows += [V[..., i, j].real] if i == j else [V[..., i, j].real, V[..., i, j].imag]
    return np.stack(rows, axis=1)


def row_sweep(V, W):
    """Return W (F, K, K) after each row, in turn, was set to its maximiser given V (K, F, K, K)."""
    W = W.copy()
    for f in range(len(W)):
        for k in range(W.shape[1]):
            a = np.linalg.inv(W[f])[:, k]
            solution = np.linalg.solve(V[k, f], a)
            W[f, k] = np.conj(solution / np.sqrt((np.conj(a) @ solution).real))
    return W


def surrogate(V, W):
    """Return what the rows are to minimise: sum_fk w_k^H V_kf w_k / 2 - sum_f log|det W_f|²/2, w_k^H the rows of W."""
    quadratic = np.einsum("fki,kfij,fkj->", W, V, np.conj(W)).real
    return quadratic / 2 - np.linalg.slogdet(W)[1].sum()


def frame_log_likelihood(X, W, nu, K):
    """Return the log-density (J,) of transforms X (J, F, D): K sources are multivariate Student-t, others Gaussian."""
    Y = np.einsum("fkd,jfd->jkf", W, X)
    stacked = np.concatenate([Y.real, Y.imag], axis=2)
    density = multivariate_t(np.zeros(stacked.shape[2]), np.eye(stacked.shape[2]), df=nu)
    total = np.atleast_2d(density.logpdf(stacked[:, :K])).reshape(len(X), K).sum(axis=1)
    return total + norm.logpdf(stacked[:, K:]).sum(axis=(1, 2)) + 2 * np.linalg.slogdet(W)[1].sum()


def em_step(X, W, nu, K, ridge=0.0):
    """Return W (F, D, D) after one EM iteration on transforms X (J, F, D) with K sources."""
    J, F, D = X.shape
    V = np.zeros((D, F, D, D), complex)
    for x in X:
        y = np.einsum("fkd,fd->kf", W, x)
        for k in range(D):
            u = (nu + 2 * F) / (nu + (np.abs(y[k]) ** 2).sum()) if k < K else 1.0
            V[k] += u * np.einsum("fi,fj->fij", x, np.conj(x)) / (2 * J)
    return row_sweep(V + ridge * np.eye(D), W)

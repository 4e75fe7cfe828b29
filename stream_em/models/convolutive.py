"""Signals with echoes: what a channel hears of a source is filtered, x_f = A_f y_f at each frequency f of a frame.

A frame is the latest N samples under a window, as N/2 complex numbers (`kernels.fourier`); a hop later comes the next.
The sources are y_f = W_f x_f, and the scale of a source is latent and shared by all its frequencies: so it is known
which rows of the W_f belong to one source. With a gamma prior on its precision the frame of a source is a multivariate
Student-t in N real dimensions, with nu degrees of freedom, and that of all channels has the log-density

    sum_f log|det W_f|^2 + sum_k log t_N(y_k; nu),    t_N(y; nu) = G((nu + N) / 2) / G(nu / 2) (nu pi)^(-N/2)
                                                                  (1 + r^2 / nu)^(-(nu + N) / 2),  r^2 = sum_f |y_f|^2.

With fewer sources than channels the other rows are the background: Gaussian noise that does not change, u = 1.

    E-step      u_k = (nu + N) / (nu + r_k^2)
    statistics  V_kf = mean over the frames of u_k x_f x_f^H / 2
    M-step      each row of each W_f in turn (`kernels.spatial`), exactly.

This is independent vector analysis (Kim, Attias, Lee & Lee 2007) by auxiliary functions (Ono 2011; online: Taniguchi,
Ono, Kawamura & Sagayama 2014; with a background: Scheibler & Ono 2019), as EM. Frames overlap, so a sample is in
N / hop of them: each frame counts hop / N times, and then nats a record are what they are elsewhere.

Sources are told as they are at channel k, or at the reference: a_dkf y_kf (Matsuoka & Nakashima 2001). Overlapping
frames of them are added, so that they come N samples after their channels.
"""

import math
from typing import NamedTuple

import numpy as np

from stream_em.em import SCORE, accumulate, m_step, model_sizes, n_hidden, params_of, penalty, refresh, stats_of
from stream_em.emissions.standardise import FARTHEST
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.fourier import add_synthesis, analyse, fill_tables
from stream_em.kernels.spatial import add_covariances, apply_rows, invert_all, update_rows

SILENT = 1e-10
"""A frame of less than this part of the channels' power is digital silence, which says nothing."""
RIDGE = 1e-11
"""White noise that each covariance is taken to hold, in units of the channels: it keeps singular ones finite."""
FRAMES_PER_CHANNEL = 2
"""The rows stay as they are until so many frames a channel are behind the statistics."""


class Convolutive(NamedTuple):
    """Sizes and settings; `reference` is -1 if each source is told as it is at the channel of its own number."""

    n_components: int
    n_features: int
    window: int
    hop: int
    freedom: float
    reference: int


class ConvolutiveParams(NamedTuple):
    """Windows on theta; complex numbers are real and imaginary part, frequencies lie along the last axis."""

    unmixing: np.ndarray  # (2, D, D, N / 2): W, first the rows of the sources, then those of the background
    mixing: np.ndarray  # (2, D, D, N / 2): its inverse
    log_factor: np.ndarray  # (2,): sum_f log|det W_f|^2; what else is constant in a frame's log-density
    window: np.ndarray  # (N,)
    turn: np.ndarray  # (2, N / 2): see `kernels.fourier`
    roots: np.ndarray  # (2, N / 4)
    shift: np.ndarray  # (D,)
    scale: np.ndarray  # (D,)


class ConvolutiveStats(NamedTuple):
    """Windows on s."""

    weighted: np.ndarray  # (R, D^2, N / 2): sum of u_k x x^H / 2, packed as in `kernels.spatial`; R = K if K = D, else
    # K + 1: the last one is that of the background
    mass: np.ndarray  # (2,): weight of the frames in it; of the records of the hop begun
    heard: np.ndarray  # (N, D): the latest frame's records in units of the channels, those of the hop begun at its end
    overlap: np.ndarray  # (N, K): sources, to which later frames will add
    ready: np.ndarray  # (hop, K): sources that wait to be told
    tally: np.ndarray  # (2,): records of the hop begun; hops until no missing value is left in `heard`


@model_sizes.register(Convolutive)
def _(model):
    K, D, N = model.n_components, model.n_features, model.window
    n_own = D * D * N
    n_blended = 2 + min(K + 1, D) * D * D * (N // 2) + 2
    n_carried = N * (D + K) + model.hop * K + 2
    return n_own, 2 * n_own + 2 + N + N + N // 2 + 2 * D, n_blended, n_blended + n_carried


@n_hidden.register(Convolutive)
def _(model):
    return model.n_components


@params_of.register(Convolutive)
def _(model, theta):
    D, N = model.n_features, model.window
    a = D * D * N
    b = 2 * a
    c = b + 2
    d = c + N
    e = d + N
    f = e + N // 2
    return ConvolutiveParams(
        theta[:a].reshape(2, D, D, N // 2),
        theta[a:b].reshape(2, D, D, N // 2),
        theta[b:c],
        theta[c:d],
        theta[d:e].reshape(2, N // 2),
        theta[e:f].reshape(2, N // 4),
        theta[f : f + D],
        theta[f + D :],
    )


@stats_of.register(Convolutive)
def _(model, s):
    K, D, N = model.n_components, model.n_features, model.window
    R = min(K + 1, D)
    a = 2 + R * D * D * (N // 2)
    b = a + 2
    c = b + N * D
    d = c + N * K
    e = d + model.hop * K
    return ConvolutiveStats(
        s[2:a].reshape(R, D * D, N // 2),
        s[a:b],
        s[b:c].reshape(N, D),
        s[c:d].reshape(N, K),
        s[d:e].reshape(model.hop, K),
        s[e:],
    )


@accumulate.register(Convolutive)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    K, D, N, hop, learns = model.n_components, model.n_features, model.window, model.hop, mode != SCORE
    heard = stats.heard if learns else stats.heard.copy()
    overlap = stats.overlap if learns else stats.overlap.copy()
    ready = stats.ready if learns else stats.ready.copy()
    tally = stats.tally if learns else stats.tally.copy()
    x, y, image, factors = np.empty((2, D, N // 2)), np.empty((2, D, N // 2)), np.empty((2, K, N // 2)), np.empty(D)
    scratch, back = np.empty((4, N // 2, D)), np.empty((4, N // 2, K))
    begin = 0
    while begin < len(records):
        place = int(tally[0])
        end = min(len(records), begin + hop - place)
        n = end - begin
        if _hear(params, records[begin:end], heard[N - hop + place :]):
            tally[1] = N // hop
        for t in range(n if len(probabilities) > 0 else 0):
            for k in range(K):
                probabilities[begin + t, k] = ready[place + t, k]
        for t in range(n if len(log_likelihood) > 0 else 0):
            log_likelihood[begin + t] = 0.0
        for t in range(n if learns else 0):
            stats.mass[1] += weights[begin + t]
        tally[0] += n
        if tally[0] == hop:
            analyse(heard, params.window, params.turn, params.roots, x, scratch)
            apply_rows(params.unmixing, x, y)
            if tally[1] == 0.0 and _power(heard) > SILENT:
                score = _weigh(model, params, y, factors)
                if len(log_likelihood) > 0:
                    log_likelihood[end - 1] = hop / N * score
                if learns:
                    for k in range(D):
                        factors[k] *= 0.5 * stats.mass[1]
                    add_covariances(x, factors[: len(stats.weighted)], stats.weighted)
                    stats.mass[0] += stats.mass[1]
            _emit(model, params, y, image, back, overlap, ready)
            for t in range(N - hop):
                for d in range(D):
                    heard[t, d] = heard[t + hop, d]
            if learns:
                stats.mass[1] = 0.0
            tally[0] = 0.0
            tally[1] = max(0.0, tally[1] - 1.0)
        begin = end


@kernel
def _hear(params, records, heard):
    """Write (n, D) records in units of the channels, 0 where a value is missing; tell whether one was."""
    n, D = records.shape
    missing = 0
    for t in range(n):
        for d in range(D):
            z = (records[t, d] - params.shift[d]) / params.scale[d]
            missing += z != z
            z = FARTHEST if z > FARTHEST else z
            z = -FARTHEST if z < -FARTHEST else z
            heard[t, d] = z if z == z else 0.0
    return missing > 0


@kernel
def _power(heard):
    """Return the mean square of (N, D) records."""
    total = 0.0
    for t in range(heard.shape[0]):
        for d in range(heard.shape[1]):
            total += heard[t, d] ** 2
    return total / heard.size


@kernel
def _weigh(model, params, y, factors):
    """Write u_k (D,) of a frame with sources and background y (2, D, N / 2); return its log-density."""
    N, nu = model.window, model.freedom
    total = params.log_factor[0] + params.log_factor[1]
    for k in range(model.n_features):
        square, real, imag = 0.0, y[0, k], y[1, k]
        for f in range(N // 2):
            square += real[f] ** 2 + imag[f] ** 2
        if k < model.n_components:
            factors[k] = (nu + N) / (nu + square)
            total -= 0.5 * (nu + N) * np.log1p(square / nu)
        else:
            factors[k] = 1.0
            total -= 0.5 * square
    return total


@kernel
def _emit(model, params, y, image, scratch, overlap, ready):
    """Add a frame of the sources in y (2, D, N / 2), as they are at their channels, to `overlap`; take what is ready.

    `image` (2, K, N / 2) and `scratch` (4, N / 2, K) are overwritten.
    """
    K, N, hop = model.n_components, model.window, model.hop
    for k in range(K):
        d = k if model.reference < 0 else model.reference
        for f in range(N // 2):
            a, b = params.scale[d] * params.mixing[0, d, k, f], params.scale[d] * params.mixing[1, d, k, f]
            image[0, k, f] = a * y[0, k, f] - b * y[1, k, f]
            image[1, k, f] = a * y[1, k, f] + b * y[0, k, f]
    # Squares of the window a hop apart add up to N / (2 hop).
    add_synthesis(image, params.window, params.turn, params.roots, 2.0 * hop / N, overlap, scratch)
    for k in range(K):
        for t in range(hop):
            ready[t, k] = overlap[t, k]
        for t in range(N):
            overlap[t, k] = overlap[t + hop, k] if t < N - hop else 0.0


@m_step.register(Convolutive)
def _(model, stats, n_records, params):
    least = FRAMES_PER_CHANNEL * model.n_features * model.hop
    if stats.mass[0] * n_records >= least:
        params.log_factor[0] += update_rows(stats.weighted, 1.0 / stats.mass[0], RIDGE, params.unmixing, params.mixing)


@refresh.register(Convolutive)
def _(model, params):
    K, D, N, nu = model.n_components, model.n_features, model.window, model.freedom
    fill_tables(params.window, params.turn, params.roots)
    params.log_factor[0] = invert_all(params.unmixing, params.mixing)
    each = math.lgamma(0.5 * (nu + N)) - math.lgamma(0.5 * nu) - 0.5 * N * np.log(np.pi * nu)
    params.log_factor[1] = K * each - 0.5 * (D - K) * N * np.log(2.0 * np.pi)
    for n in range(N):
        params.log_factor[1] += D * np.log(params.window[n])
    for d in range(D):
        params.log_factor[1] -= N * np.log(params.scale[d])


@penalty.register(Convolutive)
def _(model, params):
    return 0.0

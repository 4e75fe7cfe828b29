"""How well sources are separated, and how soon: by the true mixing matrix, or by the true sources."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import solve_toeplitz
from scipy.optimize import linear_sum_assignment

from stream_em.arrays import FloatArray, IntArray
from stream_em.errors import InputError


class BlockTimes(NamedTuple):
    """Seconds that blocks took: the median, the 99th percentile, and the longest."""

    p50: float
    p99: float
    longest: float


def transfer(unmixing: npt.ArrayLike, mixing: npt.ArrayLike, scales: npt.ArrayLike | None = None) -> FloatArray:
    """Return P = W A diag(scales), (K, K): what each output (row) holds of each source (column) of unit variance.

    `unmixing` W is (K, D), `mixing` A (D, K), `scales` (K,) are the sources' standard deviations (None: all 1). Raises
    `InputError` for shapes that do not fit and for values that are not finite.
    """
    W, A = np.asarray(unmixing, dtype=np.float64), np.asarray(mixing, dtype=np.float64)
    if W.ndim != 2 or A.ndim != 2 or W.shape != A.shape[::-1] or W.size == 0:
        raise InputError(f"unmixing (K, D) and mixing (D, K) must fit each other, and are {W.shape} and {A.shape}")
    s = np.ones(len(W)) if scales is None else np.asarray(scales, dtype=np.float64)
    if s.shape != (len(W),) or not np.all(s > 0):
        raise InputError(f"scales must be one positive number for each of {len(W)} sources")
    P: FloatArray = W @ A * s
    if not np.isfinite(P).all():
        raise InputError("unmixing, mixing and scales must be finite")
    return P


def matching(P: FloatArray) -> IntArray:
    """Return for each output the source that it stands for, (K,): the permutation with the greatest summed share.

    The share of source j in output i is P_ij² / Σ_k P_ik² (the Hungarian algorithm; neither order, sign nor scale of
    the outputs matters).
    """
    power = P**2
    total = power.sum(axis=1, keepdims=True)
    shares = np.divide(power, total, out=np.zeros_like(power), where=total > 0)
    return linear_sum_assignment(shares, maximize=True)[1].astype(np.int64)


def interference_to_signal(
    unmixing: npt.ArrayLike, mixing: npt.ArrayLike, scales: npt.ArrayLike | None = None
) -> float:
    """Return the mean over outputs of the power of all other sources over that of its own, in dB; lower is better.

    With P = `transfer(…)` and π = `matching(P)`: 10 log10 mean_i Σ_{j≠π(i)} P_ij² / P_iπ(i)². From −inf (perfect) to
    +inf (an output without its source). It needs W and A alone, so it can be drawn over time while both change.

    >>> round(interference_to_signal([[1, 0.1], [-0.1, 2]], np.eye(2)), 2)
    -22.04
    """
    power = transfer(unmixing, mixing, scales) ** 2
    rows, own = np.arange(len(power)), matching(np.sqrt(power))
    signal = power[rows, own]
    power[rows, own] = 0.0
    interference = power.sum(axis=1)
    with np.errstate(divide="ignore", over="ignore"):
        ratio = np.divide(interference, signal, out=np.full(len(signal), np.inf), where=signal > 0)
        return float(10 * np.log10(ratio.mean()))


def amari_index(
    unmixing: npt.ArrayLike,
    mixing: npt.ArrayLike,
    scales: npt.ArrayLike | None = None,
    correlation: npt.ArrayLike | None = None,
) -> float:
    """Return the Amari index of P = `transfer(…)`, from 0 (a scaled permutation) to 1 (all sources in all outputs).

    1 / (2K(K−1)) · [Σ_i (Σ_j |P_ij| / max_j |P_ij| − 1) + Σ_j (Σ_i |P_ij| / max_i |P_ij| − 1)] (Amari, Cichocki &
    Yang, A new learning algorithm for blind signal separation, 1996, divided by its greatest value). Its second sum
    depends on the scales of the outputs, which no method can know; so each row is first divided by its output's
    standard deviation √(P R P')_ii. `correlation` R (K, K) is that of the sources (None: uncorrelated). An output
    without any source, and a source that is in no output, count as the worst.

    >>> amari_index([[0, -3], [0.5, 0]], np.eye(2))
    0.0
    """
    P = transfer(unmixing, mixing, scales)
    k = len(P)
    if k == 1:
        return 0.0 if P[0, 0] else 1.0
    R = np.eye(k) if correlation is None else np.asarray(correlation, dtype=np.float64)
    if R.shape != P.shape:
        raise InputError(f"correlation must be {P.shape}, not {R.shape}")
    variance = np.einsum("ij,jk,ik->i", P, R, P)[:, np.newaxis]
    size = np.abs(np.divide(P, np.sqrt(np.maximum(variance, 0)), out=np.zeros_like(P), where=variance > 0))
    return float(sum(_excess(size, axis) for axis in (0, 1)) / (2 * k * (k - 1)))


def _excess(size: FloatArray, axis: int) -> float:
    largest = size.max(axis=axis)
    ratio = np.divide(size.sum(axis=axis), largest, out=np.full(len(size), float(len(size))), where=largest > 0)
    return float((ratio - 1).sum())


def si_sdr(estimate: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """Return the scale-invariant signal-to-distortion ratio of each column in dB, (K,) or (); higher is better.

    Of ŝ and s, both (n,) or (n, K): with α = ⟨ŝ, s⟩ / ⟨s, s⟩, 10 log10(|α s|² / |ŝ − α s|²) (Le Roux, Wisdom, Erdogan &
    Hershey, SDR – half-baked or well done?, 2019); means are not removed. +inf for a scaled copy,
    −inf for an estimate or a reference that is silent. Raises `InputError` for shapes that differ.

    >>> float(si_sdr([1, 1, 1, 1], [1, 1, 1, 0]).round(2))
    4.77
    """
    e, s = np.asarray(estimate, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if e.shape != s.shape or e.ndim not in (1, 2) or len(e) == 0:
        raise InputError(f"estimate and reference must both be (n,) or (n, K), and are {e.shape} and {s.shape}")
    energy = (s * s).sum(axis=0)
    alpha = np.divide((e * s).sum(axis=0), energy, out=np.zeros_like(energy), where=energy > 0)
    signal = alpha**2 * energy
    distortion = ((e - alpha * s) ** 2).sum(axis=0)
    ratio = np.divide(signal, distortion, out=np.full_like(signal, np.inf), where=distortion > 0)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(np.where(signal > 0, ratio, 0.0)))


def filtered_sdr(estimate: npt.ArrayLike, reference: npt.ArrayLike, taps: int = 512) -> FloatArray:
    """Return the signal-to-distortion ratio of each column in dB, (K,) or (); a filtered source is no distortion.

    Of ŝ and s, both (n,) or (n, K): with h * s the projection of ŝ on s delayed by 0 … taps − 1 samples,
    10 log10(|h * s|² / |ŝ − h * s|²), the SDR of BSS Eval (Vincent, Gribonval & Févotte, Performance measurement in
    blind audio source separation, 2006). A room filters a source, so this is the measure for echoes. −inf for a silent
    estimate or reference. Raises `InputError` for shapes that differ.

    >>> s = np.random.default_rng(0).normal(size=2000)
    >>> float(filtered_sdr(np.convolve(s, [1.0, -0.5, 0.2])[:2000] + 0.1 * s[::-1], s, taps=8).round(1))
    21.1
    """
    e, s = np.asarray(estimate, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if e.shape != s.shape or e.ndim not in (1, 2) or len(e) == 0:
        raise InputError(f"estimate and reference must both be (n,) or (n, K), and are {e.shape} and {s.shape}")
    length = next_fast_len(len(e) + taps)
    columns = e.reshape(len(e), -1).T, s.reshape(len(s), -1).T
    found = [_projected(one, other, taps, length) for one, other in zip(*columns, strict=True)]
    with np.errstate(divide="ignore"):
        return np.asarray([10 * np.log10(part / (1 - part)) if part < 1 else np.inf for part in found]).reshape(
            e.shape[1:]
        )


def _projected(estimate: FloatArray, reference: FloatArray, taps: int, length: int) -> float:
    """Return the part of the power of (n,) samples that the delayed reference explains."""
    spectrum, other = rfft(reference, length), rfft(estimate, length)
    own = irfft(np.abs(spectrum) ** 2, length)[:taps]
    cross = irfft(np.conj(spectrum) * other, length)[:taps]
    power = float(estimate @ estimate)
    if not own[0] > 0 or not power > 0:
        return 0.0
    own[0] *= 1 + 1e-10
    return float(np.clip(cross @ solve_toeplitz(own, cross) / power, 0.0, 1.0))


def matched_to(estimates: npt.ArrayLike, references: npt.ArrayLike) -> IntArray:
    """Return for each column of `references` (n, K) the column of `estimates` (n, L ≥ K) that is most like it, (K,).

    Each is used once; alike is the squared cosine, with which the SI-SDR rises.
    """
    e, s = np.asarray(estimates, dtype=np.float64), np.asarray(references, dtype=np.float64)
    if e.ndim != 2 or s.ndim != 2 or len(e) != len(s) or e.shape[1] < s.shape[1]:
        raise InputError(f"estimates (n, L) must have as many columns as references, or more: {e.shape}, {s.shape}")
    energy = np.outer((s * s).sum(axis=0), (e * e).sum(axis=0))
    alike = np.divide((s.T @ e) ** 2, energy, out=np.zeros_like(energy), where=energy > 0)
    return linear_sum_assignment(alike, maximize=True)[1].astype(np.int64)


def time_to(level: float, times: npt.ArrayLike, curve: npt.ArrayLike) -> float:
    """Return the first of the `times` (T,) at which the `curve` (T,) is at `level` or below; inf if it never is.

    >>> time_to(-20, [0.5, 1.0, 1.5], [-3, -21, -30])
    1.0
    """
    t, values = np.asarray(times, dtype=np.float64), np.asarray(curve, dtype=np.float64)
    if t.ndim != 1 or t.shape != values.shape:
        raise InputError(f"times and curve must both be (T,), and are {t.shape} and {values.shape}")
    reached = np.flatnonzero(values <= level)
    return float(t[reached[0]]) if len(reached) else float("inf")


def reacquisition_time(level: float, times: npt.ArrayLike, curve: npt.ArrayLike, changed_at: float) -> float:
    """Return how long after the change at `changed_at` the `curve` is at `level` or below again; inf if it never is.

    The curve must be measured against the mixing of its time, so that it is high right after the change.

    >>> reacquisition_time(-20, [1, 2, 3, 4], [-30, -30, -1, -25], changed_at=2.5)
    1.5
    """
    t, values = np.asarray(times, dtype=np.float64), np.asarray(curve, dtype=np.float64)
    later = t > changed_at
    return time_to(level, t[later], values[later]) - changed_at


def label_changes(matchings: npt.ArrayLike) -> int:
    """Return how often an output came to stand for another source: `matchings` (T, K) are those at successive times.

    >>> label_changes([[0, 1, 2], [0, 1, 2], [1, 0, 2]])
    2
    """
    order = np.asarray(matchings)
    return int((order[1:] != order[:-1]).sum())


def block_times(seconds: npt.ArrayLike) -> BlockTimes:
    """Return median, 99th percentile and maximum of what blocks took; NaN if there were none."""
    took = np.asarray(seconds, dtype=np.float64)
    if took.size == 0:
        return BlockTimes(float("nan"), float("nan"), float("nan"))
    p50, p99 = np.percentile(took, [50, 99])
    return BlockTimes(float(p50), float(p99), float(took.max()))

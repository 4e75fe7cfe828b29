"""Sources in rooms with echoes: what the microphones hear of them, by responses that are made."""

from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve

EARLIEST, LATEST = 2, 14
"""Between so many samples the direct sound arrives: microphones a few decimetres apart."""
TAIL = 0.4
"""Root of the power of the echoes, where that of the direct sound is 0.6 to 1."""


class Room(NamedTuple):
    """Sources (n, K), each as every microphone hears it (n, D, K), and all together (n, D)."""

    sources: np.ndarray
    images: np.ndarray
    channels: np.ndarray


def responses(n_channels: int, n_sources: int, seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return room responses (D, K, T): direct sound, then echoes that fall by 60 dB in `seconds`.

    The echoes are Gaussian noise under an exponential (Polack 1988).
    """
    n = round(1.2 * seconds * rate)
    tail = rng.normal(size=(n_channels, n_sources, n)) * 10 ** (-3 * np.arange(n) / (seconds * rate))
    tail *= TAIL / np.sqrt((tail**2).sum(axis=2, keepdims=True))
    for response in tail.reshape(-1, n):
        direct = int(rng.integers(EARLIEST, LATEST))
        response[:direct] = 0.0
        response[direct] = rng.uniform(0.6, 1.0)
    return tail


def heard_in_a_room(sources: np.ndarray, n_channels: int, seconds: float, rate: int, seed: int) -> Room:
    """Return sources (n, K) in a room that echoes for `seconds` (RT60), the first channel of power 1."""
    answer = responses(n_channels, sources.shape[1], seconds, rate, np.random.default_rng(seed))
    images = np.stack([fftconvolve(sources, each.T, axes=0)[: len(sources)] for each in answer], axis=1)
    images /= images[:, 0].sum(axis=1).std()
    return Room(sources, images, np.ascontiguousarray(images.sum(axis=2)))


def heard_walking(sources: np.ndarray, n_channels: int, seconds: float, rate: int, seed: int) -> Room:
    """Return the same where the last source moves in the middle half: its direct sound comes ever later, or sooner.

    The direct sound is delayed by a fraction of samples, between which it is interpolated; the echoes stay.
    """
    rng = np.random.default_rng(seed)
    answer, (n, K) = responses(n_channels, sources.shape[1], seconds, rate, rng), sources.shape
    images, moved = np.zeros((n, n_channels, K)), np.clip(2 * np.arange(n) / n - 0.5, 0.0, 1.0)
    for d in range(n_channels):
        for k in range(K):
            direct = int(np.argmax(answer[d, k]))
            after = int(rng.integers(EARLIEST, LATEST)) if k == K - 1 else direct
            time = np.maximum(np.arange(n) - (1 - moved) * direct - moved * after, 0.0)
            images[:, d, k] = answer[d, k, direct] * np.interp(time, np.arange(n), sources[:, k])
            answer[d, k, direct] = 0.0
            images[:, d, k] += fftconvolve(sources[:, k], answer[d, k])[:n]
    images /= images[:, 0].sum(axis=1).std()
    return Room(sources, images, np.ascontiguousarray(images.sum(axis=2)))

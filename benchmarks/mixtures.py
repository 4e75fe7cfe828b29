"""Superimposed signals with a known mixing: real speech and music, or signals that are made.

$STREAM_EM_RECORDINGS names a folder into which Debian's asterisk-core-sounds-{en,es,fr,it,ru}-g722 and
asterisk-moh-opsound-g722 were unpacked (`apt-get download`, `dpkg -x`); the PyPI package G722 decodes them. Without it
the signals are noise whose loudness changes every 20 ms.
"""

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

RATE = 16_000
LARGEST_CONDITION = 25.0


class Mixture(NamedTuple):
    """Sources of unit power, and what the sensors hear of them."""

    sources: np.ndarray
    mixing: np.ndarray
    channels: np.ndarray


@cache
def recordings() -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return all speech and all music in $STREAM_EM_RECORDINGS; nothing if it is not set."""
    if "STREAM_EM_RECORDINGS" not in os.environ:
        return (), ()
    found = sorted(Path(os.environ["STREAM_EM_RECORDINGS"]).rglob("*.g722"))
    speech = [path for path in found if path.stem == "demo-instruct"]
    music = [path for path in found if path.parent.name == "moh"]
    if not speech or not music:
        raise SystemExit(f"{os.environ['STREAM_EM_RECORDINGS']}: no demo-instruct.g722, or no moh/*.g722")
    return tuple(map(decoded, speech)), tuple(map(decoded, music))


def decoded(path: Path) -> np.ndarray:
    """Return the samples of a G.722 file at 16 kHz."""
    from G722 import G722

    return np.asarray(G722(RATE, 64_000).decode(path.read_bytes()), dtype=np.float64)


def kind_of_sources() -> str:
    """Return what the sources are, in a few words."""
    return "speech and music" if recordings()[0] else "noise that is loud and quiet in turn"


def sources(K: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return K sources (n, K) of unit power, half of them speech; longer than a recording: others follow it."""
    n = round(seconds * RATE)
    if not recordings()[0]:
        loudness = np.repeat(np.exp(0.8 * rng.normal(size=(-(-n // 320), K))), 320, axis=0)[:n]
        return standardised(loudness * rng.normal(size=(n, K)))
    columns = []
    for group in recordings():
        order = rng.permutation(len(group))
        for k in range(K // 2):
            playlist = [group[i] for i in np.roll(order, -k)]
            shortest = min(map(len, playlist))
            pieces = (
                playlist[:1]
                if len(playlist[0]) >= n
                else [each[:shortest] for each in playlist] * (1 + n // (shortest * len(playlist)))
            )
            columns.append(np.concatenate([standardised(each) for each in pieces])[:n])
    return standardised(np.stack(columns, axis=1))


def standardised(signals: np.ndarray) -> np.ndarray:
    """Return signals of mean 0 and power 1 along the first axis."""
    centred = signals - signals.mean(axis=0)
    return centred / centred.std(axis=0)


def random_mixing(K: int, rng: np.random.Generator) -> np.ndarray:
    """Return a mixing matrix (K, K) that is not badly conditioned."""
    while True:
        mixing = rng.normal(size=(K, K))
        if np.linalg.cond(mixing) < LARGEST_CONDITION:
            return mixing


def mixture(K: int, seconds: float, seed: int, snr: float | None = None) -> Mixture:
    """Return a random mixture; `snr` is that of each sensor in dB, None for no noise."""
    rng = np.random.default_rng(seed)
    signals, mixing = sources(K, seconds, rng), random_mixing(K, rng)
    channels = signals @ mixing.T
    if snr is not None:
        channels += rng.normal(size=channels.shape) * channels.std(axis=0) * 10 ** (-snr / 20)
    return Mixture(signals, mixing, np.ascontiguousarray(channels))


def changed_halfway(before: Mixture, seed: int) -> tuple[Mixture, np.ndarray]:
    """Return the same sources mixed otherwise in the second half, and the mixing there."""
    after, half = random_mixing(len(before.mixing), np.random.default_rng([seed, 1])), len(before.channels) // 2
    channels = before.channels.copy()
    channels[half:] += before.sources[half:] @ (after - before.mixing).T
    return before._replace(channels=channels), after


def with_bursts(clean: Mixture, seed: int, amplitude: float = 30.0) -> Mixture:
    """Return the mixture with a burst of 10 ms in a random direction in every second."""
    rng, channels = np.random.default_rng([seed, 2]), clean.channels.copy()
    n, length = len(channels), RATE // 100
    loudness = amplitude * np.sqrt((channels.std(axis=0) ** 2).sum())
    for second in range(0, n - RATE + 1, RATE):
        begin = second + int(rng.integers(RATE - length))
        direction = rng.normal(size=channels.shape[1])
        direction /= np.linalg.norm(direction)
        channels[begin : begin + length] += loudness * np.outer(rng.normal(size=length), direction)
    return clean._replace(channels=channels)


def matched(unmixing: np.ndarray, mixing: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean interference-to-signal ratio in dB, and which source, of which sign, each output is: (K,)."""
    product = unmixing @ mixing
    power = product**2
    power /= power.sum(axis=1, keepdims=True)
    rows, columns = linear_sum_assignment(-power)
    own = power[rows, columns]
    return 10 * np.log10(((power.sum(axis=1) - own) / own).mean()), (columns + 1) * np.sign(product[rows, columns])

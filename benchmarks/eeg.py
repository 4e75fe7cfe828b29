"""EEG: how well an unmixing learned in one pass over the first half predicts the second, beside batch Picard's.

$STREAM_EM_EEG names EEGLAB's sample data (sccn/eeglab, sample_data/eeglab_data.fdt: 32 channels at 128 Hz, float32, one
record after the other). Without it the signals are Laplace noise, mixed. What is compared is the mean log-likelihood of
the second half: ours by the densities learned, and once more, to tell of the directions only, by those of Picard and
Infomax, sech(y) / pi, with the scales that suit each source best in the first half. No truth is known of such signals.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.signal import butter, sosfiltfilt

import stream_em as sem
from benchmarks.mixtures import Mixture
from benchmarks.rows import Row
from benchmarks.unmixing import picard, timed, unmixed

CHANNELS, RATE, LOWEST = 32, 128, 1.0
SOURCES = ("block", "sample", "mixture")


def run(quick: bool) -> Iterator[Row]:
    """Yield by how much each kind of sources predicts better than Picard, and what it costs."""
    signals, kind = recorded(quick)
    halves = np.split(signals[: len(signals) // 2 * 2], 2)
    unmixing, peer_cost = timed(picard, halves[0])
    peer = predicted(unmixing, *halves)
    for sources in SOURCES:
        heard = Mixture(halves[0], np.eye(signals.shape[1]), halves[0])
        unmixed(heard, RATE, RATE, sources=sources)
        unmixer, cost = unmixed(heard, RATE, RATE, sources=sources)
        found = predicted(unmixer.unmixing, *halves)
        cost *= len(halves[0]) / RATE
        resets = sum(event.kind == "reset" for event in unmixer.events)
        learned = own(unmixer, halves[1])
        note = f"{learned:.3f} against {peer:.3f}; {resets} resets"
        yield Row(f"EEG held out, {sources}: above Picard", learned - peer, None, None, ">= 0", "nats", note)
        note = f"{found:.3f} against {peer:.3f}"
        yield Row(f"the same by Picard's density, {sources}", found - peer, None, None, ">= -0.05", "nats", note)
        yield Row(f"EEG one pass, {sources}", cost, peer_cost, peer_cost / cost, ">= 3", "s", kind)


def recorded(quick: bool) -> tuple[np.ndarray, str]:
    """Return signals (n, D), and what they are in a few words."""
    if "STREAM_EM_EEG" not in os.environ:
        rng, n = np.random.default_rng(0), 4000 if quick else 30_000
        return rng.laplace(size=(n, 8)) @ rng.normal(size=(8, 8)), f"{n:,} records of Laplace noise in 8 channels"
    values = np.fromfile(Path(os.environ["STREAM_EM_EEG"]), dtype="<f4").reshape(-1, CHANNELS).astype(np.float64)
    passed = sosfiltfilt(butter(2, LOWEST, "highpass", fs=RATE, output="sos"), values, axis=0)
    return np.ascontiguousarray(passed), f"{len(values):,} records of EEG in {CHANNELS} channels, above {LOWEST:g} Hz"


def predicted(unmixing: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean log-likelihood of the second half in nats, each source's scale and mean being the first's."""
    before, after = (half @ unmixing.T for half in (first, second))
    total = float(np.linalg.slogdet(unmixing)[1])
    for k in range(len(unmixing)):
        mean, deviation = before[:, k].mean(), before[:, k].std()
        y, held_out = (before[:, k] - mean) / deviation, (after[:, k] - mean) / deviation
        scale = np.exp(minimize_scalar(lambda log_scale, y=y: -log_density(y, log_scale), bracket=(-1.0, 1.0)).x)
        total += log_density(held_out, np.log(scale)) - np.log(deviation)
    return total


def log_density(y: np.ndarray, log_scale: float) -> float:
    """Return the mean logarithm of sech(c y) c / pi, where c is the scale."""
    z = np.abs(np.exp(log_scale) * y)
    return float(log_scale - np.log(np.pi) - (z + np.log1p(np.exp(-2.0 * z)) - np.log(2.0)).mean())


def own(unmixer: sem.Unmixer, records: np.ndarray) -> float:
    """Return the mean log-likelihood of records by the densities that the unmixer has learned."""
    model = sem.SignalUnmixing(
        len(unmixer.unmixing), sources=unmixer.settings.sources, block=unmixer.settings.block, nu=unmixer.settings.nu
    )
    return float(sem.Learner(model, params=unmixer.params).log_likelihood(records).mean())

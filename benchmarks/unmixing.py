"""Superimposed signals: how well and how fast they are told apart, beside batch FastICA and batch Picard.

What the signals are, and how to use real ones, stands in `mixtures`. The peers see all the data at once; ours passes
over it once, in chunks of 0.1 s.
"""

import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from sklearn.decomposition import FastICA

import stream_em as sem
from benchmarks.mixtures import (
    RATE,
    Mixture,
    changed_halfway,
    kind_of_sources,
    matched,
    mixture,
    random_mixing,
    with_bursts,
)
from benchmarks.rows import Row

CHUNK = RATE // 10
GOALS = {4: {None: -55, 40: -53, 30: -42}, 8: {None: -43, 40: -42, 30: -34}}
ACQUIRED = -20.0


def run(quick: bool) -> Iterator[Row]:
    """Yield quality, cost, latency, and how changes and artefacts are met."""
    draws, seconds = (1, 4.0) if quick else (10, 60.0)
    unmixed(mixture(4, 2.0, 99))
    for K in (4, 8):
        for snr in (None, 40, 30):
            yield from quality(K, snr, draws, seconds)
        yield from tracking(K, draws, seconds)
        yield artefacts(K, draws, seconds)
        yield from stationary(K, 1 if quick else 12, 4.0 if quick else 600.0)
        yield from learners(K, draws, seconds)
    yield from real_time(quick)


def unmixed(heard: Mixture, rate: int = RATE, chunk: int = CHUNK, **settings: Any) -> tuple[sem.Unmixer, float]:
    """Return an unmixer after one pass, and the seconds of processor time a second of signal."""
    unmixer, begin = sem.Unmixer(sample_rate=rate, **settings), process_time()
    for i in range(0, len(heard.channels), chunk):
        unmixer.process(heard.channels[i : i + chunk])
    return unmixer, (process_time() - begin) * rate / len(heard.channels)


def quality(K: int, snr: float | None, draws: int, seconds: float) -> Iterator[Row]:
    """Yield the interference that is left after one pass, and the processor time of it."""
    ours, peers, cost, peer_cost, picards = [], [], [], [], []
    for seed in range(draws):
        heard = mixture(K, seconds, seed, snr)
        unmixer, taken = unmixed(heard)
        ours.append(matched(unmixer.unmixing, heard.mixing)[0])
        cost.append(taken)
        unmixing, taken = timed(fastica, heard.channels)
        peers.append(matched(unmixing, heard.mixing)[0])
        peer_cost.append(taken * RATE / len(heard.channels))
        if snr is None:
            unmixing, taken = timed(picard, heard.channels)
            picards.append((matched(unmixing, heard.mixing)[0], taken * RATE / len(heard.channels)))
    noise = "no noise" if snr is None else f"{snr} dB"
    note = f"worst {max(ours):.1f}; FastICA {median(peers):.1f}, worst {max(peers):.1f}"
    if picards:
        note += f"; Picard {median(each[0] for each in picards):.1f} at {median(each[1] for each in picards):.2g} s/s"
    name = f"ISR, {K} sources, {noise}"
    yield Row(name, median(ours), None, None, f"<= {GOALS[K][snr]}", "dB", f"{note}; {draws} x {kind_of_sources()}")
    excess = median(ours) - median(peers)
    yield Row(f"{name}: above FastICA", excess, None, None, "<= 1", "dB", "of the medians")
    if snr is None:
        ratio = median(peer_cost) / median(cost)
        yield Row(f"cost, {K} sources", median(cost), median(peer_cost), ratio, ">= 5", "s/s", "against FastICA")


def timed(fit: Callable[[np.ndarray], np.ndarray], X: np.ndarray) -> tuple[np.ndarray, float]:
    """Return what a fit to X (n, D) gives, and its processor time in seconds."""
    begin = process_time()
    return fit(X), process_time() - begin


def fastica(X: np.ndarray) -> np.ndarray:
    """Return scikit-learn's unmixing matrix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged is told by its figures
        return np.asarray(FastICA(whiten="unit-variance", random_state=0).fit(X).components_)


def picard(X: np.ndarray) -> np.ndarray:
    """Return Picard's unmixing matrix."""
    from picard import picard as fit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whitening, rotation, _ = fit(X.T, ortho=False, random_state=0)
    return np.asarray(rotation @ whitening)


def course(heard: Mixture, mixing_at: Callable[[int], np.ndarray]) -> tuple[sem.Unmixer, np.ndarray, list[np.ndarray]]:
    """Return an unmixer after one pass, (seconds, dB) after each chunk (m, 2), and what its outputs were."""
    unmixer, curve, outputs = sem.Unmixer(sample_rate=RATE), [], []
    for i in range(0, len(heard.channels), CHUNK):
        unmixer.process(heard.channels[i : i + CHUNK])
        quality, output = matched(unmixer.unmixing, mixing_at(i))
        curve.append(((i + CHUNK) / RATE, quality))
        outputs.append(output)
    return unmixer, np.array(curve), outputs


def acquired(curve: np.ndarray, after: float) -> float:
    """Return how long after a time the interference is first below -20 dB; as long as there is, if never."""
    later = curve[curve[:, 0] > after]
    good = later[later[:, 1] < ACQUIRED]
    return float((good if len(good) else later[-1:])[0, 0] - after)


def tracking(K: int, draws: int, seconds: float) -> Iterator[Row]:
    """Yield how long it takes until signals are first told apart, and again after the mixing has changed."""
    first, again, resets = [], [], 0
    for seed in range(draws):
        heard, after = changed_halfway(mixture(K, seconds, seed), seed)
        half = len(heard.channels) // 2
        unmixer, curve, _ = course(heard, lambda i, a=heard.mixing, b=after, h=half: a if i < h else b)
        first.append(acquired(curve, 0.0))
        again.append(acquired(curve, half / RATE))
        resets += sum(event.kind == "reset" for event in unmixer.events)
    note = f"longest {max(first):.1f}"
    yield Row(f"to -20 dB, {K} sources", median(first), None, None, f"<= {1.5 if K == 4 else 2}", "s", note)
    note = f"longest {max(again):.1f}; {resets} resets in {draws} runs"
    yield Row(f"to -20 dB after a change, {K} sources", median(again), None, None, "<= 1", "s", note)


def artefacts(K: int, draws: int, seconds: float) -> Row:
    """Return the interference left among bursts of 30 times the amplitude, one a second."""
    left, peers = [], []
    for seed in range(draws):
        heard = with_bursts(mixture(K, seconds, seed, 40), seed)
        left.append(matched(unmixed(heard)[0].unmixing, heard.mixing)[0])
        peers.append(matched(fastica(heard.channels), heard.mixing)[0])
    note = f"the worst of {draws}; median {median(left):.1f}; FastICA {median(peers):.1f}"
    return Row(f"ISR among bursts, {K} sources", max(left), None, None, "<= -33", "dB", note)


def stationary(K: int, draws: int, seconds: float) -> Iterator[Row]:
    """Yield false resets and changes of order or sign where nothing changes."""
    resets = changes = 0
    for seed in range(draws):
        heard = mixture(K, seconds, 50 + seed, (None, 40, 30)[seed % 3])
        unmixer, _, outputs = course(heard, lambda _, a=heard.mixing: a)
        resets += sum(event.kind == "reset" for event in unmixer.events)
        settled = outputs[len(outputs) // 60 :]
        changes += sum(not np.array_equal(a, b) for a, b in pairwise(settled))
    note = f"{draws} x {seconds / 60:.3g} minutes, a third each without noise, with 40 and with 30 dB"
    yield Row(f"false resets, {K} sources", resets, None, None, "<= 0", "", note)
    yield Row(f"changes of order or sign, {K} sources", changes, None, None, "<= 0", "", note)


def learners(K: int, draws: int, seconds: float) -> Iterator[Row]:
    """Yield how a learner with drift watched, as in `stream-em run`, meets a new mixing, and no change."""
    again, false = [], 0
    for seed in range(draws):
        heard, after = changed_halfway(mixture(K, seconds, 50 + seed, (None, 40, 30)[seed % 3]), seed)
        learner = sem.Learner(sem.SignalUnmixing(K), stepsize=sem.Stepsize.polynomial(0.9), drift=sem.DriftSettings())
        half, curve = len(heard.channels) // 2, []
        for i in range(0, len(heard.channels), CHUNK):
            learner.learn(heard.channels[i : i + CHUNK])
            truth = heard.mixing if i < half else after
            curve.append(((i + CHUNK) / RATE, matched(learner.params.unmixing, truth)[0]))
        again.append(acquired(np.array(curve), half / RATE))
        alarms = [event.at for event in learner.events if event.kind == "drift"]
        false += len(alarms) - any(half < at < half + RATE for at in alarms)
    note = f"longest {max(again):.1f}; {false} false alarms in {draws} x {seconds / 60:.3g} minutes"
    yield Row(f"a learner after a change, {K} sources", median(again), None, None, "<= 1", "s", note)


def real_time(quick: bool) -> Iterator[Row]:
    """Yield the share of a core that live signals take, and how long a chunk does."""
    for channels, rate, chunk, goal in ((8, 48_000, 480, 0.01), (64, 1000, 100, 0.02)):
        seconds = 1 if quick else 60
        rng, block = np.random.default_rng(0), max(16, rate // 100)
        n = max(seconds * rate, 30 * block)
        loudness = np.repeat(np.exp(rng.normal(size=(-(-n // block), channels))), block, axis=0)[:n]
        mixing = random_mixing(channels, rng) if channels < 16 else rng.normal(size=(channels, channels))
        signals = loudness * rng.normal(size=(n, channels))
        heard = Mixture(signals, mixing, np.ascontiguousarray(signals @ mixing.T))
        unmixed(heard._replace(channels=heard.channels[: 30 * block]), rate, chunk)
        unmixer, taken = unmixed(heard, rate, chunk)
        times = np.array(unmixer.chunk_seconds) * 1e3
        at = np.percentile(times, [50, 99])
        note = f"chunks of {chunk / rate:g} s take {at[0]:.2g} ms, 99 %: {at[1]:.2g}, at most {times.max():.3g}"
        yield Row(f"real-time factor, {channels} channels at {rate:,} Hz", taken, None, None, f"<= {goal}", "s/s", note)

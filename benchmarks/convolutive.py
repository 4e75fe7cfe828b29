"""Sources in rooms that echo: how well and how fast they are told apart, beside batch AuxIVA (pyroomacoustics).

The peer sees all of a recording at once, 50 times over; ours passes over it once, in chunks of 0.1 s. Both are measured
over the last 8 of 20 seconds. The recordings are those that ship with the package; the rooms stand in `rooms`.
"""

from collections.abc import Iterator
from functools import cache
from statistics import mean, median
from time import process_time

import numpy as np

import stream_em as sem
from benchmarks.mixtures import RATE
from benchmarks.rooms import Room, heard_in_a_room, heard_walking
from benchmarks.rows import Row
from stream_em.demo import recordings
from stream_em.unmixing.metrics import filtered_sdr, matched_to, si_sdr

CHUNK = RATE // 10
MEASURED, EARLY = 8, slice(3 * RATE, 5 * RATE)
ITERATIONS = 50
ROOMS = ((2, 0.05, 1024), (2, 0.1, 1024), (2, 0.15, 2048), (3, 0.05, 1024), (3, 0.1, 1024), (3, 0.15, 2048))
"""Sources, seconds of echo (RT60), window."""


def run(quick: bool) -> Iterator[Row]:
    """Yield how much better sources become in each kind of room, then what live signals cost."""
    draws, seconds = (1, 3) if quick else (6, 20)
    separated(room(2, 0.05, 1.0, 0), 1024)
    gains, peers, early = [], [], []
    for K, echo, window in ROOMS[:1] if quick else ROOMS:
        found = [told_apart(K, echo, window, seed, seconds) for seed in range(draws)]
        ours, theirs = [each[0] for each in found], [each[1] for each in found]
        gains += ours
        peers += theirs
        early += [each[6] for each in found]
        cost, peer_cost = median(each[2] for each in found), median(each[3] for each in found)
        note = (
            f"least {min(ours):.1f}; AuxIVA {mean(theirs):.1f}, least {min(theirs):.1f}; SI-SDR better by"
            f" {mean(each[4] for each in found):.1f}, AuxIVA {mean(each[5] for each in found):.1f};"
            f" {cost:.3f} s/s, AuxIVA {peer_cost:.3f}; {draws} rooms"
        )
        name = f"SDR better by, {K} sources, RT60 {1000 * echo:.0f} ms"
        yield Row(name, mean(ours), None, None, ">= 8", "dB", note)
    note = f"least {min(early):.1f}; on the way, and with what was learned before each sample"
    yield Row("SDR better by, all rooms: in seconds 3 to 5", mean(early), None, None, "", "dB", note)
    yield Row("SDR better by, all rooms: below AuxIVA", mean(peers) - mean(gains), None, None, "<= 2", "dB", "of means")
    yield moved(1 if quick else 6)
    yield stationary(*((1, 1) if quick else (6, 12)))
    yield walking(1 if quick else 6)
    yield from real_time(quick)


@cache
def signals() -> np.ndarray:
    """Return the recordings (n, 4)."""
    return recordings()


def room(K: int, echo: float, seconds: float, seed: int) -> Room:
    """Return K of the recordings in a room."""
    chosen = np.random.default_rng(seed).permutation(signals().shape[1])[:K]
    return heard_in_a_room(signals()[: round(seconds * RATE), chosen], K, echo, RATE, seed)


def separated(
    heard: Room, window: int, rate: int = RATE, chunk: int = CHUNK, hop: int | None = None, **settings: object
) -> tuple[np.ndarray, sem.ConvolutiveUnmixer, float]:
    """Return the sources (n, K), the unmixer, and the seconds of processor time a second of signal."""
    unmixer = sem.ConvolutiveUnmixer(window=window, hop=hop, reference=0, sample_rate=rate, **settings)
    begin = process_time()
    parts = [unmixer.process(heard.channels[i : i + chunk]) for i in range(0, len(heard.channels), chunk)]
    taken = (process_time() - begin) * rate / len(heard.channels)
    return np.concatenate([*parts, unmixer.flush()])[window:], unmixer, taken


def auxiva(heard: Room, window: int) -> tuple[np.ndarray, float]:
    """Return the sources (n, K) of the peer, and its processor time likewise."""
    from pyroomacoustics.bss import auxiva as fit
    from pyroomacoustics.transform import stft

    hop, n = window // 2, len(heard.channels)
    begin = process_time()
    analysis = np.sqrt(np.hanning(window + 1)[:window])
    padded = np.concatenate([heard.channels, np.zeros((window, heard.channels.shape[1]))])
    spectrum = stft.analysis(padded, window, hop, win=analysis)
    found = fit(spectrum, n_iter=ITERATIONS, proj_back=True, model="gauss")
    back = stft.synthesis(found, window, hop, win=stft.compute_synthesis_window(analysis, hop))
    return back[hop : hop + n], (process_time() - begin) * RATE / n


def told_apart(K: int, echo: float, window: int, seed: int, seconds: float) -> tuple[float, ...]:
    """Return gains in SDR (ours, the peer's), processor time and gains in SI-SDR likewise, and ours in SDR early on."""
    heard = room(K, echo, seconds, seed)
    ours, _, cost = separated(heard, window)
    theirs, peer_cost = auxiva(heard, window)
    gains = better_by(ours, heard), better_by(theirs, heard)
    early = better_by(ours, heard, EARLY if seconds > 5 else None)[0]
    return gains[0][0], gains[1][0], cost, peer_cost, gains[0][1], gains[1][1], early


def better_by(sources: np.ndarray, heard: Room, part: slice | None = None) -> tuple[float, float]:
    """Return by how much SDR and SI-SDR (of what the first microphone hears) are above those of the microphone."""
    last = part or slice(-min(MEASURED * RATE, len(heard.channels) // 2), None)
    images, clean = heard.images[last, 0], heard.sources[last]
    own = sources[last][:, matched_to(sources[last], images)]
    before = np.repeat(heard.channels[last, :1], images.shape[1], axis=1)
    gain = (filtered_sdr(own, clean) - filtered_sdr(before, clean)).mean()
    return float(gain), float((si_sdr(own, images) - si_sdr(before, images)).mean())


def moved(draws: int) -> Row:
    """Return how much better sources are 12 to 20 s after all has become as in another room."""
    gains, without, resets, false = [], [], [], 0
    for seed in range(draws):
        before, after = room(2, 0.1, 20.0, seed), room(2, 0.1, 20.0, seed + 100)
        both = Room(*(np.concatenate(parts) for parts in zip(before, after, strict=True)))
        sources, unmixer, _ = separated(both, 1024)
        gains.append(better_by(sources, both)[0])
        without.append(better_by(separated(both, 1024, detect=False)[0], both)[0])
        times = [event.at / RATE - 20.0 for event in unmixer.events if event.kind == "reset"]
        resets += [at for at in times if at > 0]
        false += sum(at <= 0 for at in times)
    note = (
        f"noticed {len(resets)} times of {draws}, after {median(resets or [np.nan]):.1f} s; {false} false resets;"
        f" without detection {mean(without):.1f}"
    )
    return Row("SDR better by, after all is as in another room", mean(gains), None, None, ">= 6", "dB", note)


def stationary(draws: int, parts: int) -> Row:
    """Return false resets where nothing changes but that there are pauses of 2 s, in which only noise is heard."""
    resets, seconds = 0, 0.0
    for seed in range(draws):
        rng, K = np.random.default_rng(seed), 2 + seed % 3
        speech = [np.roll(signals()[:, :K], rng.integers(len(signals())), axis=0) for _ in range(parts)]
        pause = np.zeros((2 * RATE, K))
        quiet = heard_in_a_room(np.concatenate([each for part in speech for each in (part, pause)]), K, 0.1, RATE, seed)
        noise = 10 ** (-(60, 40, 25)[seed // 2 % 3] / 20) * rng.normal(size=quiet.channels.shape)
        unmixer = separated(quiet._replace(channels=quiet.channels + noise), 1024)[1]
        resets += sum(event.kind == "reset" for event in unmixer.events)
        seconds += len(noise) / RATE
    note = f"{draws} rooms, {seconds / 60:.1f} minutes, noise of -60, -40 and -25 dB"
    return Row("false resets", resets, None, None, "<= 0", "", note)


def walking(draws: int) -> Row:
    """Return how much better sources are just after one of two has moved for 10 s."""
    gains, usual = [], []
    for seed in range(draws):
        chosen = np.random.default_rng(seed).permutation(signals().shape[1])[:2]
        heard = heard_walking(signals()[:, chosen], 2, 0.05, RATE, seed)
        quick = sem.Stepsize.constant(half_life=RATE)
        gains.append(better_by(separated(heard, 1024, stepsize=quick)[0], heard)[0])
        usual.append(better_by(separated(heard, 1024)[0], heard)[0])
    note = f"over the last 8 s of 20, moving until 15 s; half-life 1 s; usual stepsize {mean(usual):.1f}; {draws} rooms"
    return Row("SDR better by, one of two moves", mean(gains), None, None, ">= 6", "dB", note)


def real_time(quick: bool) -> Iterator[Row]:
    """Yield the share of a core that live signals take, and how long a chunk and the sources of a sample do."""
    for channels, rate, window, goal in ((4, 16_000, 1024, 0.05), (8, 48_000, 2048, 0.15)):
        rng, n = np.random.default_rng(0), (1 if quick else 20) * rate
        loudness = np.repeat(np.exp(rng.normal(size=(-(-n // 320), channels))), 320, axis=0)[:n]
        heard = heard_in_a_room(loudness * rng.normal(size=(n, channels)), channels, 0.05, rate, 0)
        hop = window // 4
        separated(heard._replace(channels=heard.channels[: 4 * window]), window, rate, hop)
        _, unmixer, taken = separated(heard, window, rate, hop, hop)
        times = np.array(unmixer.chunk_seconds) * 1e3
        at = np.percentile(times, [50, 99])
        note = (
            f"window {window}, hop {hop}: chunks of {1000 * hop / rate:.3g} ms take {at[0]:.2g} ms, 99 %: {at[1]:.2g};"
            f" sources come {1000 * unmixer.latency.samples / rate:.3g} ms late"
        )
        name = f"real-time factor, {channels} channels at {rate:,} Hz"
        yield Row(name, taken, None, None, f"<= {goal}", "s/s", note)

"""Lines in noise: samples a second, and frequency errors against the Cramér-Rao bound and a sliding FFT.

The peer looks for the peak of a zero-padded FFT of the last samples, by a parabola through the logarithms of its three
highest points; with a Hann window or without one, and of several lengths: the best of these counts.
"""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.rows import Row, faster, seconds
from stream_em.demo import recordings
from stream_em.learning.learner import Learner
from stream_em.models.superimposed_sinusoids import SuperimposedSinusoids, SuperimposedSinusoidsParams
from stream_em.stepsize import Stepsize

BLOCK = 512
STEADY = ("dampings", "memories")
WINDOWS: dict[str, Callable[[int], np.ndarray]] = {"Hann window": np.hanning, "no window": np.ones}


def run(quick: bool) -> Iterator[Row]:
    """Yield rows of speed, of a steady line, of one that drifts, and of hum under speech."""
    n = 4000 if quick else 200_000
    for K in (1, 4, 16):
        yield speed(K, n, 1 if quick else 5)
    for snr in (0, 20):
        yield steady(snr, 2048 if quick else 16_384, 4 if quick else 50)
    yield from drifting(20_000 if quick else 200_000)
    yield hum(quick)


def speed(K: int, n: int, rounds: int) -> Row:
    """Return how many samples a second are learned."""
    frequencies = np.linspace(0.02, 0.45, K)
    y = np.cos(2 * np.pi * np.outer(np.arange(n), frequencies)).sum(axis=1) + np.random.default_rng(0).normal(size=n)
    start = parameters(frequencies, 1000.0, 1.0)
    times = []
    for _ in range(rounds + 1):
        learner = Learner(SuperimposedSinusoids(n_components=K), params=start, inhibit=0)
        times.append(seconds(lambda learner=learner: learned(learner, y)))
    # The first call may compile.
    rate = n / float(np.median(times[1:]))
    return Row(f"K {K}: samples learned", rate, None, None, "", "1/s", f"{1e9 / rate:.0f} ns a sample")


def steady(snr: int, n: int, repeats: int) -> Row:
    """Return the frequency error of a steady line after one pass, against the bound (Rife & Boorstyn 1974)."""
    noise, frequency, errors = 0.5 / 10 ** (snr / 10), 0.0512, []
    peaks: dict[str, list[float]] = {name: [] for name in WINDOWS}
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        y = np.cos(2 * np.pi * frequency * np.arange(n) + rng.uniform(0, 6)) + np.sqrt(noise) * rng.normal(size=n)
        learner = Learner(SuperimposedSinusoids(n_components=1, memory=1e6, frozen=STEADY), stepsize=Stepsize.equal())
        learned(learner, y)
        errors.append(learner.params.frequencies[0] - frequency)
        for name, window in WINDOWS.items():
            peaks[name].append(fft_peak(y, window) - frequency)
    bound = np.sqrt(24.0 * noise / n**3) / (2 * np.pi)
    best = min(WINDOWS, key=lambda name: rms(peaks[name]))
    ours, peer = rms(errors) / bound, rms(peaks[best]) / bound
    note = f"peer: one FFT of all {n:,}, {best}; bound {bound:.2g} cycles a record; {repeats} signals"
    return Row(f"steady line, {snr} dB: error", ours, peer, None, "<= 1.3", "bounds", note)


def drifting(n: int) -> Iterator[Row]:
    """Yield the frequency error of a line that rises, against the best of several sliding FFTs, and the time."""
    frequency = 0.05 + 0.01 * np.arange(n) / 100_000
    y = np.cos(2 * np.pi * np.cumsum(frequency)) + 0.5 * np.random.default_rng(0).normal(size=n)
    model = SuperimposedSinusoids(n_components=1, memory=200.0, frozen=STEADY)

    def ours() -> list[float]:
        learner = Learner(model, stepsize=Stepsize.constant(1 / 200), refresh_every=128)
        return followed(y, frequency, lambda end: learner_up_to(learner, y, end))

    tried = [(length, name) for length in (512, 768, 1024, 2048) for name in WINDOWS]
    found = {each: followed(y, frequency, sliding(y, *each)) for each in tried}
    best = min(tried, key=lambda each: rms(found[each]))
    ours()
    error = rms(ours())
    name = "line that rises by 1e-7 cycles a record, 3 dB"
    note = f"peer: the last {best[0]:,} every {BLOCK}, {best[1]}"
    yield Row(f"{name}: error", error, rms(found[best]), error / rms(found[best]), "", "1/record", note)
    times = (
        [seconds(ours) for _ in range(3)],
        [seconds(lambda: followed(y, frequency, sliding(y, *best))) for _ in range(3)],
    )
    yield faster(f"{name}: time", times, "", "ms")


def hum(quick: bool) -> Row:
    """Return by how many decibels hum of 50 and 100 Hz that is 10 dB below speech is reduced, in the second half."""
    speech, rate, memory = recordings()[:, 0], 16_000.0, 16_000.0
    t = np.arange(len(speech)) / rate
    added = 0.4 * np.cos(2 * np.pi * 50.03 * t) + 0.12 * np.cos(2 * np.pi * 100.06 * t + 1.0)
    model = SuperimposedSinusoids(2, sample_rate=rate, memory=memory, frozen=STEADY)
    start = parameters(np.array([50.0, 100.0]), memory, 0.1)
    learner, lines = Learner(model, params=start, stepsize=Stepsize.constant(1 / rate)), np.empty((len(t), 2))
    taken = seconds(lambda: learner.learn(speech + added, posterior=lines))
    late = slice(len(t) // 2, None)
    reduction = 10 * np.log10((added[late] ** 2).mean() / ((added - lines.sum(axis=1))[late] ** 2).mean())
    return Row(
        "hum of 50 and 100 Hz under speech: reduced by", reduction, None, None, ">= 30", "dB", f"{taken:.3f} s for 20 s"
    )


def parameters(frequencies: np.ndarray, memory: float, amplitude: float) -> SuperimposedSinusoidsParams:
    """Return steady lines of these frequencies."""
    K = len(frequencies)
    noise, level = np.ones(1), np.zeros(1)
    return SuperimposedSinusoidsParams(
        frequencies, np.zeros(K), np.full(K, memory), np.full(K, amplitude), noise, level
    )


def learned(learner: Learner, y: np.ndarray) -> None:
    """Learn a signal block by block."""
    for begin in range(0, len(y), BLOCK):
        learner.learn(y[begin : begin + BLOCK])


def learner_up_to(learner: Learner, y: np.ndarray, end: int) -> float:
    """Learn the block that ends there, and return the frequency."""
    learner.learn(y[end - BLOCK : end])
    return float(learner.params.frequencies[0])


def sliding(y: np.ndarray, length: int, window: str) -> Callable[[int], float]:
    """Return what finds the peak in the last `length` samples before a place."""
    return lambda end: fft_peak(y[max(0, end - length) : end], WINDOWS[window])


def followed(y: np.ndarray, frequency: np.ndarray, look: Callable[[int], float]) -> list[float]:
    """Return the errors of a frequency that is looked for after each block, after the first eighth of the signal."""
    ends = range(BLOCK, len(y) + 1, BLOCK)
    errors = [look(end) - frequency[end - 1] for end in ends]
    return errors[len(errors) // 8 :]


def fft_peak(y: np.ndarray, window: Callable[[int], np.ndarray]) -> float:
    """Return the frequency of the highest peak, in cycles a record."""
    length = 4 * 2 ** int(np.ceil(np.log2(len(y))))
    power = np.log(np.abs(np.fft.rfft((y - y.mean()) * window(len(y)), length)) + 1e-300)
    peak = int(power[1:-1].argmax()) + 1
    left, middle, right = power[peak - 1 : peak + 2]
    return float((peak + 0.5 * (left - right) / (left - 2 * middle + right)) / length)


def rms(errors: list[float]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))

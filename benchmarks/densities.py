"""Sources of any density: flat, two-humped, tones and heavy-tailed ones told apart, beside FastICA and extended Picard.

20,000 records of four sources of unit power. The peers see all of them at once, as batch EM does; the learner and the
unmixer pass over them once.
"""

import warnings
from collections.abc import Iterator
from statistics import median

import numpy as np

import stream_em as sem
from benchmarks.mixtures import Mixture, matched, random_mixing, standardised
from benchmarks.rows import Row
from benchmarks.unmixing import fastica, timed

RECORDS, RATE, CHUNK = 20_000, 16_000, 1000
KINDS = {
    "uniform, two humps, Laplace, tone": ("uniform", "humps", "laplace", "tone"),
    "uniform, tone, two of Laplace": ("uniform", "tone", "laplace", "laplace"),
    "four uniform": ("uniform",) * 4,
    "four of Laplace": ("laplace",) * 4,
}


def run(quick: bool) -> Iterator[Row]:
    """Yield the interference that is left, and the cost."""
    for name, kinds in KINDS.items():
        heard = [mixture(kinds, seed, RECORDS // (8 if quick else 1)) for seed in range(1 if quick else 10)]
        fast = [timed(fastica, each.channels) for each in heard]
        extended = [timed(extended_picard, each.channels) for each in heard]
        for way, fit in (("batch EM", batch), ("a learner, one pass", learned), ("an unmixer, one pass", streamed)):
            ours = [timed(fit, each.channels) for each in heard]
            left, others, picards = (
                [matched(unmixing, each.mixing)[0] for (unmixing, _), each in zip(found, heard, strict=True)]
                for found in (ours, fast, extended)
            )
            cost, peer_cost = (median(taken for _, taken in found) for found in (ours, extended))
            excess = median(left) - median(picards)
            note = (
                f"{median(left):.1f}, worst {max(left):.1f}; FastICA {median(others):.1f}, worst {max(others):.1f};"
                f" Picard {median(picards):.1f}, worst {max(picards):.1f};"
                f" {1e3 * cost:.2g} ms for {1e3 * peer_cost:.2g}"
            )
            goal = "<= 0.5" if way == "batch EM" else "<= 2"
            yield Row(f"ISR, {name}, {way}: above Picard", excess, None, None, goal, "dB", note)


def mixture(kinds: tuple[str, ...], seed: int, n: int) -> Mixture:
    """Return sources of these densities, and a random mixture of them."""
    rng = np.random.default_rng(seed)
    draws = {
        "uniform": lambda: rng.uniform(-1.0, 1.0, n),
        "humps": lambda: rng.choice([-1.0, 1.0], n) + 0.3 * rng.normal(size=n),
        "laplace": lambda: rng.laplace(size=n),
        "tone": lambda: np.sin(rng.uniform(0.3, 0.6) * np.arange(n) + rng.uniform(0.0, 6.0)),
    }
    sources = standardised(np.stack([draws[kind]() for kind in kinds], axis=1))
    mixing = random_mixing(len(kinds), rng)
    return Mixture(sources, mixing, np.ascontiguousarray(sources @ mixing.T))


def batch(X: np.ndarray) -> np.ndarray:
    """Return the unmixing matrix of batch EM."""
    model = sem.SignalUnmixing(X.shape[1], sources="mixture")
    return np.asarray(sem.batch_em(model, X, max_iter=100, tol=1e-6).params.unmixing)


def learned(X: np.ndarray) -> np.ndarray:
    """Return the averaged unmixing matrix of a learner after one pass."""
    learner = sem.Learner(sem.SignalUnmixing(X.shape[1], sources="mixture"))
    for begin in range(0, len(X), CHUNK):
        learner.learn(X[begin : begin + CHUNK])
    return np.asarray(learner.averaged_params.unmixing)


def streamed(X: np.ndarray) -> np.ndarray:
    """Return the unmixing matrix of an unmixer after one pass."""
    unmixer = sem.Unmixer(sources="mixture", sample_rate=RATE)
    for begin in range(0, len(X), CHUNK):
        unmixer.process(X[begin : begin + CHUNK])
    return unmixer.unmixing


def extended_picard(X: np.ndarray) -> np.ndarray:
    """Return the unmixing matrix of Picard, which chooses each source's density by the sign of its kurtosis."""
    from picard import picard

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whitening, rotation, _ = picard(X.T, ortho=True, extended=True, random_state=0)
    return np.asarray(rotation @ whitening)

"""Streams that move: real ones with annotated change points, and river's moving clusters; all ship with river.

Each is a matrix (n, D) in time order. Nothing looks ahead: prices become log returns, sums become increments. What was
rounded gets uniform noise of one rounding unit (Theis, van den Oord & Bethge 2016), or a density has no meaning there.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from river import datasets
from river.datasets import synth
from river.drift import datasets as annotated


class Moving(NamedTuple):
    """A stream, or several of one kind."""

    name: str
    n_components: int
    """Of its models."""
    records: tuple[Callable[[], np.ndarray], ...]


def columns(dataset: Any, *names: str) -> np.ndarray:
    """Return fields of a dataset of river as (n, D), whether they are features or targets."""
    rows = [x | (y if isinstance(y, dict) else {"y": y}) for x, y in dataset]
    return np.array([[float(row[name]) for name in names] for row in rows])


def jittered(X: np.ndarray, *units: float) -> np.ndarray:
    """Return (n, D) records with uniform noise of one rounding unit of each field."""
    return X + np.random.default_rng(0).uniform(-0.5, 0.5, X.shape) * units


def log_returns(prices: np.ndarray, lag: int = 1) -> np.ndarray:
    """Return the logarithms (n - lag, D) of prices against those `lag` records before, in percent."""
    return 100.0 * np.log(prices[lag:] / prices[:-lag])


def apple() -> np.ndarray:
    """Return the daily log return and the logarithm of the volume."""
    X = columns(annotated.Apple(), "Close", "Volume")
    return np.hstack([log_returns(X[:, :1]), np.log(X[1:, 1:])])


def run_log() -> np.ndarray:
    """Return the pace, and the distance since the record before."""
    X = columns(annotated.RunLog(), "Pace", "Distance")
    return np.hstack([X[1:, :1], np.diff(X[:, 1:], axis=0)])


def occupancy() -> np.ndarray:
    """Return temperature, humidity, light and carbon dioxide of a room."""
    return jittered(columns(annotated.Occupancy(), "V1", "V2", "V3", "V4"), 0.01, 0.01, 1.0, 1.0)


def stocks() -> np.ndarray:
    """Return the daily returns of ten stocks, in percent."""
    names = ["AAPL", "AMZN", "IBM", "INTC", "JNJ", "JPM", "KO", "MSFT", "WMT", "XOM"]
    return columns(datasets.SP500Stocks(), *names)


def real(name: str, make: Callable[[], np.ndarray]) -> Moving:
    """Return a real stream, of two components: calm and wild, or before and after."""
    return Moving(name, 2, (make,))


ANNOTATED = (
    real("airline passengers", lambda: log_returns(columns(annotated.AirlinePassengers(), "y"), lag=12)),
    real("apple", apple),
    real("bitcoin", lambda: log_returns(columns(annotated.Bitcoin(), "y"))),
    real("brent", lambda: log_returns(jittered(columns(annotated.BrentSpotPrice(), "y"), 0.01))),
    real("occupancy", occupancy),
    real("run log", run_log),
    real("coal employment", lambda: log_returns(columns(annotated.UKCoalEmploy(), "y"))),
)
SHIPPED = (
    real("water flow", lambda: jittered(columns(datasets.WaterFlow(), "y"), 0.01)),
    real("ten stocks", stocks),
)
CENTRES, FEATURES = 5, 4


def clusters(n: int, speed: float, seed: int) -> np.ndarray:
    """Return (n, 4) records of five clusters that move by `speed` a record within the unit cube."""
    return taken(synth.RandomRBFDrift(seed, seed, 2, FEATURES, CENTRES, speed, CENTRES), n)


def replaced(n: int, width: int, seed: int) -> np.ndarray:
    """Return (n, 4) records of five clusters that five others replace halfway, within about `width` records."""
    before, after = (synth.RandomRBF(seed + i, seed + i, 2, FEATURES, CENTRES) for i in (0, 1))
    return taken(synth.ConceptDriftStream(before, after, position=n // 2, width=width, seed=seed), n)


def returning(n: int, visits: int, seed: int) -> np.ndarray:
    """Return (n, 4) records of five clusters and five others in turns."""
    streams = [iter(synth.RandomRBF(seed + i, seed + i, 2, FEATURES, CENTRES)) for i in (0, 1)]
    return np.concatenate([taken(streams[visit % 2], n // visits) for visit in range(visits)])


def taken(stream: Any, n: int) -> np.ndarray:
    """Return the first n records (n, D) of a stream of river."""
    return np.array([list(x.values()) for x, _ in islice(stream, n)])


def generated(n: int, seeds: Sequence[int]) -> Iterator[Moving]:
    """Yield river's moving clusters, n records for each seed."""
    for speed in (0.0, 1e-5, 1e-4, 1e-3):
        yield of_seeds(f"clusters moving by {speed:g}", seeds, partial(clusters, n, speed))
    for width in (100, 2000):
        yield of_seeds(f"clusters replaced within {width:,}", seeds, partial(replaced, n, width))
    yield of_seeds("clusters in turns", seeds, partial(returning, n, 4))


def of_seeds(name: str, seeds: Sequence[int], make: Callable[[int], np.ndarray]) -> Moving:
    """Return the streams that `make` gives for seeds."""
    return Moving(name, CENTRES, tuple(partial(make, seed) for seed in seeds))

"""How long one record takes: through the learner, and through the compiled function alone."""

from collections.abc import Callable, Iterator
from time import perf_counter_ns

import numpy as np

import stream_em as sem
from benchmarks.rows import Row
from benchmarks.samples import mixture_params, mixture_records
from stream_em.em import online_em

K, D = 3, 4


def run(quick: bool) -> Iterator[Row]:
    """Yield median and 99th percentile of both."""
    params = mixture_params(K, D, spread=2.0)
    X = mixture_records(params, 500 if quick else 50_000)
    records = [X[i : i + 1] for i in range(len(X))]
    learner = sem.Learner(sem.GaussianMixture(K), params=params)
    name = f"one record, K={K} D={D}"
    yield from percentiles(f"{name}: Learner.learn", learner.learn, records)
    yield from percentiles(f"{name}: online_em", compiled_call(learner), records)


def compiled_call(learner: sem.Learner) -> Callable[[np.ndarray], None]:
    """Return the call at the bottom of `Learner.learn`, its other arguments made once."""
    state, sized = learner.state, learner.sized
    count, step, log_likelihood, nothing = np.ones(1), np.array([1e-3]), np.empty(1), np.empty((0, 0))

    def learn(record: np.ndarray) -> None:
        online_em(
            sized,
            state.theta,
            state.s,
            state.averages,
            state.tally,
            record,
            count,
            step,
            learner.settings.refresh_every,
            0,
            nothing,
            log_likelihood,
        )

    return learn


def percentiles(name: str, learn: Callable[[np.ndarray], object], records: list[np.ndarray]) -> Iterator[Row]:
    """Yield the median and the 99th percentile of the calls, in microseconds."""
    for record in records[:100]:
        learn(record)
    taken = np.empty(len(records))
    for i, record in enumerate(records):
        begin = perf_counter_ns()
        learn(record)
        taken[i] = perf_counter_ns() - begin
    middle, late, latest = np.percentile(taken / 1e3, [50, 99, 100])
    note = f"{len(records):,} calls; an M-step every 512; the longest {latest:,.0f} µs"
    yield Row(f"{name}, median", middle, None, None, "", "µs", note)
    yield Row(f"{name}, 99th percentile", late, None, None, "", "µs", note)

"""Alarms: how many are false, how late the true ones come, what they are taken for, and what watching costs."""

from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import stream_em as sem
from benchmarks.rows import Row
from benchmarks.samples import chain_params, chain_records, mixture_params, mixture_records
from benchmarks.scenarios import KINDS, changing, watched
from stream_em.learning.detectors import LogLikelihoodDetector
from stream_em.learning.drift import DriftMonitor, DriftSettings

K, RATE = 3, 1_000_000
RIVERS = ("adwin", "page-hinkley", "kswin")


def run(quick: bool) -> Iterator[Row]:
    """Yield false alarms, delays, kinds and cost."""
    yield from false_alarms(1 if quick else 50, 10_000 if quick else 100_000, quick)
    yield from delays(2 if quick else 50, 8000 if quick else 30_000, 4.0 if quick else 1.0, quick)
    yield from kinds(1 if quick else 50, 8000 if quick else 20_000, 200 if quick else 4000)
    yield cost(10 if quick else 300)


def false_alarms(streams: int, n: int, quick: bool) -> Iterator[Row]:
    """Yield the alarms in streams that do not change, at the set rate, and at one so high that they can be counted."""
    half_life = sem.Stepsize.constant(half_life=1000)
    for D in (2, 16, 64):
        yield false_alarm_row("mixture", D, sem.Stepsize(), RATE, streams, n)
    for kind, D, stepsize in (
        ("mixture", 2, sem.Stepsize()),
        ("mixture", 16, sem.Stepsize()),
        ("mixture", 64, sem.Stepsize()),
        ("mixture", 2, half_life),
        ("mixture", 16, half_life),
        ("chain", 2, sem.Stepsize()),
        ("chain", 16, sem.Stepsize()),
        ("chain", 16, half_life),
    ):
        yield false_alarm_row(kind, D, stepsize, RATE / 40, streams, n)
    for name in RIVERS:
        count = min(streams, 4 if name == "kswin" else 20)
        alarms = 0
        for seed in range(count):
            learner, X = stationary("mixture", 16, sem.Stepsize(), n if not quick else 3000, seed)
            alarms += len(watched(LogLikelihoodDetector.named(name), learner, X))
        yield Row(f"false alarms of {name}, D=16", alarms, None, None, "", "", f"in {count} x {n:,} records")


def false_alarm_row(kind: str, D: int, stepsize: sem.Stepsize, rate: float, streams: int, n: int) -> Row:
    """Count the alarms at one set rate."""
    alarms, what = 0, Counter[str]()
    for seed in range(streams):
        learner, X = stationary(kind, D, stepsize, n, seed)
        found = watched(DriftMonitor(learner.model, DriftSettings(rate), stepsize), learner, X)
        alarms += len(found)
        what.update(alarm.statistic for alarm in found)
    allowed = streams * n / rate
    note = f"{allowed:.3g} allowed: one in {rate:,.0f} of {streams} x {n:,} records; {dict(what)}"
    return Row(f"false alarms, {kind} D={D} {stepsize.spelling}", alarms, None, None, f"<= {allowed:.3g}", "", note)


def stationary(kind: str, D: int, stepsize: sem.Stepsize, n: int, seed: int) -> tuple[sem.Learner, np.ndarray]:
    """Return a new learner and (n, D) records of one distribution."""
    if kind == "mixture":
        params = mixture_params(K, D, spread=2.0, seed=seed)
        return sem.Learner(sem.GaussianMixture(K), stepsize=stepsize), mixture_records(params, n, seed)
    chain = chain_params(K, D, spread=2.0, seed=seed)
    return sem.Learner(sem.HiddenMarkov(K), stepsize=stepsize), chain_records(chain, n, seed)


def delays(streams: int, before: int, size: float, quick: bool) -> Iterator[Row]:
    """Yield how many records after a shift of one component's mean the first alarm comes, never being infinity."""
    makers: dict[str, Callable[[sem.Learner], Any]] = {
        "ours": lambda learner: DriftMonitor(learner.model, DriftSettings(RATE), learner.settings.stepsize),
        **{name: lambda _, name=name: LogLikelihoodDetector.named(name) for name in RIVERS},
    }
    name = f"records until a shift of one component's mean by {size:g} sd is found, D=16"
    ours = float("nan")
    for detector, make in makers.items():
        late = []
        for seed in range(min(streams, 10) if detector == "kswin" else streams):
            start = before + 37 * seed  # anywhere in a window
            _, X = changing("abrupt", K, 16, size, start, 2000 if quick else 10_000, 1, seed)
            learner = sem.Learner(sem.GaussianMixture(K))
            alarms = [alarm.at - start for alarm in watched(make(learner), learner, X) if alarm.at > start]
            late.append(alarms[0] if alarms else float("inf"))
        middle, latest = median(late), sorted(late)[int(0.9 * (len(late) - 1))]
        note = f"median of {len(late)} streams; 90 % within {latest:,.0f}"
        if detector == "ours":
            ours = middle
            yield Row(name, middle, None, None, "<= 500", "records", note)
        else:
            yield Row(f"{name}, against {detector}", ours, middle, middle / ours, "", "records", note)


def kinds(streams: int, before: int, lasting: int) -> Iterator[Row]:
    """Yield, for each kind of change, how many of the first alarms name it, and what the others say."""
    for kind in KINDS:
        said = Counter[str]()
        for seed in range(streams):
            start, size = before + 37 * seed, (1.0, 2.0, 4.0)[seed % 3]
            _, X = changing(kind, K, 16, size, start, 10_000, lasting, seed)
            learner = sem.Learner(sem.GaussianMixture(K))
            alarms = [alarm for alarm in watched(DriftMonitor(learner.model), learner, X) if alarm.at > start]
            said[alarms[0].kind if alarms else "nothing"] += 1
            if kind == "outliers" and any(alarm.drift for alarm in alarms):
                said["then a drift"] += 1
        note = ", ".join(f"{word} {count}" for word, count in said.most_common())
        note = f"of {streams}, moved by 1, 2 or 4 sd: {note}"
        yield Row(f"{kind}: named so by the first alarm", 100 * said[kind] / streams, None, None, "", "%", note)


def cost(blocks: int) -> Row:
    """Compare learning with the posterior and watching with learning with the posterior alone, block by block."""
    params = mixture_params(K, 16, spread=2.0)
    X = mixture_records(params, 8192 * 20)
    learner = sem.Learner(sem.GaussianMixture(K), params=params)
    monitor, posterior = DriftMonitor(learner.model), np.empty((8192, K))
    alone, watching = [], []
    for i in range(blocks):
        records = X[8192 * (i % 20) :][:8192]
        begin = perf_counter()
        log_likelihood = learner.learn(records, posterior=posterior)
        between = perf_counter()
        monitor.update(records, log_likelihood, posterior, lambda: learner.params)
        alone.append(between - begin)
        watching.append(perf_counter() - between)
    ours, peer = (1e3 * value for value in (median(alone) + median(watching), median(alone)))
    note = f"watching a block of 8192 takes {1e6 * median(watching):.0f} µs"
    return Row("learning and watching K=3 D=16, against learning", ours, peer, peer / ours, ">= 0.9", "ms", note)

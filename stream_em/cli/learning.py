"""What the commands that learn share."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from stream_em.cli.output import console
from stream_em.learning.learner import Learner
from stream_em.models.interface import Settings
from stream_em.models.signal_unmixing import Sources


def compile_kernels(model: Settings, robust: float | None = None) -> float:
    """Load the model's compiled functions, or compile them the first time; return the seconds it took."""
    small = model.small()
    records = np.ascontiguousarray((np.arange(128.0).reshape(64, 2) % 7)[:, : small.most_features])
    return _seconds_of(lambda: Learner(small, starts=1, warmup=32, robust=robust).learn(records))


def compile_unmixer(sources: Sources = "block") -> float:
    """Do the same for all that an unmixer may come to need: its start, its steps, and a change of the mixing."""
    from stream_em.unmixing.unmixer import Unmixer

    rng = np.random.default_rng(0)
    signals = np.repeat(np.exp(rng.normal(size=(1000, 2))), 16, axis=0) * rng.normal(size=(16_000, 2))
    changed = np.concatenate([signals[:8000] @ [[1.0, 0.4], [0.7, 1.0]], signals[8000:] @ [[1.0, -3.0], [-0.7, 1.0]]])
    return _seconds_of(lambda: Unmixer(block=16, sources=sources).process(changed))


def compile_convolutive() -> float:
    """Do the same for an unmixer of signals with echoes."""
    from stream_em.unmixing.convolutive import ConvolutiveUnmixer

    signals = np.random.default_rng(0).normal(size=(512, 2))
    return _seconds_of(lambda: ConvolutiveUnmixer(window=64).process(signals))


def _seconds_of(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    with console(stderr=True).status("compiling kernels (first time only)…"):
        work()
    return time.perf_counter() - begin

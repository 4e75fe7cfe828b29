"""What the commands that learn share."""

import time

import numpy as np

from stream_em.cli.output import console
from stream_em.learning.learner import Learner
from stream_em.models.interface import Settings
from stream_em.models.signal_unmixing import Sources


def compile_unmixer(sources: Sources = "block") -> float:
    """Do the same for all that an unmixer may come to need: its start, its steps, and a change of the mixing."""
    from stream_em.unmixing.unmixer import Unmixer

    begin = time.perf_counter()
    rng = np.random.default_rng(0)
    signals = np.repeat(np.exp(rng.normal(size=(1000, 2))), 16, axis=0) * rng.normal(size=(16_000, 2))
    unmixer = Unmixer(block=16, sources=sources)
    with console(stderr=True).status("compiling kernels (first time only)…"):
        for half, mixing in ((signals[:8000], [[1.0, 0.4], [0.7, 1.0]]), (signals[8000:], [[1.0, -3.0], [-0.7, 1.0]])):
            unmixer.process(half @ mixing)
    return time.perf_counter() - begin


def compile_convolutive() -> float:
    """Do the same for an unmixer of signals with echoes."""
    from stream_em.unmixing.convolutive import ConvolutiveUnmixer

    begin = time.perf_counter()
    with console(stderr=True).status("compiling kernels (first time only)…"):
        ConvolutiveUnmixer(window=64).process(np.random.default_rng(0).normal(size=(512, 2)))
    return time.perf_counter() - begin


def compile_kernels(model: Settings, robust: float | None = None) -> float:
    """Load the model's compiled functions, or compile them the first time; return the seconds it took."""
    begin = time.perf_counter()
    small = model.small()
    with console(stderr=True).status("compiling kernels (first time only)…"):
        records = np.arange(128.0).reshape(64, 2) % 7
        Learner(small, starts=1, warmup=32, robust=robust).learn(
            np.ascontiguousarray(records[:, : small.most_features])
        )
    return time.perf_counter() - begin

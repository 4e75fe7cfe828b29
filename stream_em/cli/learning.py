"""What the commands that learn share."""

import time

import msgspec
import numpy as np

from stream_em.cli.output import console
from stream_em.learning.learner import Learner
from stream_em.models.interface import Settings


def compile_kernels(model: Settings, robust: float | None = None) -> float:
    """Load the model's compiled functions, or compile them the first time; return the seconds it took."""
    begin = time.perf_counter()
    small = msgspec.structs.replace(model, n_components=2, frozen=())
    with console(stderr=True).status("compiling kernels (first time only)…"):
        Learner(small, starts=1, warmup=32, robust=robust).learn(np.arange(128.0).reshape(64, 2) % 7)
    return time.perf_counter() - begin

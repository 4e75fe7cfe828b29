"""The loop of `fit` and `demo`: blocks in, progress on standard error."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from types import FrameType

import msgspec
import numpy as np
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from stream_em.arrays import FloatArray
from stream_em.cli.output import console
from stream_em.learning.learner import Learner
from stream_em.models.interface import Settings
from stream_em.streams.ahead import read_ahead
from stream_em.streams.files import FileSource
from stream_em.streams.records import Block


def compile_kernels(model: Settings) -> float:
    """Load the model's compiled functions, or compile them the first time; return the seconds it took."""
    begin = time.perf_counter()
    small = msgspec.structs.replace(model, n_components=2, frozen=())
    with console(stderr=True).status("compiling kernels (first time only)…"):
        Learner(small, starts=1, warmup=32).learn(np.arange(128.0).reshape(64, 2) % 7)
    return time.perf_counter() - begin


def blocks_of(source: FileSource, passes: int = 1) -> Iterator[Block]:
    """Return the blocks of all passes, read ahead; raises at once what is wrong with the first block."""
    blocks = (block for _ in range(passes) for block in source)
    return read_ahead(chain([next(blocks)], blocks))


def learn_blocks(
    learner: Learner, blocks: Iterator[Block], source: FileSource, passes: int = 1, *, quiet: bool = False
) -> Iterator[FloatArray]:
    """Learn block after block; yield the log-likelihood (n,) of its records before they were learned.

    An interrupt (Ctrl-C) is raised between two blocks, so that the learner can be saved.
    """
    target = console(stderr=True)
    columns = (SpinnerColumn(), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
    records, begin = 0, time.perf_counter()
    with Progress(*columns, console=target, transient=True, disable=quiet or not target.is_terminal) as progress:
        counted, total = source.n_records, source.n_bytes
        total = counted or total
        task = progress.add_task("", total=total and total * passes, note="")
        for block in blocks:
            with _interrupts_held_back():
                log_likelihood = learner.learn(block)
            records += len(block)
            rate = records / (time.perf_counter() - begin)
            note = f"{records:,} records · {rate:,.0f}/s · log-likelihood {learner.mean_log_likelihood:.5g}"
            progress.update(task, completed=records if counted else source.bytes_read, note=note)
            yield log_likelihood


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Raise an interrupt that comes meanwhile at the end; a second one is raised at once."""
    came = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt

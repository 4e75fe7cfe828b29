"""SIGTERM and Ctrl-C: the first asks for a clean stop, the second ends the process at once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 0}
KILLED = 128


class Stopped:
    """What a clean stop shall exit with: 130 after Ctrl-C, 0 otherwise."""

    code = 0


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[Stopped]:
    """Call `stop` at the first signal meanwhile; at the second exit at once."""
    stopped = Stopped()
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if came:
            os._exit(KILLED + number)
        came.append(number)
        stopped.code = EXIT_CODES[signal.Signals(number)]
        stop()

    before = {number: signal.signal(number, handle) for number in EXIT_CODES}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

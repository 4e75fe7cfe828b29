"""What a measurement is, and how two things are timed against each other."""

import gc
from collections.abc import Callable
from math import isnan
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

SCALES = {"s": 1.0, "ms": 1e3, "µs": 1e6}


class Row(NamedTuple):
    """One line of the table; a goal like ">= 8" is about the ratio, or about `ours` if there is no ratio."""

    name: str
    ours: float
    peer: float | None
    ratio: float | None
    goal: str
    unit: str
    note: str

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if not self.goal:
            return None
        sign, limit = self.goal.split()
        value = self.ours if self.ratio is None else self.ratio
        return value >= float(limit) if sign == ">=" else value <= float(limit)

    @property
    def ratio_shown(self) -> str:
        """Return the ratio as text; one that is not a number means that the comparison's end was never reached."""
        if self.ratio is None:
            return ""
        return "never" if isnan(self.ratio) else f"{self.ratio:.3g}x"

    def shown(self) -> str:
        """Return the row in one line, without its name."""
        peer = "" if self.peer is None else f" against {self.peer:,.4g}"
        return f"{self.ours:,.4g}{peer} {self.unit} {self.ratio_shown} ({self.note})"


def seconds(function: Callable[[], Any]) -> float:
    """Return how long one call takes, with the garbage collector at rest."""
    gc.collect()
    gc.disable()
    try:
        begin = perf_counter()
        function()
        return perf_counter() - begin
    finally:
        gc.enable()


def alternated(ours: Callable[[], Any], peer: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Return the times of `rounds` calls of each, in turns, so that a machine that slows down slows both."""
    pairs = [(seconds(ours), seconds(peer)) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def faster(name: str, times: tuple[list[float], list[float]], goal: str = "", unit: str = "ms", note: str = "") -> Row:
    """Return a row of times (ours, the peer's); the ratio, of medians, says how many times faster we are."""
    ours, peer = times
    scale = SCALES[unit]
    least = f"least {min(ours) * scale:.4g} : {min(peer) * scale:.4g}"
    note = f"{least}; {note}" if note else least
    return Row(name, median(ours) * scale, median(peer) * scale, median(peer) / median(ours), goal, unit, note)

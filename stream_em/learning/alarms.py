"""What an alarm says, and how kinds of change are told apart by the windows since it began."""

from typing import Literal

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.kernels.windows import HEAD, MOST_WILD, Reference

Kind = Literal["abrupt", "gradual", "incremental", "level", "outliers", "drift"]
"""What changed; "drift" if the detector does not say."""
SHARED = 0.6
"""So much of the components' moves must be one common move for a level shift."""
MIXED = 2.0
"""Records that are partly old and partly new are so many times farther out than their mean tells."""
MOVED = 0.5
"""A component whose mean has moved so many standard deviations, beyond chance, has moved."""
SHORTEST_RAMP = 8
"""Windows."""
FEWEST = 16.0
"""Records of a component whose move counts."""


class Alarm(msgspec.Struct, frozen=True):
    """One alarm and its evidence."""

    at: int
    """Raised after so many records of the stream."""
    since: int
    """The evidence was gathered since about this record."""
    statistic: str
    """log-likelihood, outliers, mass, distance, direction, or the name of a detector."""
    component: int | None
    value: float
    """The evidence."""
    threshold: float | None
    kind: Kind

    @property
    def drift(self) -> bool:
        """Whether the model should change: not for a burst of outliers."""
        return self.kind != "outliers"

    def __str__(self) -> str:
        """Return one line for a journal."""
        what = self.statistic if self.component is None else f"{self.statistic} of component {self.component}"
        limit = "" if self.threshold is None else f", alarm at {self.threshold:.4g}"
        return f"{self.kind}: {what} since about record {self.since:,} ({self.value:.4g}{limit})"


def kind_of(
    recent: FloatArray, elapsed: int, statistic: str, component: int | None, reference: Reference, window: int
) -> Kind:
    """Tell the kind of change from the sums of recent windows (n, row), the last `elapsed` of which show it.

    Outliers: the alarm is about wild records, a minority, and the others are where they were. A level shift: most of
    how the components' means have moved is one common move. Otherwise a step fits the statistic better than a ramp:
    abrupt; or the ramp does: gradual if the records are farther out than their moved means explain, as when some are
    old and some new, else incremental.
    """
    K, D = reference.means.shape
    after = recent[-elapsed:].sum(axis=0)
    n, moves, squares = _moves(after, reference)
    minority = after[0] <= MOST_WILD * elapsed * window
    # The evidence may have begun by chance long before the change, so the last window is looked at alone too.
    if statistic == "outliers" and minority and not any(_moved(sums, reference) for sums in (after, recent[-1])):
        return "outliers"
    if D and common_share(moves, n, reference.whiteners) > SHARED:
        return "level"
    if looks_abrupt(profile(recent, elapsed, statistic, component, reference)):
        return "abrupt"
    explained = (squares - D).sum()
    shortfall = 2.0 * (n @ reference.usual - after[HEAD + K : HEAD + 2 * K].sum())
    return "gradual" if shortfall > MIXED * explained else "incremental"


def _moves(sums: FloatArray, reference: Reference) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return records (K,), summed residuals (K, D) and their squared Mahalanobis length over the records (K,)."""
    K, D = reference.means.shape
    n, moves = sums[HEAD : HEAD + K], sums[HEAD + 2 * K :].reshape(K, D)
    return n, moves, (np.einsum("kde,ke->kd", reference.whiteners, moves) ** 2).sum(axis=1) / np.maximum(n, 1.0)


def _moved(sums: FloatArray, reference: Reference) -> bool:
    """Tell whether the records of a component that are not wild have moved, beyond chance."""
    (n, _, squares), D = _moves(sums, reference), reference.means.shape[1]
    return bool((squares - D - 4.0 * np.sqrt(2.0 * D) > MOVED**2 * n).any())


def common_share(moves: FloatArray, n: FloatArray, whiteners: FloatArray) -> float:
    """Return how much of the components' summed residuals (K, D) of n (K,) records each is one common move: 0 to 1.

    Squared Mahalanobis lengths, less what they are by chance; 0 if fewer than two components have records.
    """
    visible = n >= FEWEST
    if visible.sum() < 2:
        return 0.0
    moves, n, whiteners = moves[visible], n[visible], whiteners[visible]
    K, D = moves.shape
    mean = moves.sum(axis=0) / n.sum()
    whole, rest = (
        float((np.einsum("kde,ke->kd", whiteners, each) ** 2 / n[:, np.newaxis]).sum())
        for each in (moves, moves - n[:, np.newaxis] * mean)
    )
    whole, rest = whole - K * D, rest - (K - 1) * D
    return min(max(1.0 - rest / whole, 0.0), 1.0) if whole > 0 else 0.0


def profile(
    recent: FloatArray, elapsed: int, statistic: str, component: int | None, reference: Reference
) -> FloatArray:
    """Return how the statistic of an alarm went, window by window (n,): rising if there is a change."""
    K, D = reference.means.shape
    counted = np.maximum(recent[:, 1], 1.0)
    masses = recent[:, HEAD : HEAD + K]
    if statistic == "outliers":
        return recent[:, 0]
    if statistic == "log-likelihood":
        return np.asarray((masses @ reference.usual - recent[:, HEAD + K : HEAD + 2 * K].sum(axis=1)) / counted)
    assert component is not None
    if statistic == "mass":
        share = masses[:, component] / counted
        return np.asarray(share * np.sign(share[-elapsed:].mean() - reference.mass[component]))
    totals = recent[:, HEAD + 2 * K :].reshape(-1, K, D)[:, component]
    moves = totals @ reference.whiteners[component].T / np.sqrt(np.maximum(masses[:, [component]], 1.0))
    # A window that shows the change is laid along the others that do, not along itself.
    others = moves[-elapsed:].sum(axis=0) - moves * (np.arange(len(moves)) >= len(moves) - elapsed)[:, np.newaxis]
    return np.asarray((moves * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1), 1e-9))


def looks_abrupt(values: FloatArray) -> bool:
    """Tell whether a step at the best place fits the values (n,) better, by least squares, than the best ramp.

    A ramp lasts at least `SHORTEST_RAMP` values: what changes within fewer is a step.
    """
    n = len(values)
    if n <= SHORTEST_RAMP:
        return True
    starts, times = np.arange(n - 1)[:, np.newaxis], np.arange(n)
    steps, ramps = (times > starts).astype(np.float64), np.maximum(times - starts, 0.0)[: n - SHORTEST_RAMP]

    def explained(shapes: FloatArray) -> float:
        centred = shapes - shapes.mean(axis=1, keepdims=True)
        return float(((centred @ values) ** 2 / (centred**2).sum(axis=1)).max())

    return explained(steps) >= explained(ramps)


def still_wild(share: float, at_alarm: float) -> bool:
    """Tell whether wild records have stayed, and so were no burst: half as many as when the alarm was raised."""
    return share > at_alarm / 2.0

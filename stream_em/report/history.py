"""Pictures of how learning went, over the records."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.report import style
from stream_em.report.facts import Run
from stream_em.report.past import Likelihoods, ParamsPath, Session

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Span = tuple[float, float]
BINS = 300
_MARKERS = ("v", "D", "s", "o")
SMALLEST_NUMBERED = 0.05
"""A band thinner than this has no room for a number."""
_FEW = 40
"""So few rows are drawn as points, too."""


def span_of(run: Run) -> Span:
    """Return the records from which and to which the history is drawn, in all its pictures alike."""
    known = [run.likelihoods.records, run.params_path.records, [at for at, _ in run.event_marks]]
    places = np.concatenate([*known, [session.begin for session in run.sessions]])
    low, high = (float(places.min()), float(places.max())) if len(places) else (0.0, 1.0)
    return style.limits(low, high, 0.0 if len(np.unique(places)) > 2 else 0.1)


def draw_log_likelihood(
    history: Likelihoods, sessions: Sequence[Session], marks: Sequence[tuple[float, str]], span: Span
) -> style.Drawn:
    """Draw the log-likelihood over the records, with marks where sessions began and events happened."""
    seen = ~np.isnan(history.values)
    records, values = history.records[seen], history.values[seen]
    figure, axes = style.new_figure()
    # The first rows come from parameters that know little: they must not squeeze all others into a line.
    low, high = (float(edge) for edge in np.quantile(values, [0.02, 0.98]))
    air = 0.6 * (high - low)
    low, high = style.limits(max(float(values.min()), low - air), min(float(values.max()), high + air), 0.08)
    outside = (values < low) | (values > high)
    x, mean, least, most = _binned(records, values)
    axes.fill_between(x, least, most, color=style.colour(0), alpha=0.2, linewidth=0)
    axes.plot(x, mean, color=style.colour(0), linewidth=1.4, marker="o" if len(x) <= _FEW else "", markersize=3)
    axes.set_ylim(low, high)
    axes.set_ylabel("nats a record")
    axes.set_xlim(*span)
    for number, session in enumerate(sessions, 1):
        if number > 1:
            axes.axvline(session.begin, color=style.SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    _mark_events(axes, marks)
    _finish(axes)
    return style.Drawn(figure, int(outside.sum()))


def draw_shares(path: ParamsPath, drawn: Sequence[int], span: Span) -> "Figure":
    """Draw the shares of the components over the records, one upon the other."""
    figure, axes = style.new_figure()
    shares = np.clip(np.nan_to_num(path.shares[:, drawn]), 0.0, 1.0)
    colours = [style.colour(k) for k in drawn]
    tops = np.cumsum(shares, axis=1)
    if path.records[0] == path.records[-1]:
        for i, fill in enumerate(colours):
            axes.bar(
                path.records,
                shares[:, i],
                bottom=tops[:, i] - shares[:, i],
                color=fill,
                width=0.02 * (span[1] - span[0]),
            )
    else:
        edge = 0.6 if len(drawn) <= 20 else 0.0
        axes.stackplot(path.records, shares.T, colors=colours, edgecolor=style.PAPER, linewidth=edge)
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("share of the records")
    axes.set_xlim(*span)
    middles = tops[-1] - shares[-1] / 2
    for i in _greatest(shares[-1]):
        if shares[-1, i] >= SMALLEST_NUMBERED:
            style.badge(axes, drawn[i], 1.04, float(middles[i]), transform=axes.get_yaxis_transform())
    _finish(axes)
    return figure


def draw_means(path: ParamsPath, drawn: Sequence[int], field: int, name: str, span: Span) -> "Figure":
    """Draw the means of one field over the records, one line a component."""
    figure, axes = style.new_figure(5.2, 2.5)
    means = path.means[:, :, field]
    shown = means[:, drawn]
    low, high = style.limits(float(np.nanmin(shown)), float(np.nanmax(shown))) if shown.size else (0.0, 1.0)
    marker = "o" if len(path.records) * len(drawn) <= 4 * _FEW or len(path.records) == 1 else ""
    for k in drawn:
        line: dict[str, Any] = {"color": style.colour(k), "linestyle": style.dashes(k), "markersize": 3}
        line["linewidth"] = 1.5 if len(drawn) <= style.MOST_BADGES else 0.9
        axes.plot(path.records, means[:, k], marker=marker, **line)
    axes.set_ylim(low, high)
    axes.set_title(name, loc="left")
    axes.set_xlim(*span)
    chosen = [drawn[i] for i in _greatest(path.shares[-1, drawn])]
    heights = _apart([(float(means[-1, k]) - low) / (high - low) for k in chosen])
    for k, height in zip(chosen, heights, strict=True):
        style.badge(axes, k, 1.04, height, transform=axes.transAxes)
    _finish(axes)
    return figure


def _greatest(shares: FloatArray) -> list[int]:
    return sorted(np.argsort(-shares, kind="stable")[: style.MOST_BADGES].tolist())


def _apart(heights: Sequence[float], gap: float = 0.095) -> list[float]:
    """Move heights between 0 and 1 apart so that badges do not cover each other, keeping their order."""
    order = np.argsort(heights, kind="stable")
    placed = np.clip(np.asarray(heights, dtype=np.float64)[order], 0.0, 1.0)
    gap = min(gap, 1.0 / max(1, len(placed) - 1))
    for _ in range(50):
        overlap = np.maximum(gap - np.diff(placed), 0.0)
        placed[:-1] -= overlap / 2
        placed[1:] += overlap / 2
    placed = np.clip(placed, 0.0, 1.0)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    top = 1.0
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], top)
        top = placed[i] - gap
    out = np.empty(len(placed))
    out[order] = placed
    return out.tolist()


def _binned(records: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return records, mean, least and greatest value of at most `BINS` runs of rows."""
    if len(records) <= BINS:
        return records, values, values, values
    begins = np.unique(np.linspace(0, len(records), BINS, endpoint=False).astype(np.int64))
    sizes = np.diff(np.append(begins, len(records)))
    x, mean = np.add.reduceat(records, begins) / sizes, np.add.reduceat(values, begins) / sizes
    return x, mean, np.minimum.reduceat(values, begins), np.maximum.reduceat(values, begins)


def _mark_events(axes: "Axes", marks: Sequence[tuple[float, str]]) -> None:
    kinds = [kind for kind, _ in Counter(kind for _, kind in marks).most_common()]
    if len(kinds) > len(_MARKERS):
        kinds = [*kinds[: len(_MARKERS) - 1], "other events"]
    for i, kind in enumerate(kinds):
        places = [at for at, name in marks if name == kind or (kind == "other events" and name not in kinds)]
        # Marks closer than the eye can tell would only make the page large.
        low, high = axes.get_xlim()
        places = sorted({round((at - low) / (high - low) * 400) for at in places})
        x = [low + place / 400 * (high - low) for place in places]
        look: dict[str, Any] = {"marker": _MARKERS[i], "markersize": 4.5, "linestyle": "", "clip_on": False}
        axes.plot(
            x, [1.0] * len(x), transform=axes.get_xaxis_transform(), color=style.SOFT, label=kind, zorder=5, **look
        )
    if kinds:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.01), ncols=len(kinds), handletextpad=0.2, borderpad=0.1)


def _finish(axes: "Axes") -> None:
    style.count_axis(axes)
    style.value_axis(axes.yaxis)
    axes.grid(axis="y")
    axes.tick_params(length=3)

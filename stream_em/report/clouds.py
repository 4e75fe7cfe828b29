"""Pictures of the data and what was learned of them: points and ellipses, a histogram and densities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.report import style
from stream_em.report.components import Components

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST_SHARE = 0.01
"""A component with less does not stretch the picture."""
_BINS = 40
_NOBODYS = "#8a94a0"


def draw_pair(
    records: FloatArray,
    assigned: FloatArray,
    components: Components | None,
    drawn: Sequence[int],
    fields: tuple[int, int],
    names: tuple[str, str],
) -> style.Drawn:
    """Draw records (n, D) in two fields, in the colour of their component, and the ellipses of the components.

    `assigned` (n,) is the component of each record, NaN if there is none.
    """
    figure, axes = style.new_figure(3.7, 3.4)
    points = records[:, list(fields)]
    (left, right), (low, high) = (_frame(points[:, i], components, fields[i]) for i in (0, 1))
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    _points(axes, points, assigned)
    if components is not None:
        _ellipses(axes, components, drawn, fields)
    for axis in (axes.xaxis, axes.yaxis):
        style.value_axis(axis, 4)
    axes.tick_params(length=3)
    complete = points[~np.isnan(points).any(axis=1)]
    inside = (complete >= [left, low]) & (complete <= [right, high])
    return style.Drawn(figure, int((~inside.all(axis=1)).sum()))


def draw_histogram(
    records: FloatArray, assigned: FloatArray, components: Components | None, drawn: Sequence[int], name: str
) -> style.Drawn:
    """Draw records (n, 1) as a histogram in the colours of their components, under the densities of the mixture."""
    figure, axes = style.new_figure()
    values = records[:, 0]
    left, right = _frame(values, components, 0)
    seen = (values >= left) & (values <= right)
    edges = np.linspace(left, right, _BINS + 1)
    width = edges[1] - edges[0]
    if seen.any():
        bottom = np.zeros(_BINS)
        for k in [None, *drawn]:
            own = values[seen & (np.isnan(assigned) if k is None else assigned == k)]
            # Heights in units of the picture's width: a density of values around 1e60 would vanish.
            heights = np.histogram((own - left) / (right - left), _BINS, (0.0, 1.0))[0] / seen.sum() * _BINS
            fill = style.LINE if k is None else style.colour(k)
            axes.bar(edges[:-1], heights, width, bottom, align="edge", color=fill, alpha=0.45, linewidth=0)
            bottom += heights
    if components is not None:
        grid = np.linspace(left, right, 300)
        deviations = np.sqrt(components.variances()[:, 0])
        z = (grid - components.means[:, :1]) / deviations[:, np.newaxis]
        peaks = components.shares * (right - left) / deviations / np.sqrt(2 * np.pi)
        curves = peaks[:, np.newaxis] * np.exp(-0.5 * np.square(np.clip(z, -1e3, 1e3)))
        for k in drawn:
            axes.plot(grid, curves[k], color=style.colour(k), linestyle=style.dashes(k), linewidth=1.5)
        axes.plot(grid, curves.sum(axis=0), color=style.INK, linewidth=1.2)
        for k in _numbered(components, drawn):
            if left <= components.means[k, 0] <= right:
                style.badge(
                    axes, k, float(components.means[k, 0]), float(np.interp(components.means[k, 0], grid, curves[k]))
                )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel(name)
    axes.set_ylabel("density")
    axes.set_yticks([])
    style.value_axis(axes.xaxis)
    axes.tick_params(length=3)
    return style.Drawn(figure, int((~seen & ~np.isnan(values)).sum()))


def _frame(values: FloatArray, components: Components | None, field: int) -> tuple[float, float]:
    """Return limits that hold nearly all records and the components that matter."""
    values = values[~np.isnan(values)]
    data = tuple(float(edge) for edge in np.quantile(values, [0.005, 0.995])) if len(values) else None
    if components is None:
        return style.limits(*(data or (0.0, 1.0)))
    matter = components.shares >= min(_SMALLEST_SHARE, components.shares.max())
    means = components.means[matter, field]
    deviations = np.sqrt(components.variances()[matter, field])
    low, high = float((means - 2.2 * deviations).min()), float((means + 2.2 * deviations).max())
    if data is not None:
        span = data[1] - data[0]
        low = min(data[0], max(low, data[0] - 0.6 * span))
        high = max(data[1], min(high, data[1] + 0.6 * span))
    return style.limits(low, high, 0.04)


def _points(axes: "Axes", points: FloatArray, assigned: FloatArray) -> None:
    # A thousand marks of SVG in each of six panels would weigh more than all the rest of the page.
    look: dict[str, Any] = {"rasterized": True, "zorder": 2}
    colours = np.array([_NOBODYS if np.isnan(k) else style.colour(int(k)) for k in assigned])
    missing = np.isnan(points)
    complete = ~missing.any(axis=1)
    if complete.any():
        x, y = points[complete].T
        axes.scatter(x, y, s=7, c=colours[complete].tolist(), alpha=0.6, linewidths=0, **look)
    look |= {"linewidths": 1.0, "s": 24, "alpha": 0.5}
    for known, marker, transform in (
        (0, "|", axes.get_xaxis_transform()),
        (1, "_", axes.get_yaxis_transform()),
    ):
        half = ~missing[:, known] & missing[:, 1 - known]
        if half.any():
            edge = np.full(int(half.sum()), 0.012)
            x, y = (points[half, 0], edge) if known == 0 else (edge, points[half, 1])
            axes.scatter(x, y, marker=marker, c=colours[half].tolist(), transform=transform, **look)


def _ellipses(axes: "Axes", components: Components, drawn: Sequence[int], fields: tuple[int, int]) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    covariances = components.pair_covariances(*fields)
    scales = np.sqrt(np.maximum(np.diagonal(covariances, axis1=1, axis2=2), np.finfo(float).tiny))
    for k in drawn:
        (mean_x, mean_y), (x, y) = components.means[k, list(fields)], scales[k]
        correlation = float(np.clip(covariances[k, 0, 1] / x / y, -1.0, 1.0))
        rest = np.sqrt(1.0 - correlation**2)
        for deviations, width, alpha in ((1.0, 1.5, 0.14), (2.0, 0.9, 0.0)):
            a, b = deviations * x, deviations * y
            # The columns of a root of the covariance: what they make of the unit circle is the ellipse.
            spread = Affine2D(np.array([[a, 0.0, mean_x], [correlation * b, rest * b, mean_y], [0.0, 0.0, 1.0]]))
            outline = Path.unit_circle().transformed(spread)
            edge = {"edgecolor": style.colour(k), "linestyle": style.dashes(k), "linewidth": width}
            axes.add_patch(PathPatch(outline, facecolor=to_rgba(style.colour(k), alpha), zorder=4, **edge))
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for k in _numbered(components, drawn):
        x, y = components.means[k, list(fields)]
        if left <= x <= right and low <= y <= high:
            style.badge(axes, k, float(x), float(y))


def _numbered(components: Components, drawn: Sequence[int]) -> list[int]:
    return sorted(drawn, key=lambda k: -components.shares[k])[: style.MOST_BADGES]

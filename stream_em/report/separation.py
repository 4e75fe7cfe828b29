"""Pictures of a separation: how it went over time, and spectrograms before and after."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.report import style
from stream_em.report.pictures import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW = 512
"""Samples of a spectrogram's column."""
LOUDEST_DB, RANGE_DB = 0.0, 70.0


class Axis(NamedTuple):
    """What curves show: a title, the label of their axis, the least value drawn, and a level that is marked."""

    title: str
    label: str
    least: float
    level: float | None = None


class Curve(NamedTuple):
    """Values (T,) in dB at times (T,) in seconds."""

    label: str
    times: FloatArray
    values: FloatArray


class Row(NamedTuple):
    """Signals (n, K) side by side, with a title for each."""

    label: str
    titles: Sequence[str]
    signals: FloatArray


def save_separation(path: Path, axis: Axis, curves: Sequence[Curve], rows: Sequence[Row], sample_rate: float) -> None:
    """Draw the curves and, below, a row of spectrograms for each of `rows`; the suffix of `path` chooses the format.

    Raises `InputError` if matplotlib is not installed.
    """
    style.require_matplotlib()
    import matplotlib.style

    with matplotlib.style.context({"font.size": 8.0, "axes.titlesize": 8.5}, after_reset=True):
        _drawn(axis, curves, rows, sample_rate).savefig(path, dpi=130)


def separation_pictures(axis: Axis, curves: Sequence[Curve], rows: Sequence[Row], sample_rate: float) -> list[Picture]:
    """Return the same for a page: the curves, and the spectrograms of each row, one panel a signal.

    Raises `InputError` if matplotlib is not installed.
    """
    style.require_matplotlib()
    with style.styled("picture-curve-0"):
        figure, axes = style.new_figure(5.2, 2.4)
        _draw_curves(axes, axis._replace(title=""), curves)
        panel = style.as_svg(figure, "picture-curve-0", axis.title)
    found = [Picture("curve", "Separation over time", (panel,), f"{axis.title}.")]
    for row in rows:
        panels = []
        for k, title in enumerate(row.titles):
            name = f"picture-{row.label}-{k}"
            with style.styled(name):
                figure, axes = style.new_figure(3.4, 2.0)
                _draw_spectrogram(axes, row.signals[:, k], sample_rate)
                axes.set(title=title, xlabel="seconds", ylabel="kHz")
                panels.append(style.as_svg(figure, name, f"Spectrogram of {title}"))
        caption = f"Spectrograms of the last seconds, each against its own loudest moment, over {RANGE_DB:g} dB."
        found.append(Picture(row.label, row.label.capitalize(), tuple(panels), caption))
    return found


def _drawn(axis: Axis, curves: Sequence[Curve], rows: Sequence[Row], sample_rate: float) -> "Figure":
    from matplotlib.figure import Figure

    width = max(row.signals.shape[1] for row in rows)
    figure = Figure(figsize=(2.6 * width, 2.6 + 1.5 * len(rows)), layout="constrained")
    grid = figure.add_gridspec(1 + len(rows), width, height_ratios=[1.5, *([1.0] * len(rows))])
    _draw_curves(figure.add_subplot(grid[0, :]), axis, curves)
    for i, row in enumerate(rows):
        for k in range(row.signals.shape[1]):
            axes = figure.add_subplot(grid[1 + i, k])
            _draw_spectrogram(axes, row.signals[:, k], sample_rate)
            axes.set_title(row.titles[k])
            if k == 0:
                axes.set_ylabel(f"{row.label}\nkHz")
            else:
                axes.set_yticklabels([])
            if i == len(rows) - 1:
                axes.set_xlabel("seconds")
            else:
                axes.set_xticklabels([])
    return figure


def _draw_curves(axes: "Axes", axis: Axis, curves: Sequence[Curve]) -> None:
    for k, curve in enumerate(curves):
        axes.plot(curve.times, np.maximum(curve.values, axis.least), color=style.colour(k), label=curve.label, lw=1.4)
    if axis.level is not None:
        axes.axhline(axis.level, color="0.6", lw=0.8, ls=":")
    axes.set(xlabel="seconds of signal", ylabel=axis.label, xlim=(0, None))
    axes.set_title(axis.title)
    if len(curves) > 1:
        axes.legend(frameon=False, loc="upper right")
    axes.grid(alpha=0.3)


def _draw_spectrogram(axes: "Axes", signal: FloatArray, sample_rate: float) -> None:
    """Draw a signal's power against its own loudest moment: what scale it has does not show."""
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    transform = ShortTimeFFT(hann(WINDOW, sym=False), hop=WINDOW // 2, fs=sample_rate)
    power = transform.spectrogram(signal)
    loudest = max(float(power.max()), np.finfo(float).tiny)
    decibels = 10 * np.log10(np.maximum(power / loudest, 1e-12))
    seconds = len(signal) / sample_rate
    axes.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, seconds, 0, sample_rate / 2000),
        vmin=LOUDEST_DB - RANGE_DB,
        vmax=LOUDEST_DB,
    )

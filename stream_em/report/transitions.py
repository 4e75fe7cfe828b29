"""The picture of a chain's transitions."""

from typing import TYPE_CHECKING

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NUMBERED = 10


def draw_transitions(transitions: FloatArray, drawn: list[int]) -> "Figure":
    """Draw transition probabilities as a heat map: from the row's state to the column's."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    K = len(drawn)
    figure, axes = style.new_figure(4.6, 4.0)
    # From nothing to the full colour, so that it looks right on light and on dark paper.
    shades = LinearSegmentedColormap.from_list("shades", [(0.0, 0.447, 0.698, alpha) for alpha in (0.03, 1.0)])
    shown = np.clip(transitions[np.ix_(drawn, drawn)], 0.0, 1.0)
    image = axes.imshow(shown, cmap=shades, norm=PowerNorm(0.5, 0.0, 1.0), interpolation="nearest")
    ticks = list(range(K)) if K <= 2 * _MOST_NUMBERED else list(range(0, K, 5))
    axes.set_xticks(ticks, [str(drawn[i]) for i in ticks])
    axes.set_yticks(ticks, [str(drawn[i]) for i in ticks])
    axes.set_xlabel("to state")
    axes.set_ylabel("from state")
    axes.tick_params(length=0)
    if K <= _MOST_NUMBERED:
        for i in range(K):
            for j in range(K):
                colour = "#ffffff" if shown[i, j] > 0.3 else style.INK
                axes.text(j, i, _probability(shown[i, j]), ha="center", va="center", color=colour, fontsize=8)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.8, ticks=[0.0, 0.05, 0.2, 0.5, 1.0])
        bar.set_label("probability", color=style.SOFT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _probability(value: float) -> str:
    if 0.0 < value < 0.001:
        return "<.001"
    if 0.999 < value < 1.0:
        return ">.999"
    return f"{value:.3f}"

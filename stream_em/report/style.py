"""How pictures look: one colour a component in all of them, and figures as SVG that follows the page's colours."""

import io
import re
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from stream_em.errors import InputError
from stream_em.report.words import short_count, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7b5ea7", "#a39a00")
"""Okabe & Ito's colours, told apart by colour-blind eyes; black and light yellow, lost on one of the two papers, are
replaced."""
DASHES = ("-", "--", "-.", ":")
# These stand for the page's colours, and become them when the figure is written.
INK, SOFT, LINE, PAPER = "#010203", "#010204", "#010205", "#010206"
_PAGE_COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", PAPER: "var(--paper)"}
_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "text.color": INK,
    "axes.titlecolor": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "path.simplify": True,
}
_RASTER_DPI = 160
MOST_BADGES = 12
"""Only so many components are numbered in one picture, those with the greatest shares."""


class Drawn(NamedTuple):
    """A figure, and how many values lie outside of it."""

    figure: "Figure"
    n_outside: int


def require_matplotlib() -> None:
    """Raise `InputError` if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError("pictures need matplotlib; pip install 'stream_em[report]'") from None


def styled(name: str) -> Any:
    """Return a context in which figures are made and written; what it draws depends on nothing outside."""
    import matplotlib.style

    # Each picture needs marks of its own: all share one page.
    return matplotlib.style.context(_SETTINGS | {"svg.hashsalt": name}, after_reset=True)


def new_figure(width: float = 5.2, height: float = 3.0) -> tuple["Figure", "Axes"]:
    """Return a figure of one picture, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def colour(k: int) -> str:
    """Return the colour of component k: the palette, then its lighter and its darker shades, then all again."""
    base = _PALETTE[k % len(_PALETTE)]
    target, share = ((0, 0.0), (255, 0.45), (0, 0.35))[k // len(_PALETTE) % 3]
    channels = (int(base[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + share * (target - c)):02x}" for c in channels)


def dashes(k: int) -> str:
    """Return the line style of component k."""
    return DASHES[k // len(_PALETTE) % len(DASHES)]


def on_colour(k: int) -> str:
    """Return black or white, whichever is read more easily on the colour of component k."""
    red, green, blue = (int(colour(k)[i : i + 2], 16) for i in (1, 3, 5))
    return "#111111" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "#ffffff"


def badge(axes: "Axes", k: int, x: float, y: float, **more: Any) -> None:
    """Write the number of component k on its colour."""
    box = {"boxstyle": "circle,pad=0.25", "facecolor": colour(k), "edgecolor": PAPER, "linewidth": 0.8}
    style: dict[str, Any] = {"fontsize": 7.0, "color": on_colour(k), "ha": "center", "va": "center", "zorder": 6}
    axes.text(x, y, str(k), bbox=box, **(style | more))


def count_axis(axes: "Axes", label: str = "records") -> None:
    """Let the horizontal axis count records."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axes.set_xlabel(label)


def value_axis(axis: Any, n_ticks: int = 5) -> None:
    """Let an axis show values of any magnitude."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    formatter = ScalarFormatter(useOffset=True, useMathText=False)
    formatter.set_powerlimits((-3, 5))
    axis.set_major_locator(MaxNLocator(n_ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(formatter)
    axis.get_offset_text().set(color=SOFT, size=8)


def limits(low: float, high: float, margin: float = 0.06) -> tuple[float, float]:
    """Return limits of an axis with some air, also where there is only one value.

    >>> limits(0.0, 10.0, 0.1), limits(5.0, 5.0)
    ((-1.0, 11.0), (4.5, 5.5))
    """
    size = max(abs(low), abs(high))
    alike = high - low <= 1e-9 * size
    air = (0.1 * size or 1.0) if alike else margin * (high - low)
    return low - air, high + air


def as_svg(figure: "Figure", name: str, title: str) -> str:
    """Return the figure as an SVG element for a page, with a title for those who cannot see it."""
    import warnings

    out = io.StringIO()
    with warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message=".*Glyph.*missing from")
        figure.savefig(out, format="svg", dpi=_RASTER_DPI, transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r' d="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    referenced = set(re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", svg))
    kept = {one for pair in referenced for one in pair}
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in kept else "", svg)
    for colour_in_figure, colour_of_page in _PAGE_COLOURS.items():
        svg = svg.replace(colour_in_figure, colour_of_page)
    width, height = figure.get_size_inches() * 72
    # Letters must not grow far beyond those around the picture: 12 points are 1 rem.
    look = f'viewBox="0 0 {width:g} {height:g}" style="max-width:{1.2 * width / 12:.1f}rem"'
    head = f'<svg class="picture" role="img" aria-labelledby="{name}" {look}>'
    return f'{head}<title id="{name}">{escape(visible(title))}</title>{svg[svg.index(">") + 1 :].strip()}'

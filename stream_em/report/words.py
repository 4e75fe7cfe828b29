"""Values as people read them; whatever comes from outside is made fit to be shown."""

import math
import unicodedata
from datetime import UTC, datetime
from typing import Any

import msgspec

from stream_em.stepsize import Stepsize

_NEVER_SHOWN = {"Cc", "Cs", "Cn"}
_MINUS = "\N{MINUS SIGN}"
_TURNS_TEXT_AROUND = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def visible(text: str, most: int = 300) -> str:
    """Return a text without characters that cannot be shown, cut at `most`.

    >>> visible("a\\x00b<c>")
    'a�b<c>'
    >>> visible("temperature", 6)
    'tempe…'
    """
    shown = "".join(
        "�" if unicodedata.category(c) in _NEVER_SHOWN or c in _TURNS_TEXT_AROUND else c for c in text[: most + 1]
    )
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def number(value: float, digits: int = 4) -> str:
    """Return a number to some digits, with a true minus sign.

    >>> number(-12345.678), number(1e60), number(0.000012), number(float("nan"))
    ('−12,346', '1e+60', '1.2e-05', 'none')
    """
    if not math.isfinite(value):
        return "none" if math.isnan(value) else ("∞" if value > 0 else _MINUS + "∞")
    size = abs(value)
    text = f"{value:,.0f}" if 10.0**digits <= size < 1e9 else f"{value:.{digits}g}"
    return text.replace("-", _MINUS, 1) if text.startswith("-") else text


def measured(mean: float, deviation: float) -> str:
    """Return the deviation to two digits, and the mean to the same decimal place.

    >>> measured(2.98321, 0.992), measured(1e60, 2e58), measured(-0.001, 1.0)
    ('2.98 ± 0.99', '1e+60 ± 2e+58', '0.0 ± 1.0')
    """
    if not 1e-4 <= deviation < 1e6 or not abs(mean) < 1e6:
        return f"{number(mean)} ± {number(deviation, 2)}"
    decimals = max(0, 1 - math.floor(math.log10(deviation)))
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{round(mean, decimals) + 0.0:,.{decimals}f} ± {deviation:.{decimals}f}".replace("-", _MINUS)


def count(value: float) -> str:
    """Return how many.

    >>> count(1234567.0), count(0.5)
    ('1,234,567', '0.5')
    """
    return f"{value:,.10g}"


def short_count(value: float) -> str:
    """Return how many, in little room.

    >>> short_count(0), short_count(2500), short_count(1e7), short_count(-5)
    ('0', '2.5k', '10M', '−5')
    """
    for size, suffix in _SUFFIXES:
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}".replace("-", _MINUS)
    return f"{value:.4g}".replace("-", _MINUS)


def moment(seconds: float | None) -> str:
    """Return a moment, given in seconds since 1970, or nothing.

    >>> moment(0.0), moment(None)
    ('1970-01-01 00:00:00 UTC', '')
    """
    if seconds is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


def size(n_bytes: int) -> str:
    """Return a size of a file.

    >>> size(900), size(2_500_000)
    ('900 B', '2.5 MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:.3g} {name}"
    return f"{n_bytes} B"


def settings(value: Any) -> str:
    """Return the settings of a struct in words.

    >>> from stream_em.config import Snapshots
    >>> settings(Snapshots(keep=3))
    'every records default, every seconds 30, keep 3'
    """
    return ", ".join(
        f"{name.replace('_', ' ')} {_setting(item)}" for name, item in msgspec.structs.asdict(value).items()
    )


def _setting(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, Stepsize):
        return value.spelling
    if isinstance(value, msgspec.Struct):
        return f"({settings(value)})"
    if isinstance(value, tuple | list):
        return visible(" and ".join(map(str, value))) if value else "none"
    return f"{value:.10g}" if isinstance(value, float) else visible(str(value))

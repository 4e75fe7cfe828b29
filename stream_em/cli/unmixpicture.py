"""The pictures of `stream-em unmix`: how the unmixing settled, and spectrograms before and after."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.report.separation import Axis, Curve, Row, save_separation
from stream_em.report.style import require_matplotlib
from stream_em.sinks.disk import writing
from stream_em.unmixing.metrics import interference_to_signal
from stream_em.unmixing.unmixer import Unmixer

SUFFIXES = (".png", ".svg", ".pdf")
LAST_SECONDS = 5.0
LOOK_SECONDS = 0.1
MOST_LOOKED_AT = 1 << 19
"""So many numbers of unmixing matrices are kept (4 MB); then every other look is dropped."""
MOST_SIGNALS = 8
"""So many channels and sources are drawn; more could not be told apart."""
SETTLED = Axis(
    "How much of the others was left in each source, if the last unmixing is right: lower is better",
    "interference to signal, dB",
    -70.0,
)


class Remembered:
    """The last seconds, and the unmixing over time, in constant memory."""

    def __init__(self, channels: Sequence[str], rate: float) -> None:
        self.rate = rate
        self._channels = channels
        self._recent: deque[tuple[FloatArray, FloatArray]] = deque()
        self._kept = 0
        self._looks: list[tuple[float, FloatArray]] = []
        self._mixing: FloatArray | None = None
        self._every = LOOK_SECONDS

    def look(self, at: float, values: FloatArray, sources: FloatArray, unmixer: Unmixer) -> None:
        """Take the next (n, D) values and (n, K) sources, which end `at` seconds."""
        self._recent.append((values[:, :MOST_SIGNALS].copy(), sources[:, :MOST_SIGNALS].copy()))
        self._kept += len(values)
        while self._kept - len(self._recent[0][0]) >= LAST_SECONDS * self.rate:
            self._kept -= len(self._recent.popleft()[0])
        if unmixer.engine is not None and at >= (self._looks[-1][0] if self._looks else 0.0) + self._every:
            self._looks.append((at, unmixer.unmixing))
            self._mixing = unmixer.mixing
            if len(self._looks) * self._mixing.size > MOST_LOOKED_AT and len(self._looks) > 2:
                self._looks, self._every = self._looks[::2], 2 * self._every

    def curves(self) -> list[Curve]:
        """Return how far each unmixing was from the last one."""
        if self._mixing is None:
            return []
        # The last one has nothing left, by definition.
        looks, mixing = self._looks[:-1], self._mixing
        left = [interference_to_signal(unmixing, mixing) for _, unmixing in looks]
        return [Curve("", np.array([at for at, _ in looks]), np.array(left))]

    def rows(self) -> tuple[Row, Row]:
        """Return the last seconds of the channels and of the sources."""
        heard, sources = (np.nan_to_num(np.concatenate(parts)) for parts in zip(*self._recent, strict=True))
        last = slice(-min(len(heard), round(LAST_SECONDS * self.rate)), None)
        return (
            Row("before", self._channels[:MOST_SIGNALS], heard[last]),
            Row("after", [f"source {k + 1}" for k in range(sources.shape[1])], sources[last]),
        )


def check_picture(path: Path) -> None:
    """Raise `InputError` for a suffix that is no picture's, and if matplotlib is not installed."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"--picture {path}: name a file that ends in {', '.join(SUFFIXES)}")
    require_matplotlib()


def save_picture(path: Path, seen: Remembered) -> None:
    """Draw what is remembered; raises `OutsideError` if it cannot be written."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_separation(path, SETTLED, seen.curves(), seen.rows(), seen.rate)

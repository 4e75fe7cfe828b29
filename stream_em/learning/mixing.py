"""An alarm when the mixing of superimposed signals has changed: the sources hold more of each other.

Crosstalk is the mean squared correlation of different sources over a window. It rises at once when the mixing changes;
but real signals are correlated for a while now and then, so it takes some windows in a row far above the usual one, and
whoever is challenged then still has to be beaten. Signals are loud and quiet by themselves, so what a `DriftMonitor`
looks at says nothing of their mixing.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.kernels.crosstalk import crosstalk
from stream_em.learning.alarms import Alarm
from stream_em.learning.drift import DriftSettings
from stream_em.learning.snapshot import Tensors
from stream_em.models.interface import Settings

RECENT_WINDOWS = 10
"""Windows that a model's recent records are."""
SUSPECT = 3
"""Windows in a row that raise an alarm; the change came within the first of them."""
FACTOR = 8.0
"""How many times the usual crosstalk is suspicious."""
LEAST = 0.12
"""Less is not: speech and music that nobody has moved reach 0.09 three windows in a row, a new mixing has over 0.22."""
MEMORY = 100
"""Windows that the usual crosstalk, and the usual power of a source, are running means over."""
WARY = 20
"""After so many windows the unmixing has settled."""


class MixingMonitor:
    """Watches the sources (n, K) that a learner told before it learned them; how they come in blocks does not matter.

    Of the settings it takes only the further detectors: signals follow no law that would give a rate of false alarms.
    """

    def __init__(self, model: Settings, settings: DriftSettings | None = None) -> None:
        self.settings = settings or DriftSettings()
        self.window = model.recent_records // RECENT_WINDOWS
        """Records of a window."""
        self.seen = 0
        """Records given so far, those without a log-likelihood included."""
        self._shape = (model.n_components, model.n_components)
        self.reset()

    def reset(self) -> None:
        """Forget the past: the learner was changed."""
        self._products = np.zeros(self._shape)
        self._power = np.zeros(self._shape[0])
        # Records of the window so far; usual crosstalk; windows in a row above it; windows.
        self._numbers = np.zeros(4)

    def update(
        self, records: FloatArray, log_likelihood: FloatArray, posterior: FloatArray, params: Callable[[], Any]
    ) -> list[Alarm]:
        """Take a learned block and the sources `posterior` (n, K) in it, and return the alarms in it."""
        sources = np.where(np.isfinite(log_likelihood)[:, np.newaxis], posterior, 0.0)
        alarms: list[Alarm] = []
        while len(sources):
            part = sources[: self.window - int(self._numbers[0])]
            self._products += part.T @ part
            self._numbers[0] += len(part)
            self.seen += len(part)
            sources = sources[len(part) :]
            if self._numbers[0] == self.window:
                alarms += self._look()
        return alarms

    def _look(self) -> list[Alarm]:
        """Look at a whole window, and begin the next."""
        count = self._numbers[3]
        mixed = crosstalk(self._products, self._power if count else np.diagonal(self._products).copy())
        self._power += (np.diagonal(self._products) - self._power) / min(count + 1, MEMORY)
        self._products[:] = self._numbers[0] = 0.0
        self._numbers[3] = min(count + 1, 1e6)
        if mixed != mixed:
            return []
        usual, row = self._numbers[1:3]
        limit = max(FACTOR * float(usual), LEAST)
        if count >= WARY and mixed > limit:
            self._numbers[2] = row + 1
            if row + 1 < SUSPECT:
                return []
            self.reset()
            since = self.seen - (SUSPECT - 1) * self.window
            return [Alarm(self.seen, since, "crosstalk", None, float(mixed), limit, "abrupt")]
        self._numbers[2] = 0.0
        self._numbers[1] += (mixed - usual) / min(count + 1, MEMORY)
        return []

    def dump(self) -> tuple[dict[str, str], Tensors]:
        """Return the monitor as texts and arrays, both named drift…; the arrays are its own, not copies."""
        state = {"settings": self.settings, "seen": self.seen}
        tensors = {"products": self._products, "power": self._power, "numbers": self._numbers}
        return {"drift": msgspec.json.encode(state).decode()}, {f"drift.{key}": each for key, each in tensors.items()}

    @classmethod
    def restore(cls, model: Settings, metadata: dict[str, str], tensors: Tensors, name: str) -> "MixingMonitor":
        """Return the monitor that `dump` gave; raises `InputError`, calling the whole `name`."""
        try:
            state = msgspec.json.decode(metadata["drift"], type=_Dumped)
            monitor = cls(model, state.settings)
            monitor.seen = state.seen
            for own, key in (monitor._products, "products"), (monitor._power, "power"), (monitor._numbers, "numbers"):
                own[:] = tensors[f"drift.{key}"]
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            raise InputError(f"{name}: no mixing monitor that this version can read ({error})") from None
        return monitor


class _Dumped(msgspec.Struct, frozen=True):
    settings: DriftSettings
    seen: int

"""Alarms when the stream is no longer what the learner has learned, at a false-alarm rate that the user sets.

In five lines. Every `window` records become a few statistics: how much the log-likelihood falls short, how many records
are wild, each component's share, and how far its mean has moved, in its own standard deviations. Each statistic is
ranked among its own past, so no distribution is assumed; statistics whose neighbours depend on each other are first
averaged over more windows. Bets on extreme ranks win nothing on average while nothing changes, and grow exponentially
when something does; the alarm is raised when their mean reaches `false_alarm_every` / `window`.

What a window is compared with follows the stream at the learner's own stepsize: an alarm means a change that the
learner does not follow by itself.
"""

import copy
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.kernels.evidence import Evidence
from stream_em.kernels.watch import watch
from stream_em.kernels.windows import HEAD, LOG_LIKELIHOOD, OUTLIERS, PER_COMPONENT, Reference
from stream_em.learning.advance import STEP_UNIT
from stream_em.learning.alarms import Alarm, kind_of, still_wild
from stream_em.learning.detectors import DetectorName
from stream_em.learning.snapshot import Tensors
from stream_em.models.interface import Settings
from stream_em.stepsize import Stepsize

REMEMBERED = 512
"""A statistic is ranked among so many of its past values."""
RECENT = 128
"""The sums of so many windows are kept to tell kinds of change apart."""
PATIENCE = 64
"""After so many windows, without a look at anything else, wild records are no longer a burst."""


class DriftSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a false alarm may come, and what else watches the log-likelihood.

    >>> import stream_em as sem
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(20_000, 2)), rng.normal(3.0, 1.0, (2000, 2))])
    >>> learner = sem.Learner(sem.GaussianMixture(n_components=1), drift=sem.DriftSettings(false_alarm_every=1e6))
    >>> log_likelihood = learner.learn(X)
    >>> [event.kind for event in learner.events if event.kind in ("drift", "replaced")][:2]
    ['drift', 'replaced']
    """

    false_alarm_every: Annotated[
        float, Meta(description="records between false alarms on average, at least, if nothing changes")
    ] = 1_000_000.0
    window: Annotated[int, Meta(description="records that are looked at together")] = 64
    detectors: Annotated[
        tuple[DetectorName, ...], Meta(description="further detectors, of river: adwin, page-hinkley, kswin")
    ] = ()

    def __post_init__(self) -> None:
        """Raise `InputError` for an impossible setting."""
        if not isinstance(self.window, int) or not 8 <= self.window <= 1_000_000:
            raise InputError(f"drift: window must be a whole number of records from 8 to 1,000,000, not {self.window}")
        if not self.false_alarm_every >= 2 * self.window:
            raise InputError(f"drift: false_alarm_every must be at least two windows, not {self.false_alarm_every}")


class DriftMonitor:
    """Watches what a learner makes of its records, in constant memory; how they come in blocks does not matter.

    `stepsize` is the learner's. Learned blocks are given to `update`, in order and from the first.

    >>> import stream_em as sem
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(20_000, 2)), rng.normal(1.0, 1.0, (2000, 2))])
    >>> learner = sem.Learner(sem.GaussianMixture(n_components=1))
    >>> monitor, posterior = DriftMonitor(learner.model), np.empty((1000, 1))
    >>> for block in X.reshape(-1, 1000, 2):
    ...     log_likelihood = learner.learn(block, posterior=posterior)
    ...     for alarm in monitor.update(block, log_likelihood, posterior, lambda: learner.params):
    ...         print(alarm.kind, alarm.statistic, alarm.component, 20_000 < alarm.at < 20_500)
    abrupt distance 0 True
    """

    def __init__(
        self, model: Settings, settings: DriftSettings | None = None, stepsize: Stepsize | None = None
    ) -> None:
        self.model = model
        self.settings = settings or DriftSettings()
        self.stepsize = stepsize or Stepsize()
        self.seen = 0
        """Records given so far, those without a log-likelihood included."""
        self._pending: tuple[FloatArray, ...] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the past, after the learner was changed by other hands: compare only what comes with what comes."""
        K = self.model.n_components
        S = PER_COMPONENT + 3 * K
        self._reference: Reference | None = None
        self._recent = np.zeros((RECENT, 0))
        self._tally = np.zeros(2, dtype=np.int64)
        self._wild = 0.0
        self._evidence = Evidence(
            np.zeros((S, REMEMBERED)),
            np.tile(np.array([0, 1, 0]), (S, 1)),
            np.zeros(S),
            np.zeros(S),
            np.zeros((S + K, 2)),
            np.zeros((S + K, 2), dtype=np.int64),
        )

    @property
    def threshold(self) -> float:
        """The evidence at which an alarm is raised: the windows on average between false alarms, at least."""
        return self.settings.false_alarm_every / self.settings.window

    def update(
        self, records: FloatArray, log_likelihood: FloatArray, posterior: FloatArray, params: Callable[[], Any]
    ) -> list[Alarm]:
        """Take a learned block and return the alarms in it.

        Records (n, D) with NaN for what is missing, log-likelihoods (n,) in nats and posterior (n, K) of
        `Learner.learn`; records without log-likelihood are passed over. When a comparison begins, the parameters
        before the block are asked for by `params()`: they give scale to distances. Models without means and covariances
        are watched by log-likelihood and shares.
        """
        if self._reference is None:
            self._begin(params())
        scored = np.isfinite(log_likelihood)
        width = records.shape[1] if "means" in self.model.params_type._fields else 0  # type: ignore[attr-defined]
        shares = self.model.shares(posterior)
        parts: tuple[FloatArray, ...] = (np.ascontiguousarray(records[:, :width]), log_likelihood, shares)
        places = np.arange(self.seen + 1, self.seen + len(log_likelihood) + 1)
        self.seen += len(log_likelihood)
        if not scored.all():
            parts, places = tuple(part[scored] for part in parts), places[scored]
        alarms: list[Alarm] = []
        window = self.settings.window
        if self._pending is not None:
            lacking = window - len(self._pending[1])
            head = tuple(np.concatenate([old, new[:lacking]]) for old, new in zip(self._pending, parts, strict=True))
            if len(head[1]) < window:
                self._pending = head
                return alarms
            alarms += self._watch(head, places[lacking - 1 : lacking], params)
            parts, places = tuple(part[lacking:] for part in parts), places[lacking:]
        whole = len(places) - len(places) % window
        alarms += self._watch(tuple(part[:whole] for part in parts), places[window - 1 :: window], params)
        rest = tuple(part[whole:].copy() for part in parts)
        self._pending = rest if len(rest[1]) else None
        return alarms

    def _watch(self, parts: tuple[FloatArray, ...], ends: npt.NDArray[Any], params: Callable[[], Any]) -> list[Alarm]:
        """Watch whole windows; `ends` says after how many records of the stream each ends."""
        records, log_likelihood, posterior = parts
        window, alarms = self.settings.window, []
        unit = STEP_UNIT * self.model.n_components * self.model.counted_features(max(records.shape[1], 1))
        gamma = np.minimum(self.stepsize.for_unit(unit).gamma(ends.astype(np.float64)), 0.5)
        steps = -np.expm1(window * np.log1p(-gamma))
        done = 0
        while done < len(ends):
            rows = slice(done * window, None)
            reference = self._reference or self._begin(params())
            if self._tally[0] == 0:
                first = log_likelihood[rows][:window]
                reference.usual[:], reference.variance[:] = first.mean(), first.var()
            taken, level = watch(
                records[rows],
                posterior[rows],
                log_likelihood[rows],
                window,
                reference,
                self._evidence,
                self._recent,
                self._tally,
                steps[done:],
                self.threshold,
            )
            done += taken
            alarm = self._alarm(int(ends[done - 1]), level)
            if alarm is not None:
                alarms.append(alarm)
                if alarm.drift:
                    self.reset()
        return alarms

    def _begin(self, params: Any) -> Reference:
        """Return the reference that windows are compared with, which is now that of the parameters."""
        K = self.model.n_components
        means = np.array(getattr(params, "means", np.empty((K, 0))), dtype=np.float64)
        self._recent = np.zeros((RECENT, HEAD + 2 * K + means.size))
        self._reference = Reference(
            means,
            np.zeros(K),
            np.zeros(K),
            np.zeros(1),
            whiteners(self.model, params, means.shape[1]),
            np.zeros_like(means),
        )
        return self._reference

    def _alarm(self, at: int, level: float) -> Alarm | None:
        """Return the alarm that the last window raised, if any."""
        now, window = int(self._tally[0]), self.settings.window
        if now != self._tally[1] and level < self.threshold:
            return None
        recent = np.roll(self._recent, -(now % RECENT), axis=0)[-min(now, RECENT) :]
        assert self._reference is not None
        if now == self._tally[1]:
            wild, before = float(recent[-PATIENCE // 2 :, 0].mean()) / window, self._wild
            # What the learner took from a burst is in its parameters now: what came before is nothing to compare with.
            self.reset()
            if still_wild(wild, before):
                return Alarm(at, at - PATIENCE * window, "outliers", None, wild, before, "gradual")
            return None
        bet = int(self._evidence.wealth.max(axis=1).argmax())
        since = int(self._evidence.since[bet, self._evidence.wealth[bet].argmax()])
        statistic, component = statistic_name(bet, self.model.n_components)
        elapsed = min(max(now - since, 1), len(recent))
        kind = kind_of(recent, elapsed, statistic, component, self._reference, window)
        if kind == "outliers":
            self._wild = float(recent[-elapsed:, 0].mean()) / window
            self._tally[1] = now + PATIENCE
        return Alarm(at, at - (now - since) * window, statistic, component, float(level), self.threshold, kind)

    def __deepcopy__(self, memo: dict[int, Any]) -> "DriftMonitor":
        """Return a monitor that changes by itself; made for every block, so only what changes in place is copied."""
        twin = copy.copy(self)
        twin._recent, twin._tally = self._recent.copy(), self._tally.copy()
        twin._evidence = Evidence._make(array.copy() for array in self._evidence)
        twin._reference = self._reference and Reference._make(array.copy() for array in self._reference)
        return twin

    def dump(self) -> tuple[dict[str, str], Tensors]:
        """Return the monitor as texts and arrays, both named drift…; the arrays are its own, not copies."""
        state = {"settings": self.settings, "seen": self.seen, "wild": self._wild}
        tensors: Tensors = {"drift.recent": self._recent, "drift.tally": self._tally}
        groups: list[Any] = [self._evidence, *([self._reference] if self._reference is not None else [])]
        for group in groups:
            tensors |= {f"drift.{type(group).__name__}.{name}": array for name, array in group._asdict().items()}
        for i, part in enumerate(self._pending or ()):
            tensors[f"drift.pending.{i}"] = part
        return {"drift": msgspec.json.encode(state).decode()}, tensors

    @classmethod
    def restore(
        cls, model: Settings, stepsize: Stepsize, metadata: dict[str, str], tensors: Tensors, name: str
    ) -> "DriftMonitor":
        """Return the monitor that `dump` gave, which goes on bitwise as if it had never stopped; other texts and arrays
        are ignored. Raises `InputError`, calling the whole `name`.
        """
        try:
            state = msgspec.json.decode(metadata["drift"], type=_Dumped)
            monitor = cls(model, state.settings, stepsize)
            monitor.seen, monitor._wild = state.seen, state.wild
            monitor._recent, monitor._tally = tensors["drift.recent"].copy(), tensors["drift.tally"].copy()
            evidence = _restored(Evidence, tensors)
            if [each.shape for each in evidence] != [each.shape for each in monitor._evidence]:
                raise InputError(f"{name}: its drift monitor is one of another model")
            monitor._evidence = evidence
            if "drift.Reference.means" in tensors:
                monitor._reference = _restored(Reference, tensors)
            if "drift.pending.0" in tensors:
                monitor._pending = tuple(tensors[f"drift.pending.{i}"].copy() for i in range(3))
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            raise InputError(f"{name}: no drift monitor that this version can read ({error})") from None
        return monitor


class _Dumped(msgspec.Struct, frozen=True):
    settings: DriftSettings
    seen: int
    wild: float


def _restored(kind: Any, tensors: Tensors) -> Any:
    return kind(*(tensors[f"drift.{kind.__name__}.{name}"].copy() for name in kind._fields))


def statistic_name(bet: int, n_components: int) -> tuple[str, int | None]:
    """Return what a bet is on, and of which component.

    >>> statistic_name(0, 3), statistic_name(5, 3), statistic_name(12, 3)
    (('log-likelihood', None), ('distance', 0), ('mass', 1))
    """
    if bet in (LOG_LIKELIHOOD, OUTLIERS):
        return ("log-likelihood", "outliers")[bet], None
    group, component = divmod(bet - PER_COMPONENT, n_components)
    return ("mass", "distance", "direction", "mass")[group], component


def whiteners(model: Any, params: Any, n_features: int) -> FloatArray:
    """Return inverse Cholesky factors (K, D, D) of the covariances of any covariance type."""
    K, D = model.n_components, n_features
    if D == 0:
        return np.zeros((K, 0, 0))
    covariances = np.asarray(params.covariances, dtype=np.float64)
    if model.covariance_type in ("full", "tied"):
        return np.array(np.broadcast_to(np.linalg.inv(np.linalg.cholesky(covariances)), (K, D, D)))
    deviations = np.sqrt(covariances if covariances.ndim == 2 else covariances[:, np.newaxis])
    return np.asarray(np.eye(D) / np.broadcast_to(deviations, (K, D))[:, :, np.newaxis])

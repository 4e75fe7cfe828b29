"""A model that learns from a stream: what is kept, and the rules by which it changes."""

import copy
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import maximise, records_behind, score
from stream_em.errors import InputError
from stream_em.kernels.gating import LEFT_OUT
from stream_em.learning.advance import Course
from stream_em.learning.batch import BatchFit, check_frozen, check_model, record_weights_of
from stream_em.learning.batches import Batch, Predictions, no_predictions
from stream_em.learning.begin import alone, begin, begin_after, begin_with
from stream_em.learning.challengers import KINDS, challenge_after_change, check_kinds
from stream_em.learning.companions import leader
from stream_em.learning.compete import until_due
from stream_em.learning.drift import DriftSettings
from stream_em.learning.gate import open_gate
from stream_em.learning.keep import tensors_of, tournament_from
from stream_em.learning.settings import LARGEST_NUMBER, LearnerSettings
from stream_em.learning.snapshot import Tensors, read_snapshot, write_snapshot
from stream_em.learning.start import enough_records
from stream_em.learning.state import Event, State, averaged, merged_state
from stream_em.learning.tournament import Tournament
from stream_em.learning.watched import Watched, compete_watched
from stream_em.learning.watching import WATCHING, dump_watchers, restored_watchers, watchers_of
from stream_em.models import model_type
from stream_em.models.interface import Settings
from stream_em.stepsize import Stepsize
from stream_em.streams.records import Block, as_records

KEPT_EVENTS = 1000
SHORTEST_WARMUP = 500


class Learner:
    """A model learned online, record by record.

    The first records (`warmup`, by default 20 per component and feature, at least 500) are collected and give the first
    parameters: those of `starts` k-means++ starts. With `params` there is no warm-up. From then on each record is
    scored, its expected statistics are blended in with its step, and the parameters are refreshed at every
    `refresh_every` records of the stream, but not before `inhibit` have been seen, warm-up included (by default 20 per
    component and feature).

    The best few starts go on side by side until one is left; what is told is always of the best so far, the champion.
    With `half_lives`, in records, companions that forget so quickly learn beside the champion. Then log-likelihoods and
    posteriors of `learn` are those of all together, and parameters those of the one that predicts best lately: for a
    world that moves, now quickly and now slowly. Each companion costs as much as the champion.

    If `recent` records are kept, challengers can enter later: by `challenge`, and every `restart_every` records. One
    becomes the champion when its predictions have been better than chance allows at the error rate `delta`.

    With `robust`, a number of standard deviations such as 10, records whose log-likelihood lies so far below what is
    usual in every component are scored, but nothing is learned from them, and `drift` does not see them, as long as
    they are less than a quarter of the latest 2,000. They are told by Gaussian theory: a squared Mahalanobis distance
    has mean D and standard deviation sqrt(2D). Raises `InputError` for impossible settings.

    >>> import stream_em as sem
    >>> X = np.random.default_rng(0).normal([0.0, 9.0], 1.0, (5000, 2)).reshape(-1, 1)
    >>> learner = sem.Learner(sem.GaussianMixture(n_components=2))
    >>> for i in range(0, len(X), 100):
    ...     log_likelihood = learner.learn(X[i : i + 100])
    >>> bool(np.abs(np.sort(learner.params.means[:, 0]) - [0, 9]).max() < 0.2)
    True
    """

    def __init__(
        self,
        model: Settings,
        *,
        stepsize: Stepsize | None = None,
        refresh_every: int = 512,
        starts: int = 8,
        seed: int = 0,
        warmup: int | None = None,
        inhibit: int | None = None,
        params: Any = None,
        recent: int = 0,
        restart_every: int | None = None,
        delta: float = 1e-3,
        robust: float | None = None,
        half_lives: Sequence[float] = (),
        drift: DriftSettings | None = None,
    ) -> None:
        check_model(model)
        self.model = model
        recent = model.recent_records if recent == 0 and (drift is not None or restart_every) else recent
        self.settings = LearnerSettings(
            stepsize or Stepsize(),
            refresh_every,
            starts,
            seed,
            warmup,
            inhibit,
            recent,
            restart_every,
            delta,
            robust,
            tuple(np.atleast_1d(half_lives).tolist()),
        )
        if robust is not None and not model.tells_surprise:
            raise InputError(f"{model.name}: robust is not for this model, which cannot tell what is surprising")
        self.watchers = watchers_of(model, drift, self.settings.stepsize)
        """What watches for drift; more may be added, such as a `LogLikelihoodDetector` of one's own."""
        self.fields: tuple[str, ...] = ()
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self.sized: Any = None
        self.tournament: Tournament | None = None
        self.agree: Callable[[Any], Any] | None = None
        """Called with the parameters that the warm-up gives; returns those to start from, in which several agree."""
        self._waiting: list[tuple[FloatArray, FloatArray]] = []
        if params is not None:
            self.sized, theta = model.from_params(params)
            self.tournament = begin_with(self._course, theta)

    def __repr__(self) -> str:
        stage = "started" if self.started else "warming up"
        return f"Learner({self.model!r}, {stage}, {self.count:,.10g} records)"

    @property
    def state(self) -> State | None:
        """What the champion has learned; None before the start."""
        return None if self.tournament is None else self.tournament.state

    @property
    def started(self) -> bool:
        """Whether there are parameters: the warm-up is over."""
        return self.state is not None

    @property
    def steady(self) -> int:
        """How many records must come before what is told can change: parameters, or who is the champion; 0: unknown."""
        if self.tournament is None:
            return 0
        if self.tournament.companions:
            return 1
        refresh_every = self.settings.refresh_every
        until_refresh = refresh_every - int(self.tournament.state.tally[0]) % refresh_every
        return min(until_refresh, until_due(self._course, self.tournament))

    @property
    def n_features(self) -> int | None:
        """The width of a record, or None before the first."""
        if self.state is not None:
            return len(self.state.worst) - 1
        return self._waiting[0][0].shape[1] if self._waiting else None

    @property
    def count(self) -> float:
        """The total weight of all records learned so far: their number, if none was weighted."""
        if self.state is not None:
            return float(self.state.totals[0])
        return float(sum(weights.sum() for _, weights in self._waiting))

    @property
    def left_out(self) -> float:
        """The total weight of the records that were scored, but not learned: too surprising, with `robust`."""
        return 0.0 if self.state is None else float(self.state.gate[LEFT_OUT])

    @property
    def mean_log_likelihood(self) -> float:
        """The running mean predictive log-likelihood in nats a record; NaN before a record was scored."""
        if self.state is None or self.state.totals[1] == 0:
            return float("nan")
        return float(self.state.totals[2] / self.state.totals[1])

    @property
    def shares(self) -> dict[str, float]:
        """How probably the champion, and each companion by its half-life, predicts the next record best."""
        if self.tournament is None:
            return {}
        names = ["champion", *(f"half-life {each:g}" for each in self.settings.half_lives)]
        return dict(zip(names, self.tournament.shares.tolist(), strict=True))

    @property
    def params(self) -> Any:
        """The current parameters in the records' units, with companions those of the one that predicts best lately.

        Raises `InputError` before the first record.
        """
        sized, state = self._started()
        return self.model.params(sized, state.theta)

    @property
    def averaged_params(self) -> Any:
        """The parameters averaged over the last half of the stream (Polyak–Ruppert), in the records' units."""
        sized, state = self._started()
        return self.model.params(sized, self._theta(sized, state, averaged_theta=True))

    def learn(
        self, block: Any, weights: Any = None, posterior: FloatArray | None = None, timestamps: Any = None
    ) -> FloatArray:
        """Learn a Block or an (n, D) array; return the log-likelihood (n,) of each record before it was learned.

        Records that are collected for the start have no log-likelihood yet: NaN. `weights` (n,) count records. An array
        `posterior` (n, K) receives the probabilities of the components, also before each record was learned. A stepsize
        in time needs `timestamps` (n,) in seconds. Raises `InputError` for records that cannot be used; nothing of such
        a block is learned.
        """
        if isinstance(block, Block):
            self.fields = self.fields or block.fields
            weights = block.weights if weights is None else weights
            timestamps = block.timestamps if timestamps is None else timestamps
        records = as_records(block, self.n_features)
        times = self._times(timestamps, len(records))
        counts = record_weights_of(self.model, records, weights)
        log_likelihood = np.full(len(records), np.nan)
        probabilities = np.empty((0, 0)) if posterior is None else posterior
        if posterior is not None:
            _check_room(posterior, (len(records), self.model.n_components))
            posterior[:] = np.nan
        taken = 0
        if self.state is None and len(records):
            check_frozen(self.model, None)
            taken = self._collect(records, counts)
            for watcher in self.watchers:
                watcher.seen += taken
        if self.tournament is not None:
            rest = slice(taken, None)
            self._compete(records[rest], counts[rest], probabilities[rest], log_likelihood[rest], times[rest])
        return log_likelihood

    def start(self) -> None:
        """End the warm-up now, with the records collected so far; raises `InputError` if there are none."""
        if self.tournament is None:
            self.sized, self.tournament = self._start(self.agree)
            self._waiting = []

    def challenge(self, reason: str, kinds: Sequence[str] = KINDS, latest: int | None = None) -> None:
        """Let challengers enter because the stream has changed; events say which.

        They are made from the `latest` records (all that are kept if None), and again when all that are kept are of
        after now. Kinds: "fresh" k-means++ starts; the champion "adapted" to those records alone, or "quicker" with its
        stepsize of early on; each stored "regime"; the champion with one component "split" and two merged. If regimes
        may enter, the champion as it was before the records that are kept is stored as one. With `robust`, nothing is
        left out for a while. Raises `InputError` for another kind, if no recent records are kept, or if it has not
        started.
        """
        check_kinds(kinds)
        if self.tournament is None or not self.settings.recent:
            raise InputError("challenge: a learner needs recent records, such as recent=5000, and to have started")
        if self.settings.robust is not None:
            # Who says that the stream has changed wants all of it to count.
            open_gate(self.tournament.state)
        kinds = tuple(dict.fromkeys(kinds))
        self.tournament, events = challenge_after_change(self._course, self.tournament, reason, kinds, latest)
        self.events += events

    def posterior(self, X: Any, averaged: bool = False) -> FloatArray:
        """Return the probability (n, K) of each component, or filtered state of a chain that goes on from here.

        Where the hidden variables are signals, these, in the units of the records; where they are activations, these.
        """
        return self._score(X, averaged)[0]

    def log_likelihood(self, X: Any, averaged: bool = False) -> FloatArray:
        """Return the log-likelihood (n,) of each record in nats; nothing is learned."""
        return self._score(X, averaged)[1]

    def refresh(self) -> None:
        """Make the M-step now, whatever the schedule says."""
        states = [] if self.tournament is None else [self.tournament.state, *self.tournament.companions]
        for state in states:
            if state.s[0] > 0:
                maximise(self.sized, state.theta, state.s, records_behind(state.s))

    def merge(self, *others: "Learner") -> "Learner":
        """Return a learner that has learned what these have, each from its own part of the data; none of them changes.

        All must have started from the same `params`. Raises `InputError` otherwise, and for a chain, whose records
        cannot be cut apart.

        >>> import stream_em as sem
        >>> X = np.random.default_rng(0).normal([0.0, 9.0], 1.0, (5000, 2)).reshape(-1, 1)
        >>> start = sem.batch_em(sem.GaussianMixture(n_components=2), X[:500]).params
        >>> a, b = (sem.Learner(sem.GaussianMixture(n_components=2), params=start) for _ in range(2))
        >>> even, odd = a.learn(X[::2]), b.learn(X[1::2])
        >>> a.merge(b).count
        10000.0
        """
        learners = [self, *others]
        if not self.model.exchangeable:
            raise InputError(f"{self.model.name}: parts of a sequence cannot be merged")
        states = [learner.state for learner in learners if learner.state is not None]
        if len(states) < len(learners):
            raise InputError("merge: every learner must be started")
        units = [self.model.units(self.sized, state.theta) for state in states if len(state.s) == len(states[0].s)]
        alike = len(units) == len(states) and all(np.array_equal(unit, units[0]) for unit in units)
        if not alike or any(learner.model != self.model for learner in others):
            raise InputError("merge: the learners must be of one model and start from the same params")
        merged = copy.deepcopy(self)
        merged.events.clear()
        merged.events.extend(event for learner in learners for event in learner.events)
        merged.tournament = alone(self._course, merged_state(states))
        for watcher in merged.watchers:
            watcher.reset()
        merged.refresh()
        return merged

    def save(self, path: str | Path) -> None:
        """Write the learner to one safetensors file, replaced whole; raises `OutsideError` if it cannot be written."""
        write_snapshot(Path(path), *self.dump())

    def dump(self) -> tuple[dict[str, str], Tensors]:
        """Return the learner as texts and arrays; the arrays are its own, not copies."""
        metadata = {
            "model": self.model.name,
            "model_settings": msgspec.json.encode(self.model).decode(),
            "learner_settings": msgspec.json.encode(self.settings).decode(),
            "fields": msgspec.json.encode(self.fields).decode(),
            "events": msgspec.json.encode(list(self.events)).decode(),
        }
        if self.tournament is not None:
            metadata["tournament"], tensors = tensors_of(self.tournament)
        else:
            tensors = {}
            for i, (records, weights) in enumerate(self._waiting):
                tensors[f"waiting.{i:06}.records"], tensors[f"waiting.{i:06}.weights"] = records, weights
        texts, arrays = dump_watchers(self.watchers)
        return metadata | texts, tensors | arrays

    @classmethod
    def after(cls, model: Settings, n_features: int, fit: BatchFit, **settings: Any) -> "Learner":
        """Return a learner that has learned the records of a batch fit, of so many features, and goes on from there."""
        learner = cls(model, **settings)
        learner.sized = model.sized(n_features)
        learner.tournament = begin_after(learner._course, fit.theta, fit.s)
        return learner

    @classmethod
    def load(cls, path: str | Path) -> "Learner":
        """Read a learner; raises `InputError` if the file is damaged, of something else, or of a later version."""
        return cls.restore(*read_snapshot(Path(path)), str(path))

    @classmethod
    def restore(cls, metadata: dict[str, str], tensors: Tensors, name: str) -> "Learner":
        """Return the learner that `dump` gave; texts more, and arrays named run.*, are ignored.

        Raises `InputError`, calling the whole `name`.
        """
        watching = {key: array for key, array in tensors.items() if key.startswith(WATCHING)}
        tensors = {key: array for key, array in tensors.items() if not key.startswith(("run.", WATCHING))}
        try:
            model = msgspec.json.decode(metadata["model_settings"], type=model_type(metadata["model"]))
            settings = msgspec.json.decode(metadata["learner_settings"], type=LearnerSettings)
            learner = cls(model, **{name: getattr(settings, name) for name in settings.__struct_fields__})
            learner.fields = msgspec.json.decode(metadata["fields"], type=tuple[str, ...])
            learner.events.extend(msgspec.json.decode(metadata["events"], type=list[Event]))
            learner.watchers = restored_watchers(model, settings.stepsize, metadata, watching, name)
            if "theta" in tensors:
                learner._restore(metadata.get("tournament", "{}"), tensors)
            else:
                parts = sorted({key.rpartition(".")[0] for key in tensors})
                learner._waiting = [(tensors[f"{part}.records"], tensors[f"{part}.weights"]) for part in parts]
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise InputError(f"{name}: not a model that this version can read ({error})") from None
        return learner

    def _restore(self, text: str, tensors: Tensors) -> None:
        self.sized = self.model.sized(len(tensors["worst"]) - 1)
        # Before there was a clock the stepsize went by the weight of all records.
        tensors.setdefault("clock", tensors["totals"][:1].copy())
        tensors.setdefault("faded", np.array([tensors["totals"][0], -np.inf]))
        self.tournament = tournament_from(self._course, text, tensors)

    def _compete(
        self,
        records: FloatArray,
        counts: FloatArray,
        probabilities: FloatArray,
        log_likelihood: FloatArray,
        times: FloatArray,
    ) -> None:
        """Learn records, and let challengers enter if those who watch say that the stream has changed."""
        assert self.tournament is not None
        told = Predictions(probabilities, log_likelihood)
        asked = len(probabilities) > 0 or len(self.watchers) > 0
        champions = no_predictions(len(records), self.model.n_components if asked else 0)
        if not self.tournament.companions:
            champions = told if len(probabilities) else champions._replace(log_likelihood=log_likelihood)
        batch = Batch(records, counts, times, champions, told)
        watched, events = compete_watched(self._course, Watched(self.tournament, self.watchers), batch)
        self.tournament, self.watchers = watched
        self.events += events

    @property
    def _course(self) -> Course:
        return Course(self.model, self.settings, self.sized)

    def _times(self, timestamps: Any, n: int) -> FloatArray:
        """Return the times (n,) of records, or nothing if no step depends on them."""
        if self.settings.stepsize.seconds is None:
            return np.empty(0)
        if timestamps is None:
            raise InputError("stepsize: a half-life in time needs the times of the records: learn(…, timestamps=…)")
        times = as_records(timestamps, 1)[:, 0]
        if len(times) != n:
            raise InputError(f"timestamps must be one for each of {n} records, not {len(times)}")
        return np.ascontiguousarray(times)

    def _collect(self, records: FloatArray, counts: FloatArray) -> int:
        """Keep the first records that count; start as soon as there are enough. Returns how many records that took."""
        seen = sum(len(waiting) for waiting, _ in self._waiting)
        enough = enough_records(self.model.n_components, self.model.counted_features(records.shape[1]))
        needed = self.settings.warmup or max(enough, SHORTEST_WARMUP)
        counted = np.flatnonzero(counts > 0)[: needed - seen]
        if len(counted) or not self._waiting:
            self._waiting.append((records[counted], counts[counted]))
        if seen + len(counted) < needed:
            return len(records)
        self.start()
        return int(counted[-1]) + 1

    def _start(self, agree: Callable[[Any], Any] | None = None) -> tuple[Any, Tournament]:
        """Return the compiled form, and a tournament of starts from the records collected so far."""
        if self.count == 0:
            raise InputError("no record so far has a value in any field; give more records, or choose other fields")
        records, counts = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        course = Course(self.model, self.settings, self.model.sized(records.shape[1]))
        return course.sized, begin(course, records, counts, agree)

    def _started(self) -> tuple[Any, State]:
        """Return the state, or, during the warm-up, the one that a start right now would give."""
        if self.tournament is not None:
            return self.sized, leader(self.tournament)
        sized, tournament = self._start()
        return sized, tournament.state

    def _theta(self, sized: Any, state: State, averaged_theta: bool) -> FloatArray:
        if not averaged_theta:
            return state.theta
        theta = state.theta.copy()
        theta[: state.averages.shape[1]] = averaged(state)
        maximise(sized, theta, state.s, 0.0)
        return theta

    def _score(self, X: Any, averaged_theta: bool) -> tuple[FloatArray, FloatArray]:
        sized, state = self._started()
        records = as_records(X, len(state.worst) - 1)
        self.model.check_records(records)
        return score(sized, self._theta(sized, state, averaged_theta), state.s, records)


def scorer(learner: Learner, averaged: bool = False) -> Learner:
    """Return a learner with the same parameters that will never change them: it only scores, also a long sequence."""
    params = learner.averaged_params if averaged else learner.params
    return Learner(learner.model, params=params, inhibit=LARGEST_NUMBER)


def _check_room(posterior: FloatArray, shape: tuple[int, int]) -> None:
    if posterior.shape != shape or posterior.dtype != np.float64 or not posterior.flags.c_contiguous:
        raise InputError(f"posterior must be a contiguous float64 array of shape {shape}, not {posterior.shape}")

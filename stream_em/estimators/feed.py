"""From records with named features, one at a time, to a learner: what every river face does underneath."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import impute, score, stats_of
from stream_em.errors import InputError
from stream_em.estimators.values import NAN, NO_TIME, numbers, seconds
from stream_em.learning.batch import LARGEST_WEIGHT
from stream_em.learning.learner import SHORTEST_WARMUP, Learner
from stream_em.learning.start import enough_records
from stream_em.models.interface import Settings
from stream_em.streams.records import LARGEST, Block, first_unusable, unusable_reason

MOST_WAITING = 64
"""Records are handed to the learner when the parameters are due to change, or when so many wait."""
FIRST_LOOK, LOOKS_GROW = 8, 4
"""In the warm-up there are makeshift parameters from the first 8, 32, 128, ... records."""
JOINING = 100
"""New features join the model after so many records from the first of them on."""
KEPT_SCORES = 1000


class Feed:
    """The columns of a stream, the records that wait to be learned, and the learner of all those before.

    Between two M-steps the parameters do not move, so records wait until the next one, and yet every prediction is that
    of all records learned so far. For a chain, whose filter moves with each record, those that wait are filtered first.
    """

    def __init__(self, model: Settings, make: Callable[..., Learner], warmup: int | None, timed: bool) -> None:
        self.model = model
        self.timed = timed
        """Whether stepsizes depend on the times of the records."""
        self.make = make
        """Returns a new learner; takes `starts`, `warmup`, `inhibit` and `params` of `Learner`."""
        self.warmup = warmup
        self.learner: Learner | None = None
        self.warm = False
        """Whether the warm-up is over."""
        self.names: list[Hashable] = []
        self.scores = np.full(KEPT_SCORES, NAN)
        """Log-likelihoods of the latest records, each before it was learned: a ring."""
        self.n_scores = 0
        self._columns: dict[Hashable, int] = {}
        self._rows, self._weights = np.zeros((FIRST_LOOK, 0)), np.ones(FIRST_LOOK)
        self._times = np.zeros(FIRST_LOOK)
        self._n, self._due = 0, FIRST_LOOK
        self._scored = 0
        """How many of those that wait the makeshift learner has learned."""
        self._joining: list[FloatArray] = []
        self._joined_at: list[float] = []

    def learn(self, x: Mapping[Hashable, Any], weight: float = 1.0, time: Any = None) -> None:
        """Take one record, of a time in seconds or a datetime if stepsizes depend on it."""
        row: Any = tuple(x.values()) if list(x) == self.names else self._arranged(x)
        try:
            usual = max(row) <= LARGEST and min(row) >= -LARGEST
        except (TypeError, ValueError):
            usual = False
        if not usual:
            row = numbers(self.names, row)
        if weight != 1.0:
            self._check_weight(weight)
        n = self._n
        if self.timed:
            self._times[n] = seconds(time)
        self._rows[n] = row
        self._weights[n] = weight
        self._n = n + 1
        if self.warm and len(self.names) > self._width:
            self._join(self._rows[n].copy(), float(self._times[n]))
        if self._n >= self._due:
            self._hand_over()

    def learn_many(self, names: Sequence[Hashable], values: FloatArray, weights: Any = None, times: Any = None) -> None:
        """Take the records (n, D) of a table whose columns have names."""
        when = self._times_of(times, len(values))
        rows = self._table(names, values, grow=True)
        counts = np.ones(len(rows)) if weights is None else np.array(weights, dtype=np.float64)
        if weights is not None:
            if counts.shape != (len(rows),):
                raise InputError(f"weights must have shape ({len(rows)},), not {counts.shape}")
            for weight in counts[counts != 1.0]:
                self._check_weight(weight)
        begin = 0
        while begin < len(rows):
            simple = self.warm and len(self.names) == self._width
            if simple:
                if self._n:
                    self._hand_over()
                self._learned(rows[begin:], None if weights is None else counts[begin:], when[begin:])
                begin = len(rows)
            else:
                end = min(len(rows), begin + self._due - self._n)
                if self.warm:
                    end = min(end, begin + JOINING - len(self._joining))
                n = end - begin
                self._rows[self._n : self._n + n] = rows[begin:end]
                self._weights[self._n : self._n + n] = counts[begin:end]
                self._times[self._n : self._n + n] = when[begin:end]
                self._n += n
                if self.warm:
                    self._joining += list(rows[begin : end - 1])
                    self._joined_at += when[begin : end - 1].tolist()
                    self._join(rows[end - 1], float(when[end - 1]))
                if self._n >= self._due:
                    self._hand_over()
                begin = end

    def predict(self, x: Mapping[Hashable, Any]) -> tuple[FloatArray, float]:
        """Return the probabilities (K,) of the hidden variable of a record, and its log-likelihood; nothing changes."""
        probabilities, log_likelihood = self._predicted(self._row_of(x))
        return probabilities[-1], float(log_likelihood[-1])

    def predict_many(self, names: Sequence[Hashable], values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the same for each record (n, D) of a table: (n, K) and (n,)."""
        return self._predicted(self._table(names, values, grow=False))

    def filled(self, x: Mapping[Hashable, Any]) -> dict[Hashable, float]:
        """Return values (all that are known) of a record in which those that are missing have their conditional mean.

        Empty before there is a model.
        """
        if self.learner is None:
            return {}
        row = self._row_of(x)[:, : self._width].copy()
        state = self.learner.state
        assert state is not None
        impute(self.learner.sized, state.theta, row, self._predicted(row)[0][-1:])
        return dict(zip(self.names, row[0].tolist(), strict=False))

    def filter(self) -> FloatArray:
        """Return the probabilities (K,) of a chain's present state, given all that was learned."""
        K = self.model.n_components
        if self.learner is None:
            return np.full(K, 1.0 / K)
        state = self.learner.state
        assert state is not None
        if self._n > self._scored:
            waiting = np.ascontiguousarray(self._rows[self._scored : self._n, : self._width])
            return np.asarray(score(self.learner.sized, state.theta, state.s, waiting)[0][-1])
        return np.array(stats_of(self.learner.sized, state.s).state)

    @property
    def params(self) -> Any:
        """The parameters of now, in the records' units; None before the first of them."""
        return None if self.learner is None else self.learner.params

    def flush(self) -> None:
        """Hand over the records that wait; predictions are the same before and after, but for rounding."""
        if self._n and self.warm:
            self._hand_over()

    def p_value(self, log_likelihood: float) -> float:
        """Return how probable it is that a record like the latest has so low a log-likelihood: 1 / (n + 1) to 1.

        The rank among the latest scores, each told before its record was learned: uniform, whatever the distribution,
        if the records are exchangeable (conformal prediction: Vovk, Gammerman & Shafer 2005).
        """
        n = min(self.n_scores, KEPT_SCORES)
        return (1.0 + float(np.count_nonzero(self.scores[:n] <= log_likelihood))) / (n + 1.0)

    @property
    def _width(self) -> int:
        """How many of the columns the learner knows: the first ones."""
        return 0 if self.learner is None else int(self.learner.n_features or 0)

    def _check_weight(self, weight: float) -> None:
        if not 0.0 <= weight <= LARGEST_WEIGHT:
            raise InputError(f"a record's weight must lie between 0 and {LARGEST_WEIGHT:g}, not {weight}")
        if not self.model.exchangeable:
            raise InputError(f"{self.model.name}: the records of a sequence cannot be weighted")

    def _times_of(self, times: Any, n: int) -> FloatArray:
        if not self.timed:
            return np.zeros(n)
        if times is None:
            raise InputError(NO_TIME)
        when = np.array([seconds(each) for each in times])
        if len(when) != n:
            raise InputError(f"times must be one for each of {n} records, not {len(when)}")
        return when

    def _arranged(self, x: Mapping[Hashable, Any]) -> list[Any]:
        if not self._columns.keys() >= x.keys():
            self._add_columns(x.keys() - self._columns.keys())
        return [x.get(name, NAN) for name in self.names]

    def _add_columns(self, new: Any) -> None:
        # In an order of their own, so that it does not matter in which order a record names them.
        added = sorted(new, key=lambda name: (type(name).__name__, str(name)))
        self.names = [*self.names, *added]
        self._columns = {name: i for i, name in enumerate(self.names)}
        self._rows = np.pad(self._rows, ((0, 0), (0, len(added))), constant_values=NAN)
        if not self.warm:
            self._set_due()

    def _row_of(self, x: Mapping[Hashable, Any]) -> FloatArray:
        row: Any = [x.get(name, NAN) for name in self.names]
        try:
            values = np.array([row], dtype=np.float64)
        except (TypeError, ValueError):
            values = np.array([numbers(self.names, row)])
        return np.clip(values, -LARGEST, LARGEST)

    def _table(self, names: Sequence[Hashable], values: FloatArray, grow: bool) -> FloatArray:
        wrong = first_unusable(values)
        if wrong is not None:
            raise InputError(f"record {wrong[0]}, feature {names[wrong[1]]!r}: {unusable_reason(values[wrong])}")
        if grow and len(values) and not self._columns.keys() >= set(names):
            self._add_columns(set(names) - self._columns.keys())
        places = {name: i for i, name in enumerate(names)}
        if places.keys() >= self._columns.keys():
            return np.ascontiguousarray(values.T[[places[name] for name in self.names]].T)
        rows = np.full((len(values), len(self.names)), NAN)
        for name, i in places.items():
            if name in self._columns:
                rows[:, self._columns[name]] = values[:, i]
        return rows

    def _predicted(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        K, n = self.model.n_components, len(rows)
        if self.learner is None:
            return np.full((n, K), 1.0 / K if self.model.assignable else 0.0), np.zeros(n)
        state, width = self.learner.state, self._width
        assert state is not None
        if rows.shape[1] > width:
            rows = np.ascontiguousarray(rows[:, :width])
        if not self.model.exchangeable:
            rows = np.concatenate([self._rows[self._scored : self._n, :width], rows])
        probabilities, log_likelihood = score(self.learner.sized, state.theta, state.s, rows)
        return probabilities[len(rows) - n :], log_likelihood[len(rows) - n :]

    def _hand_over(self) -> None:
        n, width = self._n, self._width
        if self.warm:
            self._n = 0
            self._learned(self._rows[:n, :width], self._weights[:n], self._times[:n])
            return
        rows, weights = self._rows[:n], self._weights[:n]
        complete = n >= self._needed
        counted = weights > 0.0
        if self.model.exchangeable and rows.shape[1]:
            counted &= ~np.isnan(rows).all(axis=1)
        enough = rows.shape[1] >= self.model.least_features
        if enough and counted.any() and not np.isnan(rows[counted]).all():
            learner = self.make(warmup=n) if complete else self.make(warmup=n, starts=1)
            learner.learn(rows.copy(), weights, timestamps=self._times[:n].copy() if self.timed else None)
            if not learner.started:
                learner.start()
            self.learner, self._scored, self.warm = learner, n, complete
        if self.warm:
            self._n = self._scored = 0
        elif complete:
            # None of them has a value: they are as good as never seen.
            self._n = 0
        self._set_due()

    def _learned(self, rows: FloatArray, counts: FloatArray | None, times: FloatArray) -> None:
        assert self.learner is not None
        if len(rows):
            timestamps = times if self.timed else None
            block = Block(np.ascontiguousarray(rows), weights=counts, timestamps=timestamps, checked=True)
            told = self.learner.learn(block)[-KEPT_SCORES:]
            begin = self.n_scores % KEPT_SCORES
            fit = min(len(told), KEPT_SCORES - begin)
            self.scores[begin : begin + fit], self.scores[: len(told) - fit] = told[:fit], told[fit:]
            self.n_scores += len(told)
        self._set_due()

    @property
    def _needed(self) -> int:
        if self.warmup is not None:
            return self.warmup
        return max(enough_records(self.model.n_components, max(1, len(self.names))), SHORTEST_WARMUP)

    def _set_due(self) -> None:
        if self.warm:
            assert self.learner is not None
            self._due = min(MOST_WAITING, self.learner.steady)
        else:
            due = FIRST_LOOK
            while due <= self._n:
                due *= LOOKS_GROW
            self._due = min(due, max(self._needed, self._n + 1))
        room = MOST_WAITING if self.warm else self._due
        if len(self._rows) != room:
            n = self._n
            rows, weights, times = np.full((room, len(self.names)), NAN), np.ones(room), np.zeros(room)
            rows[:n], weights[:n], times[:n] = self._rows[:n], self._weights[:n], self._times[:n]
            self._rows, self._weights, self._times = rows, weights, times

    def _join(self, row: FloatArray, time: float) -> None:
        """Take a record that may have new features; when there are enough, let them join the model.

        The learner begins anew with its parameters and these records. Where a component has a new feature is told by
        their probabilities to be of it.
        """
        self._joining.append(row)
        self._joined_at.append(time)
        if len(self._joining) < JOINING:
            return
        rows = np.full((len(self._joining), len(self.names)), NAN)
        for each, known in zip(rows, self._joining, strict=True):
            each[: len(known)] = known
        times = np.array(self._joined_at)
        self._joining, self._joined_at = [], []
        self._hand_over()
        assert self.learner is not None
        params = self.model.with_features(self.learner.params, self.learner.posterior(rows[:, : self._width]), rows)
        if params is None:
            self.learner = self.make(warmup=JOINING)
            self.learner.learn(rows, timestamps=times if self.timed else None)
            if not self.learner.started:
                self.learner.start()
            self._set_due()
        else:
            self.learner = self.make(params=params, inhibit=JOINING)
            self._learned(rows, None, times)

"""How a tournament begins: with given parameters, or with several starts from the records of the warm-up."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import e_step, model_sizes, records_behind
from stream_em.kernels.gating import LEFT_OUT
from stream_em.learning.advance import Course
from stream_em.learning.companions import accompanied
from stream_em.learning.iterate import iterate
from stream_em.learning.moves import split_and_merged
from stream_em.learning.outliers import outliers
from stream_em.learning.recent import no_records, remember
from stream_em.learning.start import (
    Candidate,
    Sample,
    candidate,
    converge,
    distinct,
    sample_of,
    short_runs,
)
from stream_em.learning.state import State, new_state
from stream_em.learning.tournament import Contender, Tournament

MORE_ITERATIONS = 30
"""EM iterations of each start on the whole sample, before they are ranked."""
MOVED, MOST_MOVES, LEAST_GAIN = 2, 4, 1e-3
"""So many of the best starts have components moved, at most so often; each move must gain so many nats a record."""
MOST_ENTERING = 4
FIRST_ROUND_WARMUPS = 4
"""The first round of the starts takes so many times the records of the warm-up."""


def begin_with(course: Course, theta: FloatArray) -> Tournament:
    """Return the tournament of one learner that has parameters and has learned nothing."""
    return alone(course, _new_state(course, theta))


def begin_after(course: Course, theta: FloatArray, s: FloatArray) -> Tournament:
    """Return the tournament of one learner whose statistics are those of a batch, all of which it has learned."""
    state = _new_state(course, theta.copy())
    state.s[:] = s
    state.totals[0] = state.clock[0] = state.faded[0] = records_behind(s)
    return alone(course, state)


def alone(course: Course, state: State) -> Tournament:
    """Return a tournament that nobody else is in."""
    recent = no_records(course.settings.recent, len(state.worst) - 1)
    return accompanied(course, Tournament("start", state, (), (), (), recent, None, (), np.ones(1)))


def begin(
    course: Course, records: FloatArray, counts: FloatArray, agree: Callable[[Any], Any] | None = None
) -> Tournament:
    """Return the tournament of the best starts from the first (n, D) records, which all of them have learned.

    With `robust`, outliers among them are left out. With `agree` there is one, from the parameters that it returns
    when it is called with the best.
    """
    rng = np.random.default_rng(course.settings.seed)
    n_records = float(counts.sum())
    robust = course.settings.robust
    if robust is not None:
        out = outliers(course, records, counts, robust)
        records, counts = np.where(out[:, np.newaxis], np.nan, records), np.where(out, 0.0, counts)
    sample = sample_of(course.model, records, counts, rng)
    starts = short_runs(course.model, course.sized, sample, course.settings.starts, rng)
    if course.settings.starts > 1:
        starts = _improved(course, starts, sample, rng)
    found = [(each.name, each.theta) for each in starts]
    converge(course.model, course.sized, found[0][1], sample)
    if agree is not None:
        best = course.model.params(course.sized, found[0][1])
        found = [("agreed", course.model.from_params(agree(best))[1])]
    (champion, state), *others = [(name, _started_state(course, theta, records, counts)) for name, theta in found]
    state.gate[LEFT_OUT] = n_records - counts.sum()
    first_round = FIRST_ROUND_WARMUPS * len(records)
    contenders = tuple(Contender(name, each, 0, first_round, 0, np.zeros(2)) for name, each in others)
    tournament = alone(course, state)._replace(champion=champion, contenders=contenders)
    remember(tournament.recent, records, counts)
    return tournament


def _improved(course: Course, starts: list[Candidate], sample: Sample, rng: np.random.Generator) -> list[Candidate]:
    """Return the best of the starts after more EM, and what component moves make of the best of these; best first."""
    sized, (records, weights) = course.sized, sample[:2]
    s, found = np.zeros(model_sizes(sized)[3]), []
    gain = course.model.start_gain(records)
    for start in starts:
        iterate(sized, start.theta, s, records, weights, MORE_ITERATIONS, gain)
        found.append(candidate(start.name, sized, start.theta, records, weights))
    found = distinct(found, weights)
    moved = [_moved(course, each, sample, rng) for each in found[:MOVED]]
    return distinct(found + moved, weights)[:MOST_ENTERING]


def _moved(course: Course, start: Candidate, sample: Sample, rng: np.random.Generator) -> Candidate:
    """Return what moves of components make of a start, as long as each is a gain."""
    records, weights = sample[:2]
    for _ in range(MOST_MOVES):
        moved = split_and_merged(course.model, course.sized, start.theta, records, weights, rng)
        if moved is None:
            break
        name, theta = moved
        after = candidate(f"{start.name}, {name}", course.sized, theta, records, weights)
        if not after.value > start.value + LEAST_GAIN * weights.sum():
            break
        start = after
    return start


def _started_state(course: Course, theta: FloatArray, records: FloatArray, counts: FloatArray) -> State:
    """Return the state of a learner that begins with theta and has learned (n, D) records."""
    state = _new_state(course, theta)
    e_step(course.sized, theta, state.s, records, counts)
    state.totals[0] = state.clock[0] = state.faded[0] = counts.sum()
    return state


def _new_state(course: Course, theta: FloatArray) -> State:
    """Return the state of a learner that has parameters and has learned nothing."""
    n_averaged, _, _, n_statistics = model_sizes(course.sized)
    return new_state(theta, n_averaged, n_statistics, course.model.n_features(course.sized))

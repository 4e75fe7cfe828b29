"""Where challengers come from: recent records, the champion itself, regimes of the past."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import LEARN, e_step, expect, maximise, model_sizes
from stream_em.errors import InputError
from stream_em.learning.advance import Course
from stream_em.learning.iterate import iterate
from stream_em.learning.moves import split_and_merged
from stream_em.learning.recent import latest
from stream_em.learning.start import (
    candidate,
    converge,
    distinct,
    enough_records,
    first_of_equals,
    sample_of,
    short_runs,
)
from stream_em.learning.state import Event, State, copied, later_state
from stream_em.learning.tournament import FIRST_ROUND, Contender, FollowUp, Regime, Tournament, dropped_event

KINDS = ("fresh", "adapted", "quicker", "regime", "split")
FROM_RECENT: tuple[str, ...] = ("fresh", "adapted", "split")
"""Those made of recent records, which may still be of before a change when the others enter."""
FRESH = 2
"""So many of the fresh starts enter."""
ADAPTING_ITERATIONS = 10
MOST_REGIMES = 4


def challenge(
    course: Course, tournament: Tournament, reason: str, kinds: Sequence[str], n_latest: int | None = None
) -> tuple[Tournament, list[Event]]:
    """Return the tournament with challengers of these kinds, made from the latest records; and who entered.

    A kind that needs something that is not there (a stored regime, a component to split) gives none, and so does one
    that comes to the same as a kind before it. Earlier challengers of the same kind are dropped.
    """
    records, counts = latest(tournament.recent, n_latest)
    found: list[tuple[str, State]] = []
    for kind in kinds if counts.sum() > 0 else ():
        found += _MAKERS[kind](course, tournament, records, counts)
    found = _without_twins(course, found, records, counts)
    at, count = int(tournament.state.tally[0]), float(tournament.state.totals[0])
    old = [each for each in tournament.contenders if each.rivals > 0 and each.name.split()[0] in kinds]
    events = [dropped_event(tournament, each, "a newer one enters") for each in old]
    events += [Event(count, "challenger", f"{name}: {reason}") for name, _ in found]
    names = {each.name for each in old}
    kept = tuple(each for each in tournament.contenders if each.name not in names)
    entering = tuple(Contender(name, state, at, FIRST_ROUND, len(found), np.zeros(2)) for name, state in found)
    return tournament._replace(contenders=kept + entering), events


def challenge_after_change(
    course: Course, tournament: Tournament, reason: str, kinds: Sequence[str], n_latest: int | None
) -> tuple[Tournament, list[Event]]:
    """Let challengers enter, store the regime that ends, and plan to challenge again when all records are new."""
    tournament, events = challenge(course, tournament, reason, kinds, n_latest)
    if "regime" in kinds:
        tournament = _stored(tournament)
    again = int(tournament.state.tally[0]) + len(tournament.recent.records)
    if set(kinds) & set(FROM_RECENT):
        return tournament._replace(follow_up=FollowUp(again, reason)), events
    return tournament, events


def _stored(tournament: Tournament) -> Tournament:
    """Keep the champion of a while ago as a regime, in place of what it was before if it is one that came back."""
    if not tournament.checkpoints:
        return tournament
    state = tournament.checkpoints[0]
    known = [each.name for each in tournament.regimes]
    name = tournament.champion
    if name not in known:
        name = f"regime of {float(state.totals[0]):,.10g}"
    others = [each for each in tournament.regimes if each.name != name]
    regimes = (*others, Regime(name, state))[-MOST_REGIMES:]
    return tournament._replace(champion=name, regimes=regimes)


def _without_twins(
    course: Course, found: list[tuple[str, State]], records: FloatArray, counts: FloatArray
) -> list[tuple[str, State]]:
    """Return the challengers without those that were made of the records and came to the same as one before.

    Which of two equals is ahead is decided by rounding.
    """
    made = [each for each in found if each[0].split()[0] in FROM_RECENT]
    if len(made) < 2:
        return found
    candidates = [candidate(name, course.sized, state.theta, records, counts) for name, state in made]
    kept = {each.name for each in first_of_equals(candidates, counts)}
    twins = {name for name, _ in made} - kept
    return [(name, state) for name, state in found if name not in twins]


def _fresh(course: Course, tournament: Tournament, records: FloatArray, counts: FloatArray) -> list[tuple[str, State]]:
    """Return the best of fresh k-means++ starts; none if parameters are to stay, of which these would know nothing."""
    model, sized = course.model, course.sized
    if model.frozen:
        return []
    rng = np.random.default_rng([course.settings.seed, int(tournament.state.tally[0])])
    sample = sample_of(model, records, counts, rng)
    found = []
    for start in short_runs(model, sized, sample, course.settings.starts, rng)[:FRESH]:
        converge(course.model, sized, start.theta, sample)
        found.append(candidate("", sized, start.theta, sample.records, sample.weights))
    return [
        (f"fresh {i}", _from_recent(course, tournament, each.theta, records, counts))
        for i, each in enumerate(distinct(found, sample.weights), 1)
    ]


def _adapted(
    course: Course, tournament: Tournament, records: FloatArray, counts: FloatArray
) -> list[tuple[str, State]]:
    """Return the champion after a few EM iterations on the recent records alone."""
    theta, s = tournament.state.theta.copy(), np.zeros_like(tournament.state.s)
    iterate(course.sized, theta, s, records, counts, ADAPTING_ITERATIONS, 0.0)
    return [("adapted", _from_recent(course, tournament, theta, records, counts))]


def _quicker(
    course: Course, tournament: Tournament, records: FloatArray, counts: FloatArray
) -> list[tuple[str, State]]:
    """Return the champion with its clock turned back, if its stepsize goes by it."""
    state = copied(tournament.state)
    enough = float(enough_records(course.model.n_components, course.model.counted_features(records.shape[1])))
    if course.settings.stepsize.power == 0.0 or state.clock[0] <= enough:
        return []
    state.clock[0] = enough
    return [("quicker", state)]


def _regimes(
    course: Course, tournament: Tournament, records: FloatArray, counts: FloatArray
) -> list[tuple[str, State]]:
    """Return the stored regimes but the champion's own; a chain's filter is taken over the recent records."""
    found = []
    for name, regime in tournament.regimes:
        if name != tournament.champion:
            state = later_state(regime, tournament.state)
            nothing, scores = np.zeros(len(records)), np.empty(len(records))
            expect(course.sized, state.theta, state.s, records, nothing, np.empty((0, 0)), scores, LEARN)
            found.append((name, state))
    return found


def _split(course: Course, tournament: Tournament, records: FloatArray, counts: FloatArray) -> list[tuple[str, State]]:
    """Return the champion with one component split and two others merged, if that can be done."""
    rng = np.random.default_rng([course.settings.seed, int(tournament.state.tally[0])])
    moved = split_and_merged(course.model, course.sized, tournament.state.theta, records, counts, rng)
    if moved is None:
        return []
    name, theta = moved
    return [(name, _from_recent(course, tournament, theta, records, counts))]


_MAKERS: Any = dict(zip(KINDS, (_fresh, _adapted, _quicker, _regimes, _split), strict=True))


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `InputError` for a kind of challenger that there is not."""
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"challenge: kinds may be {', '.join(KINDS)}; not {kind!r}")


def _from_recent(
    course: Course, tournament: Tournament, theta: FloatArray, records: FloatArray, counts: FloatArray
) -> State:
    """Return a state whose statistics are those of the recent records."""
    s = np.zeros(model_sizes(course.sized)[3])
    maximise(course.sized, theta, s, 0.0)
    e_step(course.sized, theta, s, records, counts)
    n, now = counts.sum(), tournament.state
    made = now._replace(theta=theta, s=s, clock=np.array([n]), faded=np.array([n, now.faded[1]]))
    return later_state(made, now)

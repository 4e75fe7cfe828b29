"""A champion and its contenders on the same records, and what is due between them."""

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.learning.advance import Course, advance
from stream_em.learning.challengers import FROM_RECENT, challenge
from stream_em.learning.companions import Predictions, accompanied, predict_together
from stream_em.learning.recent import remember
from stream_em.learning.state import Event, copied
from stream_em.learning.tournament import Tournament, settle, until_look

NO_PROBABILITIES = np.empty((0, 0))
SCHEDULED: tuple[str, ...] = ("fresh", "split")
"""Challengers of a slow schedule: those that can leave a poor maximum."""


def compete(
    course: Course,
    tournament: Tournament,
    records: FloatArray,
    counts: FloatArray,
    champions: Predictions,
    told: Predictions,
    timestamps: FloatArray,
) -> tuple[Tournament, list[Event]]:
    """Learn (n, D) records; return how the tournament stands then, and what happened.

    What is `told` is predicted by the champion and its companions together; without any, it is the champion's.
    Contenders are measured against it. Nothing depends on how a stream is cut, but for rounding.
    """
    events: list[Event] = []
    begin = 0
    while begin < len(records):
        part = slice(begin, min(len(records), begin + _until_due(course, tournament)))
        begin = part.stop
        champion, own, times = tournament.state, champions.of(part), timestamps[part]
        events += advance(course, champion, records[part], counts[part], *own, times)
        if tournament.companions:
            predict_together(course, tournament, records[part], counts[part], own, told.of(part), times)
        scores = told.log_likelihood[part]
        for each in tournament.contenders:
            own_scores = np.empty(len(scores))
            advance(course, each.state, records[part], counts[part], NO_PROBABILITIES, own_scores, times)
            each.evidence[0] += counts[part] @ (own_scores - scores)
        remember(tournament.recent, records[part], counts[part])
        tournament, happened = _what_is_due(course, tournament)
        events += happened
        if tournament.state is not champion:
            tournament = accompanied(course, tournament)
    return tournament, events


def _until_due(course: Course, tournament: Tournament) -> int:
    """Return how many records from now on nothing but learning is due."""
    at = int(tournament.state.tally[0])
    waits = [until_look(each, at) for each in tournament.contenders]
    periods = (len(tournament.recent.records), course.settings.restart_every)
    waits += [period - at % period for period in periods if period]
    if tournament.follow_up is not None:
        waits.append(tournament.follow_up.at - at)
    return min(waits, default=2**62)


def _what_is_due(course: Course, tournament: Tournament) -> tuple[Tournament, list[Event]]:
    at, turn = int(tournament.state.tally[0]), len(tournament.recent.records)
    restart_every, follow_up = course.settings.restart_every, tournament.follow_up
    events: list[Event] = []
    if tournament.contenders:
        tournament, events = settle(tournament, course.settings.delta)
    if turn and at % turn == 0:
        checkpoints = (*tournament.checkpoints, copied(tournament.state))[-2:]
        tournament = tournament._replace(checkpoints=checkpoints)
    reason, kinds = "", SCHEDULED
    if follow_up is not None and at == follow_up.at:
        reason, kinds = f"{follow_up.reason}, {turn:,} records later", FROM_RECENT
        tournament = tournament._replace(follow_up=None)
    elif restart_every and at % restart_every == 0:
        reason = f"every {restart_every:,} records"
    if reason:
        tournament, entered = challenge(course, tournament, reason, kinds)
        events += entered
    return tournament, events

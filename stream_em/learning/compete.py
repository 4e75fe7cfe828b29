"""A champion and its contenders on the same records, and what is due between them."""

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.learning.advance import CHECK_EVERY, Course, advance
from stream_em.learning.challengers import FROM_RECENT, challenge
from stream_em.learning.gate import gated, score_left, what_to_tell
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
    probabilities: FloatArray,
    log_likelihood: FloatArray,
    timestamps: FloatArray,
) -> tuple[int, Tournament, list[Event]]:
    """Learn (n, D) records, up to where the champion is another or a component of it was moved, if there is one.

    Returns how many were learned, how the tournament stands then, and what happened. `log_likelihood` (n,) and
    `probabilities` (n, K), unless (0, 0), are those of the champion before each record was learned. What the champion
    leaves out nobody learns, and its `counts` become 0. Nothing depends on how a stream is cut, but for rounding.
    """
    events: list[Event] = []
    begin, first = 0, tournament.champion
    while (
        begin < len(records) and tournament.champion == first and not any(event.kind == "reseeded" for event in events)
    ):
        part = slice(begin, min(len(records), begin + _until_due(course, tournament)))
        begin = part.stop
        champion, scores, times = tournament.state, log_likelihood[part], timestamps[part]
        learned, left = records[part], None
        if course.settings.robust is not None:
            learned, left = gated(course, champion, learned, counts[part])
        told = probabilities[part]
        if left is not None and len(told) == 0:
            told = np.empty((len(learned), course.model.n_components))
        events += advance(course, champion, learned, counts[part], told, scores, times)
        for each in tournament.contenders:
            own_scores = np.empty(len(scores))
            advance(course, each.state, learned, counts[part], NO_PROBABILITIES, own_scores, times)
            each.evidence[0] += counts[part] @ (own_scores - scores)
        if left is not None:
            score_left(left, told, scores)
        remember(tournament.recent, learned, counts[part])
        tournament, happened = _what_is_due(course, tournament)
        events += happened
    return begin, tournament, events


def _until_due(course: Course, tournament: Tournament) -> int:
    """Return how many records from now on nothing but learning is due."""
    at = int(tournament.state.tally[0])
    waits = [until_look(each, at) for each in tournament.contenders]
    settings = course.settings
    periods = (len(tournament.recent.records), settings.restart_every, settings.refresh_every * CHECK_EVERY)
    waits += [period - at % period for period in periods if period]
    if course.settings.robust is not None:
        waits.append(course.settings.refresh_every - at % course.settings.refresh_every)
    if tournament.follow_up is not None:
        waits.append(tournament.follow_up.at - at)
    return min(waits)


def _what_is_due(course: Course, tournament: Tournament) -> tuple[Tournament, list[Event]]:
    at, turn = int(tournament.state.tally[0]), len(tournament.recent.records)
    restart_every, follow_up = course.settings.restart_every, tournament.follow_up
    events: list[Event] = []
    if tournament.contenders:
        tournament, events = settle(tournament, course.settings.delta)
    if course.settings.robust is not None and at % course.settings.refresh_every == 0:
        events += what_to_tell(tournament.state)
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

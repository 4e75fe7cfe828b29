"""A champion and its contenders on the same records, and what is due between them."""

import numpy as np

from stream_em.learning.advance import CHECK_EVERY, Course, advance
from stream_em.learning.batches import Batch, no_predictions
from stream_em.learning.challengers import FROM_RECENT, challenge
from stream_em.learning.companions import accompanied, predict_together
from stream_em.learning.gate import gated, score_left, what_to_tell
from stream_em.learning.recent import remember
from stream_em.learning.state import Event, copied
from stream_em.learning.tournament import Tournament, settle, until_look

SCHEDULED: tuple[str, ...] = ("fresh", "split")
"""Challengers of a slow schedule: those that can leave a poor maximum."""


def compete(course: Course, tournament: Tournament, batch: Batch) -> tuple[int, Tournament, list[Event]]:
    """Learn a batch, up to where the champion is another or a component of it was moved, if there is one.

    Returns how many records were learned, how the tournament stands then, and what happened. What the champion leaves
    out nobody learns, and its counts become 0. Nothing depends on how a stream is cut, but for rounding.
    """
    events: list[Event] = []
    begin, first = 0, tournament.champion
    while begin < len(batch.records) and tournament.champion == first and not moved(events):
        part = batch.of(slice(begin, begin + until_due(course, tournament)))
        begin += len(part.records)
        champion = tournament.state
        events += _learn(course, tournament, part)
        tournament, happened = _what_is_due(course, tournament)
        events += happened
        if tournament.state is not champion:
            tournament = accompanied(course, tournament)
    return begin, tournament, events


def moved(events: list[Event]) -> bool:
    """Tell whether a component of the champion was moved."""
    return any(event.kind == "reseeded" for event in events)


def _learn(course: Course, tournament: Tournament, batch: Batch) -> list[Event]:
    """Let all learn a batch in which nothing else is due; return what happened to the champion."""
    champion, left = tournament.state, None
    if course.settings.robust is not None:
        records, left = gated(course, champion, batch.records, batch.counts)
        batch = batch._replace(records=records)
    if left is not None and len(batch.champions.probabilities) == 0:
        room = np.empty((len(batch.records), course.model.n_components))
        batch = batch._replace(champions=batch.champions._replace(probabilities=room))
    learned = batch.records, batch.counts
    events = advance(course, champion, *learned, *batch.champions, batch.timestamps)
    if tournament.companions:
        predict_together(course, tournament, batch)
    for each in tournament.contenders:
        own = no_predictions(len(batch.records), 0)
        advance(course, each.state, *learned, *own, batch.timestamps)
        each.evidence[0] += batch.counts @ (own.log_likelihood - batch.told.log_likelihood)
    if left is not None:
        score_left(left, batch.champions, batch.told)
    remember(tournament.recent, *learned)
    return events


def until_due(course: Course, tournament: Tournament) -> int:
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

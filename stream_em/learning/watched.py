"""A tournament under watch: an alarm is acted on at its record, so that it does not matter how records arrive."""

import copy
from typing import NamedTuple

import numpy as np

from stream_em.learning.advance import Course
from stream_em.learning.alarms import Alarm
from stream_em.learning.batches import Batch
from stream_em.learning.challengers import KINDS, challenge_after_change
from stream_em.learning.compete import compete, moved
from stream_em.learning.gate import open_gate
from stream_em.learning.state import Event
from stream_em.learning.tournament import Tournament, copied_tournament
from stream_em.learning.watching import Watcher

LONGEST = 8192
"""So many records at most are learned again because of an alarm."""


class Watched(NamedTuple):
    """A tournament and those who watch it."""

    tournament: Tournament
    watchers: list[Watcher]


def compete_watched(course: Course, watched: Watched, batch: Batch) -> tuple[Watched, list[Event]]:
    """Learn a batch whole as `compete` does; let challengers enter wherever those who watch raise an alarm."""
    events: list[Event] = []
    begin = 0
    while begin < len(batch.records):
        taken, watched, happened = _up_to_an_alarm(course, watched, batch.of(slice(begin, begin + LONGEST)))
        events += happened
        begin += taken
    return watched, events


def _up_to_an_alarm(course: Course, watched: Watched, batch: Batch) -> tuple[int, Watched, list[Event]]:
    """Learn a batch, or what there is of it before the first alarm, and act on that; return how much was learned.

    To look costs least if it is done for a whole batch at once. So an alarm within it is found too late: then what came
    after is undone, by learning what came before once more.
    """
    # A single record cannot have an alarm before its end.
    undoable = len(watched.watchers) > 0 and len(batch.records) > 1
    before = (_copied(watched), batch.counts.copy()) if undoable else (watched, batch.counts)
    taken, watched, events, alarms = _look(course, watched, batch)
    first = min((taken - watcher.seen + alarm.at for watcher, alarm in alarms), default=taken)
    if 0 < first < taken:
        watched, batch.counts[:] = before
        taken, watched, events, alarms = _look(course, watched, batch.of(slice(first)))
    tournament = watched.tournament
    for watcher, alarm in alarms:
        count = float(tournament.state.totals[0])
        events.append(Event(count, "drift" if alarm.drift else "outliers", str(alarm)))
        if alarm.drift:
            if course.settings.robust is not None and alarm.statistic == "mass":
                # A component that lacks records may have moved to where they are left out now.
                open_gate(tournament.state)
            latest = watcher.seen - alarm.since
            tournament, entered = challenge_after_change(course, tournament, "drift", KINDS, latest)
            events += entered
    return taken, watched._replace(tournament=tournament), events


def _look(
    course: Course, watched: Watched, batch: Batch
) -> tuple[int, Watched, list[Event], list[tuple[Watcher, Alarm]]]:
    """Learn as much of a batch as `compete` does; return that, what happened, and the alarms, of any record in it."""
    theta = watched.tournament.state.theta.copy()
    taken, tournament, events = compete(course, watched.tournament, batch)
    batch = batch.of(slice(taken))
    probabilities, log_likelihood = batch.champions
    if course.settings.robust is not None:
        # What is left out is no sign of drift: if it stays, the gate opens.
        log_likelihood = np.where(batch.counts > 0.0, log_likelihood, np.nan)
    changed = tournament.champion != watched.tournament.champion or moved(events)
    alarms: list[tuple[Watcher, Alarm]] = []
    for watcher in watched.watchers:
        found = watcher.update(
            batch.records, log_likelihood, probabilities, lambda: course.model.params(course.sized, theta)
        )
        alarms += [(watcher, alarm) for alarm in found]
        if changed:
            watcher.reset()
    return taken, watched._replace(tournament=tournament), events, alarms


def _copied(watched: Watched) -> Watched:
    return Watched(copied_tournament(watched.tournament), copy.deepcopy(watched.watchers))

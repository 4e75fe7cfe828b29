"""Several learners on one stream. The best so far is the champion: what users see.

All learn the same records, and each record is scored before it is learned, so that their likelihoods compare fairly.
Those that begin with the stream settle it among themselves by successive halving: at each doubling of the records since
the start the best becomes the champion, and the worse half is dropped (Jamieson & Talwalkar 2016).

One that enters later is a challenger. If the predictions that users see (the champion's, or what it and its companions
predict together) are true, the product of likelihood ratios against them is a martingale of mean 1, which exceeds 1 / p
at any time with a probability of at most p (Ville 1939). So a challenger becomes the champion when its summed
log-likelihood ratio exceeds log(1 / p). It may begin badly and yet become the better one; so its sum begins anew with
each of its rounds, which end at each doubling of its age, and round j = 0, 1, ... has a share
p = delta / ((j + 1) (j + 2) rivals) of the error rate.
"""

from math import log
from typing import NamedTuple

from stream_em.arrays import FloatArray
from stream_em.learning.recent import Recent
from stream_em.learning.state import Event, State, copied

FIRST_ROUND, MOST_ROUNDS = 512, 6
"""Records in a challenger's first round, and rounds until it is dropped if it has not won."""
LOOK_EVERY, LOOK_LATER = 64, 512
"""A challenger is looked at every so many records; when it is older than the second, at multiples of that."""
CLOSING = 0.75
"""A challenger that has clearly lost a round stays if it lost less than so many times as much as before, a record."""


class Contender(NamedTuple):
    """A learner beside the champion; the tally and totals of its state go on from the champion's."""

    name: str
    state: State
    entered: int
    """The champion's tally of records then."""
    first_round: int
    """Records in the first round."""
    rivals: int
    """How many challengers entered together; 0 if it began with the stream."""
    evidence: FloatArray
    """(2,): log-likelihood minus the champion's, summed over this round so far, and a record in the round before."""


class Regime(NamedTuple):
    """A champion of the past, as it was."""

    name: str
    state: State


class FollowUp(NamedTuple):
    """A challenge that is still to come."""

    at: int
    """The champion's tally of records then."""
    reason: str


class Tournament(NamedTuple):
    """Everything that has learned, or is kept, from one stream."""

    champion: str
    state: State
    """The champion's."""
    contenders: tuple[Contender, ...]
    regimes: tuple[Regime, ...]
    """Stored, the longest unused first."""
    checkpoints: tuple[State, ...]
    """The champion as it was about one and two turns of the ring ago, oldest first."""
    recent: Recent
    follow_up: FollowUp | None
    companions: tuple[State, ...]
    """Copies of the champion that forget at the half-lives asked for."""
    shares: FloatArray
    """(1 + companions,): the probability of the champion, and of each of these, to predict the next record best."""


def copied_tournament(tournament: Tournament) -> Tournament:
    """Return a tournament that changes by itself; what is only kept is shared."""
    contenders = (
        each._replace(state=copied(each.state), evidence=each.evidence.copy()) for each in tournament.contenders
    )
    return tournament._replace(
        state=copied(tournament.state),
        contenders=tuple(contenders),
        recent=Recent._make(array.copy() for array in tournament.recent),
        companions=tuple(copied(state) for state in tournament.companions),
        shares=tournament.shares.copy(),
    )


def until_look(contender: Contender, at: int) -> int:
    """Return how many records after `at` the contender's next look is."""
    age = at - contender.entered
    until_end = (contender.first_round << _round(contender, age)) - age
    if contender.rivals == 0:
        return until_end
    period = LOOK_EVERY if age < LOOK_LATER else LOOK_LATER
    return min(until_end, period - age % period)


def settle(tournament: Tournament, delta: float) -> tuple[Tournament, list[Event]]:
    """Return how things stand after a look at those contenders whose look is due, and what happened."""
    at = int(tournament.state.tally[0])
    due = [each for each in tournament.contenders if at > each.entered and until_look(each, at - 1) == 1]
    starts = [each for each in due if each.rivals == 0]
    events: list[Event] = []
    if starts:
        tournament = _halved(tournament, starts, events)
    if len(starts) < len(due):
        challengers = [each for each in due if each.rivals > 0]
        tournament = _challenged(tournament, challengers, at, delta, events)
        tournament = _dropped(tournament, challengers, at, delta, events)
    return tournament, events


def dropped_event(tournament: Tournament, contender: Contender, why: str) -> Event:
    """Return the event that a contender is dropped."""
    lead = f"{contender.evidence[0]:+.4g} nats against the champion in its last round"
    return Event(float(tournament.state.totals[0]), "dropped", f"{contender.name}: {why}; {lead}")


def _round(contender: Contender, age: int) -> int:
    return (age // contender.first_round).bit_length()


def _ends_round(contender: Contender, at: int) -> bool:
    age = at - contender.entered
    return age == contender.first_round << _round(contender, age - 1)


def _needed(contender: Contender, at: int, delta: float) -> float:
    """Return the log-likelihood ratio in nats that makes a challenger the champion."""
    j = _round(contender, at - contender.entered - 1)
    return log(contender.rivals * (j + 1) * (j + 2) / delta)


def _halved(tournament: Tournament, starts: list[Contender], events: list[Event]) -> Tournament:
    """Make the best of the starts the champion and drop the worse half."""
    best = max(starts, key=lambda each: float(each.evidence[0]))
    if best.evidence[0] > 0:
        former = best._replace(name=tournament.champion, state=tournament.state, evidence=-best.evidence)
        tournament = _replaced(tournament, best, "the best of its round", events)
        tournament = tournament._replace(contenders=(*tournament.contenders, former))
    ranked = [each for each in tournament.contenders if each.rivals == 0]
    ranked.sort(key=lambda each: -float(each.evidence[0]))
    kept = ranked[: (len(ranked) + 1) // 2 - 1]
    for each in kept:
        each.evidence[0] = 0.0
    others = [each for each in tournament.contenders if each.rivals > 0]
    return tournament._replace(contenders=(*kept, *others))


def _challenged(
    tournament: Tournament, challengers: list[Contender], at: int, delta: float, events: list[Event]
) -> Tournament:
    """Make the challenger with the most evidence the champion, if it has enough.

    Of those that entered with it and are behind it by chance, the one that has learned from the most records wins: it
    will lose less by having learned from few.
    """
    best = max(challengers, key=lambda each: float(each.evidence[0]) - _needed(each, at, delta))
    needed = _needed(best, at, delta)
    if best.evidence[0] <= needed:
        return tournament
    enough = max(needed, float(best.evidence[0]) - needed)
    equal = [each for each in challengers if each.entered == best.entered and each.evidence[0] > enough]
    winner = max(equal, key=lambda each: float(each.state.clock[0]))
    return _replaced(tournament, winner, f"needed {needed:.4g}", events)


def _replaced(tournament: Tournament, winner: Contender, why: str, events: list[Event]) -> Tournament:
    """Return the tournament with another champion; what the others have shown is counted against it from now on."""
    count, lead = float(tournament.state.totals[0]), float(winner.evidence[0])
    n = _age_in_round(winner, int(tournament.state.tally[0]))
    detail = f"{tournament.champion} by {winner.name}: ahead by {lead:.4g} nats in {n:,} records; {why}"
    events.append(Event(count, "replaced", detail))
    winner.state.totals[:] = tournament.state.totals
    winner.state.gate[:] = tournament.state.gate
    others = tuple(each for each in tournament.contenders if each is not winner)
    for each in others:
        # Only over the same records does a difference of two ratios say how the two compare.
        each.evidence[0] = each.evidence[0] - lead if each.entered == winner.entered else 0.0
    return tournament._replace(champion=winner.name, state=winner.state, contenders=others)


def _age_in_round(contender: Contender, at: int) -> int:
    age = at - contender.entered
    j = _round(contender, age - 1)
    return age - (contender.first_round << (j - 1) if j > 0 else 0)


def _dropped(
    tournament: Tournament, challengers: list[Contender], at: int, delta: float, events: list[Event]
) -> Tournament:
    """At the end of a round drop its worse half, those that clearly lost it, and those whose last it was."""
    live = {each.name for each in tournament.contenders}
    ending = [each for each in challengers if each.name in live and _ends_round(each, at)]
    ending.sort(key=lambda each: -float(each.evidence[0]))
    gone = set()
    for place, each in enumerate(ending):
        n = _age_in_round(each, at)
        rate, before = each.evidence[0] / n, each.evidence[1]
        lost = each.evidence[0] < -_needed(each, at, delta) and n < at - each.entered and rate < CLOSING * before
        why = "in the worse half" if place >= (len(ending) + 1) // 2 else "clearly lost" if lost else ""
        if _round(each, at - each.entered) == MOST_ROUNDS:
            why = "not ahead after its last round"
        if why:
            gone.add(each.name)
            events.append(dropped_event(tournament, each, why))
        else:
            each.evidence[:] = 0.0, rate
    return tournament._replace(contenders=tuple(each for each in tournament.contenders if each.name not in gone))

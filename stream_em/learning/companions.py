"""Learners that forget at other rates beside the champion, and what all of them predict together.

No rate of forgetting is right for long: a quick one follows what moves and is noisy while it rests. Companions are
copies of the champion that go on with half-lives of their own. What is told of a record is the mixture of all their
predictions, whose shares go by how well each has predicted lately. Over any stream that costs at most
log(number) + m log(number / SWITCHING) + n SWITCHING nats more than the best choice of a rate that changes m times in n
records, known beforehand (Herbster & Warmuth 1998; up to terms of order SWITCHING²).
"""

from typing import Any

import msgspec
import numpy as np

from stream_em.kernels.sharing import share
from stream_em.learning.advance import Course, advance
from stream_em.learning.batches import Batch, no_predictions
from stream_em.learning.state import State, copied
from stream_em.learning.tournament import Tournament
from stream_em.stepsize import Stepsize

SWITCHING = 0.01
"""How often, a record, the best rate is taken to change."""


def accompanied(course: Course, tournament: Tournament) -> Tournament:
    """Return the tournament with companions that are copies of its champion, all with equal shares."""
    n = len(course.settings.half_lives)
    companions = tuple(copied(tournament.state) for _ in range(n))
    return tournament._replace(companions=companions, shares=np.full(n + 1, 1.0 / (n + 1)))


def leader(tournament: Tournament) -> State:
    """Return the state that predicts best lately: the champion's, or a companion's."""
    states = (tournament.state, *tournament.companions)
    return states[int(tournament.shares.argmax())]


def predict_together(course: Course, tournament: Tournament, batch: Batch) -> None:
    """Let the companions learn a batch that the champion has learned; write what all predicted together."""
    n, K = len(batch.records), batch.told.probabilities.shape[1]
    each = [batch.champions, *(no_predictions(n, K) for _ in tournament.companions)]
    for half_life, state, own in zip(course.settings.half_lives, tournament.companions, each[1:], strict=True):
        advance(_course_of(course, half_life), state, batch.records, batch.counts, *own, batch.timestamps)
    scores = np.array([own.log_likelihood for own in each])
    chances = np.empty(scores.shape)
    share(tournament.shares, SWITCHING, scores, batch.counts, batch.told.log_likelihood, chances)
    if len(batch.told.probabilities):
        np.einsum("rn,rnk->nk", chances, np.array([own.probabilities for own in each]), out=batch.told.probabilities)
    tournament.state.totals[2] += batch.counts @ (batch.told.log_likelihood - batch.champions.log_likelihood)


def _course_of(course: Course, half_life: float) -> Course:
    """Return the course of a companion: plain means until there are enough records for its half-life."""
    floor = Stepsize.constant(half_life=half_life).scale
    settings: Any = msgspec.structs.replace(course.settings, stepsize=Stepsize.equal(floor=floor))
    return course._replace(settings=settings)

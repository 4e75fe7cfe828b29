"""Records that are scored, but not learned from: too surprising for every component."""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import BoolArray, FloatArray
from stream_em.em import least_surprise
from stream_em.kernels.gating import LEFT_OUT, MEMORY, MOST_LEFT_OUT, NEXT_TOLD, SHARE, TOLD_OPEN, leave_out
from stream_em.learning.advance import Course
from stream_em.learning.batches import Predictions
from stream_em.learning.state import Event, State

SMALLEST = 1e-300


class Left(NamedTuple):
    """Records of a part of a sequence that are left out, and are to be scored apart."""

    out: BoolArray
    """(n,)."""
    log_densities: FloatArray
    """(K, how many are left out)."""


def surprises(course: Course, theta: FloatArray, records: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the log-density (K, n) of each record in each component, and its least surprise (n,)."""
    log_densities, surprise = np.empty((course.model.n_components, len(records))), np.empty(len(records))
    least_surprise(course.sized, theta, records, log_densities, surprise)
    return log_densities, surprise


def gated(course: Course, state: State, records: FloatArray, counts: FloatArray) -> tuple[FloatArray, Left | None]:
    """Set the counts (n,) of what is left out to 0; return the (n, D) records to learn, and what is to be scored apart.

    For independent records that is all. For a chain a record that is left out becomes all missing, so that the filter
    goes on without its evidence, and it is to be scored afterwards.
    """
    log_densities, surprise = surprises(course, state.theta, records)
    counted = counts > 0.0
    n_left_out = leave_out(surprise, course.settings.robust, state.gate, counts)
    if n_left_out == 0 or course.model.exchangeable:
        return records, None
    out = counted & (counts == 0.0)
    learned = records.copy()
    learned[out] = np.nan
    return learned, Left(out, log_densities[:, out])


def score_left(left: Left, champions: Predictions, told: Predictions) -> None:
    """Write the scores of what was left out, by Bayes' rule: the champion's probabilities are without its evidence."""
    joint = np.log(np.maximum(champions.probabilities[left.out], SMALLEST)) + left.log_densities.T
    total = np.logaddexp.reduce(joint, axis=1)
    for predictions in (champions, told):
        predictions.log_likelihood[left.out] = total
        if len(predictions.probabilities):
            predictions.probabilities[left.out] = np.exp(joint - total[:, np.newaxis])


def open_gate(state: State) -> None:
    """Leave nothing out for a while: the stream is said to have changed."""
    state.gate[SHARE] = state.gate[TOLD_OPEN] = 1.0


def what_to_tell(state: State) -> list[Event]:
    """Return what is to be told of what was left out: at each power of ten, and when so much is that nothing is."""
    gate, count, events = state.gate, float(state.totals[0]), []
    if gate[LEFT_OUT] >= gate[NEXT_TOLD]:
        gate[NEXT_TOLD] = 10.0 ** (np.floor(np.log10(gate[LEFT_OUT])) + 1.0)
        share = gate[LEFT_OUT] / (gate[LEFT_OUT] + count)
        events.append(Event(count, "left out", f"{gate[LEFT_OUT]:,.10g} records so far, {share:.2%} of all"))
    too_many = gate[SHARE] > MOST_LEFT_OUT
    if too_many and not gate[TOLD_OPEN]:
        detail = f"more than {MOST_LEFT_OUT:.0%} of the latest {MEMORY:,.0f} records would be; nothing is for a while"
        events.append(Event(count, "left out", detail))
    gate[TOLD_OPEN] = float(too_many)
    return events

"""One state over records: scored, learned, its starved components revived. Nothing here knows of a learner."""

from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import online_em
from stream_em.learning.settings import LearnerSettings
from stream_em.learning.start import enough_records
from stream_em.learning.state import Event, State, cut, note_scores
from stream_em.models.interface import Settings

CHECK_EVERY = 16
"""Starved components are looked for at every so many refreshes of the stream, however its records arrive."""
STARVED_RECORDS = 0.5
"""A component that stands for fewer records than this has died."""
STEP_UNIT = 4
"""The default unit of a stepsize, in records per component and feature."""


class Course(NamedTuple):
    """What all states of one learner have in common."""

    model: Settings
    settings: LearnerSettings
    sized: Any
    """The compiled form of the model."""


def advance(
    course: Course,
    state: State,
    records: FloatArray,
    counts: FloatArray,
    probabilities: FloatArray,
    log_likelihood: FloatArray,
    timestamps: FloatArray,
) -> list[Event]:
    """Learn (n, D) records that count `counts` (n,) in place; return what happened.

    Where the past fades with time, `timestamps` (n,) are needed, in seconds.

    `log_likelihood` (n,) receives that of each record before it was learned, `probabilities` (n, K), unless (0, 0),
    those of the components.
    """
    model, settings, sized = course
    K, D = model.n_components, model.counted_features(records.shape[1])
    refresh_every, enough = settings.refresh_every, enough_records(K, D)
    stepsize = settings.stepsize.for_unit(STEP_UNIT * K * D)
    n_warmup = round(float(state.totals[0] - state.totals[1]))
    inhibit = (enough if settings.inhibit is None else settings.inhibit) - n_warmup
    period = refresh_every * CHECK_EVERY
    events: list[Event] = []
    for part in cut(len(records), int(state.tally[0]), period):
        if stepsize.seconds is None:
            steps = stepsize.steps(float(state.clock[0]), counts[part])
        else:
            steps = stepsize.steps_in_time(state.faded, timestamps[part], counts[part])
        online_em(
            sized,
            state.theta,
            state.s,
            state.averages,
            state.tally,
            records[part],
            counts[part],
            steps,
            refresh_every,
            inhibit,
            probabilities[part],
            log_likelihood[part],
        )
        weight = counts[part].sum()
        state.totals[0] += weight
        state.clock[0] += weight
        note_scores(state, records[part], counts[part], log_likelihood[part])
        if state.tally[0] % period == 0 and state.tally[0] >= inhibit:
            events += _revive(model, sized, state)
    return events


def _revive(model: Settings, sized: Any, state: State) -> list[Event]:
    """Move the most starved component, if any, to the record that the model explained worst."""
    records = model.component_records(sized, state.s)
    k = int(records.argmin())
    starved = records[k] < STARVED_RECORDS and np.isfinite(state.worst[0]) and "means" not in model.frozen
    if starved:
        model.reseed(sized, state.theta, state.s, k, state.worst[1:])
    state.worst[0] = np.inf
    detail = f"component {k} stood for {records[k]:.3g} records; moved to the worst explained record"
    return [Event(float(state.totals[0]), "reseeded", detail)] if starved else []

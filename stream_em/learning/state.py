"""What a started learner has learned, as plain arrays, and the pure functions on it."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.kernels.gating import LEFT_OUT


class Event(NamedTuple):
    """Something that a person may want to know happened to a learner."""

    at: float
    """After so many records."""
    kind: str
    detail: str


class State(NamedTuple):
    """Everything a started learner has learned."""

    theta: FloatArray
    s: FloatArray
    averages: FloatArray
    """(2, m): running means of the parameters, see `stream_em.em.online_em`."""
    tally: IntArray
    """(3,): records since the start, then the M-steps in each row of `averages`."""
    totals: FloatArray
    """(3,): the weight of all that was learned, of what of it was scored before, and its summed log-likelihood."""
    worst: FloatArray
    """(D + 1,): the lowest log-likelihood since the last look for starved components, and its record."""
    clock: FloatArray
    """(1,): the weight of the records by which the stepsize goes; less than that of all makes it learn quicker."""
    faded: FloatArray
    """(2,): where the past fades with time: what is left of the weight of all records, and the latest time."""
    gate: FloatArray
    """(4,): what is known of records that were left out, see `stream_em.kernels.gating`."""


def new_state(theta: FloatArray, n_averaged: int, n_statistics: int, n_features: int) -> State:
    """Return the state of a learner that has parameters and has learned nothing."""
    return State(
        theta,
        np.zeros(n_statistics),
        np.zeros((2, n_averaged)),
        np.array([0, -1, 0], dtype=np.int64),
        np.zeros(3),
        np.concatenate([[np.inf], np.zeros(n_features)]),
        np.zeros(1),
        np.array([0.0, -np.inf]),
        np.array([0.0, 0.0, 1.0, 0.0]),
    )


def copied(state: State) -> State:
    """Return a state that changes by itself."""
    return State._make(array.copy() for array in state)


def later_state(state: State, now: State) -> State:
    """Return a copy that goes on from a stream of which another state has learned all up to now."""
    later = new_state(state.theta.copy(), state.averages.shape[1], len(state.s), len(state.worst) - 1)
    later.s[:], later.clock[:], later.totals[:] = state.s, state.clock, now.totals
    # What it knows does not fade while it is away.
    later.faded[:] = state.faded[0], now.faded[1]
    later.tally[:] = now.tally[0], 0, 0
    later.gate[:] = now.gate
    return later


def averaged(state: State) -> FloatArray:
    """Return the averaged part of theta (m,): its mean over the last half of the stream.

    Before there is one, its value. The older of the two running means ends at the last power of two records; it
    counts less the longer the newer grows.
    """
    n_steps = np.maximum(state.tally[1:], 0).astype(np.float64)
    if state.tally[1] < 0 or n_steps.sum() == 0:
        return state.theta[: state.averages.shape[1]].copy()
    power = 2 ** (int(state.tally[0]).bit_length() - 1)
    n_steps[0] *= (2 * power - state.tally[0]) / power
    return np.asarray(n_steps @ state.averages / n_steps.sum())


def note_scores(state: State, records: FloatArray, weights: FloatArray, log_likelihood: FloatArray) -> None:
    """Take scored records (n, D) into the running totals and the worst record."""
    if weights.min() == 0.0:
        counted = weights > 0.0
        records, weights, log_likelihood = records[counted], weights[counted], log_likelihood[counted]
        if not counted.any():
            return
    state.totals[1] += weights.sum()
    state.totals[2] += weights @ log_likelihood
    lowest = int(log_likelihood.argmin())
    if log_likelihood[lowest] < state.worst[0]:
        state.worst[0], state.worst[1:] = log_likelihood[lowest], records[lowest]


def merged_state(states: list[State]) -> State:
    """Return the state of a learner that has learned what all have; theta and averages are those of the first.

    Mean statistics add in proportion to the records behind them; their sums of squared weights with the squared shares.
    """
    first = states[0]
    total = sum(float(state.totals[0]) for state in states)
    shares = [float(state.totals[0]) / total if total > 0 else 1.0 / len(states) for state in states]
    pairs = list(zip(shares, states, strict=True))
    s = np.sum([share * state.s for share, state in pairs], axis=0)
    s[1] = sum(share**2 * state.s[1] for share, state in pairs)
    state = new_state(first.theta.copy(), first.averages.shape[1], len(s), len(first.worst) - 1)
    state.s[:] = s
    state.totals[:] = np.sum([state.totals for state in states], axis=0)
    state.tally[0] = sum(int(state.tally[0]) for state in states)
    state.clock[:] = np.sum([state.clock for state in states], axis=0)
    state.faded[:] = sum(state.faded[0] for state in states), max(state.faded[1] for state in states)
    state.gate[:] = np.sum([share * each.gate for share, each in pairs], axis=0)
    state.gate[LEFT_OUT] = sum(each.gate[LEFT_OUT] for each in states)
    return state


def cut(n: int, before: int, period: int) -> Iterable[slice]:
    """Yield the slices of n records that end where the count of all records is a multiple of `period`."""
    begin = 0
    while begin < n:
        end = min(n, begin + period - (before + begin) % period)
        yield slice(begin, end)
        begin = end

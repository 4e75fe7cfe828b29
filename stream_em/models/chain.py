"""A hidden Markov chain over any emission, on one endless sequence.

The E-step is the forward-only smoothing recursion of Cappé (2011), Online EM algorithm for hidden Markov models, JCGS
20, 728-749. It keeps, for each possible present state k, the expected statistics of the whole past given that state:

    rho(k) <- (1 - gamma) sum_l rho(l) r(l|k) + gamma s(y, k),    r(l|k) = P(previous state l | state k, past records).

Taken a record at a time that costs K^4. Over a block, rho(., k) at its end is linear in rho at its start, and the
block's own share is a smoothing pass from every end state k at once: with p_t(j|k) = P(state j at t | state k at the
end), p_{t-1}(.|k) = sum_j r_t(.|j) p_t(j|k). So a record costs K^3, and the emission statistics of the block are one
matrix product with rows (j, k). With frozen parameters the result is that of forward-backward.
"""

from typing import Any, NamedTuple

import numpy as np

from stream_em.em import (
    ASSIGN,
    SCORE,
    accumulate,
    fill_missing,
    m_step,
    model_sizes,
    params_of,
    penalty,
    refresh,
    spare,
    stats_of,
    surprise,
)
from stream_em.emissions.interface import (
    add_statistics,
    derive,
    encode,
    fill,
    log_densities,
    log_prior,
    maximise,
    sizes,
    windows,
)
from stream_em.emissions.surprise import emission_surprise
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import exp_relative_in_place, log_in_place
from stream_em.kernels.sparing import restored

SMALLEST_LIKELIHOOD = 1e-307
BLOCK_NUMBERS = 16384


class Chain(NamedTuple):
    """Sizes and settings; the prior on each transition is `prior_records` pseudo-transitions.

    `spared_records` of each state's emissions are not forgotten while it is not visited; transitions are.
    """

    emission: Any
    learn_initial: int
    learn_transitions: int
    prior_records: float
    spared_records: float = 0.0


class ChainParams(NamedTuple):
    """Windows on theta."""

    initial: np.ndarray  # (K,)
    transitions: np.ndarray  # (K, K), rows sum to 1
    emission: Any


class ChainStats(NamedTuple):
    """Windows on s: everything given the present state k, which is the last axis, or the last of the rows (i, k)."""

    transitions: np.ndarray  # (K, K, K)
    emission: np.ndarray  # (K K, P)
    mass: np.ndarray  # (1,): summed weights, forgotten in any case; (0,) if nothing is spared
    state: np.ndarray  # (K,): the filter, P(present state | records so far); all 0 before the first record
    first_state: np.ndarray  # (K, K): P(first state i | present state k, records so far)
    stood_for: np.ndarray  # (K,): records that each state's emissions stood for at the last M-step; (0,) likewise


@model_sizes.register(Chain)
def _(model):
    K = model.emission.n_components
    n_primary, n_derived, n_statistics = sizes(model.emission)
    n_own = K + K * K + n_primary
    spares = int(model.spared_records > 0.0)
    n_blended = 2 + K * K * K + K * K * n_statistics + spares
    return n_own, n_own + n_derived, n_blended, n_blended + K + K * K + K * spares


@params_of.register(Chain)
def _(model, theta):
    K = model.emission.n_components
    begin, end = K + K * K, K + K * K + sizes(model.emission)[0]
    emission = windows(model.emission, theta[begin:end], theta[end:])
    return ChainParams(theta[:K], theta[K:begin].reshape(K, K), emission)


@stats_of.register(Chain)
def _(model, s):
    K = model.emission.n_components
    P = sizes(model.emission)[2]
    second = 2 + K * K * K
    mass = second + K * K * P
    third = mass + int(model.spared_records > 0.0)
    fourth = third + K + K * K
    return ChainStats(
        s[2:second].reshape(K, K, K),
        s[second:mass].reshape(K * K, P),
        s[mass:third],
        s[third : third + K],
        s[third + K : fourth].reshape(K, K),
        s[fourth:],
    )


@accumulate.register(Chain)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    emission = model.emission
    K, P = emission.n_components, sizes(emission)[2]
    tile = max(8, min(BLOCK_NUMBERS // (K * K), BLOCK_NUMBERS // P, len(records)))
    state = stats.state.copy()
    begun = np.zeros(1, np.bool_)
    for k in range(K):
        begun[0] |= state[k] > 0.0
    for begin in range(0, len(records), tile):
        part = records[begin : begin + tile]
        n = len(part)
        phi, filtered, backward = np.empty((P, n)), np.empty((n, K)), np.empty((n, K, K))
        n_missing = encode(emission, params.emission, part, phi)
        was_begun = begun[0]
        if mode == ASSIGN:
            for t in range(n):
                for i in range(K):
                    filtered[t, i] = probabilities[begin + t, i]
                    for j in range(K):
                        backward[t, i, j] = filtered[t - 1, i] if t > 0 else state[i]
        else:
            density = np.empty((K, n))
            log_densities(emission, params.emission, part, phi, n_missing, density)
            _filter(params, state, was_begun, density, filtered, backward, log_likelihood[begin : begin + n])
        for k in range(K):
            state[k] = filtered[n - 1, k]
        begun[0] = True
        if mode != ASSIGN and len(probabilities) > 0:
            for t in range(n):
                for k in range(K):
                    probabilities[begin + t, k] = filtered[t, k]
        if mode != SCORE:
            smoothed = np.empty((K * K, n))
            _smooth(stats, was_begun, mode == ASSIGN, state, backward, weights[begin : begin + n], smoothed)
            add_statistics(emission, params.emission, part, phi, n_missing, smoothed, stats.emission)
    if mode != SCORE:
        for k in range(K):
            stats.state[k] = state[k]
        for i in range(len(stats.mass)):
            stats.mass[i] += weights.sum()


@kernel
def _filter(params, state, begun, density, filtered, backward, log_likelihood):
    """Write the filter (n, K), the kernels r_t(i|j) (n, K, K) and the log-likelihoods, from log-densities (K, n)."""
    K, n = density.shape
    largest, scratch, previous, predicted = np.empty(n), np.empty(n), np.empty(K), np.empty(K)
    exp_relative_in_place(density, largest, scratch)
    for k in range(K):
        previous[k] = state[k]
    for t in range(n):
        for j in range(K):
            predicted[j] = params.initial[j] if not (begun or t > 0) else 0.0
        if begun or t > 0:
            for i in range(K):
                for j in range(K):
                    backward[t, i, j] = previous[i] * params.transitions[i, j]
                    predicted[j] += backward[t, i, j]
            for i in range(K):
                for j in range(K):
                    backward[t, i, j] = backward[t, i, j] / predicted[j] if predicted[j] > 0.0 else previous[i]
        total = 0.0
        for j in range(K):
            total += predicted[j] * density[j, t]
        unreachable = not total > SMALLEST_LIKELIHOOD
        log_likelihood[t] = SMALLEST_LIKELIHOOD if unreachable else total
        for j in range(K):
            previous[j] = predicted[j] if unreachable else predicted[j] * density[j, t] / total
            filtered[t, j] = previous[j]
    log_in_place(log_likelihood, scratch)
    for t in range(n):
        log_likelihood[t] += largest[t]


@kernel
def _smooth(stats, begun, assigned, state, backward, weights, smoothed):
    """Carry the statistics of the past to the end of a block and add the block's transitions.

    Writes smoothed (K K, n): weights[t] P(state j at t | state k at the end) in row (j, k).
    """
    n, K = backward.shape[:2]
    now, before, added = np.empty((K, K)), np.empty((K, K)), np.zeros((K, K, K))
    for j in range(K):
        for k in range(K):
            now[j, k] = state[j] if assigned else (1.0 if j == k else 0.0)
    for t in range(n - 1, -1, -1):
        weight = weights[t]
        for j in range(K):
            for k in range(K):
                smoothed[j * K + k, t] = weight * now[j, k]
                before[j, k] = 0.0
        if t == 0 and not begun:
            for j in range(K):
                for k in range(K):
                    stats.first_state[j, k] = now[j, k]
            break
        for i in range(K):
            out = before[i]
            for j in range(K):
                factor, row, transition = backward[t, i, j], now[j], added[i, j]
                for k in range(K):
                    joint = factor * row[k]
                    out[k] += joint
                    transition[k] += weight * joint
        now, before = before, now
    if begun:
        _condition(stats.first_state, now, before)
        for i in range(K):
            _condition(stats.transitions[i], now, before)
        _condition_rows(stats.emission, now)
    for i in range(K):
        for j in range(K):
            for k in range(K):
                stats.transitions[i, j, k] += added[i, j, k]


@kernel
def _condition(given_past, past_given_end, scratch):
    """Replace (K, K) values given the state l at the block's start by their means given the state k at its end."""
    K = len(given_past)
    for i in range(K):
        for k in range(K):
            scratch[i, k] = 0.0
            for past in range(K):
                scratch[i, k] += given_past[i, past] * past_given_end[past, k]
    for i in range(K):
        for k in range(K):
            given_past[i, k] = scratch[i, k]


@kernel
def _condition_rows(emission, past_given_end):
    """Do the same for the rows (i, l) of the emission statistics (K K, P)."""
    K, P = len(past_given_end), emission.shape[1]
    scratch = np.empty((K, P))
    for i in range(K):
        for k in range(K):
            out = scratch[k]
            for p in range(P):
                out[p] = 0.0
            for past in range(K):
                weight, row = past_given_end[past, k], emission[i * K + past]
                for p in range(P):
                    out[p] += weight * row[p]
        for k in range(K):
            row, out = emission[i * K + k], scratch[k]
            for p in range(P):
                row[p] = out[p]


@surprise.register(Chain)
def _(model, params, records, log_densities, out):
    emission_surprise(model.emission, params.emission, records, log_densities, out)


@fill_missing.register(Chain)
def _(model, params, records, probabilities):
    fill(model.emission, params.emission, records, probabilities)


@spare.register(Chain)
def _(model, stats, n_records):
    K = model.emission.n_components
    # What later records take back from a state, because it was another, is restored too: that is about one record.
    for i in range(len(stats.stood_for)):
        own = 0.0
        for k in range(K):
            own += stats.emission[i * K + k, 0] * stats.state[k]
        factor = restored(n_records * own / stats.mass[0], model.spared_records, stats.stood_for, i)
        for k in range(K):
            row = stats.emission[i * K + k]
            for p in range(len(row)):
                row[p] *= factor


@m_step.register(Chain)
def _(model, stats, n_records, params):
    K, P = model.emission.n_components, stats.emission.shape[1]
    marginal, in_rows = np.zeros((K, P)), 0.0
    for i in range(K):
        for k in range(K):
            for p in range(P):
                marginal[i, p] += stats.emission[i * K + k, p] * stats.state[k]
        in_rows += marginal[i, 0]
    mass = stats.mass[0] if model.spared_records > 0.0 else in_rows
    if mass > 0.0:
        for i in range(K):
            if model.learn_initial:
                params.initial[i] = 0.0
                for k in range(K):
                    params.initial[i] += stats.first_state[i, k] * stats.state[k]
            if model.learn_transitions:
                _transition_row(model, stats, i, n_records / mass, params.transitions[i])
        maximise(model.emission, marginal, n_records * (in_rows / mass), params.emission)


@kernel
def _transition_row(model, stats, i, per_mass, out):
    """Write the probabilities of the next state after state i; a state never left keeps the ones it has."""
    K = len(out)
    expected, total = np.empty(K), 0.0
    for j in range(K):
        expected[j] = model.prior_records
        for k in range(K):
            expected[j] += stats.transitions[i, j, k] * stats.state[k] * per_mass
        total += expected[j]
    for j in range(K if total > 0.0 else 0):
        out[j] = expected[j] / total


@refresh.register(Chain)
def _(model, params):
    derive(model.emission, params.emission)


@penalty.register(Chain)
def _(model, params):
    total = 0.0
    if model.prior_records > 0.0:
        for i in range(model.emission.n_components):
            for j in range(model.emission.n_components):
                total += model.prior_records * np.log(params.transitions[i, j])
    return total + log_prior(model.emission, params.emission)

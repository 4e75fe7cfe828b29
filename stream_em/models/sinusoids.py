"""Superimposed sinusoids: one signal as a sum of K damped or steady lines in white noise (Feder & Weinstein 1988).

The hidden state is a phasor a line, which turns by the line's angle a record, fades by its damping, and is moved by
noise (`kernels.phasors`). Given all records so far it is Gaussian, which the Kalman filter gives exactly, and with it
the predictive density of each record. The statistics are those of recursive EM (Titterington 1984, Recursive parameter
estimation using incomplete data, JRSS B 46; Chung & Böhme 2005): with psi the derivative of a prediction by a line's
angle, damping and log gain, and e its error, whose variance is v in units of the noise,

    information  R = mean psi psi' / v
    target       b = mean (R_t theta + psi e / v)
    M-step       theta = R^-1 b,  noise = mean e² / v,

one scoring step for each line, and the exact maximiser for the noise. For a steady line in white noise this reaches the
Cramér-Rao bound. It is no EM in the sense that the likelihood never falls: a step is not checked, only bounded. EM with
the moments of the filtered phasors would move angles only as fast as the state's noise lets them, which for a steady
line is not at all.
"""

from typing import NamedTuple

import numpy as np

from stream_em.em import (
    SCORE,
    accumulate,
    fill_missing,
    m_step,
    model_sizes,
    n_hidden,
    params_of,
    penalty,
    refresh,
    stats_of,
)
from stream_em.emissions.standardise import FARTHEST
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.phasors import ANGLE, DAMPING, GAIN, Bank, Filter, Sums, follow
from stream_em.kernels.rows import factorise, solve

LONGEST_TURN = 0.1
"""Radians a record that an angle moves in one step at most."""
LARGEST_GROWTH = 0.5
"""Of the logarithm of a gain in one step."""
SMALLEST_RATIO, LARGEST_RATIO = 2e-14, 1.0
"""Of the state's noise to that of the observation."""
SMALLEST_NOISE = 1e-24


class Sinusoids(NamedTuple):
    """Sizes and settings; no ratio of the two noises becomes less than `least_ratio` by learning."""

    n_components: int
    learn_angles: int
    learn_dampings: int
    learn_ratios: int
    least_ratio: float


class SinusoidsParams(NamedTuple):
    """Windows on theta; the signal is in its own units."""

    bank: Bank
    shift: np.ndarray  # (1,)
    scale: np.ndarray  # (1,)


class SinusoidsStats(NamedTuple):
    """Windows on s."""

    sums: Sums
    state: Filter


@model_sizes.register(Sinusoids)
def _(model):
    K = model.n_components
    n_own, n_blended = 4 * K + 2, 2 + 13 * K + 4
    return n_own, n_own + 2, n_blended, n_blended + 1 + 4 * K + 10 * K * K


@n_hidden.register(Sinusoids)
def _(model):
    return model.n_components


@params_of.register(Sinusoids)
def _(model, theta):
    K = model.n_components
    a, b = 4 * K, 4 * K + 2
    bank = Bank(theta[:K], theta[K : 2 * K], theta[2 * K : 3 * K], theta[3 * K : a], theta[a : a + 1], theta[a + 1 : b])
    return SinusoidsParams(bank, theta[b : b + 1], theta[b + 1 :])


@stats_of.register(Sinusoids)
def _(model, s):
    K = model.n_components
    d = 2 * K
    a = 2 + 9 * K
    b = a + 3 * K
    c = b + K
    e = c + 4
    f = e + 1
    g = f + 2 * d
    h = g + d * d
    sums = Sums(s[2:a].reshape(K, 3, 3), s[a:b].reshape(K, 3), s[b:c], s[c:e])
    state = Filter(s[e:f], s[f : f + d], s[f + d : g], s[g:h].reshape(d, d), s[h:].reshape(3 * K, d))
    return SinusoidsStats(sums, state)


@accumulate.register(Sinusoids)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    n, learns = len(records), mode != SCORE
    y = np.empty(n)
    for t in range(n):
        value = (records[t, 0] - params.shift[0]) / params.scale[0]
        value = FARTHEST if value > FARTHEST else value
        y[t] = -FARTHEST if value < -FARTHEST else value
    state = stats.state
    if not learns:
        state = Filter(
            state.begun.copy(), state.turned.copy(), state.mean.copy(), state.covariance.copy(), state.slopes.copy()
        )
    follow(params.bank, state, stats.sums, y, weights, learns, probabilities, log_likelihood)
    units = np.log(params.scale[0])
    for t in range(n):
        if y[t] == y[t]:
            log_likelihood[t] -= units
    for t in range(len(probabilities)):
        for k in range(model.n_components):
            probabilities[t, k] *= params.scale[0]


@fill_missing.register(Sinusoids)
def _(model, params, records, probabilities):
    for t in range(len(records)):
        if records[t, 0] != records[t, 0]:
            records[t, 0] = params.shift[0] + params.scale[0] * params.bank.level[0]
            for k in range(model.n_components):
                records[t, 0] += probabilities[t, k]


@m_step.register(Sinusoids)
def _(model, stats, n_records, params):
    K, bank, sums, state = model.n_components, params.bank, stats.sums, stats.state
    seen = sums.totals[0]
    if seen > 0.0:
        step = np.empty(3)
        for k in range(K):
            _scoring_step(model, bank, sums, k, step)
            uncertain = 0.25 * (state.covariance[2 * k, 2 * k] + state.covariance[2 * k + 1, 2 * k + 1])
            most = min(uncertain, LONGEST_TURN)
            step[ANGLE] = min(max(step[ANGLE], -most, -bank.angles[k]), most, np.pi - bank.angles[k])
            step[DAMPING] = min(max(step[DAMPING], -most, -bank.dampings[k]), most)
            step[GAIN] = min(max(step[GAIN], -LARGEST_GROWTH), LARGEST_GROWTH)
            bank.angles[k] += step[ANGLE]
            bank.dampings[k] += step[DAMPING]
            if model.learn_ratios:
                ratio = bank.ratios[k] * np.exp(2.0 * step[GAIN])
                # A phase that is kept for longer than its angle has been known for could not follow the angle.
                least = max(model.least_ratio, 2.0 / (n_records * n_records))
                bank.ratios[k] = min(max(ratio, least), LARGEST_RATIO)
            # Where the phasors would be now, had the parameters always been these.
            for a in range(3):
                row = state.slopes[3 * k + a]
                for i in range(2 * K):
                    state.mean[i] += step[a] * row[i]
            bank.powers[k] = sums.powers[k] / seen
        bank.noise[0] = max(sums.totals[1] / seen, SMALLEST_NOISE)
        bank.level[0] = sums.totals[2] / sums.totals[3]


@kernel
def _scoring_step(model, bank, sums, k, step):
    """Write by how much the angle, the damping and the log gain of line k are to change."""
    now, learned = np.empty(3), np.empty(3, np.bool_)
    now[ANGLE], now[DAMPING], now[GAIN] = bank.angles[k], bank.dampings[k], 0.5 * np.log(bank.ratios[k])
    learned[ANGLE], learned[DAMPING] = model.learn_angles > 0, model.learn_dampings > 0
    learned[GAIN] = model.learn_ratios > 0
    information, factor = sums.information[k].copy(), np.empty((3, 3))
    for a in range(3):
        step[a] = sums.target[k, a]
        for b in range(3):
            step[a] -= information[a, b] * now[b]
    for a in range(3):
        if not learned[a]:
            step[a] = 0.0
            for b in range(3):
                information[a, b] = information[b, a] = 0.0
            information[a, a] = 1.0
    factorise(information, factor)
    solve(factor, step)


@refresh.register(Sinusoids)
def _(model, params):
    pass


@penalty.register(Sinusoids)
def _(model, params):
    return 0.0

"""A mixture over any emission: each record comes from one of K components, which is not observed.

Statistics (K, P): r_k times the emission's features, with r_k the responsibility; E- and M-step after Dempster, Laird &
Rubin (1977), section 4.3. A record of weight 0 (all its values missing) changes nothing.
"""

from typing import Any, NamedTuple

import numpy as np

from stream_em.em import (
    ASSIGN,
    LEARN,
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
    tile_length,
    windows,
)
from stream_em.emissions.surprise import emission_surprise
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import softmax_in_place
from stream_em.kernels.sparing import restored

SMALLEST_WEIGHT = 1e-300


class Mixture(NamedTuple):
    """Sizes and settings; the prior on the weights is `prior_records` pseudo-records a component.

    `spared_records` of each component are not forgotten while it is not visited. Its weight is, so that has a mass of
    its own in s then.
    """

    emission: Any
    learn_weights: int
    prior_records: float
    spared_records: float = 0.0


class MixtureParams(NamedTuple):
    """Windows on theta."""

    weights: np.ndarray  # (K,)
    emission: Any
    log_weights: np.ndarray  # (K,)


class MixtureStats(NamedTuple):
    """Windows on s."""

    emission: np.ndarray  # (K, P); column 0 is the mean responsibility
    mass: np.ndarray  # (K,): the same, forgotten in any case; (0,) if nothing is spared
    stood_for: np.ndarray  # (K,): records that the rows of `emission` stood for at the last M-step; (0,) likewise


@model_sizes.register(Mixture)
def _(model):
    K = model.emission.n_components
    n_primary, n_derived, n_statistics = sizes(model.emission)
    n_spared = _n_spared(model)
    n_blended = 2 + K * n_statistics + n_spared
    return K + n_primary, 2 * K + n_primary + n_derived, n_blended, n_blended + n_spared


@kernel
def _n_spared(model):
    return model.emission.n_components if model.spared_records > 0.0 else 0


@params_of.register(Mixture)
def _(model, theta):
    K = model.emission.n_components
    n_primary = sizes(model.emission)[0]
    derived = theta[K + n_primary :]
    return MixtureParams(theta[:K], windows(model.emission, theta[K : K + n_primary], derived[K:]), derived[:K])


@stats_of.register(Mixture)
def _(model, s):
    K, P, n_spared = model.emission.n_components, sizes(model.emission)[2], _n_spared(model)
    end = 2 + K * P
    return MixtureStats(s[2:end].reshape(K, P), s[end : end + n_spared], s[end + n_spared :])


@accumulate.register(Mixture)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    emission = model.emission
    K, P = emission.n_components, sizes(emission)[2]
    tile = max(1, min(tile_length(P), len(records)))
    phi_buffer, joint_buffer, scratch_buffer = np.empty(P * tile), np.empty(K * tile), np.empty(2 * tile)
    both, ones = mode == LEARN and len(probabilities) > 0, np.ones(tile)
    for begin in range(0, len(records), tile):
        part = records[begin : begin + tile]
        n = len(part)
        phi, joint = phi_buffer[: P * n].reshape(P, n), joint_buffer[: K * n].reshape(K, n)
        n_missing = encode(emission, params.emission, part, phi)
        if mode == ASSIGN:
            for k in range(K):
                for t in range(n):
                    joint[k, t] = probabilities[begin + t, k] * weights[begin + t]
        else:
            log_densities(emission, params.emission, part, phi, n_missing, joint)
            scratch = scratch_buffer[: 2 * n].reshape(2, n)
            scale = ones[:n] if both else weights[begin : begin + n]
            softmax_in_place(joint, params.log_weights, scale, log_likelihood[begin : begin + n], scratch)
        if both or mode == SCORE:
            for k in range(K):
                for t in range(n):
                    probabilities[begin + t, k] = joint[k, t]
                    if both:
                        joint[k, t] *= weights[begin + t]
        if mode != SCORE:
            for k in range(len(stats.mass)):
                for t in range(n):
                    stats.mass[k] += joint[k, t]
            add_statistics(emission, params.emission, part, phi, n_missing, joint, stats.emission)


@surprise.register(Mixture)
def _(model, params, records, log_densities, out):
    emission_surprise(model.emission, params.emission, records, log_densities, out)


@fill_missing.register(Mixture)
def _(model, params, records, probabilities):
    fill(model.emission, params.emission, records, probabilities)


@spare.register(Mixture)
def _(model, stats, n_records):
    total = stats.mass.sum()
    for k in range(len(stats.mass) if total > 0.0 else 0):
        row = stats.emission[k]
        factor = restored(n_records * row[0] / total, model.spared_records, stats.stood_for, k)
        for p in range(len(row)):
            row[p] *= factor


@m_step.register(Mixture)
def _(model, stats, n_records, params):
    K = model.emission.n_components
    mass = stats.mass if model.spared_records > 0.0 else stats.emission[:, 0]
    total, in_rows = 0.0, 0.0
    for k in range(K):
        total += mass[k]
        in_rows += stats.emission[k, 0]
    if total > 0.0:
        for k in range(K if model.learn_weights else 0):
            n_k = n_records * mass[k] / total
            params.weights[k] = (n_k + model.prior_records) / (n_records + K * model.prior_records)
        _set_log_weights(params)
        maximise(model.emission, stats.emission, n_records * (in_rows / total), params.emission)


@refresh.register(Mixture)
def _(model, params):
    _set_log_weights(params)
    derive(model.emission, params.emission)


@kernel
def _set_log_weights(params):
    for k in range(len(params.weights)):
        params.log_weights[k] = np.log(max(params.weights[k], SMALLEST_WEIGHT))


@penalty.register(Mixture)
def _(model, params):
    total = 0.0
    for k in range(len(params.log_weights)):
        total += params.log_weights[k]
    return model.prior_records * total + log_prior(model.emission, params.emission)

"""The E-step of unmixing where each record has latent scales of its own: many records at once, in matrix products.

The same as blocks of length 1, only faster.
"""

import numpy as np

from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import log_in_place
from stream_em.kernels.linalg import add_products, pair_products
from stream_em.models.unmixing_signals import (
    complete_record,
    is_learned,
    outside,
    project,
    standardise,
)

TILE = 256
"""Records at a time."""
FACTORS = 4
"""So many squares are multiplied before the logarithm is taken."""
LARGEST_FACTOR = 1e75


@kernel
def accumulate_samples(model, params, stats, records, weights, probabilities, log_likelihood, learns):
    """Do what `stream_em.em.accumulate` does, for records with scales of their own."""
    K, E = model.n_components, model.n_features + 1
    tile, P = max(1, min(TILE, len(records))), E * (E + 1) // 2
    z_buffer, y_buffer, q_buffer, scores = np.empty(E * tile), np.empty(K * tile), np.empty(K * tile), np.empty(tile)
    u_buffer, phi_buffer = np.empty((K + 1) * tile), np.empty(P * tile if learns else 0)
    spread, begun, none = np.zeros(K), np.zeros(P), np.zeros(0)
    tally = stats.tally.copy()
    for begin in range(0, len(records), tile):
        n = min(tile, len(records) - begin)
        z, y, q = z_buffer[: E * n].reshape(E, n), y_buffer[: K * n].reshape(K, n), q_buffer[: K * n].reshape(K, n)
        u, score = u_buffer[: (K + 1) * n].reshape(K + 1, n), scores[:n]
        any_hole = standardise(params, records[begin : begin + n], z)
        project(params.rows, z, y)
        completed = np.full(n if any_hole else 0, np.nan)
        for k in range(K):
            for t in range(n):
                q[k, t] = y[k, t] * y[k, t]
        for t in range(n):
            u[K, t] = weights[begin + t] if learns else 0.0
            missing = 0.0
            for d in range(E if any_hole else 0):
                missing += z[d, t]
            if missing != missing:
                spread[:] = 0.0
                begun[:] = 0.0
                completed[t] = complete_record(model, params, 0.0, spread, z, y, t, u[K, t], begun if learns else none)
                for k in range(K):
                    q[k, t] = y[k, t] * y[k, t] + spread[k]
            if learns and not is_learned(model, params, tally, q, t):
                u[K, t] = 0.0
            elif learns and missing != missing:
                _add_spread(model, stats, q, t, begun)
        _score(model, params, z, q, score)
        for t in range(n):
            if any_hole and completed[t] == completed[t]:
                score[t] = completed[t]
            tally[4] += score[t]
            if len(log_likelihood) > 0:
                log_likelihood[begin + t] = score[t]
        for k in range(K if len(probabilities) > 0 else 0):
            for t in range(n):
                probabilities[begin + t, k] = params.scales[k] * y[k, t]
        if learns:
            for k in range(K):
                for t in range(n):
                    u[k, t] = u[K, t] * (model.freedom + 1.0) / (model.freedom + q[k, t])
            phi = phi_buffer[: P * n].reshape(P, n)
            pair_products(z, phi)
            add_products(u, phi, stats.sums)
    if learns:
        stats.tally[:] = tally


@kernel
def _add_spread(model, stats, q, t, begun):
    """Add what missing channels of record t leave uncertain: (P,), already weighted by the record."""
    for k in range(len(q)):
        weight, row = (model.freedom + 1.0) / (model.freedom + q[k, t]), stats.weighted[k]
        for p in range(len(begun)):
            row[p] += weight * begun[p]
    for p in range(len(begun)):
        stats.plain[p] += begun[p]


@kernel
def _score(model, params, z, q, score):
    """Write the log-densities (n,) of records whose sources have squares q (K, n)."""
    K, n = q.shape
    factors, scratch = np.empty(n), np.empty(n)
    score[:] = 0.0
    if len(params.basis) > 0:
        outside(params, z, score)
    for first in range(0, K, FACTORS):
        factors[:] = 1.0
        for k in range(first, min(first + FACTORS, K)):
            for t in range(n):
                factors[t] *= min(model.freedom + q[k, t], LARGEST_FACTOR)
        log_in_place(factors, scratch)
        for t in range(n):
            score[t] -= 0.5 * (model.freedom + 1.0) * factors[t]
    constant = params.log_factor[0] + params.constants[0] + 0.5 * K * model.freedom * np.log(model.freedom)
    for t in range(n):
        score[t] += constant

"""The E-step of unmixing with mixture sources: the Gaussians that each source is in, and products of the records."""

import numpy as np

from stream_em.em import SCORE, accumulate
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import softmax_in_place
from stream_em.kernels.linalg import add_products, pair_products
from stream_em.models.mixture_sources import MixtureSources
from stream_em.models.mixture_sources_holes import add_incomplete
from stream_em.models.unmixing_signals import (
    complete_sources,
    is_learned,
    outside,
    project,
    standardise,
)

TILE = 256
"""Records at a time."""


@accumulate.register(MixtureSources)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    K, J, E, learns = model.n_components, model.n_gaussians, model.n_features + 1, mode != SCORE
    tile, P = max(1, min(TILE, len(records))), E * (E + 1) // 2
    z_buffer, y_buffer, r_buffer = np.empty(E * tile), np.empty(K * tile), np.empty(K * J * tile)
    phi_buffer, scratch_buffer = np.empty(P * tile if learns else 0), np.empty(2 * tile)
    shares, totals, normalisers, squares = np.empty(tile), np.empty(tile), np.empty(tile), np.empty((K, tile))
    tally = stats.tally.copy()
    for begin in range(0, len(records), tile):
        n = min(tile, len(records) - begin)
        z, y, r = z_buffer[: E * n].reshape(E, n), y_buffer[: K * n].reshape(K, n), r_buffer[: K * J * n]
        responsibilities, share, total = r.reshape(K * J, n), shares[:n], totals[:n]
        any_hole = standardise(params, records[begin : begin + n], z)
        project(params.rows, z, y)
        total[:] = 0.0
        corrections = np.full(n if any_hole else 0, np.nan)
        for t in range(n):
            share[t] = weights[begin + t] if learns else 0.0
            missing = 0.0
            for d in range(E if any_hole else 0):
                missing += z[d, t]
            if missing != missing:
                corrections[t] = _incomplete(model, params, stats, tally, z, y, squares, t, share[t], learns)
                share[t] = 0.0
            elif learns:
                _square(y, squares, t)
                share[t] = share[t] if is_learned(model, params, tally, squares, t) else 0.0
        if len(params.basis) > 0:
            outside(params, z, total)
        scratch = scratch_buffer[: 2 * n].reshape(2, n)
        for k in range(K):
            of_source = responsibilities[k * J : (k + 1) * J]
            for j in range(J):
                row, mean, factor = of_source[j], params.means[k, j], np.sqrt(0.5) / params.deviations[k, j]
                for t in range(n):
                    deviation = (y[k, t] - mean) * factor
                    row[t] = -deviation * deviation
            softmax_in_place(of_source, params.log_heights[k], share, normalisers[:n], scratch)
            for t in range(n):
                total[t] += normalisers[t]
        for t in range(n):
            score = params.log_factor[0] + total[t]
            if any_hole and corrections[t] == corrections[t]:
                score = corrections[t]
            tally[4] += score
            if len(log_likelihood) > 0:
                log_likelihood[begin + t] = score
        for k in range(K if len(probabilities) > 0 else 0):
            for t in range(n):
                probabilities[begin + t, k] = params.scales[k] * y[k, t]
        if learns:
            phi = phi_buffer[: P * n].reshape(P, n)
            pair_products(z, phi)
            add_products(responsibilities, phi, stats.moments)
    if learns:
        stats.tally[:] = tally


@kernel
def _incomplete(model, params, stats, tally, z, y, squares, t, weight, learns):
    """Complete record t in z (D + 1, n) and y (K, n), and learn it with this weight; return its log-density."""
    K, E = len(y), len(z)
    spread, missing = np.empty((K, K)), np.zeros(E, np.bool_)
    score = complete_sources(params, params.power, z, y, t, spread, missing)
    _square(y, squares, t)
    none = np.empty((0, 0))
    moments = stats.moments if learns and is_learned(model, params, tally, squares, t) else none
    return score + add_incomplete(model, params, z, y, t, spread, missing, weight, moments)


@kernel
def _square(y, squares, t):
    """Write the squares of the sources of record t."""
    for k in range(len(y)):
        squares[k, t] = y[k, t] * y[k, t]

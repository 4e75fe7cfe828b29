"""The E-step of unmixing with mixture sources: the Gaussians that each source is in, and products of the records."""

import numpy as np

from stream_em.em import SCORE, accumulate
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import softmax_in_place
from stream_em.kernels.linalg import add_products
from stream_em.models.mixture_sources import MixtureSources
from stream_em.models.mixture_sources_holes import add_incomplete
from stream_em.models.unmixing_signals import LONGEST_GATE, SILENT, complete_sources, outside, project, standardise

TILE = 256
"""Records at a time."""


@accumulate.register(MixtureSources)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    K, J, E, learns = model.n_components, model.n_gaussians, model.n_features + 1, mode != SCORE
    tile, P = max(1, min(TILE, len(records))), E * (E + 1) // 2
    z_buffer, y_buffer, r_buffer = np.empty(E * tile), np.empty(K * tile), np.empty(K * J * tile)
    phi_buffer, scratch_buffer = np.empty(P * tile if learns else 0), np.empty(2 * tile)
    shares, totals, normalisers = np.empty(tile), np.empty(tile), np.empty(tile)
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
                corrections[t] = _incomplete(model, params, stats, tally, z, y, t, share[t], learns)
                share[t] = 0.0
            elif learns and not _admitted(model, params, tally, y, t):
                share[t] = 0.0
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
            _multiply_channels(z, phi)
            add_products(responsibilities, phi, stats.moments)
    if learns:
        stats.tally[:] = tally


@kernel
def _incomplete(model, params, stats, tally, z, y, t, weight, learns):
    """Complete record t in z (D + 1, n) and y (K, n), and learn it with this weight; return its log-density."""
    K, E = len(y), len(z)
    spread, missing = np.empty((K, K)), np.zeros(E, np.bool_)
    score = complete_sources(params, params.power, z, y, t, spread, missing)
    none = np.empty((0, 0))
    moments = stats.moments if learns and _admitted(model, params, tally, y, t) else none
    return score + add_incomplete(model, params, z, y, t, spread, missing, weight, moments)


@kernel
def _admitted(model, params, tally, y, t):
    """Tell whether record t is to be learned: it is neither silent nor an artefact."""
    K, relative = len(y), 0.0
    for k in range(K):
        relative += y[k, t] * y[k, t] / (K * params.power[k])
    if relative < SILENT:
        tally[3] += 1.0
        return False
    if 0.0 < model.gate < relative and tally[1] < LONGEST_GATE:
        tally[1] += 1.0
        tally[2] += 1.0
        return False
    tally[1] = 0.0 if relative <= model.gate else tally[1]
    return True


@kernel
def _multiply_channels(z, phi):
    """Write the products of all pairs of the rows of z (D + 1, n): packed, (P, n)."""
    E, n = z.shape
    position = 0
    for c in range(E):
        left = z[c]
        for d in range(c, E):
            right, out = z[d], phi[position]
            for t in range(n):
                out[t] = left[t] * right[t]
            position += 1

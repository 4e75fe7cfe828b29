"""The E-step of unmixing, block by block: the latent scale of each source, and the densities that it gives."""

import numpy as np

from stream_em.em import SCORE, accumulate
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.elementwise import log_in_place
from stream_em.kernels.linalg import row_dot
from stream_em.models.unmixing import Unmixing
from stream_em.models.unmixing_samples import FACTORS, LARGEST_FACTOR, accumulate_samples
from stream_em.models.unmixing_signals import (
    LONGEST_GATE,
    SILENT,
    add_product,
    complete_record,
    outside,
    project,
    standardise,
)

TILE = 2048
"""Records at a time."""


@accumulate.register(Unmixing)
def _(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    K, E, L, learns = model.n_components, model.n_features + 1, model.block, mode != SCORE
    if L == 1:
        accumulate_samples(model, params, stats, records, weights, probabilities, log_likelihood, learns)
        return
    length = max(1, min(TILE, L, len(records)))
    tally, squares, none = stats.tally.copy(), stats.squares.copy(), np.zeros(0)
    z_buffer, y_buffer, weighed = np.empty(E * length), np.empty(K * length), np.empty(E * length)
    product = np.empty((E, E))
    begin = 0
    while begin < len(records):
        end = min(len(records), begin + length, begin + L - int(tally[0]))
        n = end - begin
        z, y = z_buffer[: E * n].reshape(E, n), y_buffer[: K * n].reshape(K, n)
        share, scores = weights[begin:end], log_likelihood[begin:end]
        any_hole = standardise(params, records[begin:end], z)
        project(params.rows, z, y)
        added = stats.begun if learns else none
        if any_hole or len(scores) > 0 or len(params.basis) > 0:
            tally[4] += _score_each(model, params, tally[0], squares, z, y, share, added, scores)
        else:
            tally[4] += _score_all(model, params, tally[0], squares, y)
        if len(probabilities) > 0:
            for k in range(K):
                scale, row = params.scales[k], y[k]
                for t in range(n):
                    probabilities[begin + t, k] = scale * row[t]
        tally[0] += n
        if learns:
            add_product(z, share, weighed[: E * n].reshape(E, n), product, stats.begun)
        if tally[0] == L:
            if learns:
                _end_block(model, params, stats, tally, squares)
            tally[0] = 0.0
            squares[:] = 0.0
        begin = end
    if learns:
        stats.tally[:] = tally
        stats.squares[:] = squares


@kernel
def _score_all(model, params, place, squares, y):
    """Take n records of one block, the first at `place`, into the sums of squares; return their log-likelihood."""
    K, n = y.shape
    # The densities of the records telescope.
    total = n * params.log_factor[0]
    for t in range(n):
        total += params.constants[int(place) + t]
    for k in range(K):
        total += 0.5 * (model.freedom + place) * np.log(model.freedom + squares[k])
        squares[k] += row_dot(y[k], y[k], n)
        total -= 0.5 * (model.freedom + place + n) * np.log(model.freedom + squares[k])
    return total


@kernel
def _score_each(model, params, place, squares, z, y, weights, begun, scores):
    """Do the same record by record, and write the log-density of each to `scores`, unless that is (0,).

    Missing channels are completed in z (D + 1, n) and y (K, n); what they leave uncertain is added to `begun`, unless
    that is (0,).
    """
    K, n = y.shape
    groups = (K + FACTORS - 1) // FACTORS
    logs, scratch = np.ones((groups, n + 1)), np.empty(groups * (n + 1))
    completed = np.full(n, np.nan)
    for k in range(K):
        logs[k // FACTORS, 0] *= min(model.freedom + squares[k], LARGEST_FACTOR)
    for t in range(n):
        missing = 0.0
        for d in range(len(z)):
            missing += z[d, t]
        if missing != missing:
            completed[t] = complete_record(model, params, place + t, squares, z, y, t, weights[t], begun)
        for k in range(K):
            squares[k] += y[k, t] * y[k, t]
            logs[k // FACTORS, t + 1] *= min(model.freedom + squares[k], LARGEST_FACTOR)
    log_in_place(logs.reshape(groups * (n + 1)), scratch)
    for g in range(1, groups):
        for t in range(n + 1):
            logs[0, t] += logs[g, t]
    residuals, total = np.zeros(n), 0.0
    if len(params.basis) > 0:
        outside(params, z, residuals)
    for t in range(n):
        m = place + t
        half = 0.5 * (model.freedom + m)
        score = params.log_factor[0] + params.constants[int(m)] + half * logs[0, t] - (half + 0.5) * logs[0, t + 1]
        score = completed[t] if completed[t] == completed[t] else score + residuals[t]
        total += score
        if len(scores) > 0:
            scores[t] = score
    return total


@kernel
def _end_block(model, params, stats, tally, squares):
    """Take a complete block into the statistics, unless it is silent or an artefact."""
    K, L = len(squares), model.block
    relative = 0.0
    for k in range(K):
        relative += squares[k] / (K * L * params.power[k]) if params.power[k] > 0.0 else 1.0 / K
    if relative < SILENT:
        tally[3] += 1.0
    elif 0.0 < model.gate < relative and tally[1] < LONGEST_GATE:
        tally[1] += 1.0
        tally[2] += 1.0
    else:
        tally[1] = 0.0 if relative <= model.gate else tally[1]
        for k in range(K):
            u, row = (model.freedom + L) / (model.freedom + squares[k]), stats.weighted[k]
            for i in range(len(row)):
                row[i] += u * stats.begun[i]
        for i in range(len(stats.plain)):
            stats.plain[i] += stats.begun[i]
    for i in range(len(stats.begun)):
        stats.begun[i] = 0.0

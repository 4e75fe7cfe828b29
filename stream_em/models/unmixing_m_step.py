"""The M-step of unmixing: each source's centre and row of W, exactly, and the constants of the densities."""

import math

import numpy as np

from stream_em.em import m_step, penalty, refresh
from stream_em.kernels.linalg import row_dot, unpack
from stream_em.kernels.rows import invert, update_row
from stream_em.models.unmixing import Unmixing
from stream_em.models.unmixing_moments import RIDGE, centred, derive, mean_squares, turn


@m_step.register(Unmixing)
def _(model, stats, n_records, params):
    K, D, begun = model.n_components, model.n_features, stats.tally[0] > 0.0
    full, plain = np.empty((D + 1, D + 1)), stats.plain + stats.begun
    mass = plain[0]
    if mass > 0.0:
        before, after = np.zeros(K), np.zeros(K)
        if begun:
            mean_squares(stats.begun, params.rows, full, before)
        if K < D:
            turn(plain, params, full)
        inverse, covariance, factor = np.empty((K, K)), np.empty((K, K)), np.empty((K, K))
        centre, row, half, no_pull = np.empty(K), np.empty(K), np.empty((K, D)), np.empty(0)
        log_det = invert(params.unmixing, inverse)
        for k in range(K):
            if begun:
                u = (model.freedom + stats.tally[0]) / (model.freedom + stats.squares[k])
                unpack(stats.weighted[k] + u * stats.begun, full)
            else:
                unpack(stats.weighted[k], full)
            centred(full, mass, params.projection, half, covariance, centre)
            for j in range(K):
                covariance[j, j] += RIDGE
            log_det += update_row(k, covariance, no_pull, params.unmixing, inverse, factor, row)
            params.offset[k] = row_dot(params.unmixing[k], centre, K)
        derive(model, params, inverse, log_det)
        mean_squares(plain, params.rows, full, params.power)
        if begun:
            # The sums of squares of the block begun are those of the old rows.
            mean_squares(stats.begun, params.rows, full, after)
            for k in range(K):
                stats.squares[k] *= after[k] / before[k] if before[k] > 0.0 else 1.0


@refresh.register(Unmixing)
def _(model, params):
    inverse = np.empty_like(params.unmixing)
    log_det = invert(params.unmixing, inverse)
    derive(model, params, inverse, log_det)
    for m in range(model.block):
        half = 0.5 * (model.freedom + m)
        each = math.lgamma(half + 0.5) - math.lgamma(half) - 0.5 * np.log(np.pi)
        params.constants[m] = model.n_components * each


@penalty.register(Unmixing)
def _(model, params):
    return 0.0

"""EM over blocks that are kept: for a block of records with one latent scale a source, (1, x)(1, x)' summed is enough.

With these sums as the rows of F (B, P), packed, the sums of squares of all blocks are F R', where row k of R holds the
products of row k of W with itself, and the statistics are U' F: two matrix products around one division. So EM may go
over the same blocks again and again while there are few, at next to no cost.
"""

import numpy as np

from stream_em.em import m_step, params_of, stats_of
from stream_em.kernels.dispatch import kernel
from stream_em.models.unmixing_signals import add_product, complete_record, standardise


@kernel
def sum_blocks(model, theta, records, sums):
    """Write the packed sums (B, P) of (1, x)(1, x)' over whole blocks of (n, D) records, missing values completed."""
    params, L, E = params_of(model, theta), model.block, model.n_features + 1
    z, y, weighed, product = np.empty((E, L)), np.empty((model.n_components, L)), np.empty((E, L)), np.empty((E, E))
    ones, squares = np.ones(L), np.zeros(model.n_components)
    sums[:] = 0.0
    for b in range(len(sums)):
        if standardise(params, records[b * L : (b + 1) * L], z):
            for t in range(L):
                missing = 0.0
                for d in range(E):
                    missing += z[d, t]
                if missing != missing:
                    squares[:] = 0.0
                    complete_record(model, params, 0.0, squares, z, y, t, 1.0, sums[b])
        add_product(z, ones, weighed, product, sums[b])


@kernel
def replay(model, theta, s, sums, iterations):
    """Run EM iterations over kept blocks (B, P), then set s to their mean statistics; artefacts are left out."""
    params, stats = params_of(model, theta), stats_of(model, s)
    (B, P), K, E = sums.shape, model.n_components, model.n_features + 1
    n = float(B * model.block)
    products, squares, weights = np.empty((K, P)), np.empty((B, K)), np.empty((K, B))
    plain = np.empty((1, B))
    stats.tally[0] = 0.0
    for iteration in range(iterations + 1):
        for k in range(K):
            position = 0
            for c in range(E):
                for d in range(c, E):
                    products[k, position] = (1.0 if c == d else 2.0) * params.rows[k, c] * params.rows[k, d]
                    position += 1
        np.dot(sums, products.T, squares)
        for b in range(B):
            relative = 0.0
            for k in range(K):
                weights[k, b] = (model.freedom + model.block) / (model.freedom + max(squares[b, k], 0.0)) / n
                relative += squares[b, k] / (K * model.block * params.power[k]) if params.power[k] > 0.0 else 0.0
            plain[0, b] = 0.0 if 0.0 < model.gate < relative else 1.0 / n
            for k in range(K):
                weights[k, b] *= plain[0, b] * n
        np.dot(weights, sums, stats.weighted)
        stats.plain[:] = np.dot(plain, sums)[0]
        stats.begun[:] = 0.0
        stats.squares[:] = 0.0
        if iteration < iterations:
            m_step(model, stats, n, params)
    s[0] = 1.0
    s[1] = 1.0 / n

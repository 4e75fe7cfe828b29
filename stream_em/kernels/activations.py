"""How strongly each component is active in each record: multiplicative updates over a block of records at once.

An update is two matrix products (three for powers) of records, components and features around a division, so a record
costs no less than 4 K F (6 K F) operations at the rate of BLAS and F divisions.
"""

import numpy as np

from stream_em.kernels.dispatch import kernel

SMALLEST = 1e-290
"""Means of counts are kept from 0 by this."""
SMALLEST_MEAN = 1e-100
"""Those of powers, which are squared, by this."""


@kernel
def fit_activations(W, counts, n_inner, tolerance, x, seen, holes, scratch, h, order):
    """Write the activations (n, K) that fit (n, F) records x, given the components W (K, F).

    For counts until at most `tolerance` times the sum of a record is to be gained, in any case after `n_inner` updates.
    `seen` (n, F) is 1 where a value is there and 0 elsewhere, if there are `holes`; x is 0 there. Records that have
    converged are put last, and the rows of x, h and seen with them: `order` (n,) says whose each row is now. `scratch`
    are two arrays of at least n rows (., F).
    """
    v, ratio = scratch
    (n, F), K = x.shape, len(W)
    up, down, masses = np.empty((n, K)), np.ones((n, K)), np.ones((n, K))
    if holes:
        np.dot(seen, W.T, masses)
    for t in range(n):
        total = seen_mass = 0.0
        for f in range(F):
            total += x[t, f]
        for k in range(K):
            seen_mass += masses[t, k]
        for k in range(K):
            h[t, k] = total / seen_mass if seen_mass > 0.0 else 0.0
    active = n
    for _ in range(n_inner):
        if active == 0:
            break
        np.dot(h[:active], W, v[:active])
        ratios(counts, x[:active], seen[:active], holes, v[:active], ratio[:active])
        np.dot(ratio[:active], W.T, up[:active])
        if not counts:
            np.dot(v[:active], W.T, down[:active])
        t = 0
        while t < active:
            short = excess = total = 0.0
            for k in range(K):
                q = down[t, k] if not counts else masses[t, k]
                g = up[t, k] / q if q > 0.0 else 0.0
                short += h[t, k] * abs(q - up[t, k])
                total += h[t, k] * q
                excess = max(excess, g - 1.0)
                h[t, k] *= g
            if short + excess * total <= tolerance * total:
                active -= 1
                _swap(x, t, active)
                _swap(h, t, active)
                _swap(up, t, active)
                _swap(down, t, active)
                if holes:
                    _swap(seen, t, active)
                    _swap(masses, t, active)
                order[t], order[active] = order[active], order[t]
            else:
                t += 1


@kernel
def _swap(rows, i, j):
    for f in range(rows.shape[1] if i != j else 0):
        rows[i, f], rows[j, f] = rows[j, f], rows[i, f]


@kernel
def ratios(counts, x, seen, holes, v, ratio):
    """Write x / v^c to `ratio` (n, F), and to `v` itself, unless for counts, 1 / v^(c - 1), 0 where missing."""
    n, F = x.shape
    for t in range(n):
        values, means, out = x[t], v[t], ratio[t]
        if counts:
            for f in range(F):
                inverse = 1.0 / means[f] if means[f] > SMALLEST else 1.0 / SMALLEST
                out[f] = values[f] * inverse
        else:
            for f in range(F):
                inverse = 1.0 / means[f] if means[f] > SMALLEST_MEAN else 1.0 / SMALLEST_MEAN
                out[f] = values[f] * inverse * inverse
                means[f] = inverse
            for f in range(F if holes else 0):
                means[f] *= seen[t, f]

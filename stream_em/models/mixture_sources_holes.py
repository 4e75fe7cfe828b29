"""What a record with missing channels says of sources that are mixtures of Gaussians.

What is observed fixes the sources only in part, and which Gaussians they are in jointly would take J^K cases. So the
others are taken for Gaussians of the same mean and variance while a source is looked at: exact if the channels that are
there fix a source, and if they say nothing of it.
"""

import numpy as np

from stream_em.kernels.completion import LOG_2_PI
from stream_em.kernels.dispatch import kernel
from stream_em.kernels.linalg import row_dot

UNTOLD = 1e-9
"""A source of whose variance less than this part is explained is not told of by the channels."""


@kernel
def add_incomplete(model, params, z, y, t, spread, missing, weight, moments):
    """Add the moments of record t, completed as if sources were Gaussians, given each Gaussian of each source.

    Returns by how much that changes its log-density; y (K, n) receives the means of the sources. `moments` are (0, 0)
    if nothing is to be added.
    """
    K, J, E = len(y), model.n_gaussians, len(z)
    source, shares, means, variances = y[:, t].copy(), np.empty(J), np.empty(J), np.empty(J)
    reach, change = np.zeros(E), 0.0
    loading = np.zeros((E if len(moments) > 0 else 0, K))
    for d in range(1, len(loading)):
        for k in range(K if missing[d] else 0):
            loading[d, k] = row_dot(params.mixing[d - 1], spread[k], K)
    for k in range(K):
        change += _look_at(params, k, source[k], spread[k, k], shares, means, variances)
        y[k, t] = 0.0
        for j in range(J):
            y[k, t] += shares[j] * means[j]
        for d in range(1, len(loading)):
            reach[d] = loading[d, k] / spread[k, k] if missing[d] and spread[k, k] > 0.0 else 0.0
        for j in range(J if len(moments) > 0 else 0):
            _add(params, z[:, t], missing, loading, reach, means[j] - source[k], variances[j] - spread[k, k],
                 weight * shares[j], moments[k * J + j])  # fmt: skip
    return change


@kernel
def _look_at(params, k, mean, variance, shares, means, variances):
    """Write the probability (J,) of each Gaussian of source k, and the source's mean and variance in each.

    Its mean and variance as a Gaussian are given; returns the logarithm of how much more probable the mixture is.
    """
    J, power = len(shares), params.power[k]
    told = power - variance > UNTOLD * power
    # What the channels say of the source, as a Gaussian: where it is, and how surely.
    centre = mean * power / (power - variance) if told else 0.0
    doubt = max(variance, 0.0) * power / (power - variance) if told else 0.0
    largest = -np.inf
    for j in range(J):
        own = params.deviations[k, j] ** 2
        if told:
            difference = centre - params.means[k, j]
            shares[j] = -0.5 * difference * difference / (own + doubt) - 0.5 * np.log1p(doubt / own)
            means[j] = (params.means[k, j] * doubt + centre * own) / (own + doubt)
            variances[j] = own * doubt / (own + doubt)
        else:
            shares[j], means[j], variances[j] = 0.0, params.means[k, j], own
        shares[j] += params.log_heights[k, j] + (0.0 if told else np.log(params.deviations[k, j]) + 0.5 * LOG_2_PI)
        largest = max(largest, shares[j])
    total = 0.0
    for j in range(J):
        shares[j] = np.exp(shares[j] - largest)
        total += shares[j]
    for j in range(J):
        shares[j] /= total
    if not told:
        return 0.0
    return largest + np.log(total) + 0.5 * (centre * centre / (power + doubt) + np.log(power + doubt) + LOG_2_PI)


@kernel
def _add(params, record, missing, loading, reach, step, extra, weight, moments):
    """Add the weighted products of a completed record (D + 1,), if a source lies `step` elsewhere than it was taken to.

    `extra` is by how much its variance is greater. `reach` (D + 1,) says how far missing channels go with it, and
    `loading` (D + 1, K) gives what else is uncertain of them.
    """
    E, K = loading.shape
    noise = params.noise[0] if len(params.basis) > 0 else 0.0
    position = 0
    for c in range(E):
        left = record[c] + reach[c] * step if missing[c] else record[c]
        for d in range(c, E):
            product = left * (record[d] + reach[d] * step if missing[d] else record[d])
            if missing[c] and missing[d]:
                product += row_dot(loading[c], params.mixing[d - 1], K) + reach[c] * reach[d] * extra
                product += noise if c == d else 0.0
            moments[position] += weight * product
            position += 1

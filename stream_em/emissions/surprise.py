"""How surprising a record is: how far its log-density lies below what is usual for a component."""

import numpy as np

from stream_em.emissions.interface import encode, log_densities, sizes, tile_length, usual
from stream_em.kernels.dispatch import kernel


@kernel
def emission_surprise(emission, params, records, densities, out):
    """Write the log-density (K, n) of each record in each component, and the least surprise (n,).

    The surprise is how far the log-density lies below its mean, in standard deviations of a record that is of that
    component: for a Gaussian and D observed values (d² - D) / sqrt(2D), d the Mahalanobis distance. It is 0 for a
    record that is all missing.
    """
    K, P = emission.n_components, sizes(emission)[2]
    tile = max(1, min(tile_length(P), len(records)))
    for begin in range(0, len(records), tile):
        part = records[begin : begin + tile]
        n = len(part)
        phi, density, means, deviations = np.empty((P, n)), np.empty((K, n)), np.empty((K, n)), np.empty(n)
        n_missing = encode(emission, params, part, phi)
        log_densities(emission, params, part, phi, n_missing, density)
        usual(emission, params, part, n_missing, means, deviations)
        for t in range(n):
            least = np.inf
            for k in range(K):
                densities[k, begin + t] = density[k, t]
                least = min(least, means[k, t] - density[k, t])
            out[begin + t] = least / deviations[t] if deviations[t] > 0.0 else 0.0

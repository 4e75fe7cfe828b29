"""Several predictions of each record as one, by how well each has predicted lately."""

import numpy as np

from stream_em.kernels.dispatch import kernel


@kernel
def share(shares, switching, log_likelihood, counts, mixed, chances):
    """Write the log-likelihood (n,) that the mixture of R predictions gives each record, and each one's chance (R, n)
    of having been the right one; move its `shares` (R,) on.

    `log_likelihood` is (R, n), `counts` (n,) says how many records each stands for; one that counts nothing is only
    scored. Fixed share: after each record the right one is taken to change with a probability of `switching`, to any of
    the R; Herbster & Warmuth (1998), Tracking the best expert, Machine Learning 32.
    """
    R, n = log_likelihood.shape
    for i in range(n):
        largest = log_likelihood[:, i].max()
        total = 0.0
        for r in range(R):
            chances[r, i] = shares[r] * np.exp(log_likelihood[r, i] - largest)
            total += chances[r, i]
        mixed[i] = largest + np.log(total)
        for r in range(R):
            chances[r, i] /= total
        if counts[i] > 0.0:
            weight = 0.0
            for r in range(R):
                shares[r] *= np.exp(counts[i] * (log_likelihood[r, i] - largest))
                weight += shares[r]
            stays = (1.0 - switching) ** counts[i]
            for r in range(R):
                shares[r] = stays * shares[r] / weight + (1.0 - stays) / R

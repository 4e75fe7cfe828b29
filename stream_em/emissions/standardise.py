"""The change of units under which Gaussian arithmetic keeps its digits."""

import numpy as np

from stream_em.kernels.dispatch import kernel

FARTHEST = 1e60
"""Standardised values are kept within this, so that their squares stay finite."""


SMALLEST_SCALE = 1e-200


@kernel
def standardised(records, shift, scale, out):
    """Write (D, n) standardised values of (n, D) records, 0 where a value is missing; return how many are missing."""
    n, D = records.shape
    for d in range(D):
        row, centre, factor = out[d], shift[d], 1.0 / scale[d]
        for t in range(n):
            row[t] = (records[t, d] - centre) * factor
    n_missing = 0
    for d in range(D):
        row = out[d]
        for t in range(n):
            z = row[t]
            n_missing += z != z
            z = FARTHEST if z > FARTHEST else z
            z = -FARTHEST if z < -FARTHEST else z
            row[t] = z if z == z else 0.0
    return n_missing


def units(records, weights, common):
    """Return shift and scale (D,) of (n, D) records with weights (n,); `common` gives all columns one scale.

    Missing values are passed over. A constant column gets its magnitude as scale (1 if it is all zero or never seen),
    so that every value is finite.
    """
    seen = ~np.isnan(records) * weights[:, np.newaxis]
    n_seen = np.where(seen.sum(axis=0) > 0, seen.sum(axis=0), 1.0)
    shift = np.where(seen > 0, records, 0.0)
    shift = (shift * seen).sum(axis=0) / n_seen
    deviations = np.where(seen > 0, records - shift, 0.0)
    largest = np.abs(deviations).max(axis=0, initial=0.0)
    relative = deviations / np.where(largest > 0, largest, 1.0)
    scale = largest * np.sqrt((seen * relative**2).sum(axis=0) / n_seen)
    magnitude = np.abs(shift)
    constant = scale <= 1e-14 * magnitude
    if common:
        varying = scale[~constant & (scale > 0)]
        overall = np.sqrt(((varying / varying.max()) ** 2).mean()) * varying.max() if len(varying) else magnitude.max()
        scale = np.full(len(shift), overall)
    else:
        scale[constant] = magnitude[constant]
    scale[scale < SMALLEST_SCALE] = 1.0
    return shift, scale

"""A stretch of a stream as those who learn it see it, with room for what they predict."""

from typing import NamedTuple

import numpy as np

from stream_em.arrays import FloatArray


class Predictions(NamedTuple):
    """What was said of each record before it was learned; no rows of probabilities if nobody asked."""

    probabilities: FloatArray
    """(n, K)."""
    log_likelihood: FloatArray
    """(n,)."""

    def of(self, part: slice) -> "Predictions":
        """Return windows on the predictions of some of the records."""
        return Predictions(self.probabilities[part], self.log_likelihood[part])


class Batch(NamedTuple):
    """Records, how many each stands for, when they were, and what is said of them."""

    records: FloatArray
    """(n, D)."""
    counts: FloatArray
    """(n,)."""
    timestamps: FloatArray
    """(n,) in seconds; (0,) if nobody asks."""
    champions: Predictions
    """What the champion says."""
    told: Predictions
    """What it and its companions say together; the same if there are none."""

    def of(self, part: slice) -> "Batch":
        """Return windows on some of the records."""
        arrays = (self.records[part], self.counts[part], self.timestamps[part])
        return Batch(*arrays, self.champions.of(part), self.told.of(part))


def no_predictions(n: int, n_components: int) -> Predictions:
    """Return room for predictions of n records; without probabilities if `n_components` is 0."""
    return Predictions(np.empty((n if n_components else 0, n_components)), np.empty(n))

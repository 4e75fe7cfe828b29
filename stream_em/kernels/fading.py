"""Weights that fade with the time at which things happened, not with the number of records."""

import numpy as np

from stream_em.kernels.dispatch import kernel


@kernel
def fading_steps(memory, timestamps, weights, half_life, steps):
    """Write the step (n,) of each record at its time (n,), and move `memory` on.

    The mean in which a record of weight w counts w 2^-(age / half_life) has the step w / W, W the faded weight of all
    records up to it. `memory` is W and the latest time (2,), 0 and -inf before the first record. A record that comes
    late counts as what is left of it; one without a time (NaN) is of the latest.
    """
    total, latest = memory[0], memory[1]
    for i in range(len(timestamps)):
        weight = weights[i]
        if timestamps[i] > latest:
            if latest > -np.inf:
                total *= 2.0 ** ((latest - timestamps[i]) / half_life)
            latest = timestamps[i]
        elif timestamps[i] < latest:
            weight *= 2.0 ** ((timestamps[i] - latest) / half_life)
        total += weight
        steps[i] = weight / total if total > 0.0 else 0.0
    memory[0], memory[1] = total, latest

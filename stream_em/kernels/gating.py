"""Records too surprising to be learned from, as long as they are few."""

from stream_em.kernels.dispatch import kernel

MEMORY = 2000.0
"""Records over which the share of surprising ones is averaged."""
KEPT = 1.0 - 1.0 / MEMORY
MOST_LEFT_OUT = 0.25
"""With a larger share of surprising records it is not they that are wrong, but the model: all of them count."""
SHARE, LEFT_OUT, NEXT_TOLD, TOLD_OPEN = 0, 1, 2, 3
"""Places in a gate: the share of surprising records of late, the weight left out so far, at what weight that is told
next, and whether it was told that the share is too large.
"""


@kernel
def leave_out(surprise, most, gate, counts):
    """Set to 0 the counts (n,) of records whose surprise (n,) is more than `most`; move the gate on.

    Taken record by record, so that it does not matter how they arrive. Returns how many were left out.
    """
    left_out = 0
    for t in range(len(counts)):
        if counts[t] == 0.0:
            continue
        kept = KEPT if counts[t] == 1.0 else KEPT ** counts[t]
        gate[SHARE] = kept * gate[SHARE] + (1.0 - kept if surprise[t] > most else 0.0)
        if surprise[t] > most and gate[SHARE] <= MOST_LEFT_OUT:
            gate[LEFT_OUT] += counts[t]
            counts[t] = 0.0
            left_out += 1
    return left_out

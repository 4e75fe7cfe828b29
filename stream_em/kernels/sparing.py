"""Forgetting that spares components which are not visited."""

from stream_em.kernels.dispatch import kernel


@kernel
def restored(n_records, spared, stood_for, k):
    """Return by how much the statistics of component k must be multiplied so that it stands for enough records.

    It now stands for `n_records`, and stood for `stood_for[k]` when this was called before, which is written anew: what
    was forgotten since then comes back as far as it is below `spared` records. What was never there does not.
    """
    enough = max(n_records, min(spared, stood_for[k]))
    stood_for[k] = enough
    return enough / n_records if n_records > 0.0 else 1.0

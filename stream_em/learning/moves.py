"""Component moves: one component split, two others merged, so that their number stays.

Split and merge EM: Ueda, Nakano, Ghahramani & Hinton (2000), SMEM algorithm for mixture models, Neural Computation 12.
Moves are made on the probabilities of the hidden variable, and one M-step makes parameters of them, so that they are
the same for any model.
"""

from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import e_step, maximise, model_sizes, score
from stream_em.learning.iterate import iterate
from stream_em.learning.start import in_units, kmeans_labels
from stream_em.models.interface import Settings

LARGEST_TRIAL = 4000
"""Moves are compared on the latest so many records."""
MOST_SPLITS = 16
"""So many of the heaviest components are tried."""
TRIAL_ITERATIONS = 5
SETTLING_ITERATIONS = 30


def split_and_merged(
    model: Settings,
    sized: Any,
    theta: FloatArray,
    records: FloatArray,
    counts: FloatArray,
    rng: np.random.Generator,
) -> tuple[str, FloatArray] | None:
    """Return the best move's name and its theta after some EM on the (n, D) records, or None if there is none to make.

    Each component is split in turn into two clusters of the records that are most probably its own, while the most
    similar two of the others, by the cosine of their probabilities over the records, are merged. A few EM iterations
    then tell the moves apart by their likelihood.
    """
    K = model.n_components
    if K < 3 or not model.assignable:
        return None
    s = np.zeros(model_sizes(sized)[3])
    trial, trial_counts = records[-LARGEST_TRIAL:], counts[-LARGEST_TRIAL:]
    probabilities = score(sized, theta, s, trial)[0]
    points = in_units(trial, model.units(sized, theta))
    similar = _similarities(probabilities * trial_counts[:, np.newaxis])
    own = np.where(trial_counts > 0, probabilities.argmax(axis=1), -1)
    best, best_value, name = None, -np.inf, ""
    for k in np.argsort(-(trial_counts @ probabilities), kind="stable")[:MOST_SPLITS]:
        mine = np.flatnonzero(own == k)
        if len(mine) < 2 * (points.shape[1] + 1):
            continue
        i, j = _most_similar(similar, int(k))
        moved = probabilities.copy()
        moved[:, i] += moved[:, j]
        moved[:, j] = 0.0
        other = mine[kmeans_labels(points[mine], 2, rng) == 1]
        moved[other, j], moved[other, k] = moved[other, k], 0.0
        new = theta.copy()
        e_step(sized, new, s, trial, trial_counts, moved)
        maximise(sized, new, s, float(trial_counts.sum()))
        iterate(sized, new, s, trial, trial_counts, TRIAL_ITERATIONS, 0.0)
        value = e_step(sized, new, s, trial, trial_counts)
        if value > best_value:
            best, best_value, name = new, value, f"split {k} merge {i}+{j}"
    if best is None:
        return None
    iterate(sized, best, s, records, counts, SETTLING_ITERATIONS, 0.0)
    return name, best


def _similarities(weights: FloatArray) -> FloatArray:
    """Return (K, K) cosines between columns, -1 on and below the diagonal."""
    lengths = np.sqrt((weights**2).sum(axis=0))
    cosines = weights.T @ weights / np.maximum(np.outer(lengths, lengths), np.finfo(float).tiny)
    return np.where(np.triu(np.ones_like(cosines), 1) > 0, cosines, -1.0)


def _most_similar(similar: FloatArray, but: int) -> tuple[int, int]:
    allowed = similar.copy()
    allowed[but], allowed[:, but] = -1.0, -1.0
    i, j = np.unravel_index(int(allowed.argmax()), allowed.shape)
    return int(i), int(j)

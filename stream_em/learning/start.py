"""First parameters from the first records.

EM climbs the nearest hill, so where it starts decides more than any stepsize. Several k-means++ partitions of the
records each give parameters by one M-step; short EM runs sharpen them, and the one with the greatest likelihood on
records that it has not seen is kept (emEM: Biernacki, Celeux & Govaert 2003).
"""

from typing import Any

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.em import e_step, maximise, model_sizes
from stream_em.emissions.standardise import units
from stream_em.models.interface import Settings

SHORT_RUN = 10
"""EM iterations of each candidate."""
LLOYD_ROUNDS = 5
LARGEST_SAMPLE = 20_000
"""Candidates are compared on at most so many records."""


def enough_records(n_components: int, n_features: int) -> int:
    """Return how many records a model of this size needs: 20 per component and feature, at most 20,000."""
    return min(20 * n_components * n_features, LARGEST_SAMPLE)


def best_start(
    model: Settings,
    sized: Any,
    records: FloatArray,
    weights: FloatArray,
    starts: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return theta after `starts` candidate starts and short EM runs on (n, D) records; the same for the same `rng`
    state.

    Candidates learn from the first half of the records and are compared on the second, in the records' order if that
    matters to the model.
    """
    if model.exchangeable:
        seen = np.flatnonzero(weights > 0)
        chosen = rng.permutation(seen)[:LARGEST_SAMPLE]
    else:
        chosen = np.arange(min(len(records), LARGEST_SAMPLE))
    sample, sample_weights = records[chosen], weights[chosen]
    unit = model.unit_theta(sized, sample, sample_weights)
    half = (len(sample) + 1) // 2
    learn, test = (sample[:half], sample[half:]) if len(sample) >= 4 * model.n_components else (sample, sample)
    learn_weights, test_weights = sample_weights[: len(learn)], sample_weights[len(sample) - len(test) :]
    s = np.zeros(model_sizes(sized)[3])
    points = _standard_points(learn, learn_weights)
    best, best_value = unit, -np.inf
    for _ in range(max(starts, 1)):
        theta = unit.copy()
        labels = kmeans_labels(points, model.n_components, rng)
        guess: FloatArray | None = np.eye(model.n_components)[labels]
        for _ in range(1 + SHORT_RUN):
            e_step(sized, theta, s, learn, learn_weights, guess)
            maximise(sized, theta, s, float(learn_weights.sum()))
            guess = None
        value = e_step(sized, theta, s, test, test_weights)
        if value > best_value:
            best, best_value = theta, value
    for _ in range(SHORT_RUN):
        e_step(sized, best, s, sample, sample_weights)
        maximise(sized, best, s, float(sample_weights.sum()))
    return best


def kmeans_labels(points: FloatArray, n_clusters: int, rng: np.random.Generator) -> IntArray:
    """Return the cluster (n,) of each point (n, D) after k-means++ seeding and a few Lloyd rounds.

    Arthur & Vassilvitskii (2007). With fewer distinct points than clusters some clusters stay empty.
    """
    centres = points[[int(rng.integers(len(points)))]]
    nearest = _squared_distances(points, centres)[:, 0]
    while len(centres) < n_clusters:
        total = nearest.sum()
        chosen = int(rng.choice(len(points), p=nearest / total) if total > 0 else rng.integers(len(points)))
        centres = np.concatenate([centres, points[[chosen]]])
        nearest = np.minimum(nearest, _squared_distances(points, points[[chosen]])[:, 0])
    labels = _squared_distances(points, centres).argmin(axis=1)
    for _ in range(LLOYD_ROUNDS):
        members = np.eye(n_clusters)[labels]
        sizes = members.sum(axis=0)[:, np.newaxis]
        centres = np.where(sizes > 0, members.T @ points / np.maximum(sizes, 1), centres)
        labels = _squared_distances(points, centres).argmin(axis=1)
    return np.asarray(labels, dtype=np.int64)


def _squared_distances(points: FloatArray, centres: FloatArray) -> FloatArray:
    products = points @ centres.T
    squares = (points**2).sum(axis=1)[:, np.newaxis] - 2.0 * products + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0.0))


def _standard_points(records: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the records (n, D) in standard units, missing values at the mean."""
    shift, scale = units(records, weights, common=False)
    return np.asarray(np.nan_to_num((records - shift) / scale))

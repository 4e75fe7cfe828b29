"""First parameters from the first records.

EM climbs the nearest hill, so where it starts decides more than any stepsize. Several k-means++ partitions of the
records each give parameters by one M-step; short EM runs sharpen them, and the one with the greatest likelihood on
records that it has not seen is kept (emEM: Biernacki, Celeux & Govaert 2003).
"""

from typing import Any

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.em import e_step, maximise, model_sizes
from stream_em.emissions.standardise import FARTHEST
from stream_em.learning.iterate import iterate
from stream_em.models.interface import Settings

SHORT_RUN = 10
"""EM iterations of each candidate."""
LONG_RUN, LONG_RUN_GAIN = 300, 1e-6
"""EM iterations of the best one at most, and the gain in nats a record below which it stops."""
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
    held_out: bool = True,
) -> FloatArray:
    """Return theta after `starts` short EM runs on (n, D) records, the best of which goes on until it converges.

    With `held_out` the short runs learn from the first half of the records and are compared on the second; else on all.
    The records stay in order if that matters to the model. The same `rng` state gives the same result.
    """
    if model.exchangeable:
        chosen = rng.permutation(np.flatnonzero(weights > 0))[:LARGEST_SAMPLE]
    else:
        chosen = np.arange(min(len(records), LARGEST_SAMPLE))
    sample, sample_weights = records[chosen], weights[chosen]
    unit = model.unit_theta(sized, sample, sample_weights)
    half = (len(sample) + 1) // 2 if held_out and len(sample) >= 4 * model.n_components else len(sample)
    test = slice(half, None) if half < len(sample) else slice(None)
    learn, learn_weights = sample[:half], sample_weights[:half]
    s = np.zeros(model_sizes(sized)[3])
    points = _in_units(learn, model.units(sized, unit))
    best, best_value = unit, -np.inf
    for _ in range(starts):
        theta = unit.copy()
        labels = kmeans_labels(points, model.n_components, rng)
        e_step(sized, theta, s, learn, learn_weights, np.eye(model.n_components)[labels])
        maximise(sized, theta, s, float(learn_weights.sum()))
        iterate(sized, theta, s, learn, learn_weights, SHORT_RUN, 0.0)
        value = e_step(sized, theta, s, sample[test], sample_weights[test])
        if value > best_value:
            best, best_value = theta, value
    iterate(sized, best, s, sample, sample_weights, LONG_RUN, LONG_RUN_GAIN)
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


def _in_units(records: FloatArray, units: FloatArray) -> FloatArray:
    """Return the records (n, D) in the model's own units, missing values at the mean."""
    shift, scale = units
    return np.asarray(np.clip(np.nan_to_num((records - shift) / scale), -FARTHEST, FARTHEST))

"""First parameters from the first records.

EM climbs the nearest hill, so where it starts decides more than any stepsize. Several k-means++ partitions of the
records each give parameters by one M-step; short EM runs sharpen them, and the one with the greatest likelihood on
records that it has not seen is kept (emEM: Biernacki, Celeux & Govaert 2003).
"""

from typing import Any, NamedTuple

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.em import e_step, maximise, model_sizes, score
from stream_em.emissions.standardise import FARTHEST
from stream_em.learning.iterate import iterate
from stream_em.models.interface import Settings

SHORT_RUN = 10
"""EM iterations of each candidate."""
LONG_RUN = 300
"""EM iterations of the best one at most."""
LLOYD_ROUNDS = 5
NEARLY_EQUAL = 0.05
"""Candidates whose log-likelihoods of a record differ by less than so many nats (root mean square) are the same."""
LARGEST_SAMPLE = 20_000
"""Candidates are compared on at most so many records."""


def enough_records(n_components: int, n_features: int) -> int:
    """Return how many records a model of this size needs: 20 per component and feature, at most 20,000."""
    return min(20 * n_components * n_features, LARGEST_SAMPLE)


class Sample(NamedTuple):
    """The records that starts learn from and are compared on."""

    records: FloatArray
    """(n, D)."""
    weights: FloatArray
    """(n,)."""
    learn: slice
    test: slice


class Candidate(NamedTuple):
    """Parameters with which a learner may begin."""

    name: str
    theta: FloatArray
    scores: FloatArray
    """(n,): log-likelihood of each record that candidates are compared on."""
    value: float
    """Their weighted sum."""


def sample_of(
    model: Settings, records: FloatArray, weights: FloatArray, rng: np.random.Generator, held_out: bool = True
) -> Sample:
    """Return at most 20,000 of the (n, D) records; with `held_out` the second half is for comparison only.

    The records stay in order if that matters to the model.
    """
    if model.exchangeable:
        chosen = rng.permutation(np.flatnonzero(weights > 0))[:LARGEST_SAMPLE]
    else:
        chosen = np.arange(min(len(records), LARGEST_SAMPLE))
    n = len(chosen)
    half = (n + 1) // 2 if held_out and n >= 4 * model.n_components else n
    return Sample(records[chosen], weights[chosen], slice(half), slice(half if half < n else 0, None))


def short_runs(model: Settings, sized: Any, sample: Sample, starts: int, rng: np.random.Generator) -> list[Candidate]:
    """Return so many k-means++ starts after a short EM run on the part to learn from; the best on the test part first.

    The same `rng` state gives the same result. Where records cannot be assigned the model makes the starts itself, or
    there is one: `unit_theta`.
    """
    unit = model.unit_theta(sized, sample.records, sample.weights)
    learn, learn_weights = sample.records[sample.learn], sample.weights[sample.learn]
    s = np.zeros(model_sizes(sized)[3])
    points = in_units(learn, model.units(sized, unit))
    found = []
    for number in range(1, starts + 1):
        theta = unit.copy()
        if model.assignable:
            labels = kmeans_labels(points, model.n_components, rng)
            e_step(sized, theta, s, learn, learn_weights, np.eye(model.n_components)[labels])
            maximise(sized, theta, s, float(learn_weights.sum()))
        else:
            another = model.another_start(sized, sample.records, sample.weights, rng)
            if another is None:
                iterate(sized, unit, s, learn, learn_weights, SHORT_RUN, 0.0)
                return [candidate("start", sized, unit, sample.records[sample.test], sample.weights[sample.test])]
            theta = another
        iterate(sized, theta, s, learn, learn_weights, SHORT_RUN, 0.0)
        found.append(
            candidate(f"start {number}", sized, theta, sample.records[sample.test], sample.weights[sample.test])
        )
    return sorted(found, key=lambda each: -each.value)


def candidate(name: str, sized: Any, theta: FloatArray, records: FloatArray, weights: FloatArray) -> Candidate:
    """Return theta with the log-likelihoods that it gives to (n, D) records."""
    scores = score(sized, theta, np.zeros(model_sizes(sized)[3]), records)[1]
    return Candidate(name, theta, scores, float(weights @ scores))


def distinct(candidates: list[Candidate], weights: FloatArray) -> list[Candidate]:
    """Return candidates compared on the same records, the best first, without those that nearly equal a better one."""
    return first_of_equals(sorted(candidates, key=lambda each: -each.value), weights)


def first_of_equals(candidates: list[Candidate], weights: FloatArray) -> list[Candidate]:
    """Return candidates compared on the same records, in their order, without those that nearly equal one before."""
    kept: list[Candidate] = []
    for each in candidates:
        gaps = [float(weights @ (each.scores - other.scores) ** 2) / weights.sum() for other in kept]
        if min(gaps, default=np.inf) > NEARLY_EQUAL**2:
            kept.append(each)
    return kept


def best_start(
    model: Settings, sized: Any, records: FloatArray, weights: FloatArray, starts: int, rng: np.random.Generator
) -> FloatArray:
    """Return theta after `starts` short EM runs on (n, D) records, the best of which goes on until it converges."""
    sample = sample_of(model, records, weights, rng, held_out=False)
    theta = short_runs(model, sized, sample, starts, rng)[0].theta
    converge(model, sized, theta, sample)
    return theta


def converge(model: Settings, sized: Any, theta: FloatArray, sample: Sample) -> None:
    """Run EM on the whole sample until it has converged."""
    s, gain = np.zeros(model_sizes(sized)[3]), model.start_gain(sample.records)
    iterate(sized, theta, s, sample.records, sample.weights, LONG_RUN, gain)


def kmeans_labels(points: FloatArray, n_clusters: int, rng: np.random.Generator, kept: float = 1.0) -> IntArray:
    """Return the cluster (n,) of each point (n, D) after k-means++ seeding and a few Lloyd rounds.

    Arthur & Vassilvitskii (2007). With fewer distinct points than clusters some clusters stay empty. Only the nearest
    share `kept` of the points moves a centre, and none beyond is more probable to be one than the farthest of these.
    """
    centres = points[[int(rng.integers(len(points)))]]
    nearest = _squared_distances(points, centres)[:, 0]
    while len(centres) < n_clusters:
        chance = np.minimum(nearest, np.quantile(nearest, kept))
        total = chance.sum()
        chosen = int(rng.choice(len(points), p=chance / total) if total > 0 else rng.integers(len(points)))
        centres = np.concatenate([centres, points[[chosen]]])
        nearest = np.minimum(nearest, _squared_distances(points, points[[chosen]])[:, 0])
    for _ in range(LLOYD_ROUNDS):
        distances = _squared_distances(points, centres)
        nearest = distances.min(axis=1)
        members = np.eye(n_clusters)[distances.argmin(axis=1)] * (nearest <= np.quantile(nearest, kept))[:, np.newaxis]
        sizes = members.sum(axis=0)[:, np.newaxis]
        centres = np.where(sizes > 0, members.T @ points / np.maximum(sizes, 1), centres)
    return np.asarray(_squared_distances(points, centres).argmin(axis=1), dtype=np.int64)


def _squared_distances(points: FloatArray, centres: FloatArray) -> FloatArray:
    products = points @ centres.T
    squares = (points**2).sum(axis=1)[:, np.newaxis] - 2.0 * products + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0.0))


def in_units(records: FloatArray, units: FloatArray) -> FloatArray:
    """Return the records (n, D) in the model's own units, missing values at the mean."""
    shift, scale = units
    return np.asarray(np.clip(np.nan_to_num((records - shift) / scale), -FARTHEST, FARTHEST))

"""Outliers among the first records, where there is no model yet that could tell them: trimmed likelihood.

Each of a few starts by trimmed k-means is followed by EM on the three quarters of the records that are the most likely
(Neykov, Filzmoser, Dimova & Neytchev 2007, Robust fitting of mixtures using the trimmed likelihood estimator, CSDA 52),
and then on those that do not surprise. What surprises the start with the greatest trimmed likelihood is an outlier.
"""

import numpy as np

from stream_em.arrays import BoolArray, FloatArray
from stream_em.em import e_step, maximise, model_sizes, score
from stream_em.kernels.gating import MOST_LEFT_OUT
from stream_em.learning.advance import Course
from stream_em.learning.gate import surprises
from stream_em.learning.start import Sample, in_units, kmeans_labels, sample_of

TRIMMED, UNSURPRISING = 15, 5
"""EM iterations of either kind."""


def outliers(course: Course, records: FloatArray, counts: FloatArray, robust: float) -> BoolArray:
    """Tell which of the first (n, D) records are outliers (n,): more than `robust` deviations too surprising.

    None, if more than a quarter would be. A cluster of outliers that is dense enough is a cluster: among the first
    records nothing tells it from others.
    """
    model, rng = course.model, np.random.default_rng(course.settings.seed)
    sample = sample_of(model, records, counts, rng, held_out=False)
    unit = model.unit_theta(course.sized, sample.records, sample.weights)
    points = in_units(sample.records, model.units(course.sized, unit))
    best, most = unit, -np.inf
    for _ in range(course.settings.starts):
        theta = unit.copy()
        labels = kmeans_labels(points, model.n_components, rng, 1.0 - MOST_LEFT_OUT)
        value = _trimmed_run(course, theta, sample, np.eye(model.n_components)[labels], robust)
        if value > most:
            best, most = theta, value
    found = (surprises(course, best, records)[1] > robust) & (counts > 0.0)
    few = counts[found].sum() <= MOST_LEFT_OUT * counts.sum()
    return np.asarray(found & few)


def _trimmed_run(course: Course, theta: FloatArray, sample: Sample, labels: FloatArray, robust: float) -> float:
    """Run EM in place from the M-step of labels (n, K); return the log-likelihood of the most likely three quarters."""
    records, weights = sample[:2]
    s = np.zeros(model_sizes(course.sized)[3])
    e_step(course.sized, theta, s, records, weights, labels)
    maximise(course.sized, theta, s, float(weights.sum()))
    for i in range(TRIMMED + UNSURPRISING):
        if i < TRIMMED:
            scores = score(course.sized, theta, s, records)[1]
            kept = scores >= np.quantile(scores, MOST_LEFT_OUT)
        else:
            kept = surprises(course, theta, records)[1] <= robust
        if not (weights * kept).any():
            return -np.inf
        e_step(course.sized, theta, s, np.where(kept[:, np.newaxis], records, np.nan), weights * kept)
        maximise(course.sized, theta, s, float((weights * kept).sum()))
    scores = score(course.sized, theta, s, records)[1]
    kept = scores >= np.quantile(scores, MOST_LEFT_OUT)
    return float(weights[kept] @ scores[kept])

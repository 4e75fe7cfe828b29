"""Outliers among the first records, where there is no model yet that could tell them: EM with a background.

A component of constant density, which is none of the model's, takes what lies far from all others (Banfield & Raftery
1993, Model-based Gaussian and non-Gaussian clustering, Biometrics 49; Coretto & Hennig 2016, JASA 111). Of a few starts
by trimmed k-means the most likely tells the outliers.
"""

import numpy as np

from stream_em.arrays import BoolArray, FloatArray
from stream_em.em import e_step, maximise, model_sizes, score
from stream_em.kernels.gating import MOST_LEFT_OUT
from stream_em.learning.advance import Course
from stream_em.learning.gate import surprises
from stream_em.learning.start import Sample, in_units, kmeans_labels, sample_of

ITERATIONS = 20
BACKGROUND = 0.1
"""The share of the records that is taken to be outliers."""


def outliers(course: Course, records: FloatArray, counts: FloatArray, robust: float) -> BoolArray:
    """Tell which of the first (n, D) records are outliers (n,): more than `robust` deviations too surprising.

    None, if more than a quarter would be. A cluster of outliers that is dense enough is a cluster: among the first
    records nothing tells it from others.
    """
    model, rng = course.model, np.random.default_rng(course.settings.seed)
    sample = sample_of(model, records, counts, rng, held_out=False)
    unit = model.unit_theta(course.sized, sample.records, sample.weights)
    background = _usual(course, unit, sample.records)
    points = in_units(sample.records, model.units(course.sized, unit))
    best, most = unit, -np.inf
    for _ in range(course.settings.starts):
        theta = unit.copy()
        labels = kmeans_labels(points, model.n_components, rng, 1.0 - MOST_LEFT_OUT)
        value = _run(course, theta, sample, np.eye(model.n_components)[labels], background)
        if value > most:
            best, most = theta, value
    found = (surprises(course, best, records)[1] > robust) & (counts > 0.0)
    few = counts[found].sum() <= MOST_LEFT_OUT * counts.sum()
    return np.asarray(found & few)


def _usual(course: Course, theta: FloatArray, records: FloatArray) -> FloatArray:
    """Return the mean log-density (n,) of what is observed of each record, where all components are alike."""
    log_densities, surprise = surprises(course, theta, records)
    n_observed = (~np.isnan(records)).sum(axis=1)
    return np.asarray(log_densities[0] + surprise * np.sqrt(n_observed / 2.0))


def _run(course: Course, theta: FloatArray, sample: Sample, labels: FloatArray, background: FloatArray) -> float:
    """Run EM beside a background (n,) in place, from the M-step of labels (n, K); return the log-likelihood."""
    records, weights = sample[:2]
    s = np.zeros(model_sizes(course.sized)[3])
    e_step(course.sized, theta, s, records, weights, labels)
    maximise(course.sized, theta, s, float(weights.sum()))
    for i in range(ITERATIONS + 1):
        own = np.log1p(-BACKGROUND) + score(course.sized, theta, s, records)[1]
        both = np.logaddexp(own, np.log(BACKGROUND) + background)
        inside = weights * np.exp(own - both)
        if i == ITERATIONS or not inside.sum() > 0.0:
            break
        e_step(course.sized, theta, s, records, inside)
        maximise(course.sized, theta, s, float(inside.sum()))
    return float(weights @ both)

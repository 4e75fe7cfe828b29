"""Streams that change, each in one way, at a known record, and what a monitor makes of them."""

from typing import Any

import numpy as np

import stream_em as sem
from benchmarks.samples import mixture_params, mixture_records
from stream_em.learning.alarms import Alarm
from stream_em.models.gaussian_mixture import GaussianMixtureParams

KINDS = ("abrupt", "gradual", "incremental", "level", "outliers")
WILD_SHARE, BURST = 0.05, 2000
"""An outlier burst: this share of the records, for so many records."""


def moved(params: GaussianMixtureParams, size: float, rng: np.random.Generator) -> GaussianMixtureParams:
    """Return a mixture of which one component's mean has moved by `size` of its standard deviations, anywhither."""
    k = int(rng.integers(len(params.weights)))
    means, direction = params.means.copy(), rng.normal(size=params.means.shape[1])
    means[k] += size * np.linalg.cholesky(params.covariances[k]) @ direction / np.linalg.norm(direction)
    return params._replace(means=means)


def changing(
    kind: str, K: int, D: int, size: float, before: int, after: int, lasting: int, seed: int
) -> tuple[GaussianMixtureParams, np.ndarray]:
    """Return the first parameters, and (before + after, D) records; what is not abrupt lasts so many records."""
    rng = np.random.default_rng(seed)
    params = mixture_params(K, D, spread=2.0, seed=seed)
    X = mixture_records(params, before + after, seed)
    since = np.arange(before + after) - before
    progress = np.clip(since / lasting, 0.0, 1.0)
    if kind == "outliers":
        wild = (since >= 0) & (since < BURST) & (rng.random(len(X)) < WILD_SHARE)
        X[wild] = rng.normal(0.0, 20.0, (int(wild.sum()), D))
    elif kind == "level":
        direction = rng.normal(size=D)
        X[since >= 0] += size * direction / np.linalg.norm(direction)
    else:
        new = mixture_records(moved(params, size, rng), before + after, seed)  # the same records, moved
        share = {"abrupt": since >= 0, "gradual": rng.random(len(X)) < progress, "incremental": progress}[kind]
        X += np.asarray(share, dtype=np.float64)[:, np.newaxis] * (new - X)
    return params, X


def watched(monitor: Any, learner: sem.Learner, X: np.ndarray, block: int = 1024) -> list[Alarm]:
    """Learn records in blocks and return the alarms of the monitor."""
    alarms = []
    for begin in range(0, len(X), block):
        records = X[begin : begin + block]
        posterior = np.empty((len(records), learner.model.n_components))
        log_likelihood = learner.learn(records, posterior=posterior)
        alarms += monitor.update(records, log_likelihood, posterior, lambda: learner.params)
    return alarms

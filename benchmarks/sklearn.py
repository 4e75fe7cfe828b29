"""`fit` of the scikit-learn face against scikit-learn's own: its log-likelihood, and its time, on real data."""

import warnings
from collections.abc import Iterator

import numpy as np
from river import datasets as river_datasets
from sklearn import datasets, mixture
from sklearn.exceptions import ConvergenceWarning

from benchmarks.rows import Row, alternated, faster
from stream_em.arrays import FloatArray
from stream_em.estimators.sklearn import GaussianMixture

SETTINGS = {"n_components": 5, "random_state": 0}
MANY = 10_000
"""Records from which on the time counts."""


def run(quick: bool) -> Iterator[Row]:
    """Yield two rows a data set: mean log-likelihood by either fit, and, for large ones, the time."""
    for name, X in panel(quick):
        kinds = (GaussianMixture, mixture.GaussianMixture)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ours, theirs = (kind(**SETTINGS).fit(X) for kind in kinds)
            gain = ours.score(X) - theirs.score(X)
            note = (
                f"mean log-likelihoods {ours.score(X):.6f} : {theirs.score(X):.6f}; {ours.n_iter_} : {theirs.n_iter_}"
            )
            yield Row(f"{name}, {len(X):,} x {X.shape[1]}: nats a record more", gain, None, None, ">= -1e-5", "", note)
            if len(X) > MANY or quick:
                times = alternated(
                    lambda X=X: GaussianMixture(**SETTINGS).fit(X),
                    lambda X=X: mixture.GaussianMixture(**SETTINGS).fit(X),
                    1 if quick else 5,
                )
                yield faster(f"{name}: fit", times, ">= 1", "ms")


def panel(quick: bool) -> Iterator[tuple[str, FloatArray]]:
    """Yield real data sets that ship with scikit-learn and river."""
    yield "iris", datasets.load_iris().data
    if quick:
        return
    yield "wine", datasets.load_wine().data
    yield "breast cancer", datasets.load_breast_cancer().data
    yield "diabetes", datasets.load_diabetes().data
    yield "digits", datasets.load_digits().data
    for name in ("Bananas", "ImageSegments", "Phishing", "SP500Stocks", "Shuttle"):
        dataset = getattr(river_datasets, name)()
        yield name, np.array([[float(value) for value in x.values()] for x, _ in dataset])
    for name in ("china.jpg", "flower.jpg"):
        yield name, datasets.load_sample_image(name).reshape(-1, 3)[::5].astype(float)

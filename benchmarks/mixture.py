"""One EM iteration of a Gaussian mixture against scikit-learn's."""

import warnings
from collections.abc import Iterator
from statistics import median

import numpy as np
import sklearn.mixture

import stream_em as sem
from benchmarks.machine import peak_gflops, products_gflops
from benchmarks.rows import Row, alternated, faster
from benchmarks.samples import mixture_params, mixture_records
from stream_em.em import e_step, maximise, model_sizes
from stream_em.emissions.interface import sizes, tile_length
from stream_em.models.gaussian_mixture import GaussianMixtureParams

SHAPES = {
    (2, 2): (200_000, ">= 12"),
    (3, 4): (200_000, ">= 12"),
    (8, 16): (100_000, ">= 8"),
    (32, 16): (100_000, ">= 10"),
    (16, 64): (20_000, ">= 3"),
}


def run(quick: bool) -> Iterator[Row]:
    """Yield one row for each shape and covariance type."""
    peak = peak_gflops(256 if quick else 1536)
    for covariance_type in ("full", "diag"):
        for (K, D), (n, goal) in SHAPES.items():
            if quick and K * D > 128:
                continue
            yield iteration(
                K, D, covariance_type, 2000 if quick else n, goal * (covariance_type == "full"), quick, peak
            )


def iteration(K: int, D: int, covariance_type: str, n: int, goal: str, quick: bool, peak: float) -> Row:
    """Compare one E-step with M-step over the same records from the same parameters."""
    truth = mixture_params(K, D, spread=2.0)
    X = mixture_records(truth, n)
    peer = started_peer(truth, covariance_type, X[:5000])
    model = sem.GaussianMixture(K, covariance_type=covariance_type, covariance_prior=0.0, weight_prior=0.0)
    sized, start = model.from_params(GaussianMixtureParams(peer.weights_, peer.means_, peer.covariances_))
    s, ones = np.zeros(model_sizes(sized)[3]), np.ones(n)

    log_likelihood, expected = e_step(sized, start, s, X, ones) / n, peer._e_step(X)[0]
    assert abs(log_likelihood - expected) < 1e-8 * abs(expected), "the two must do the same work"

    def ours() -> None:
        theta = start.copy()
        e_step(sized, theta, s, X, ones)
        maximise(sized, theta, s, float(n))

    def theirs() -> None:
        peer._m_step(X, peer._e_step(X)[1])

    ours()
    times = alternated(ours, theirs, 2 if quick else 9)
    P = sizes(sized.emission)[2]
    note = f"{n:,} records; {reach(K, P, n, median(times[0]), peak, quick)}"
    return faster(f"EM iteration, mixture {covariance_type} K={K} D={D}", times, goal, note=note)


def started_peer(truth: GaussianMixtureParams, covariance_type: str, X: np.ndarray) -> sklearn.mixture.GaussianMixture:
    """Return a scikit-learn mixture with parameters near the truth."""
    precisions = np.linalg.inv(truth.covariances)
    if covariance_type == "diag":
        precisions = 1.0 / np.diagonal(truth.covariances, axis1=1, axis2=2)
    start = {"weights_init": truth.weights, "means_init": truth.means, "precisions_init": precisions}
    peer = sklearn.mixture.GaussianMixture(len(truth.weights), covariance_type=covariance_type, max_iter=1, **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one iteration does not converge
        return peer.fit(X)


def reach(K: int, P: int, n: int, time: float, peak: float, quick: bool) -> str:
    """Say which share of the core's peak the two matrix products reach: alone, and as part of the iteration."""
    alone = products_gflops(K, P, int(tile_length(P)), 10 if quick else max(20, int(2e8 / (K * P * 512))))
    return f"products {alone / peak:.0%} of peak alone, {4e-9 * K * P * n / time / peak:.0%} within"

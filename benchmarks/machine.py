"""How fast the core is, and which BLAS kernels run on it."""

from typing import NamedTuple

import numpy as np
import scipy.linalg  # noqa: F401  (numba's matrix products are scipy's; loaded here so that they are listed)
from threadpoolctl import threadpool_info

from benchmarks.rows import seconds
from stream_em.kernels.dispatch import kernel


class Machine(NamedTuple):
    """What ratios depend on."""

    peak: float
    """The greatest rate of a float64 matrix product on one core, in GFLOP/s."""
    blas: tuple[str, ...]


def machine(quick: bool) -> Machine:
    """Measure the core and list the BLAS libraries in this process."""
    return Machine(peak_gflops(256 if quick else 1536), blas_kernels())


def peak_gflops(size: int = 1536, repeats: int = 6) -> float:
    """Return the best rate of a few square matrix products."""
    a, out = np.random.default_rng(0).random((size, size)), np.empty((size, size))
    return 2e-9 * size**3 / min(seconds(lambda: np.matmul(a, a, out=out)) for _ in range(repeats))


def blas_kernels() -> tuple[str, ...]:
    """Return, for each BLAS in this process, who brought it, its version, its kernel and its number of threads."""
    return tuple(
        f"{library['filepath'].split('/')[-2].removesuffix('.libs')}: {library['internal_api']} {library['version']}"
        f" {library.get('architecture', '?')}, {library['num_threads']} thread(s)"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    )


@kernel
def _two_products(natural, phi, weights, repeats):
    total = 0.0
    for _ in range(repeats):
        total += np.dot(natural, phi)[0, 0] + np.dot(weights, phi.T)[0, 0]
    return total


def products_gflops(K: int, P: int, n: int, repeats: int) -> float:
    """Return the rate of the E-step's two products alone: (K, P) (P, n) and (K, n) (n, P), with phi in the cache."""
    rng = np.random.default_rng(0)
    natural, phi, weights = rng.random((K, P)), rng.random((P, n)), rng.random((K, n))
    _two_products(natural, phi, weights, 1)
    return (
        4e-9 * K * P * n * repeats / min(seconds(lambda: _two_products(natural, phi, weights, repeats)) for _ in "abc")
    )

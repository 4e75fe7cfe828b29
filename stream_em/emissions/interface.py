"""What a component density must know to live in a mixture or in a chain: ten generic functions.

An emission is a NamedTuple of sizes and settings; its type chooses the functions. Records are handled in tiles of
at most a few hundred, feature-major: `phi` is (n_statistics, n), log-densities are (n_components, n), so that every
loop runs along contiguous records and the two large products are matrix products.

* `sizes(emission)`: (length of the parameters, of what is derived from them, statistics per component).
* `windows(emission, primary, derived)`: named, shaped windows on those two vectors.
* `encode(emission, params, records, phi)`: features of a tile; returns how many of its values are missing.
* `log_densities(emission, params, records, phi, n_missing, out)`: (n_components, n), missing values marginalised.
* `usual(emission, params, records, n_missing, means, deviations)`: mean (n_components, n) and standard deviation (n,)
  that the log-density of the observed part of each record has if it is of that component.
* `add_statistics(emission, params, records, phi, n_missing, weights, out)`: adds the weighted expected statistics. Row
  m of `weights` (M, n) and `out` (M, n_statistics) belongs to component m // (M // n_components); the rows of records
  with missing values may be set to zero in `weights`. Statistic 0 is the weight itself.
* `maximise(emission, statistics, n_records, params)`: parameters from (n_components, n_statistics) mean statistics that
  stand for `n_records` records, then `derive`.
* `derive(emission, params)`: whatever the E-step needs, from the parameters.
* `log_prior(emission, params)`: the log of the prior density, up to a constant.
* `fill(emission, params, records, weights)`: replaces the missing values of (n, D) records by their conditional means,
  weighted by `weights` (n, n_components).
"""

from stream_em.kernels.dispatch import generic, kernel

SHORT_TILE, LONG_TILE = 192, 512
"""Records in a tile of many or few features (measured): a long one saves calls while it stays in the cache."""


@generic
def sizes(emission):
    """Return (parameters, derived, statistics per component) as three lengths."""
    raise NotImplementedError


@generic
def windows(emission, primary, derived):
    """Return named windows on the emission's part of the parameter vector."""
    raise NotImplementedError


@generic
def encode(emission, params, records, phi):
    """Write the features of a tile of records and return the number of missing values in it."""
    raise NotImplementedError


@generic
def log_densities(emission, params, records, phi, n_missing, out):
    """Write the (n_components, n) log-densities of the observed part of each record."""
    raise NotImplementedError


@generic
def usual(emission, params, records, n_missing, means, deviations):
    """Write mean (n_components, n) and deviation (n,) of the log-density of what is observed of each record."""
    raise NotImplementedError


@generic
def add_statistics(emission, params, records, phi, n_missing, weights, out):
    """Add the weighted expected statistics of a tile to `out`."""
    raise NotImplementedError


@generic
def maximise(emission, statistics, n_records, params):
    """Set the parameters to the maximum a posteriori given mean statistics of `n_records` records."""
    raise NotImplementedError


@generic
def derive(emission, params):
    """Recompute what the E-step needs from the parameters."""
    raise NotImplementedError


@generic
def log_prior(emission, params):
    """Return the log prior density of the parameters, up to a constant."""
    raise NotImplementedError


@generic
def fill(emission, params, records, weights):
    """Replace the missing values of (n, D) records by their means given what is observed."""
    raise NotImplementedError


@kernel
def tile_length(n_statistics):
    """Return how many records of so many features make a tile."""
    return LONG_TILE if n_statistics <= 64 else SHORT_TILE

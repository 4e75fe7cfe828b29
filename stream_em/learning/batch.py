"""Batch EM: the reference that online EM is measured against, one step with gamma = 1 over all data at a time."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.em import e_step, maximise, model_sizes
from stream_em.errors import InputError
from stream_em.learning.iterate import iterate
from stream_em.learning.start import best_start
from stream_em.models.interface import Settings
from stream_em.streams.records import Block, as_records

LARGEST_WEIGHT = 1e12


@dataclass(frozen=True, slots=True)
class BatchFit:
    """What batch EM found."""

    params: Any
    """The named parameters, in the records' units."""
    log_likelihood_path: FloatArray
    """(n_iter,): the total log-likelihood in nats after each iteration."""
    n_iter: int
    converged: bool
    theta: FloatArray
    s: FloatArray


def check_model(model: Settings) -> None:
    """Raise `InputError` if this is not the settings of a model."""
    if not isinstance(model, Settings):
        raise InputError(f"model must be a model such as GaussianMixture(n_components=3), not {model!r}")


def check_frozen(model: Settings, params: Any) -> None:
    """Raise `InputError` if parameters are to stay that nobody has given and that no start could guess."""
    for name in ("means", "components"):
        if params is None and name in model.frozen:
            raise InputError(f"{model.name}: frozen {name} need values to stay at; give params")


def record_weights_of(model: Settings, records: FloatArray, weights: Any) -> FloatArray:
    """Return the weight (n,) of each record: 1 or as given, but 0 for an exchangeable record that is all missing.

    Raises `InputError` for weights or records that the model cannot have.
    """
    model.check_records(records)
    if weights is None:
        result = np.ones(len(records))
    else:
        try:
            result = np.array(weights, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"weights must be numbers: {error}") from None
        if result.shape != (len(records),):
            raise InputError(f"weights must have shape ({len(records)},), not {result.shape}")
        if not ((result >= 0) & (result <= LARGEST_WEIGHT)).all():
            raise InputError(f"weights must lie between 0 and {LARGEST_WEIGHT:g} records")
        if not model.exchangeable and not (result == 1.0).all():
            raise InputError(f"{model.name}: the records of a sequence cannot be weighted")
    if model.exchangeable:
        # Most records have a first value, so all of them need not be looked at whole.
        suspects = np.flatnonzero(np.isnan(records[:, 0]))
        result[suspects[np.isnan(records[suspects]).all(axis=1)]] = 0.0
    return result


def batch_em(
    model: Settings,
    X: Any,
    params: Any = None,
    max_iter: int = 1000,
    tol: float = 1e-10,
    *,
    weights: Any = None,
    starts: int = 8,
    seed: int = 0,
    posterior: Any = None,
) -> BatchFit:
    """Fit a model to all of X (n, D) by plain EM, from `params`, from the M-step that a
    `posterior` (n, K) of the hidden variables gives, or from the best of several k-means++ starts.

    Stops after `max_iter` iterations, or when one gains less than `tol` nats a record. NaN is missing. `weights` (n,)
    count records. Raises `InputError` for records or parameters that cannot be used.

    >>> import stream_em as sem
    >>> X = np.r_[np.arange(5.0), np.arange(50.0, 55.0)]
    >>> fit = sem.batch_em(sem.GaussianMixture(n_components=2), X)
    >>> np.sort(fit.params.means[:, 0]).round(2)
    array([ 2., 52.])
    """
    sized, theta, records, weights = started(model, X, params, max_iter, tol, weights, starts, seed, posterior)
    s = np.zeros(model_sizes(sized)[3])
    path, converged = iterate(sized, theta, s, records, weights, max_iter, tol)
    return BatchFit(model.params(sized, theta), np.array(path), len(path), converged, theta, s)


def started(
    model: Settings,
    X: Any,
    params: Any,
    max_iter: int,
    tol: float,
    weights: Any,
    starts: int,
    seed: int,
    posterior: Any = None,
) -> tuple[Any, FloatArray, FloatArray, FloatArray]:
    """Return a model's compiled form, theta, the records (n, D) and their weights (n,), or raise `InputError`.

    The words are those of `batch_em`.
    """
    check_model(model)
    for name, value, least in (("max_iter", max_iter, 1), ("starts", starts, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number, {least} or more, not {value!r}")
    if not np.isfinite(tol):
        raise InputError(f"tol must be a finite number of nats, not {tol}")
    records = as_records(X.values if isinstance(X, Block) else X)
    weights = record_weights_of(model, records, weights)
    if not weights.sum() > 0:
        raise InputError("there is no record to learn from")
    sized = model.sized(records.shape[1])
    check_frozen(model, params)
    if posterior is not None:
        theta = _theta_for(model, sized, records, weights, posterior)
    elif params is None:
        theta = best_start(model, sized, records, weights, starts, np.random.default_rng(seed))
    else:
        model.check_params(params)
        theta = model.unit_theta(sized, records, weights)
        model.set_params(sized, theta, params)
    return sized, theta, records, weights


def start_from(model: Settings, X: Any, posterior: Any, weights: Any = None) -> Any:
    """Return the parameters of one M-step on X (n, D), given the probabilities (n, K) of the hidden variables."""
    records = as_records(X)
    sized = model.sized(records.shape[1])
    return model.params(sized, _theta_for(model, sized, records, record_weights_of(model, records, weights), posterior))


def _theta_for(model: Settings, sized: Any, records: FloatArray, weights: FloatArray, posterior: Any) -> FloatArray:
    given = np.array(posterior, dtype=np.float64, order="C")
    if given.shape != (len(records), model.n_components):
        raise InputError(f"posterior must have shape {(len(records), model.n_components)}, not {given.shape}")
    theta, s = model.unit_theta(sized, records, weights), np.zeros(model_sizes(sized)[3])
    e_step(sized, theta, s, records, weights, given)
    maximise(sized, theta, s, float(weights.sum()))
    return theta

"""The algorithm, once: s <- s + gamma (s_bar(block; theta) - s), theta <- theta_bar(s).

A model is a NamedTuple of sizes and settings whose type chooses its compiled functions; what it has learned is two flat
vectors, the parameters theta and the running mean sufficient statistics s. Batch EM is one step with gamma = 1 over all
the data; scoring is the same pass with nothing learned.

The vector s has three parts. The first two numbers belong to this file: the summed weights of the records in s and the
sum of their squares, which tell how many records s is worth. Then come the statistics, which a step blends; then what a
chain carries from record to record, which a step must not blend.

Cappé & Moulines (2009), On-line expectation-maximization algorithm for latent data models, JRSS B 71, eq. 15.
"""

from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.kernels.dispatch import generic, kernel

LEARN = 0
"""Add each record's expected statistics; write the probabilities if there are rows for them."""
SCORE = 1
"""Leave the statistics as they are; write the probabilities (all weights are 1)."""
ASSIGN = 2
"""Add each record's statistics as if its hidden variable had the probabilities given."""


@generic
def model_sizes(model):
    """Return four lengths: the averaged part of theta, theta, the blended part of s (with its first two), and s."""
    raise NotImplementedError


@generic
def n_hidden(model):
    """Return how many numbers tell of a record's hidden variable: probabilities, signals or activations."""
    return model.emission.n_components


@generic
def params_of(model, theta):
    """Return named, shaped windows on theta."""
    raise NotImplementedError


@generic
def stats_of(model, s):
    """Return named, shaped windows on s."""
    raise NotImplementedError


@generic
def accumulate(model, params, stats, records, weights, probabilities, log_likelihood, mode):
    """Add sum_i weights[i] s_bar(records[i]) to the statistics; write each record's log-likelihood (n,).

    `probabilities` (n, K) of the hidden variable are written if `mode` is SCORE (and then the statistics stay), read if
    it is ASSIGN; if it is LEARN they are written too, unless they are (0, 0).
    """
    raise NotImplementedError


@generic
def surprise(model, params, records, log_densities, out):
    """Write the log-density (K, n) of each record in each component, and how surprising it is (n,).

    The surprise is how far the log-density lies below what is usual, in standard deviations, for the component where
    that is least; 0 for a record that is all missing.
    """
    raise NotImplementedError


@generic
def spare(model, stats, n_records):
    """Undo what was forgotten of components that are not visited, if the model is to; s is worth `n_records`."""


@generic
def m_step(model, stats, n_records, params):
    """Set the parameters to the maximiser given mean statistics that stand for `n_records` records, then `refresh`."""
    raise NotImplementedError


@generic
def refresh(model, params):
    """Recompute the derived part of theta."""
    raise NotImplementedError


@generic
def penalty(model, params):
    """Return the log prior density of the parameters, up to a constant."""
    raise NotImplementedError


@generic
def fill_missing(model, params, records, probabilities):
    """Replace the missing values of (n, D) records by their means given what is observed.

    `probabilities` (n, K) of the hidden variable are given.
    """
    raise NotImplementedError


@kernel
def online_em(
    model, theta, s, averages, tally, records, counts, steps, refresh_every, inhibit, probabilities, log_likelihood
):
    """Learn a block: each record is scored with the parameters before it, learned with its step, theta set in between.

    `counts` (n,) says how many records each stands for, `steps` (n,) is its gamma; `log_likelihood` (n,) receives the
    predictive log-likelihoods, and `probabilities` (n, K), unless (0, 0), those of the hidden variable. The M-step
    comes at every multiple of `refresh_every` records of the stream, so it does not matter how records arrive, and not
    before `inhibit` records. `tally` (3,) counts the records, and the M-steps in each row of `averages`: row 1 is the
    running mean of theta since the record count last doubled, row 0 that of the window before; tally[1] is -1 until the
    first doubling.
    """
    params, stats = params_of(model, theta), stats_of(model, s)
    n_blended = model_sizes(model)[2]
    weights = np.empty(min(len(records), refresh_every))
    begin = 0
    while begin < len(records):
        end = min(len(records), begin + refresh_every - tally[0] % refresh_every)
        block_weights = weights[: end - begin]
        kept = record_weights(steps[begin:end], block_weights)
        for i in range(n_blended):
            s[i] *= kept
        s[0] += 1.0 - kept
        s[1] *= kept
        for i in range(begin, end):
            if counts[i] > 0.0:
                s[1] += block_weights[i - begin] ** 2 / counts[i]
        block, scores = records[begin:end], log_likelihood[begin:end]
        accumulate(model, params, stats, block, block_weights, probabilities[begin:end], scores, LEARN)
        tally[0] += end - begin
        if tally[0] % refresh_every == 0 and tally[0] >= inhibit and s[1] > 0.0:
            spare(model, stats, records_behind(s))
            m_step(model, stats, records_behind(s), params)
            update_averages(theta, averages, tally, tally[0] - refresh_every)
        begin = end


@kernel
def records_behind(s):
    """Return how many equally weighted records the statistics are worth: (sum w)² / sum w²."""
    return s[0] * s[0] / s[1]


@kernel
def record_weights(steps, weights):
    """Write what each record of a block weighs after its last step; return what is kept of the statistics before it.

    weights[i] = steps[i] (1 - steps[i+1]) ... (1 - steps[n-1]); they and the returned product sum to 1. One step over a
    block is thus the same as one step a record, however the records arrive.
    """
    kept = 1.0
    for i in range(len(steps) - 1, -1, -1):
        weights[i] = steps[i] * kept
        kept *= 1.0 - steps[i]
    return kept


@kernel
def update_averages(theta, averages, tally, before):
    """Take theta into the running mean; start a new mean when the record count passes a power of two.

    Polyak–Ruppert averaging over a window that doubles: at any time the two means together cover the last half to three
    quarters of the stream. What was averaged before the first doubling, with the start in it, is forgotten.
    """
    power = 1
    while power <= before:
        power *= 2
    if tally[0] >= power:
        for i in range(averages.shape[1]):
            averages[0, i] = averages[1, i]
        tally[1] = 0 if tally[1] < 0 else tally[2]
        tally[2] = 0
    tally[2] += 1
    for i in range(averages.shape[1]):
        averages[1, i] += (theta[i] - averages[1, i]) / tally[2]


@kernel
def expect(model, theta, s, records, weights, probabilities, log_likelihood, mode):
    """Run `accumulate` over all the records, whatever the mode."""
    params, stats = params_of(model, theta), stats_of(model, s)
    accumulate(model, params, stats, records, weights, probabilities, log_likelihood, mode)


@kernel
def least_surprise(model, theta, records, log_densities, out):
    """Run `surprise` with the parameters theta."""
    surprise(model, params_of(model, theta), records, log_densities, out)


@kernel
def impute(model, theta, records, probabilities):
    """Run `fill_missing` with the parameters theta."""
    fill_missing(model, params_of(model, theta), records, probabilities)


@kernel
def maximise(model, theta, s, n_records):
    """Set theta to the maximiser given s, or only refresh it if `n_records` is 0; return its log prior density."""
    params = params_of(model, theta)
    if n_records > 0.0:
        m_step(model, stats_of(model, s), n_records, params)
    else:
        refresh(model, params)
    return penalty(model, params)


def e_step(
    model: Any,
    theta: FloatArray,
    s: FloatArray,
    records: FloatArray,
    weights: FloatArray,
    probabilities: FloatArray | None = None,
) -> float:
    """Set s to the mean statistics of all (n, D) records given theta; return their weighted total log-likelihood.

    With `probabilities` (n, K) the statistics are those of records whose hidden variables have these probabilities.
    """
    s[:] = 0.0
    log_likelihood = np.zeros(len(records))
    mode = LEARN if probabilities is None else ASSIGN
    given = np.empty((0, 0)) if probabilities is None else probabilities
    expect(model, theta, s, records, weights, given, log_likelihood, mode)
    s[: model_sizes(model)[2]] /= weights.sum()
    s[:2] = 1.0, 1.0 / weights.sum()
    return float(weights @ log_likelihood)


def score(model: Any, theta: FloatArray, s: FloatArray, records: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities (n, K) of the hidden variable and the log-likelihood (n,) of each record."""
    probabilities, log_likelihood = np.empty((len(records), n_hidden(model))), np.empty(len(records))
    expect(model, theta, s, records, np.ones(len(records)), probabilities, log_likelihood, SCORE)
    return probabilities, log_likelihood

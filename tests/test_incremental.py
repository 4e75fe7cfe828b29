"""Incremental EM: the bound never gets worse, the likelihood ends where batch EM's does, in fewer passes."""

import numpy as np
import pytest
from picard import picard
from twins_unmixing import isr, loud_and_quiet

import stream_em as sem
from stream_em.em import model_sizes, params_of
from stream_em.learning.incremental import incremental_steps

NU, LENGTH = 4.0, 250
MODEL = sem.SignalUnmixing(n_components=3, sources="sample", nu=NU)


def mixed(seed=0, n=2000):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(3, 3))
    return rng.laplace(size=(n, 3)) @ mixing.T + [1.0, -2.0, 3.0], mixing


def bound(W, y, u):
    """Return the mean negative log-likelihood's upper bound for weights u (n, K), up to a constant; least at u(y)."""
    return (u * (y**2 + NU) - (NU + 1) * np.log(u)).sum(axis=1).mean() / 2 - np.linalg.slogdet(W)[1]


def test_no_step_raises_the_bound_and_no_pass_the_loss():
    X, _ = mixed()
    sized, ones = MODEL.sized(3), np.ones(len(X))
    theta, s = MODEL.unit_theta(sized, X, ones), np.zeros(model_sizes(sized)[3])
    windows = params_of(sized, theta)
    z = (X - windows.shift) / windows.scale

    def sources():
        return z @ windows.unmixing.T - windows.offset

    def weights():
        return (NU + 1) / (NU + sources() ** 2)

    steps = incremental_steps(sized, theta, s, X, ones, LENGTH)
    next(steps)
    u = weights()
    before = loss = bound(windows.unmixing, sources(), u)
    for _ in range(12):
        for begin in range(0, len(X), LENGTH):
            u[begin : begin + LENGTH] = weights()[begin : begin + LENGTH]
            now = bound(windows.unmixing, sources(), u)
            assert now <= before + 1e-12
            next(steps)
            before = bound(windows.unmixing, sources(), u)
            assert before <= now + 1e-12
        now = bound(windows.unmixing, sources(), weights())
        assert now <= min(loss + 1e-12, before)
        loss = now


@pytest.mark.parametrize(
    "model", [MODEL, sem.SignalUnmixing(n_components=3, sources="mixture"), sem.GaussianMixture(n_components=2)]
)
def test_fewer_passes_reach_what_batch_em_reaches(model):
    X, _ = mixed()
    start = sem.batch_em(model, X, max_iter=1, starts=1).params
    batch = sem.batch_em(model, X, start, max_iter=7, tol=-1.0)
    fit = sem.incremental_em(model, X, start, max_iter=6, tol=-1.0, batch=LENGTH)
    assert np.diff(fit.log_likelihood_path).min() > -1e-9 * abs(fit.log_likelihood_path[-1])
    assert fit.log_likelihood_path[-1] > batch.log_likelihood_path[-1]
    far = [each(model, X, fit.params, 40, -1.0).log_likelihood_path[-1] for each in (sem.batch_em, sem.incremental_em)]
    assert far[1] > far[0] - 1e-9 * abs(far[0])
    assert far[1] == pytest.approx(far[0], rel=1e-3)


def test_blocks_are_not_cut_and_the_last_may_be_short():
    rng = np.random.default_rng(1)
    X = loud_and_quiet(rng, 2013, 3) @ rng.normal(size=(3, 3))
    model = sem.SignalUnmixing(n_components=3, block=20)
    start = sem.batch_em(model, X, max_iter=1, starts=1).params
    one = sem.incremental_em(model, X, start, max_iter=3, tol=-1.0, batch=2013)
    batch = sem.batch_em(model, X, start, max_iter=3, tol=-1.0)
    np.testing.assert_allclose(one.log_likelihood_path, batch.log_likelihood_path, rtol=1e-9)
    many = sem.incremental_em(model, X, start, max_iter=20, batch=90)
    assert np.diff(many.log_likelihood_path).min() > -1e-9 * abs(one.log_likelihood_path[-1])
    assert many.log_likelihood_path[2] > one.log_likelihood_path[2]


def test_the_unmixing_is_as_good_as_picards_on_laplace_sources():
    X, mixing = mixed(n=10_000)
    fit = sem.incremental_em(MODEL, X, max_iter=30)
    whitening, rotation, _ = picard(X.T, ortho=False, random_state=0)
    ours, peer = isr(fit.params.unmixing, mixing), isr(rotation @ whitening, mixing)
    assert ours < peer + 2.0
    # Their densities differ a little: they are no farther from each other than both are from the truth.
    assert isr(fit.params.unmixing, np.linalg.inv(rotation @ whitening)) < max(ours, peer) + 3.0


def test_weights_count_records_and_chains_are_refused():
    X, _ = mixed(n=300)
    model, weights = sem.GaussianMixture(n_components=2), np.random.default_rng(2).integers(0, 3, 300)
    start = sem.batch_em(model, X, max_iter=1, starts=1).params
    weighted = sem.incremental_em(model, X, start, 5, weights=weights, batch=300)
    repeated = sem.incremental_em(model, np.repeat(X, weights, axis=0), start, 5, batch=900)
    np.testing.assert_allclose(weighted.log_likelihood_path, repeated.log_likelihood_path, rtol=1e-9)
    with pytest.raises(sem.InputError, match="use batch_em"):
        sem.incremental_em(sem.HiddenMarkov(2), X)
    with pytest.raises(sem.InputError, match="batch must be"):
        sem.incremental_em(model, X, batch=0)
    with pytest.raises(sem.InputError, match="model must be"):
        sem.incremental_em("mixture", X)

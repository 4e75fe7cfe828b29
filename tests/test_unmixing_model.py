"""The unmixing model: exact rows, exact densities, the fixed point, missing channels."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, multivariate_t
from twins_unmixing import block_log_likelihood, em_step, isr, loud_and_quiet, row_sweep, surrogate

import stream_em as sem
from stream_em.em import SCORE, e_step, expect, maximise, model_sizes, online_em, params_of, score, stats_of
from stream_em.kernels.completion import complete
from stream_em.kernels.rows import invert, orthonormalise, update_row
from stream_em.learning.iterate import iterate
from stream_em.models.replay import replay, sum_blocks
from stream_em.models.signal_unmixing import SignalUnmixing
from stream_em.models.unmixing_params import SignalUnmixingParams

L = 20


def mixed(seed=0, n=3213, K=3, D=3, noise=0.0):
    rng = np.random.default_rng(seed)
    sources, mixing = loud_and_quiet(rng, n, K, L), rng.normal(size=(D, K))
    return sources @ mixing.T + [1.0, -2.0, 3.0, 0.5, 0.0][:D] + noise * rng.normal(size=(n, D)), mixing, sources


def started(X, K=None, **settings):
    model = SignalUnmixing(n_components=K or X.shape[1], block=L, **settings)
    sized = model.sized(X.shape[1])
    theta = model.unit_theta(sized, X, np.ones(len(X)))
    return model, sized, theta, np.zeros(model_sizes(sized)[3])


def fitted(X, K=None, iterations=60, **settings):
    model, sized, theta, s = started(X, K, **settings)
    path, _ = iterate(sized, theta, s, X, np.ones(len(X)), iterations, 0.0)
    return model, sized, theta, s, path


def test_a_row_update_is_the_maximiser_and_keeps_the_inverse():
    rng = np.random.default_rng(1)
    K = 5
    roots = rng.normal(size=(K, K, 2 * K))
    V = roots @ roots.transpose(0, 2, 1) / K
    W = rng.normal(size=(K, K))
    found, inverse, before = W.copy(), np.empty((K, K)), W.copy()
    log_det = invert(found, inverse)
    np.testing.assert_allclose(inverse, np.linalg.inv(W), rtol=1e-10)
    value = surrogate(V, W)
    for i in range(K):
        log_det += update_row(i, V[i].copy(), np.empty(0), found, inverse, np.empty((K, K)), np.empty(K))
        assert surrogate(V, found) <= value + 1e-12
        value = surrogate(V, found)
        assert found[i] @ np.linalg.inv(before)[:, i] > 0
        before = found.copy()
    np.testing.assert_allclose(found, row_sweep(V, W), rtol=1e-9)
    np.testing.assert_allclose(inverse, np.linalg.inv(found), rtol=1e-8, atol=1e-10)
    assert log_det == pytest.approx(np.linalg.slogdet(found)[1])


def test_a_singular_matrix_has_no_inverse_and_rows_become_orthonormal():
    assert invert(np.ones((3, 3)), np.empty((3, 3))) == -np.inf
    rows = np.random.default_rng(2).normal(size=(3, 5))
    orthonormalise(rows)
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-14)


def test_one_em_iteration_equals_the_twin():
    X, _, _ = mixed()
    model, sized, theta, s = started(X)
    windows = params_of(sized, theta)
    z = (X - windows.shift) / windows.scale
    W, offset = windows.unmixing.copy(), windows.offset.copy()
    for _ in range(3):
        e_step(sized, theta, s, X, np.ones(len(X)))
        maximise(sized, theta, s, float(len(X)))
        W, offset = em_step(z, W, offset, L, 4.0, 1e-11)
        np.testing.assert_allclose(windows.unmixing, W, rtol=1e-8)
        np.testing.assert_allclose(windows.offset, offset, rtol=1e-8, atol=1e-12)
    params = model.params(sized, theta)
    np.testing.assert_allclose(params.unmixing @ params.mixing, np.eye(3), atol=1e-10)


def test_the_log_likelihood_is_that_of_student_blocks():
    X, _, _ = mixed()
    model, sized, theta, s = started(X, nu=3.0)
    params = model.params(sized, theta)
    W = params.unmixing / params.scales[:, np.newaxis]
    expected = block_log_likelihood(X, W, W @ params.location, L, 3.0)
    sources, scores = score(sized, theta, s, X)
    assert scores.sum() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(sources, (X - params.location) @ params.unmixing.T, rtol=1e-9, atol=1e-12)
    # Each record's own is the conditional density given the block so far.
    first = multivariate_t(np.zeros(7), np.eye(7), df=3.0), multivariate_t(np.zeros(8), np.eye(8), df=3.0)
    y = (sources / params.scales)[L : L + 8]
    each = sum(first[1].logpdf(y[:, k]) - first[0].logpdf(y[:7, k]) for k in range(3)) + np.linalg.slogdet(W)[1]
    assert scores[L + 7] == pytest.approx(each, rel=1e-10)
    expect(sized, theta, s, X, np.ones(len(X)), np.empty((0, 0)), np.empty(0), SCORE)
    e_step(sized, theta, s, X, np.ones(len(X)))
    again = np.zeros_like(s)
    expect(sized, theta, again, X, np.ones(len(X)), np.empty((0, 0)), np.empty(0), 0)
    assert stats_of(sized, again).tally[4] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("length", [1, L, 7])
def test_batch_em_never_lowers_the_log_likelihood_and_ends_at_the_fixed_point(length):
    X, mixing, _ = mixed(n=140 * 15)
    model = SignalUnmixing(n_components=3, block=length)
    sized = model.sized(3)
    theta, s = model.unit_theta(sized, X, np.ones(len(X))), np.zeros(model_sizes(sized)[3])
    path, _ = iterate(sized, theta, s, X, np.ones(len(X)), 200, 1e-13)
    assert np.diff(path).min() > -1e-9 * abs(path[-1])
    assert path[-1] > path[0]
    assert model.off_diagonal(sized, theta, s) < 1e-4
    assert isr(model.params(sized, theta).unmixing, mixing) < (-35 if length > 1 else -20)


def test_more_channels_than_sources():
    X, mixing, _ = mixed(D=5, noise=0.01)
    model, sized, theta, _, path = fitted(X, K=3)
    params = model.params(sized, theta)
    assert isr(params.unmixing, mixing) < -35
    np.testing.assert_allclose(params.unmixing @ params.mixing, np.eye(3), atol=1e-9)
    assert np.sqrt(params.noise).mean() == pytest.approx(0.01, rel=0.1)
    assert path[-1] > path[0]
    other, theta_again = model.from_params(params)
    again = model.params(other, theta_again)
    for one, two in zip(params[:4], again[:4], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-9)


def test_mixing_the_channels_again_changes_nothing_but_the_matrix():
    X, _, _ = mixed()
    B = np.random.default_rng(7).normal(size=(3, 3))
    one, two = (fitted(each)[:3] for each in (X, X @ B.T))
    first, second = one[0].params(*one[1:]), two[0].params(*two[1:])
    A, product = np.linalg.inv(first.unmixing), second.unmixing @ B
    match = product @ A
    match /= np.abs(match).max(axis=1, keepdims=True)
    np.testing.assert_allclose(np.sort(np.abs(match), axis=1)[:, :2], 0.0, atol=1e-3)


def test_online_with_equal_steps_and_one_m_step_is_batch_em():
    X, _, _ = mixed(n=3000)
    _model, sized, theta, s = started(X)
    other, steps = theta.copy(), sem.Stepsize.equal().steps(0.0, np.ones(3000))
    iterate(sized, theta, s, X, np.ones(3000), 2, 0.0)
    for _ in range(2):
        s = np.zeros(model_sizes(sized)[3])
        online_em(
            sized, other, s, np.zeros((2, model_sizes(sized)[0])), np.array([0, -1, 0]), X, np.ones(3000), steps,
            3000, 0, np.empty((0, 0)), np.empty(0),
        )  # fmt: skip
    np.testing.assert_allclose(other, theta, rtol=1e-9, atol=1e-12)


def test_an_m_step_within_a_block_is_exact():
    X, _, _ = mixed(n=47)
    _model, sized, theta, s = started(X)
    e_step(sized, theta, s, X, np.ones(47))
    maximise(sized, theta, s, 47.0)
    again = s.copy()
    e_step(sized, theta, again, X, np.ones(47))
    np.testing.assert_allclose(stats_of(sized, s).squares, stats_of(sized, again).squares, rtol=1e-9)


def test_going_over_kept_blocks_is_batch_em():
    X, _, _ = mixed(n=2000)
    _model, sized, theta, s = started(X)
    kept, other, plain = np.empty((2000 // L, stats_of(sized, s).plain.size)), theta.copy(), s.copy()
    sum_blocks(sized, theta, X, kept)
    replay(sized, theta, s, kept, 4)
    for _ in range(4):
        e_step(sized, other, plain, X, np.ones(2000))
        maximise(sized, other, plain, 2000.0)
    e_step(sized, other, plain, X, np.ones(2000))
    np.testing.assert_allclose(theta, other, rtol=1e-9, atol=1e-12)
    keep = np.arange(len(s)) < model_sizes(sized)[2]
    np.testing.assert_allclose(s[keep], plain[keep], rtol=1e-9, atol=1e-12)


def test_missing_channels_are_completed_as_gaussians_given_the_rest():
    rng = np.random.default_rng(3)
    A, offset, variances = rng.normal(size=(4, 3)), rng.normal(size=3), np.array([0.5, 2.0, 1.0])
    record = A @ (rng.normal(size=3) + offset)
    holed, y, spread = record.copy(), np.empty(3), np.empty((3, 3))
    holed[1] = np.nan
    seen = [0, 2, 3]
    found = complete(holed, A, offset, variances, 0.1, y, spread)
    covariance = A[seen] * variances @ A[seen].T + 0.1 * np.eye(3)
    assert found == pytest.approx(multivariate_normal(A[seen] @ offset, covariance).logpdf(record[seen]), rel=1e-9)
    gain = np.diag(variances) @ A[seen].T @ np.linalg.inv(covariance)
    np.testing.assert_allclose(y, gain @ (record[seen] - A[seen] @ offset), rtol=1e-9)
    np.testing.assert_allclose(spread, np.diag(variances) - gain @ A[seen] * variances, rtol=1e-9, atol=1e-12)
    assert holed[1] == pytest.approx(A[1] @ (y + offset))


def test_records_with_nothing_in_them_say_nothing():
    X, _, _ = mixed(n=400)
    model, sized, theta, s, _ = fitted(X)
    before = model.params(sized, theta)
    sources, scores = score(sized, theta, s, np.full((60, 3), np.nan))
    np.testing.assert_allclose(scores, 0.0, atol=1e-9)
    np.testing.assert_allclose(sources, 0.0, atol=1e-12)
    e_step(sized, theta, s, np.full((60, 3), np.nan), np.ones(60))
    maximise(sized, theta, s, 60.0)
    after = model.params(sized, theta)
    np.testing.assert_allclose(after.unmixing, before.unmixing, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 4}, "at most the 3 channels"),
        ({"n_components": 2, "reference": 3}, "reference must be a channel below 3"),
    ],
)
def test_what_does_not_fit_the_channels_is_refused(settings, message):
    with pytest.raises(sem.InputError, match=message):
        SignalUnmixing(**settings).sized(3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block": 0}, "block must be"),
        ({"nu": -1.0}, "nu must be"),
        ({"gate": 0.5}, "gate must be"),
        ({"reference": -1}, "reference must be"),
        ({"frozen": ("unmixing",)}, "frozen may name"),
        ({"sources": "loud"}, "sources"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(sem.InputError, match=message):
        SignalUnmixing(**settings)


def test_impossible_params_are_refused():
    params = SignalUnmixingParams(np.eye(2), np.ones((2, 2)), np.zeros(2), np.ones(2), np.zeros(2))
    with pytest.raises(sem.InputError, match="linearly independent"):
        SignalUnmixing().from_params(params)


def test_challengers_take_over_after_a_change_of_the_mixing():
    X, mixing, sources = mixed(n=24_000)
    X[12_000:] = sources[12_000:] @ mixing[::-1].T
    learner = sem.Learner(SignalUnmixing(n_components=3, block=L), refresh_every=5 * L, recent=1500)
    for part in np.split(X, 48):
        learner.learn(part)
        if learner.count == 13_500:
            learner.challenge("the mixing has changed", latest=1500)
    assert any(event.kind == "replaced" for event in learner.events)
    assert isr(learner.params.unmixing, mixing[::-1]) < -25

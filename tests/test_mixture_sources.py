"""Unmixing with mixture sources: exact rows, never a lower likelihood, flat and two-humped sources told apart."""

import warnings

import numpy as np
import pytest
from picard import picard
from scipy.optimize import minimize
from sklearn.decomposition import FastICA
from twins_mixture_sources import mixture_sources_em_step, row_objective, row_with_pull
from twins_unmixing import isr

import stream_em as sem
from stream_em.em import score
from stream_em.kernels.rows import update_row
from stream_em.models.signal_unmixing import SignalUnmixing

MODEL = SignalUnmixing(n_components=4, sources="mixture")
KINDS = {
    "uniform": lambda rng, n: rng.uniform(-1.0, 1.0, n),
    "two humps": lambda rng, n: rng.choice([-1.0, 1.0], n) + 0.3 * rng.normal(size=n),
    "sine": lambda rng, n: np.sin(0.448 * np.arange(n) + rng.uniform(0.0, 6.0)),
    "square": lambda rng, n: rng.choice([-1.0, 1.0], n),
    "Laplace": lambda rng, n: rng.laplace(size=n),
}
ALL_KINDS = [("uniform", "two humps", "Laplace", "sine"), ("uniform", "sine", "Laplace", "Laplace")]


def mixed(seed, n, kinds, D=None, noise=0.0):
    rng = np.random.default_rng(seed)
    sources = np.stack([KINDS[kind](rng, n) for kind in kinds], axis=1)
    sources = (sources - sources.mean(axis=0)) / sources.std(axis=0)
    mixing = rng.normal(size=(D or len(kinds), len(kinds)))
    return sources @ mixing.T + 3.0 + noise * rng.normal(size=(n, len(mixing))), mixing, sources


@pytest.mark.parametrize("pull", [0.0, 1.0, -30.0, 1e4, -100.0])
def test_a_row_with_a_linear_term_is_the_maximiser(pull):
    rng = np.random.default_rng(1)
    root, b, W = rng.normal(size=(4, 8)), pull * rng.normal(size=4), rng.normal(size=(4, 4))
    V, inverse, found = root @ root.T / 4, np.linalg.inv(W), W.copy()
    a = inverse[:, 2].copy()
    b *= np.sign(b @ np.linalg.solve(V, a)) * np.sign(pull)
    growth = update_row(2, V.copy(), b.copy(), found, inverse, np.empty((4, 4)), np.empty(4))
    w = found[2]
    terms = [V @ w, b, a / (w @ a)]
    np.testing.assert_allclose(
        terms[0] - terms[1] - terms[2], 0.0, atol=1e-7 * max(np.abs(term).max() for term in terms)
    )
    assert growth == pytest.approx(np.log(w @ a))
    np.testing.assert_allclose(inverse @ found, np.eye(4), atol=1e-6)
    if abs(pull) < 50:
        np.testing.assert_allclose(w, row_with_pull(V, b, a), rtol=1e-9)
        best = minimize(lambda row: -row_objective(row, V, b, a), w + 0.01 * a / (a @ a), tol=1e-12)
        np.testing.assert_allclose(w, best.x, rtol=1e-4, atol=1e-5)


def test_one_em_iteration_and_the_log_likelihood_equal_the_twin():
    X = mixed(0, 300, ALL_KINDS[0])[0]
    X[np.random.default_rng(2).random(X.shape) < 0.15] = np.nan
    X[7] = np.nan
    params = sem.batch_em(MODEL, X, max_iter=3).params
    expected, log_likelihoods = mixture_sources_em_step(params, X, np.ones(300), None, MODEL)
    sized, theta = MODEL.from_params(params)
    np.testing.assert_allclose(score(sized, theta, np.zeros(10_000), X)[1], log_likelihoods, rtol=1e-8, atol=1e-8)
    found = sem.batch_em(MODEL, X, params, max_iter=1).params
    for name, value in expected._asdict().items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-7, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kinds", ALL_KINDS, ids=" ".join)
def test_batch_em_is_not_worse_than_fastica_and_extended_picard(kinds, seed):
    X, mixing, _ = mixed(seed, 20_000, kinds)
    sized = MODEL.sized(4)
    start = MODEL.params(sized, MODEL.unit_theta(sized, X, np.ones(len(X))))
    fit = sem.batch_em(MODEL, X, start, max_iter=80, tol=1e-6)
    assert np.diff(fit.log_likelihood_path).min() > -1e-10 * abs(fit.log_likelihood_path[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether the peers have converged is not asked
        whitening, rotation, _ = picard(X.T, ortho=True, extended=True, random_state=0)
        peers = isr(rotation @ whitening, mixing), isr(FastICA(random_state=0).fit(X).components_, mixing)
    assert isr(fit.params.unmixing, mixing) < min(peers) + 0.5
    assert isr(fit.params.unmixing, mixing) < -37
    assert MODEL.off_diagonal(sized, fit.theta, fit.s) < 0.01


def test_the_densities_are_those_of_the_sources():
    X, mixing, sources = mixed(3, 20_000, ("square", "Laplace", "uniform", "two humps"))
    params = sem.batch_em(MODEL, X, max_iter=40, tol=1e-6).params
    product = params.unmixing @ mixing
    square = int(np.abs(product[:, 0]).argmax())
    amplitude = np.abs(product[square, 0]) * np.abs(sources[:, 0]).mean()
    np.testing.assert_allclose(np.abs(params.source_means[square]), amplitude, rtol=0.01)
    np.testing.assert_allclose(params.source_weights.sum(axis=1), 1.0)
    np.testing.assert_allclose((params.source_weights * params.source_means).sum(axis=1), 0.0, atol=1e-9)


def test_a_learner_in_one_pass_and_an_unmixer_come_near_batch():
    X, mixing, _ = mixed(1, 20_000, ALL_KINDS[0])
    learner, unmixer = sem.Learner(MODEL, warmup=400), sem.Unmixer(sources="mixture")
    for part in np.split(X, 20):
        learner.learn(part)
        unmixer.process(part)
    assert isr(learner.averaged_params.unmixing, mixing) < -35
    assert isr(unmixer.unmixing, mixing) < -37
    assert [event.kind for event in unmixer.events if event.kind != "artefact"] == ["start"]


def test_an_unmixer_learns_a_new_mixing_and_goes_on_bitwise(tmp_path):
    X, mixing, sources = mixed(2, 40_000, ALL_KINDS[0])
    X[20_000:] = sources[20_000:] @ mixing[::-1].T
    unmixer = sem.Unmixer(sources="mixture", block=32)
    for part in np.split(X[:30_000], 30):
        unmixer.process(part)
    assert "reset" in [event.kind for event in unmixer.events]
    assert isr(unmixer.unmixing, mixing[::-1]) < -30
    unmixer.save(tmp_path / "unmixer.safetensors")
    restored = sem.Unmixer.load(tmp_path / "unmixer.safetensors")
    np.testing.assert_array_equal(restored.process(X[30_000:]), unmixer.process(X[30_000:]))


def test_missing_values_and_more_channels_than_sources():
    X, mixing, sources = mixed(4, 20_000, ("uniform", "two humps", "Laplace"), D=5, noise=0.01)
    X[np.random.default_rng(1).random(len(X)) < 0.1, 1] = np.nan
    fit = sem.batch_em(SignalUnmixing(3, sources="mixture"), X, max_iter=60, tol=1e-6)
    assert isr(fit.params.unmixing, mixing) < -30
    assert np.sqrt(fit.params.noise).mean() == pytest.approx(0.01, rel=0.1)
    unmixer = sem.Unmixer(3, sources="mixture")
    out = np.concatenate([unmixer.process(part) for part in np.split(X, 10)])
    assert np.isfinite(out).all()
    assert np.abs(np.corrcoef(out[-4000:].T, sources[-4000:].T)[:3, 3:]).max(axis=0).min() > 0.999


@pytest.mark.parametrize("spoil", [lambda X: X * [1, 1, 0, 1], lambda X: X[:, [0, 1, 2, 0]], lambda X: np.sign(X)])
def test_bad_signals_never_give_nan(spoil):
    X = spoil(mixed(5, 4000, ALL_KINDS[0])[0])
    X[2000] = 1e99
    learner, unmixer = sem.Learner(MODEL, warmup=400), sem.Unmixer(4, sources="mixture")
    assert np.isfinite(learner.learn(X)[400:]).all()
    assert np.isfinite(unmixer.process(X)).all()
    for params in (sem.batch_em(MODEL, X, max_iter=10).params, learner.params, unmixer.params):
        assert all(np.isfinite(value).all() for value in params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_weights": np.ones((4, 3))}, "sum to 1"),
        ({"source_deviations": np.zeros((4, 3))}, "above 0"),
        ({"source_means": np.zeros((4, 2))}, "must have shape"),
    ],
)
def test_impossible_densities_are_refused(change, message):
    params = sem.batch_em(MODEL, mixed(6, 500, ALL_KINDS[0])[0], max_iter=1).params
    with pytest.raises(sem.InputError, match=message):
        MODEL.from_params(params._replace(**change))
    with pytest.raises(sem.InputError, match="no source_weights"):
        MODEL.from_params(sem.batch_em(SignalUnmixing(4), np.eye(4), max_iter=1).params)
    with pytest.raises(sem.InputError, match="n_gaussians must be"):
        SignalUnmixing(sources="mixture", n_gaussians=1)

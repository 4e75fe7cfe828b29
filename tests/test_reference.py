"""The numbers of others: scikit-learn, hmmlearn, scipy, NumPy, and the recursions of the papers written out plainly."""

import naive
import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from test_published import OLD_FAITHFUL

import stream_em as sem
from stream_em.em import stats_of
from stream_em.kernels.elementwise import exp_in_place, exp_relative_in_place, log_in_place, softmax_in_place
from stream_em.kernels.linalg import cholesky, invert_covariance, invert_triangular, multiply, pack, unpack

EPS = np.finfo(float).eps
NEVER = 10**9
TYPES = ["full", "tied", "diag", "spherical"]
all_types = pytest.mark.parametrize("covariance_type", TYPES)

IRIS = datasets.load_iris().data
WINE = datasets.load_wine().data
WINE_STANDARD = (WINE - WINE.mean(axis=0)) / WINE.std(axis=0)


def overall_covariances(X, K, covariance_type):
    """Return the covariances of a start in which every component has that of the data."""
    covariance = np.cov(X.T)
    return {
        "full": np.array([covariance] * K),
        "tied": covariance,
        "diag": np.array([np.diag(covariance)] * K),
        "spherical": np.full(K, np.diag(covariance).mean()),
    }[covariance_type]


def mixture_start(X, K, covariance_type):
    weights = np.arange(1.0, K + 1)
    means = X[:: len(X) // K][:K]
    return sem.GaussianMixture.params_type(weights / weights.sum(), means, overall_covariances(X, K, covariance_type))


def close(a, b, tolerance):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


# Gaussian mixtures: scikit-learn


def precisions(covariances, covariance_type):
    return 1 / covariances if covariance_type in ("diag", "spherical") else np.linalg.inv(covariances)


@all_types
@pytest.mark.parametrize("n_iter", [1, 2, 10])
def test_batch_em_takes_the_steps_of_scikit_learn(covariance_type, n_iter):
    start = mixture_start(IRIS, 3, covariance_type)
    peer = GaussianMixture(
        3,
        covariance_type=covariance_type,
        tol=0,
        reg_covar=0,
        max_iter=n_iter,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=precisions(start.covariances, covariance_type),
    )
    with pytest.warns(ConvergenceWarning):
        peer.fit(IRIS)
    model = sem.GaussianMixture(n_components=3, covariance_type=covariance_type, covariance_prior=0, weight_prior=0)
    fit = sem.batch_em(model, IRIS, start, max_iter=n_iter, tol=-1)
    # scikit-learn inverts its start and subtracts squares about zero: 1e-8 leaves room for its rounding.
    close(fit.params, (peer.weights_, peer.means_, peer.covariances_), 1e-8)
    assert fit.log_likelihood_path[-1] == pytest.approx(peer.score_samples(IRIS).sum(), rel=1e-10)
    learner = sem.Learner(model, params=fit.params)
    np.testing.assert_allclose(learner.posterior(IRIS), peer.predict_proba(IRIS), atol=1e-8)
    np.testing.assert_allclose(learner.log_likelihood(IRIS), peer.score_samples(IRIS), rtol=1e-8)


@all_types
@pytest.mark.parametrize(
    ("X", "K"),
    [(IRIS, 3), (WINE, 3), (WINE_STANDARD, 3), (OLD_FAITHFUL, 2)],
    ids=["iris", "wine", "wine-standardised", "old-faithful"],
)
def test_twenty_short_starts_reach_what_ten_of_scikit_learn_reach(X, K, covariance_type):
    peer = GaussianMixture(K, covariance_type=covariance_type, n_init=10, max_iter=2000, tol=1e-8, random_state=0)
    best = peer.fit(X).score_samples(X).sum()
    model = sem.GaussianMixture(n_components=K, covariance_type=covariance_type, covariance_prior=0, weight_prior=0)
    # Twenty short runs and a long one cost less than ten runs to convergence.
    fit = sem.batch_em(model, X, starts=20)
    # The last gain was below 1e-10 nats a record; at a rate of 0.9999 the gains not made sum to 1e-6 a record. And
    # scikit-learn's reg_covar lowers its own likelihood, never ours.
    assert fit.log_likelihood_path[-1] >= best - 1e-6 * len(X)


# Hidden Markov models: hmmlearn


def chain_params(covariance_type, K=3, D=2):
    """Return the parameters of a sticky chain with D features, for any K; D decides nothing but the width."""
    transitions = 0.6 * np.eye(K) + 0.4 * (np.arange(K) + 1.0) / np.arange(1, K + 1).sum()
    means = 1.5 * np.arange(K)[:, np.newaxis] * np.where(np.arange(D) % 2, -1, 1) + 0.3 * np.arange(D)
    covariances = {
        "full": np.array([np.eye(D) * (1 + 0.2 * k) + 0.3 * k for k in range(K)]),
        "tied": np.eye(D) + 0.4,
        "diag": 0.5 + np.arange(K * D).reshape(K, D) / K,
        "spherical": 0.7 + 0.3 * np.arange(K),
    }[covariance_type]
    initial = np.arange(K, 0.0, -1)
    return sem.HiddenMarkov.params_type(initial / initial.sum(), transitions, means, covariances)


def chain_data(n, K=3, D=2, seed=0):
    rng = np.random.default_rng(seed)
    params = chain_params("full", K, D)
    states = np.zeros(n, dtype=int)
    for t in range(1, n):
        states[t] = rng.choice(K, p=params.transitions[states[t - 1]])
    return params.means[states] + rng.normal(size=(n, D)) @ np.linalg.cholesky(params.covariances[1]).T


def chain_model(covariance_type, K=3):
    return sem.HiddenMarkov(n_components=K, covariance_type=covariance_type, covariance_prior=0, transition_prior=0)


def hmmlearn_chain(params, covariance_type, n_iter=1):
    """Return hmmlearn's model at these parameters, its priors switched off."""
    K, D = params.means.shape
    dense = covariance_type in ("full", "tied")
    chain = GaussianHMM(
        K,
        covariance_type=covariance_type,
        n_iter=n_iter,
        tol=-np.inf,
        init_params="",
        startprob_prior=1,
        transmat_prior=1,
        means_weight=0,
        covars_prior=0,
        covars_weight=D if dense else 1,  # its M-step adds weight - D, or weight - 1, to the number of records
        min_covar=0,
    )
    chain.startprob_, chain.transmat_, chain.means_, chain.covars_ = params
    chain.n_features = D
    return chain


@all_types
def test_baum_welch_takes_the_steps_of_hmmlearn(covariance_type):
    X, start, model = chain_data(300), chain_params(covariance_type), chain_model(covariance_type)
    peer = hmmlearn_chain(start, covariance_type, n_iter=10).fit(X)
    path = [*list(peer.monitor_.history)[1:], peer.score(X)]
    for n_iter in range(1, 11):
        fit = sem.batch_em(model, X, start, max_iter=n_iter, tol=-1)
        np.testing.assert_allclose(fit.log_likelihood_path, path[:n_iter], rtol=1e-9)
        after = peer if n_iter == 10 else hmmlearn_chain(start, covariance_type, n_iter=n_iter).fit(X)
        close(fit.params[:3], (after.startprob_, after.transmat_, after.means_), 1e-6)
        dense = naive.dense(fit.params.covariances, covariance_type, 3, 2)
        # After a fit hmmlearn lists a spherical covariance once a feature.
        np.testing.assert_allclose(dense, after.covars_[:: len(after.covars_) // 3], rtol=1e-6, atol=1e-6)


@all_types
def test_filtered_probabilities_are_those_of_hmmlearn(covariance_type):
    X, params = chain_data(40), chain_params(covariance_type)
    peer = hmmlearn_chain(params, covariance_type)
    learner = sem.Learner(chain_model(covariance_type), params=params)
    # The smoothed probability of the last state of X[:t] is the filtered one.
    expected = [peer.predict_proba(X[: t + 1])[-1] for t in range(len(X))]
    np.testing.assert_allclose(learner.posterior(X), expected, rtol=1e-9, atol=1e-9)
    totals = [peer.score(X[: t + 1]) for t in range(len(X))]
    np.testing.assert_allclose(np.cumsum(learner.log_likelihood(X)), totals, rtol=1e-9)


# The forward-only recursion: Cappé (2011), as he writes it


def features(z, covariance_type):
    """Return (1, z, packed z zᵀ) or (1, z, z²)."""
    dense = covariance_type in ("full", "tied")
    second = np.outer(z, z)[np.triu_indices(len(z))] if dense else z**2
    return np.concatenate([[1.0], z, second])


class Recursion:
    """rho^q (i, j, k) and rho^g (i, k, P) given the present state k, and the filter phi; one record at a time."""

    def __init__(self, params, covariance_type):
        self.params, self.covariance_type = params, covariance_type
        K, D = params.means.shape
        P = len(features(np.zeros(D), covariance_type))
        self.rho_q, self.rho_g, self.phi = np.zeros((K, K, K)), np.zeros((K, K, P)), None

    def densities(self, x):
        params = self.params
        K, D = params.means.shape
        covariances = naive.dense(params.covariances, self.covariance_type, K, D)
        return np.exp([naive.log_density(x, params.means[k], covariances[k]) for k in range(K)])

    def learn(self, x, gamma, z):
        K = len(self.params.means)
        s, densities = features(z, self.covariance_type), self.densities(x)
        if self.phi is None:
            predicted = self.params.initial
        else:
            joint = self.phi[:, np.newaxis] * self.params.transitions
            predicted = joint.sum(axis=0)
            r = joint / predicted
            self.rho_q = (1 - gamma) * np.einsum("ijl,lk->ijk", self.rho_q, r)
            self.rho_g = (1 - gamma) * np.einsum("ilp,lk->ikp", self.rho_g, r)
            for j in range(K):
                self.rho_q[:, j, j] += gamma * r[:, j]
        for i in range(K):
            self.rho_g[i, i] += gamma * s
        self.phi = predicted * densities / (predicted @ densities)
        return np.log(predicted @ densities)

    def m_step(self):
        transitions = self.rho_q @ self.phi
        S = np.einsum("ikp,k->ip", self.rho_g, self.phi)
        K, D = self.params.means.shape
        means = S[:, 1 : 1 + D] / S[:, :1]
        covariances = np.empty((K, D, D))
        for i in range(K):
            second = np.zeros((D, D))
            second[np.triu_indices(D)] = S[i, 1 + D :]
            covariances[i] = (second + np.triu(second, 1).T) / S[i, 0] - np.outer(means[i], means[i])
        transitions = transitions / transitions.sum(axis=1, keepdims=True)
        self.params = self.params._replace(transitions=transitions, means=means, covariances=covariances)


def standard(learner, X):
    """Return the records in the units that the learner's statistics are kept in."""
    shift, scale = learner.model.units(learner.sized, learner.state.theta)
    return (X - shift) / scale


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
@pytest.mark.parametrize(
    "stepsize", [sem.Stepsize.polynomial(0.6, unit=1), sem.Stepsize.constant(0.02)], ids=["polynomial", "constant"]
)
def test_the_statistics_are_those_of_the_recursion(covariance_type, stepsize):
    X, params = chain_data(700), chain_params(covariance_type)
    learner = sem.Learner(chain_model(covariance_type), params=params, stepsize=stepsize, inhibit=NEVER)
    log_likelihood = np.concatenate([learner.learn(X[:123]), learner.learn(X[123:])])
    recursion = Recursion(params, covariance_type)
    gammas = stepsize.gamma(np.arange(1, len(X) + 1))
    expected = [recursion.learn(*step) for step in zip(X, gammas, standard(learner, X), strict=True)]
    stats = stats_of(learner.sized, learner.state.s)
    np.testing.assert_allclose(log_likelihood, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(stats.state, recursion.phi, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(stats.transitions, recursion.rho_q, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(stats.emission.reshape(recursion.rho_g.shape), recursion.rho_g, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stepsize", [sem.Stepsize.polynomial(0.6, unit=1), sem.Stepsize.constant(0.02)])
def test_online_em_is_the_recursion_with_an_m_step_a_record(stepsize):
    X, params = chain_data(1500, seed=5), chain_params("full")
    learner = sem.Learner(chain_model("full"), params=params, stepsize=stepsize, refresh_every=1, inhibit=20)
    learner.learn(X)
    assert not learner.events
    recursion, Z = Recursion(params, "full"), standard(learner, X)
    shift, scale = learner.model.units(learner.sized, learner.state.theta)
    standard_params = params._replace(
        means=(params.means - shift) / scale, covariances=params.covariances / np.outer(scale, scale)
    )
    recursion.params = standard_params
    for t in range(len(X)):
        recursion.learn(Z[t], stepsize.gamma(t + 1), Z[t])
        if t + 1 >= 20:
            recursion.m_step()
    expected = recursion.params
    # Rounding passes through 1500 M-steps, each of which forgets: 1e-8 is a hundred million times less than a step.
    np.testing.assert_allclose(learner.params.transitions, expected.transitions, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(learner.params.means, expected.means * scale + shift, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        learner.params.covariances, expected.covariances * np.outer(scale, scale), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_equal_steps_with_frozen_parameters_give_forward_backward(covariance_type):
    X, params = chain_data(700), chain_params(covariance_type)
    learner = sem.Learner(
        chain_model(covariance_type), params=params, stepsize=sem.Stepsize.equal(), inhibit=NEVER, refresh_every=50
    )
    log_likelihood = learner.learn(X)
    recursion = Recursion(params, covariance_type)
    states, transitions, expected = naive.forward_backward(params, np.array([recursion.densities(x) for x in X]))
    phi = np.array([features(z, covariance_type) for z in standard(learner, X)])
    stats, n = stats_of(learner.sized, learner.state.s), len(X)
    emission = np.einsum("ikp,k->ip", stats.emission.reshape(3, 3, -1), stats.state)
    np.testing.assert_allclose(log_likelihood, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(stats.transitions @ stats.state, transitions / n, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(emission, states.T @ phi / n, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(stats.first_state @ stats.state, states[0], rtol=1e-10, atol=1e-12)


# Densities: scipy


@all_types
@pytest.mark.parametrize("observed", [[0, 1, 2], [0, 2], [1]])
def test_log_densities_are_those_of_scipy(covariance_type, observed):
    rng = np.random.default_rng(7)
    root = rng.normal(size=(3, 3))
    covariances = {
        "full": np.array([root @ root.T + 0.1 * np.eye(3), np.diag([1e-4, 1.0, 1e4])]),
        "tied": root @ root.T + 0.1 * np.eye(3),
        "diag": np.array([[1e-4, 1.0, 9.0], [2.0, 3.0, 4.0]]),
        "spherical": np.array([0.5, 8.0]),
    }[covariance_type]
    params = sem.GaussianMixture.params_type(np.array([0.3, 0.7]), rng.normal(3, 2, (2, 3)), covariances)
    X = rng.normal(3, 3, (200, 3))
    X[:, np.setdiff1d([0, 1, 2], observed)] = np.nan
    expected = np.array(
        [
            multivariate_normal(mean[observed], covariance[np.ix_(observed, observed)]).logpdf(X[:, observed])
            for mean, covariance in zip(params.means, naive.dense(covariances, covariance_type, 2, 3), strict=True)
        ]
    ) + np.log(params.weights[:, np.newaxis])
    model = sem.GaussianMixture(n_components=2, covariance_type=covariance_type)
    learner = sem.Learner(model, params=params)
    np.testing.assert_allclose(learner.log_likelihood(X), logsumexp(expected, axis=0), rtol=1e-9)
    np.testing.assert_allclose(learner.posterior(X), softmax(expected, axis=0).T, atol=1e-9)


# Kernels: long double, scipy and NumPy


def relative_error(values, exact):
    return np.abs((values - exact) / exact).astype(float)


def compiled_exp(x):
    values = np.array(x, dtype=float)
    exp_in_place(values, np.empty_like(values))
    return values


def compiled_log(x):
    values = np.array(x, dtype=float)
    log_in_place(values, np.empty_like(values))
    return values


def check_exp(x):
    assert relative_error(compiled_exp(x), np.exp(x.astype(np.longdouble))).max() < 5e-16


def check_log(x):
    exact = np.log(x.astype(np.longdouble))
    error = np.abs(compiled_log(x) - exact).astype(float)
    assert (error <= 2e-16 + 2 * np.spacing(np.abs(exact.astype(float)))).all()


vectors = settings(max_examples=200, deadline=None, derandomize=True)


@vectors
@given(st.lists(st.floats(-708, 709), min_size=1, max_size=20))
def test_exp_of_any_vector(x):
    check_exp(np.array(x))


def test_exp_over_its_range_and_below():
    rng = np.random.default_rng(0)
    halves = (np.arange(-1021, 1023) + 0.5) * np.log(2)  # where the range reduction changes its mind
    edges = np.concatenate([halves, np.nextafter(halves, 0), np.nextafter(halves, 1e3)])
    check_exp(np.concatenate([rng.uniform(-708, 709, 200_000), rng.uniform(-1, 1, 200_000), edges, [0.0, -708, 709]]))
    np.testing.assert_allclose(compiled_exp([-709.0, -1e4, -1e308, -np.inf]), np.exp(-708), rtol=1e-15)
    assert compiled_exp([0.0])[0] == 1.0


@vectors
@given(st.lists(st.floats(2.2250738585072014e-308, exclude_max=False, allow_infinity=False), min_size=1, max_size=20))
def test_log_of_any_vector(x):
    check_log(np.array(x))


def test_log_over_its_range():
    rng = np.random.default_rng(0)
    powers = 2.0 ** np.arange(-1022, 1024)
    near = 1 + rng.uniform(-1e-3, 1e-3, 100_000)
    wide = np.exp(rng.uniform(-708, 709, 200_000))
    check_log(np.concatenate([wide, near, powers, powers[1:] * np.sqrt(0.5), np.nextafter(powers[1:], 0)]))
    assert compiled_log([1.0])[0] == 0.0


@vectors
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 30.0, 1e3, 1e8]))
def test_softmax_is_that_of_scipy(K, n, seed, spread):
    rng = np.random.default_rng(seed)
    logs, offsets = spread * rng.normal(size=(K, n)), rng.normal(size=K)
    joint = logs + offsets[:, np.newaxis]
    probabilities, normaliser = logs.copy(), np.empty(n)
    softmax_in_place(probabilities, offsets, np.ones(n), normaliser, np.empty((2, n)))
    # Both round K exponentials, a sum and a quotient; scipy's path to the same exponents may differ by one rounding.
    tolerance = (K + 6) * EPS
    np.testing.assert_allclose(probabilities, softmax(joint, axis=0), rtol=tolerance * 10, atol=1e-306)
    np.testing.assert_allclose(normaliser, logsumexp(joint, axis=0), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1.0, rtol=tolerance)
    relative, largest = joint.copy(), np.empty(n)
    exp_relative_in_place(relative, largest, np.empty(n))
    np.testing.assert_array_equal(largest, joint.max(axis=0))
    np.testing.assert_allclose(relative, np.exp(joint - joint.max(axis=0)), rtol=1e-15, atol=1e-306)


def covariance_of(rng, D, condition):
    """Return a (D, D) covariance of the given condition number, with exact symmetry."""
    basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
    matrix = basis * np.geomspace(1.0, 1.0 / condition, D) @ basis.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("D", [1, 2, 3, 8, 20])
def test_packed_matrices(D):
    matrix = covariance_of(np.random.default_rng(D), D, 10.0)
    packed, unpacked = np.empty(D * (D + 1) // 2), np.empty((D, D))
    pack(matrix, packed)
    np.testing.assert_array_equal(packed, matrix[np.triu_indices(D)])
    unpack(packed, unpacked)
    np.testing.assert_array_equal(unpacked, matrix)


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("D", [2, 3, 8, 20])
def test_cholesky_and_inverse_are_those_of_numpy(D, condition):
    rng = np.random.default_rng(D)
    for scale in (1.0, 1e-100, 1e100):
        matrix = scale * covariance_of(rng, D, condition)
        factor, root, inverse, product = np.zeros((D, D)), np.empty((D, D)), np.empty((D, D)), np.empty((D, D))
        assert cholesky(matrix, factor)
        # Backward error of a Cholesky factor (Higham 2002, theorem 10.3): (D + 1) eps, relative to the diagonal.
        np.testing.assert_allclose(factor @ factor.T, matrix, rtol=0, atol=2 * (D + 1) * EPS * matrix.max())
        # Forward errors: the same times the condition number.
        forward = 4 * D * (D + 1) * EPS * condition
        expected = np.linalg.cholesky(matrix)
        np.testing.assert_allclose(factor, expected, rtol=0, atol=forward * expected.max())
        invert_triangular(factor, root)
        multiply(root, factor, product)
        np.testing.assert_allclose(product, np.eye(D), rtol=0, atol=D * D * EPS * np.sqrt(condition) * 4)
        before = matrix.copy()
        log_det = invert_covariance(matrix, inverse)
        np.testing.assert_array_equal(matrix, before)
        expected = np.linalg.inv(matrix)
        np.testing.assert_allclose(inverse, expected, rtol=0, atol=forward * np.abs(expected).max())
        np.testing.assert_array_equal(inverse, inverse.T)
        assert log_det == pytest.approx(np.linalg.slogdet(matrix)[1], abs=D * forward, rel=1e-14)


@pytest.mark.parametrize("D", [2, 3, 8])
def test_a_singular_covariance_is_raised_just_enough(D):
    rng = np.random.default_rng(D)
    direction = rng.normal(size=D)
    for matrix in (np.outer(direction, direction), np.ones((D, D)), covariance_of(rng, D, 1e18)):
        assert not cholesky(matrix, np.zeros((D, D)))
        raised, inverse = matrix.copy(), np.empty((D, D))
        log_det = invert_covariance(raised, inverse)
        assert np.isfinite(log_det)
        off = ~np.eye(D, dtype=bool)
        np.testing.assert_array_equal(raised[off], matrix[off])
        ratio = np.diag(raised) / np.diag(matrix)
        assert (ratio > 1).all()
        assert ratio.max() < 1 + 1e-9
        # A rounding of D eps is up to 1e13 times as large beside the smallest eigenvalue that the pivots allow.
        assert log_det == pytest.approx(np.linalg.slogdet(raised)[1], abs=0.1 * D)


def test_a_scale_of_the_columns_changes_neither_verdict_nor_raise():
    rng = np.random.default_rng(1)
    scales = 2.0 ** np.array([-200, 0, 150])
    direction = rng.normal(size=3)
    for matrix in (np.outer(direction, direction), covariance_of(rng, 3, 100.0)):
        plain, scaled = matrix.copy(), matrix * np.outer(scales, scales)
        inverse, scaled_inverse = np.empty((3, 3)), np.empty((3, 3))
        log_det, scaled_log_det = invert_covariance(plain, inverse), invert_covariance(scaled, scaled_inverse)
        # Scaling by powers of two rounds nothing.
        np.testing.assert_array_equal(scaled, plain * np.outer(scales, scales))
        np.testing.assert_array_equal(scaled_inverse * np.outer(scales, scales), inverse)
        assert scaled_log_det - 2 * np.log(scales).sum() == pytest.approx(log_det, abs=1e-10)

"""The measures of separation: against values worked out by hand, other definitions, and what must not matter."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream_em.errors import InputError
from stream_em.unmixing import metrics

I3 = np.eye(3)
FINITE = st.floats(-10, 10, allow_subnormal=False)


@st.composite
def transfers(draw):
    """Give P (K, K) without empty rows, a permutation and signed scales of its rows."""
    k = draw(st.integers(2, 5))
    P = draw(arrays(np.float64, (k, k), elements=FINITE))
    assume((np.abs(P).max(axis=1) > 1e-3).all())
    scale = draw(arrays(np.float64, k, elements=st.floats(0.01, 100))) * draw(
        arrays(np.float64, k, elements=st.sampled_from([-1.0, 1.0]))
    )
    return P, draw(st.permutations(range(k))), scale


def isr_by_hand(P):
    """Try every permutation, record by record."""
    k = len(P)
    shares = P**2 / (P**2).sum(axis=1, keepdims=True)
    best = max(itertools.permutations(range(k)), key=lambda order: sum(shares[i, order[i]] for i in range(k)))
    ratios = [sum(P[i, j] ** 2 for j in range(k) if j != best[i]) / max(P[i, best[i]] ** 2, 1e-300) for i in range(k)]
    return 10 * np.log10(np.mean(ratios))


# Interference


def test_interference_of_known_transfers():
    assert metrics.interference_to_signal([[0, 0, 2.0], [-1, 0, 0], [0, 3, 0]], I3) == -np.inf
    assert metrics.interference_to_signal(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1.0]]), I3) == np.inf
    assert metrics.interference_to_signal([[1, 0.1, 0], [0, 1, 0.1], [0.1, 0, 1]], I3) == pytest.approx(-20)
    assert metrics.interference_to_signal([[1, 1], [1, -1]], np.eye(2)) == pytest.approx(0)
    # A source twice as loud disturbs four times as much.
    loud = metrics.interference_to_signal([[1, 0.1], [0, 1]], np.eye(2), scales=[1, 2])
    assert loud == pytest.approx(10 * np.log10(0.04 / 2))


def test_interference_is_the_power_of_what_is_left_of_the_others():
    rng = np.random.default_rng(0)
    A, s = rng.normal(size=(5, 3)), rng.laplace(size=(200_000, 3)) * [1, 3, 0.2]
    W = np.linalg.pinv(A) + 0.02 * rng.normal(size=(3, 5))
    others = 0.0
    for i in range(3):
        own = s[:, i : i + 1] @ A[:, i : i + 1].T @ W.T
        left = (s @ A.T @ W.T - own)[:, i]
        others += (left**2).mean() / (own[:, i] ** 2).mean() / 3
    assert metrics.interference_to_signal(W, A, scales=s.std(axis=0)) == pytest.approx(10 * np.log10(others), abs=0.1)


@given(transfers())
@settings(max_examples=100, deadline=None)
def test_interference_knows_neither_order_nor_sign_nor_scale(case):
    P, order, scale = case
    k = len(P)
    found = metrics.interference_to_signal(P, np.eye(k))
    power = P**2 / (P**2).sum(axis=1, keepdims=True)
    sums = sorted(sum(power[i, p[i]] for i in range(k)) for p in itertools.permutations(range(k)))
    assume(sums[-1] - sums[-2] > 1e-6)
    assert metrics.interference_to_signal((P * scale[:, None])[list(order)], np.eye(k)) == pytest.approx(
        found, abs=1e-6, rel=1e-8
    )
    if np.isfinite(found) and found < 200:
        assert found == pytest.approx(isr_by_hand(P), abs=1e-6)


# Amari


def test_amari_index_of_known_transfers():
    assert metrics.amari_index([[0, 0, 2.0], [-1, 0, 0], [0, 3, 0]], I3) == 0
    assert metrics.amari_index(np.ones((3, 3)), I3) == pytest.approx(1)
    # Rows of equal norm: (0.5 + 0.5 + 0.5 + 0.5) / (2 · 2 · 1).
    assert metrics.amari_index([[1, 0.5], [-0.5, 1]], np.eye(2)) == pytest.approx(0.5)
    # Rows (1, 0.5) / √1.25 and (0, 1): 0.5 + 0 in the rows, 0 + 0.5/√1.25 in the columns.
    assert metrics.amari_index([[4, 2], [0, 1]], np.eye(2)) == pytest.approx((0.5 + 0.5 / 1.25**0.5) / 4)
    assert metrics.amari_index([[3.0]], [[2.0]]) == 0
    assert metrics.amari_index(np.zeros((2, 2)), np.eye(2)) == 1


def test_amari_index_of_correlated_sources_is_that_of_their_outputs_at_unit_variance():
    rng = np.random.default_rng(1)
    s = rng.normal(size=(50_000, 3)) @ np.array([[1, 0.6, 0], [0, 1, 0.3], [0, 0, 1.0]])
    s /= s.std(axis=0)
    W = rng.normal(size=(3, 3))
    scaled = W / (s @ W.T).std(axis=0)[:, None]
    plain = np.abs(scaled)
    classic = ((plain / plain.max(axis=1, keepdims=True)).sum() + (plain / plain.max(axis=0)).sum() - 6) / 12
    assert metrics.amari_index(W, I3, correlation=np.corrcoef(s.T)) == pytest.approx(classic, abs=1e-4)


@given(transfers())
@settings(max_examples=100, deadline=None)
def test_amari_index_knows_neither_order_nor_sign_nor_scale_and_lies_between_0_and_1(case):
    P, order, scale = case
    found = metrics.amari_index(P, np.eye(len(P)))
    assert 0 <= found <= 1 + 1e-12
    moved = (P * scale[:, None])[list(order)][:, list(order)]
    assert metrics.amari_index(moved, np.eye(len(P))) == pytest.approx(found, abs=1e-9)


# SI-SDR


def test_si_sdr_of_known_signals():
    t = np.linspace(0, 1, 1000, endpoint=False)
    sine, cosine = np.sin(2 * np.pi * 5 * t), np.cos(2 * np.pi * 5 * t)
    assert metrics.si_sdr(sine + 0.1 * cosine, sine) == pytest.approx(20)
    assert metrics.si_sdr(-7 * sine, sine) > 250
    assert metrics.si_sdr([2.0, -4], [1.0, -2]) == np.inf
    assert metrics.si_sdr(np.zeros(5), np.ones(5)) == -np.inf
    assert metrics.si_sdr(np.ones(5), np.zeros(5)) == -np.inf
    both = metrics.si_sdr(np.c_[sine + 0.1 * cosine, cosine - 0.01 * sine], np.c_[sine, cosine])
    np.testing.assert_allclose(both, [20, 40])


@given(st.integers(0, 10_000), st.floats(0.001, 1000), st.floats(0.01, 10))
@settings(max_examples=50, deadline=None)
def test_si_sdr_is_the_cotangent_of_the_angle(seed, scale, noise):
    rng = np.random.default_rng(seed)
    s = rng.normal(size=200)
    e = s + noise * rng.normal(size=200)
    cosine = e @ s / np.linalg.norm(e) / np.linalg.norm(s)
    expected = 20 * np.log10(1 / np.tan(np.arccos(abs(cosine))))
    assert metrics.si_sdr(-scale * e, s) == pytest.approx(expected, abs=1e-6)


def test_estimates_are_matched_to_references_whatever_their_order_and_scale():
    rng = np.random.default_rng(2)
    s = rng.laplace(size=(1000, 4))
    order = np.array([2, 0, 3, 1])
    estimates = np.zeros((1000, 5))
    estimates[:, order] = s * [1, -20, 0.01, 3] + 0.001 * rng.normal(size=(1000, 4))
    np.testing.assert_array_equal(metrics.matched_to(estimates, s), order)


# Time


def test_times_to_a_level():
    t = np.arange(1, 7.0)
    curve = [0, -25, -10, -3, -20, -40]
    assert metrics.time_to(-20, t, curve) == 2
    assert metrics.time_to(-50, t, curve) == np.inf
    assert metrics.reacquisition_time(-20, t, curve, changed_at=2) == 3
    assert metrics.reacquisition_time(-50, t, curve, changed_at=2) == np.inf
    assert metrics.reacquisition_time(-20, t, curve, changed_at=6) == np.inf


def test_labels_and_block_times():
    assert metrics.label_changes(np.zeros((1, 3))) == 0
    assert metrics.label_changes([[0, 1], [1, 0], [1, 0], [0, 1]]) == 4
    took = metrics.block_times(np.arange(101) / 100)
    assert took == pytest.approx((0.5, 0.99, 1.0))
    assert all(np.isnan(metrics.block_times([])))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: metrics.interference_to_signal(np.eye(2), I3), "must fit each other"),
        (lambda: metrics.interference_to_signal(np.ones((2, 3)), np.ones((2, 3))), "must fit each other"),
        (lambda: metrics.interference_to_signal(np.eye(2) * np.nan, np.eye(2)), "finite"),
        (lambda: metrics.interference_to_signal(I3, I3, scales=[1, 0, 1]), "positive"),
        (lambda: metrics.amari_index(I3, I3, scales=[1, 1]), "one positive number for each of 3"),
        (lambda: metrics.amari_index(I3, I3, correlation=np.eye(2)), "correlation must be"),
        (lambda: metrics.si_sdr([1, 2], [1, 2, 3]), r"\(n,\) or \(n, K\)"),
        (lambda: metrics.si_sdr([], []), r"\(n,\) or \(n, K\)"),
        (lambda: metrics.matched_to(np.ones((5, 2)), np.ones((5, 3))), "as many columns"),
        (lambda: metrics.time_to(-20, [1, 2], [1]), r"\(T,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_told(call, told):
    with pytest.raises(InputError, match=told):
        call()


def test_the_filtered_sdr_is_that_of_the_explicit_least_squares_fit():
    rng = np.random.default_rng(3)
    s, taps, n = rng.normal(size=(400, 2)), 7, 400
    estimate = np.stack([np.convolve(s[:, k], rng.normal(size=5))[:n] for k in range(2)], axis=1)
    estimate += 0.3 * rng.normal(size=(n, 2))
    expected = []
    for k in range(2):
        delayed = np.stack([np.r_[np.zeros(i), s[:, k], np.zeros(taps - i)] for i in range(taps)], axis=1)
        padded = np.r_[estimate[:, k], np.zeros(taps)]
        fit = delayed @ np.linalg.lstsq(delayed, padded)[0]
        expected.append(10 * np.log10((fit @ fit) / ((padded - fit) @ (padded - fit))))
    np.testing.assert_allclose(metrics.filtered_sdr(estimate, s, taps), expected, rtol=1e-6)
    assert metrics.filtered_sdr(estimate[:, 0], s[:, 0], taps) == pytest.approx(expected[0])
    assert metrics.filtered_sdr(np.zeros(9), np.ones(9), 2) == -np.inf
    assert metrics.filtered_sdr(np.r_[0, s[:-1, 0]], np.r_[s[:-1, 0], 0.0], 3) > 60
    with pytest.raises(InputError, match="must both be"):
        metrics.filtered_sdr(np.ones(3), np.ones(4))

"""The stepsize schedule and what a block of steps amounts to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_em import InputError, Stepsize
from stream_em.em import record_weights

SCHEDULES = {
    "polynomial": Stepsize.polynomial(0.6),
    "shifted": Stepsize.polynomial(0.7, offset=10, floor=0.01),
    "equal": Stepsize.equal(),
    "constant": Stepsize.constant(0.05),
    "half-life": Stepsize.constant(half_life=100),
}
all_schedules = pytest.mark.parametrize("stepsize", SCHEDULES.values(), ids=SCHEDULES)


@all_schedules
def test_steps_lie_between_0_and_1_and_never_grow(stepsize):
    steps = stepsize.gamma(np.arange(1, 10_000))
    assert ((steps > 0) & (steps <= 1)).all()
    assert (np.diff(steps) <= 0).all()


def test_the_first_step_of_a_fading_schedule_takes_the_first_record_whole():
    assert Stepsize.polynomial(0.6).gamma(1) == Stepsize.equal().gamma(1) == 1.0


@all_schedules
def test_records_of_weight_1_take_gamma_each(stepsize):
    np.testing.assert_allclose(stepsize.steps(7.0, np.ones(50)), stepsize.gamma(np.arange(8, 58)), rtol=1e-14)


@pytest.mark.parametrize("stepsize", [Stepsize.equal(), Stepsize.equal(offset=3), Stepsize.constant(0.05)], ids=str)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(count=st.integers(0, 1000), weights=st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_a_record_of_integer_weight_is_as_many_steps(stepsize, count, weights):
    steps = stepsize.steps(float(count), np.array(weights, dtype=float))
    for step, weight in zip(steps, weights, strict=True):
        expected = 1 - np.prod(1 - stepsize.gamma(np.arange(count + 1, count + weight + 1)))
        assert step == pytest.approx(expected, rel=1e-12, abs=1e-15)
        count += weight


def test_a_polynomial_step_over_a_weight_is_close_to_the_product():
    # Gamma halfway is the midpoint rule: its relative error falls with (weight / count)^2.
    stepsize = Stepsize.polynomial(0.6)
    (step,) = stepsize.steps(1000.0, np.array([9.0]))
    expected = 1 - np.prod(1 - stepsize.gamma(np.arange(1001, 1010)))
    assert step == pytest.approx(expected, rel=(9 / 1000) ** 2)


@all_schedules
@settings(max_examples=50, deadline=None, derandomize=True)
@given(n=st.integers(0, 40), count=st.integers(1, 100))
def test_the_weights_of_a_block_and_what_is_kept_sum_to_1(stepsize, n, count):
    steps, weights = stepsize.steps(float(count), np.ones(n)), np.empty(n)
    kept = record_weights(steps, weights)
    assert weights.sum() + kept == pytest.approx(1.0, rel=1e-14)
    assert kept == pytest.approx(np.prod(1 - steps), rel=1e-13)


def test_after_a_half_life_a_record_weighs_half():
    stepsize = Stepsize.constant(half_life=250)
    weights = np.empty(251)
    record_weights(stepsize.steps(0.0, np.ones(251)), weights)
    assert weights[0] == pytest.approx(weights[250] / 2, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        *["", "poly", "polynomial:x", "polynomial:2", "constant", "constant:0", "constant:2", "half-life:0", "equal:3"],
        *[
            "half-life:nan",
            "constant:0.1,offset=3",
            "polynomial:0.6,floor=2",
            "polynomial:0.6,offset",
            "equal,offset=-1",
        ],
    ],
)
def test_a_wrong_schedule_is_one_clear_line(text):
    with pytest.raises(InputError, match="stepsize") as caught:
        Stepsize.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{}, {"gamma": 0.1, "half_life": 3}, {"gamma": float("nan")}, {"half_life": -1}])
def test_a_wrong_constant_is_refused(arguments):
    with pytest.raises(InputError, match="stepsize"):
        Stepsize.constant(**arguments)

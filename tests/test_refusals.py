"""Arguments that make no sense are refused at once, in one line."""

import numpy as np
import pytest
from models import CASES

import stream_em as sem

CASE = next(case for case in CASES if case.name == "mixture-diag")
MODEL, PARAMS = CASE.model, CASE.params
X = CASE.draw(np.random.default_rng(0), 200)


@pytest.mark.parametrize(
    "call",
    [
        lambda: sem.Learner("mixture"),
        lambda: sem.Learner(sem.GaussianMixture),
        lambda: sem.Learner(MODEL, stepsize=0.6),
        lambda: sem.Learner(MODEL, refresh_every=10**30),
        lambda: sem.Learner(MODEL, refresh_every=0),
        lambda: sem.Learner(MODEL, starts=0),
        lambda: sem.Learner(MODEL, params=(1, 2)),
        lambda: sem.Learner(MODEL, params=PARAMS._replace(means="abc")),
        lambda: sem.Learner(MODEL, params=PARAMS._replace(means=PARAMS.means * 1e200)),
        lambda: sem.Learner(MODEL, params=PARAMS._replace(weights=[2.0, -1.0])),
        lambda: sem.Learner(MODEL).learn(X, np.full(200, 1e308)),
        lambda: sem.Learner(MODEL).learn(X, np.full(200, np.nan)),
        lambda: sem.batch_em("mixture", X),
        lambda: sem.batch_em(MODEL, X, np.ones(200)),
        lambda: sem.batch_em(MODEL, X, seed=-1),
        lambda: sem.batch_em(MODEL, X, starts=0),
        lambda: sem.batch_em(MODEL, X, max_iter=0),
        lambda: sem.batch_em(MODEL, X, tol=float("nan")),
        lambda: sem.batch_em(MODEL, np.empty((0, 3))),
        lambda: sem.GaussianMixture(n_components=10**20),
        lambda: sem.GaussianMixture(weight_prior=1e308),
        lambda: sem.GaussianMixture(covariance_type="round"),
        lambda: sem.GaussianMixture(frozen=("colours",)),
        lambda: sem.Learner(MODEL, params=PARAMS).merge(sem.Learner(MODEL)),
        lambda: sem.Learner(MODEL, params=PARAMS).merge(sem.Learner(MODEL, params=PARAMS._replace(means=X[:2]))),
        lambda: sem.Learner(MODEL, params=PARAMS).save("/dev/null"),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(sem.InputError) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_the_outside_world(tmp_path):
    with pytest.raises(sem.OutsideError, match="No such file"):
        sem.Learner(MODEL, params=PARAMS).save(tmp_path / "no" / "such" / "model.safetensors")


def test_a_mask_means_missing():
    masked, holed = sem.Learner(MODEL, params=PARAMS), sem.Learner(MODEL, params=PARAMS)
    masked.learn(np.ma.masked_greater(X, 2.0))
    holed.learn(np.where(X > 2.0, np.nan, X))
    np.testing.assert_array_equal(masked.state.s, holed.state.s)


def test_learners_that_have_seen_nothing_merge():
    assert sem.Learner(MODEL, params=PARAMS).merge(sem.Learner(MODEL, params=PARAMS)).count == 0


def test_a_learner_says_what_it_is():
    learner = sem.Learner(MODEL)
    assert "warming up, 0 records" in repr(learner)

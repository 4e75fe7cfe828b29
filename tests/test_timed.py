"""Records that say when they happened: steps by their own time, and the column that tells it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as sem
from stream_em.models.gaussian_mixture import GaussianMixtureParams
from stream_em.streams.timed import TimedSource, read_fields

TIMES = st.lists(st.one_of(st.floats(0, 1e4), st.just(float("nan"))), min_size=1, max_size=60)


def faded(times, weights, half_life):
    """Return the steps as the definition has them: each record's share in all up to it, aged to the latest time."""
    steps, known, latest = [], [], -np.inf
    for time, weight in zip(times, weights, strict=True):
        if time == time:
            # What came before any time was known is taken to be of the first.
            known = [(time if t == -np.inf else t, w) for t, w in known]
            latest = max(latest, time)
        known.append((time if time == time else latest, weight))
        ages = [0.0 if t == latest else latest - t for t, _ in known]
        left = [w * 2 ** (-age / half_life) for age, (_, w) in zip(ages, known, strict=True)]
        steps.append(left[-1] / sum(left) if sum(left) > 0 else 0.0)
    return steps


@settings(deadline=None)
@given(TIMES, st.floats(1, 1e4), st.integers(0, 60))
def test_steps_in_time_are_shares_of_what_is_left(times, half_life, cut):
    stepsize = sem.Stepsize.constant(seconds=half_life)
    times = np.array(times)
    weights = 1.0 + np.arange(len(times)) % 3
    memory = np.array([0.0, -np.inf])
    parts = [(times[:cut], weights[:cut]), (times[cut:], weights[cut:])]
    steps = np.concatenate([stepsize.steps_in_time(memory, *part) for part in parts])
    np.testing.assert_allclose(steps, faded(times, weights, half_life), rtol=1e-9)


def test_half_lives_in_time_are_spelled_with_a_unit():
    for text, seconds in (("90s", 90), ("2h", 7200), ("1.5m", 90), ("7d", 604_800)):
        assert sem.Stepsize.parse(f"half-life:{text}") == sem.Stepsize.constant(seconds=seconds)
    assert sem.Stepsize.parse(sem.Stepsize.constant(seconds=90).spelling) == sem.Stepsize.constant(seconds=90)
    for wrong in ({"seconds": 0.0}, {"seconds": 5.0, "half_life": 3.0}, {"seconds": float("inf")}):
        with pytest.raises(sem.InputError, match="stepsize"):
            sem.Stepsize.constant(**wrong)
    with pytest.raises(sem.InputError, match="in time"):
        sem.Stepsize.constant(seconds=1.0).gamma(3)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,t,b\n1,100,2\n3,,4\n5,102.5,6\n")
    return path


def timed(path, time, fields=None):
    source = sem.open_source(path, fields=read_fields(fields, time), block_size=2)
    return TimedSource(source, time, fields)


@pytest.mark.parametrize(
    ("fields", "left"),
    [(None, ("a", "b")), (["b", "a"], ("b", "a")), (["b", "t"], ("b", "t"))],
)
def test_a_column_becomes_the_times(data, fields, left):
    source = timed(data, "t", fields)
    blocks = list(source)
    assert source.fields == blocks[0].fields == left
    np.testing.assert_array_equal(np.concatenate([block.timestamps for block in blocks]), [100, np.nan, 102.5])
    values = np.concatenate([block.values for block in blocks])
    assert values[:, left.index("b")].tolist() == [2, 4, 6]
    assert all(block.values.flags.c_contiguous for block in blocks)


def test_a_column_that_is_not_there_is_named(data):
    with pytest.raises(sem.InputError, match=r"source\.time: there is no column 'when'"):
        list(timed(data, "when"))
    data.write_text("t\n1\n2\n")
    with pytest.raises(sem.InputError, match="nothing is left"):
        list(timed(data, "t"))


def test_a_learner_fades_with_time_and_not_with_records():
    rng = np.random.default_rng(0)
    model = sem.GaussianMixture(n_components=1, covariance_type="diag")
    params = GaussianMixtureParams(np.ones(1), np.zeros((1, 1)), np.ones((1, 1)))
    # An hour of one value, then as much time of another, with a tenth of the records.
    times = np.concatenate([np.linspace(0, 3600, 5000), np.linspace(3600, 7200, 500)[1:]])
    X = np.where(times <= 3600, 0.0, 8.0)[:, np.newaxis] + rng.normal(0, 0.1, (len(times), 1))
    learner = sem.Learner(model, params=params, stepsize=sem.Stepsize.constant(seconds=600), inhibit=0, refresh_every=1)
    for begin in range(0, len(X), 333):
        part = slice(begin, begin + 333)
        learner.learn(X[part], timestamps=times[part])
    left = 5000 * 600 / np.log(2) / 3600 * (1 - 2**-6) * 2**-6
    new = 500 * 600 / np.log(2) / 3600 * (1 - 2**-6)
    assert learner.params.means[0, 0] == pytest.approx(8.0 * new / (left + new), rel=0.01)
    restored = sem.Learner.restore(*learner.dump(), "x")
    for each in (learner, restored):
        each.learn(X[:50], timestamps=times[:50] + 7200)
    np.testing.assert_array_equal(learner.params.means, restored.params.means)
    for wrong in (None, times[:3], np.array(["now"] * 50)):
        with pytest.raises(sem.InputError, match=r"time|numbers"):
            learner.learn(X[:50], timestamps=wrong)


def test_a_run_learns_by_the_times_in_a_column(run, tmp_path):
    rng = np.random.default_rng(1)
    t = np.sort(rng.uniform(0, 1e5, 3000))
    rows = np.column_stack([t, rng.normal(size=3000)])
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", header="when,x", comments="")
    config = tmp_path / "c.toml"
    text = (
        f'[source]\ntype = "files"\npath = "{tmp_path}/a.csv"\n[model]\ntype = "gaussian-mixture"\nn_components = 1\n'
    )
    config.write_text(f'{text}[learner]\nstepsize = "half-life:1h"\n[run]\nfolder = "{tmp_path}/run"\n')
    code, _, err = run("run", config)
    assert code == 2
    assert "needs source.time" in err
    code, _, err = run("run", config, "--set", "source.time=when")
    assert code == 0, err
    learner = sem.load(max((tmp_path / "run" / "snapshots").glob("*.safetensors")))
    assert learner.fields == ("x",)
    assert learner.state.faded[1] == t[-1].round(18)
    # 3,000 records in 1e5 s: so many are left of them after a while, at a half-life of an hour.
    assert learner.state.faded[0] == pytest.approx(0.03 * 3600 / np.log(2), rel=0.3)

"""Superimposed sinusoids: the twin, the laws that hold, the Cramér-Rao bound, drift, hum, silence, the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import test_laws
from models import sinusoids
from scipy.stats import multivariate_normal
from twins_sinusoids import Lines, kalman, m_step, one_step

import stream_em as sem
from stream_em.demo import recordings
from stream_em.em import e_step, maximise, model_sizes, params_of, stats_of
from stream_em.estimators import river, sklearn
from stream_em.models.periodogram import find_lines
from stream_em.models.superimposed_sinusoids import SuperimposedSinusoidsParams as Params

CASE = sinusoids()
PARAMS = CASE.params


def steady(n, frequency, snr, seed):
    """Return a line of amplitude 1 in white noise at an SNR in dB, and the Cramér-Rao bound of its frequency."""
    rng = np.random.default_rng(seed)
    noise = 0.5 / 10 ** (snr / 10)
    y = np.cos(2 * np.pi * frequency * np.arange(n) + rng.uniform(0, 2 * np.pi)) + np.sqrt(noise) * rng.normal(size=n)
    # Rife & Boorstyn 1974: var(omega) >= 24 noise / (amplitude² n³).
    return y, np.sqrt(24.0 * noise / n**3) / (2 * np.pi)


def test_some_em_iterations_equal_the_twin():
    X = test_laws.drawn(CASE, 400)
    X[0] = X[50:60] = X[399] = np.nan
    sized, theta = CASE.model.from_params(PARAMS)
    windows, s = params_of(sized, theta), np.zeros(model_sizes(sized)[3])
    bank, y = windows.bank, (X[:, 0] - windows.shift[0]) / windows.scale[0]
    lines = Lines(*(each.copy() for each in bank[:4]), float(bank.noise[0]), float(bank.level[0]))
    for _ in range(3):
        found = kalman(lines, y)
        total = e_step(sized, theta, s, X, np.ones(400))
        assert total == pytest.approx(found.log_likelihood.sum() - found.seen * np.log(windows.scale[0]), rel=1e-10)
        np.testing.assert_allclose(stats_of(sized, s).sums.information * 400, found.info, rtol=1e-8, atol=1e-9)
        maximise(sized, theta, s, 400.0)
        lines = m_step(lines, found, 400)
        for one, two in zip(bank, lines, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-12)
    signals = kalman(lines, y).signals * windows.scale[0]
    told = sem.Learner(CASE.model, params=CASE.model.params(sized, theta)).posterior(X)
    np.testing.assert_allclose(told, signals, atol=1e-6)


def test_the_log_likelihood_is_that_of_one_gaussian_over_all_samples():
    """The twin's filter, on which all rests, against the covariance of the whole signal written down at once."""
    lines = Lines(np.array([0.3, 1.1]), np.array([0.01, 0.0]), np.array([0.01, 0.002]), np.array([1.0, 0.3]), 0.2, 0.4)
    n, K = 12, 2
    F, _ = one_step(lines)
    Q, P = np.diag(np.repeat(lines.ratios, 2)), np.diag(np.repeat(0.5 * lines.powers / lines.noise, 2))
    H, covariance = np.tile([1.0, 0.0], K), np.zeros((n, n))
    for t in range(n):
        ahead = P
        for u in range(t, n):
            covariance[t, u] = covariance[u, t] = H @ ahead @ H
            ahead = F @ ahead
        P = F @ P @ F.T + Q
    y = np.random.default_rng(1).normal(size=n)
    whole = multivariate_normal(np.full(n, lines.level), lines.noise * (covariance + np.eye(n)))
    assert kalman(lines, y).log_likelihood.sum() == pytest.approx(whole.logpdf(y), rel=1e-10)


def test_the_laws_of_a_sequence(tmp_path):
    for missing in (0.0, 0.2):
        test_laws.test_equal_steps_with_frozen_parameters_give_the_mean_statistics(CASE, missing)
    cut = [5, 5, 130, 599]
    test_laws.test_with_frozen_parameters_blocks_do_not_matter.hypothesis.inner_test(CASE, cut, True)
    test_laws.test_with_the_same_refresh_points_arrival_does_not_matter.hypothesis.inner_test(CASE, cut)
    test_laws.test_a_restored_learner_goes_on_bitwise(CASE, 300, tmp_path)
    # A learner may go on with lines in another order.
    X, swap = test_laws.drawn(CASE, missing=0.1), Params(*(v[::-1] for v in PARAMS))
    one, other = (sem.Learner(CASE.model, params=params, refresh_every=50) for params in (PARAMS, swap))
    np.testing.assert_allclose(one.learn(X), other.learn(X), rtol=1e-8, atol=1e-9)


def test_what_learning_tells_is_what_scoring_would_have_told_before():
    X = test_laws.drawn(CASE, 300, missing=0.1)
    learner = sem.Learner(CASE.model, params=PARAMS, refresh_every=100, inhibit=0)
    for part in np.split(X, 3):
        expected, lines = (learner.log_likelihood(part), learner.posterior(part)), np.zeros((100, 2))
        np.testing.assert_allclose(learner.learn(part, posterior=lines), expected[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(lines, expected[1], rtol=1e-9, atol=1e-12)


def test_scale_and_shift_commute_with_learning():
    X = test_laws.drawn(CASE, 900)
    one, other = (sem.Learner(CASE.model, warmup=400, refresh_every=100) for _ in range(2))
    scores = one.learn(X), other.learn(1024.0 * X - 512.0)
    np.testing.assert_allclose(scores[1][400:] + np.log(1024.0), scores[0][400:], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(other.params.frequencies, one.params.frequencies, rtol=1e-8)
    np.testing.assert_allclose(other.params.amplitudes, 1024.0 * one.params.amplitudes, rtol=1e-6)


@pytest.mark.parametrize("snr", [-5, 5, 20])
def test_the_frequency_of_a_steady_line_reaches_the_cramer_rao_bound(snr):
    frequency, n, errors = 0.0512, 8192, []
    model = sem.SuperimposedSinusoids(n_components=1, memory=1e6, frozen=("dampings", "memories"))
    for seed in range(16):
        y, bound = steady(n, frequency, snr, seed)
        learner = sem.Learner(model, stepsize=sem.Stepsize.equal())
        learner.learn(y)
        errors.append((learner.params.frequencies[0] - frequency) / bound)
    # 16 squared errors of variance 1: chi-squared / 16, which exceeds 2.25 with a probability below 0.3 %.
    assert np.mean(np.square(errors)) < 2.25
    assert np.mean(np.square(errors)) > 0.25
    assert learner.params.noise[0] == pytest.approx(0.5 / 10 ** (snr / 10), rel=0.1)
    assert learner.params.amplitudes[0] == pytest.approx(1.0, abs=0.1)


def test_batch_em_improves_on_its_start_and_finds_damping_and_memory():
    rng, n = np.random.default_rng(1), 6000
    truth = Lines(np.array([0.7]), np.array([0.01]), np.array([1e-3]), np.array([1.0]), 0.5, 0.0)
    F, _ = one_step(truth)
    x, y = np.array([1.0, 0.0]), np.zeros(n)
    for t in range(n):
        x = F @ x + np.sqrt(5e-4) * rng.normal(size=2)
        y[t] = x[0] + np.sqrt(0.5) * rng.normal()
    model = sem.SuperimposedSinusoids(n_components=1, memory=300.0)
    sized = model.sized(1)
    start = model.unit_theta(sized, y[:, np.newaxis], np.ones(n))
    first = e_step(sized, start, np.zeros(model_sizes(sized)[3]), y[:, np.newaxis], np.ones(n))
    fit = sem.batch_em(model, y, max_iter=100)
    assert fit.log_likelihood_path[-1] > first + 10.0
    # The maximum lies above the truth by about half the number of parameters.
    assert fit.log_likelihood_path[-1] > kalman(truth, y).log_likelihood.sum() - 3.0
    assert fit.params.frequencies[0] * 2 * np.pi == pytest.approx(0.7, abs=0.005)
    assert 0.003 < fit.params.dampings[0] < 0.03
    assert 20 < fit.params.memories[0] < 100


def test_two_lines_nearer_than_a_bin_are_told_apart():
    n, rng = 2000, np.random.default_rng(2)
    w = np.array([0.5, 0.5 + 0.9 * 2 * np.pi / n])
    t = np.arange(n)
    y = np.cos(w[0] * t + 1.0) + 0.8 * np.cos(w[1] * t) + 0.1 * rng.normal(size=n)
    found = find_lines(y - y.mean(), 2)
    np.testing.assert_allclose(np.sort(found.angles), w, atol=0.25 * (w[1] - w[0]))
    model = sem.SuperimposedSinusoids(n_components=2, memory=1e5, frozen=("dampings", "memories"))
    fit = sem.batch_em(model, y, max_iter=100)
    # Ten times the bound of one line alone: that of two so near is several times larger.
    bound = np.sqrt(24.0 * 0.01 / 0.8**2 / n**3)
    np.testing.assert_allclose(np.sort(fit.params.frequencies) * 2 * np.pi, w, atol=10 * bound)


def test_a_line_that_drifts_is_followed():
    n, rng = 50_000, np.random.default_rng(3)
    frequency = np.linspace(0.05, 0.055, n)
    y = np.cos(2 * np.pi * np.cumsum(frequency)) + 0.5 * rng.normal(size=n)
    model = sem.SuperimposedSinusoids(n_components=1, memory=300.0, frozen=("dampings", "memories"))
    learner = sem.Learner(model, stepsize=sem.Stepsize.constant(1 / 500), refresh_every=128)
    errors = []
    for i in range(0, n, 1000):
        learner.learn(y[i : i + 1000])
        errors.append(learner.params.frequencies[0] - frequency[i + 999])
    # The lag of a mean over the last 500 records (and half an interval between M-steps), and as much again of noise.
    assert np.abs(errors[10:]).max() < 2 * (500 + 64) * 0.005 / n + 5e-5


def speech_and_hum():
    speech, rate = recordings()[:, 0], 16_000.0
    t = np.arange(len(speech)) / rate
    return speech, 0.4 * np.cos(2 * np.pi * 50.03 * t) + 0.12 * np.cos(2 * np.pi * 100.06 * t + 1.0), rate


def reduction(hum, lines):
    """Return by how many decibels hum (n,) is reduced if lines (n, K) are taken from it, in the second half."""
    late = slice(len(hum) // 2, None)
    return 10 * np.log10((hum[late] ** 2).mean() / ((hum - lines.sum(axis=1))[late] ** 2).mean())


def test_the_config_that_ships_tells_hum_apart(run, tmp_path):
    speech, hum, rate = speech_and_hum()
    data, folder = tmp_path / "recording.wav", tmp_path / "run"
    soundfile.write(data, 0.1 * (speech + hum), int(rate), "FLOAT")
    path = Path(sem.__file__).parents[1] / "configs" / "hum.toml"
    settings = [f"source.path={data}", f"run.folder={folder}", "model.n_components=2", "model.frequencies=[50.0,100.0]"]
    code, _, error = run("run", path, *(word for each in settings for word in ("--set", each)))
    assert code == 0, error
    lines = np.stack([soundfile.read(folder / "sources" / f"source_{k}.wav")[0] for k in (1, 2)], axis=1)
    assert reduction(0.1 * hum, lines) > 30.0


def test_hum_is_told_apart_from_speech():
    speech, hum, rate = speech_and_hum()
    memory = 16_000.0
    model = sem.SuperimposedSinusoids(2, sample_rate=rate, memory=memory, frozen=("dampings", "memories"))
    start = Params(np.array([50.0, 100.0]), np.zeros(2), np.full(2, memory), np.full(2, 0.1), np.ones(1), np.zeros(1))
    learner = sem.Learner(model, params=start, stepsize=sem.Stepsize.constant(1 / 16_000))
    lines = np.empty((len(speech), 2))
    learner.learn(speech + hum, posterior=lines)
    assert reduction(hum, lines) > 30.0
    np.testing.assert_allclose(learner.params.frequencies, [50.03, 100.06], atol=0.02)


def test_missing_samples_are_predicted():
    y, _ = steady(4000, 0.0512, 20, 0)
    model = sem.SuperimposedSinusoids(n_components=1)
    learner = sem.Learner(model, stepsize=sem.Stepsize.equal())
    learner.learn(y[:3000])
    gap = np.full(50, np.nan)
    told, scores = learner.posterior(gap)[:, 0], learner.log_likelihood(gap)
    np.testing.assert_array_equal(scores, 0.0)
    learned = learner.posterior(y[3000:3050])[:, 0]
    np.testing.assert_allclose(told, learned, atol=0.05)
    assert np.corrcoef(told, y[3000:3050])[0, 1] > 0.95


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_dead_silence_stays_finite_and_a_challenger_finds_the_line_after_it(value):
    y, _ = steady(9000, 0.0512, 10, 1)
    model = sem.SuperimposedSinusoids(n_components=2)
    learner = sem.Learner(model, stepsize=sem.Stepsize.constant(1 / 500), warmup=1000, recent=2000)
    assert np.isfinite(learner.learn(np.full(3000, value))[1000:]).all()
    assert all(np.isfinite(each).all() for each in learner.params)
    assert np.isfinite(learner.learn(y[:3000] + value)).all()
    learner.challenge("there is a line", kinds=("fresh",))
    assert np.isfinite(learner.learn(y[3000:] + value)).all()
    assert any(event.kind == "replaced" for event in learner.events)
    loudest = learner.params.amplitudes.argmax()
    assert learner.params.frequencies[loudest] == pytest.approx(0.0512, abs=1e-4)
    few = sem.Learner(sem.SuperimposedSinusoids(n_components=3))
    few.learn(np.array([1.0, np.nan, 2.0]))
    assert np.isfinite(few.params.amplitudes).all()


@pytest.mark.parametrize("frequency", [0.0, 0.5])
def test_an_angle_stays_between_0_and_pi(frequency):
    rng = np.random.default_rng(6)
    y = np.cos(2 * np.pi * frequency * np.arange(6000)) + rng.normal(size=6000)
    model = sem.SuperimposedSinusoids(n_components=1, sample_rate=0.3)
    start = Params(np.array([0.3 * frequency]), *(np.array([v]) for v in (0.0, 100.0, 1.0, 1.0, 0.0)))
    learner = sem.Learner(model, params=start, refresh_every=64, stepsize=sem.Stepsize.constant(0.01))
    learner.learn(y)
    assert 0.0 <= learner.params.frequencies[0] <= 0.15 * (1 + 1e-12)
    again = sem.Learner(model, params=learner.params)
    np.testing.assert_allclose(again.params.frequencies, learner.params.frequencies, rtol=1e-12, atol=1e-15)


def test_a_wild_sample_is_survived():
    y, _ = steady(6000, 0.0512, 20, 5)
    y[3000] = 1e95
    learner = sem.Learner(sem.SuperimposedSinusoids(n_components=1), stepsize=sem.Stepsize.constant(0.05))
    assert np.isfinite(learner.learn(y)[2000:]).all()
    assert all(np.isfinite(each).all() for each in learner.params)


def test_named_params_come_back():
    model = sem.SuperimposedSinusoids(n_components=2, sample_rate=8000.0)
    params = PARAMS._replace(frequencies=np.array([50.0, 1000.0]))
    sized, theta = model.from_params(params)
    test_laws.close(model.params(sized, theta), params, 1e-12)
    assert model.sketch(params).std() == pytest.approx(np.sqrt(0.1 + 0.5 * 1.25), rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_rate": 0.0}, "sample_rate must be"),
        ({"memory": 1.0}, "memory must be"),
        ({"frequencies": (50.0,)}, "frequencies must be 2, one for each line, not 1"),
        ({"frequencies": (0.1, 0.7)}, "half the sample rate"),
        ({"frozen": ("noise",)}, "frozen may name frequencies"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(sem.InputError, match=message):
        sem.SuperimposedSinusoids(**settings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frequencies": np.array([0.1, 0.6])}, "half the sample rate"),
        ({"memories": np.array([0.1, 10.0])}, "memories must be"),
        ({"dampings": np.array([-1.0, 0.0])}, "dampings must be 0 or more"),
        ({"noise": np.array([0.1, 0.1])}, r"noise must have shape \(1,\)"),
    ],
)
def test_impossible_params_are_refused(changed, message):
    with pytest.raises(sem.InputError, match=message):
        sem.Learner(CASE.model, params=PARAMS._replace(**changed))


def test_several_channels_and_weights_are_refused():
    with pytest.raises(sem.InputError, match="one channel, not 2"):
        sem.batch_em(CASE.model, np.ones((10, 2)))
    with pytest.raises(sem.InputError, match="cannot be weighted"):
        sem.batch_em(CASE.model, np.ones(10), weights=np.full(10, 2.0))


def test_the_command_line(tmp_path, run):
    y, _ = steady(6000, 0.0512, 10, 2)
    data, out = tmp_path / "signal.csv", tmp_path / "run"
    np.savetxt(data, y, header="x", comments="")
    code, text, _ = run(
        "fit", data, "--model", "superimposed-sinusoids", "--components", 1, "--set", "sample_rate=1000", "--out", out
    )
    assert code == 0
    assert "frequencies" in text
    code, text, _ = run("show", out, "--json")
    assert code == 0
    assert json.loads(text)["params"]["frequencies"][0] == pytest.approx(51.2, abs=0.01)
    code, text, _ = run("score", out, data)
    assert code == 0
    assert text.count("\n") == 6001


def test_memories_grow_a_hundredfold_at_most_and_frozen_ones_stay():
    y, _ = steady(6000, 0.0512, 20, 3)
    found = sem.batch_em(sem.SuperimposedSinusoids(n_components=1, memory=20.0), y, max_iter=50)
    assert found.params.memories[0] <= 2000.0 * (1 + 1e-9)
    frozen = sem.SuperimposedSinusoids(n_components=1, memory=20.0, frozen=("frequencies", "dampings", "memories"))
    start = Params(np.array([0.0513]), np.array([0.01]), np.array([30.0]), np.ones(1), np.ones(1), np.zeros(1))
    learner = sem.Learner(frozen, params=start)
    learner.learn(y)
    for name in frozen.frozen:
        assert getattr(learner.params, name) == pytest.approx(getattr(start, name), rel=1e-12)
    assert learner.params.noise[0] < 0.2


def test_lines_that_stay_raise_no_alarm():
    t, rng = np.arange(60_000), np.random.default_rng(4)
    y = np.cos(2 * np.pi * 0.05 * t) + 0.5 * np.cos(2 * np.pi * 0.11 * t) + 0.3 * rng.normal(size=len(t))
    learner = sem.Learner(sem.SuperimposedSinusoids(n_components=2), drift=sem.DriftSettings())
    learner.learn(y)
    assert not [event for event in learner.events if event.kind == "drift"]
    learner.learn(np.cos(2 * np.pi * 0.07 * t[:20_000]) + 0.3 * rng.normal(size=20_000))
    assert [event for event in learner.events if event.kind == "drift"]
    assert learner.params.frequencies[learner.params.amplitudes.argmax()] == pytest.approx(0.07, abs=1e-4)


def test_the_faces_for_scikit_learn_and_river():
    y, bound = steady(6000, 0.0512, 10, 4)
    batch = sklearn.SuperimposedSinusoids(1, memory=1e5).fit(y[:, np.newaxis])
    assert batch.frequencies_[0] == pytest.approx(0.0512, abs=5 * bound)
    lines = batch.transform(y[:, np.newaxis])[:, 0]
    assert np.corrcoef(lines[3000:], y[3000:])[0, 1] > 0.9
    online = sklearn.SuperimposedSinusoids(1)
    for part in np.split(y, 6):
        online.partial_fit(part[:, np.newaxis])
    assert online.frequencies_[0] == pytest.approx(0.0512, abs=1e-4)
    one = river.SuperimposedSinusoids(1, warmup=1000)
    for value in y[:2000]:
        one.learn_one({"x": value})
    assert one.params.frequencies[0] == pytest.approx(0.0512, abs=1e-4)
    assert one.transform_one({"x": y[2000]})[0] == pytest.approx(y[2000], abs=1.0)
    imputer = river.Imputer(one)
    assert imputer.transform_one({"x": None})["x"] == pytest.approx(y[2000], abs=1.0)
    with pytest.raises(sem.InputError, match="a record has 1 feature, not also z"):
        one.learn_one({"x": 1.0, "z": 2.0})

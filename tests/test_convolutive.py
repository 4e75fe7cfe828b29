"""The model of signals with echoes, and its unmixer: exact transforms, rows and densities; nothing but sources out."""

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from twins_convolutive import (
    complex_rows,
    em_step,
    frame_log_likelihood,
    frames,
    packed,
    real_parts,
    row_sweep,
    sine_window,
    surrogate,
)

import stream_em as sem
from benchmarks.rooms import heard_in_a_room
from stream_em import demo
from stream_em.em import e_step, maximise, model_sizes, params_of, score, stats_of
from stream_em.kernels.fourier import add_synthesis, analyse, fill_tables, fourier
from stream_em.kernels.spatial import invert_all, update_rows
from stream_em.learning.iterate import iterate
from stream_em.models.convolutive_unmixing import ConvolutiveUnmixing, ConvolutiveUnmixingParams
from stream_em.unmixing import hops
from stream_em.unmixing.metrics import filtered_sdr, matched_to, si_sdr

RATE = 16_000
N, HOP = 64, 16


def echoed(K=2, seconds=1.0, echo=0.01, seed=0):
    """Return noise that is loud and quiet in turn, in a room."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    loudness = np.repeat(np.exp(rng.normal(size=(-(-n // 320), K))), 320, axis=0)[:n]
    return heard_in_a_room(loudness * rng.normal(size=(n, K)), K, echo, RATE, seed)


def started(X, K=None, **settings):
    model = ConvolutiveUnmixing(n_components=K or X.shape[1], window=N, **settings)
    sized = model.sized(X.shape[1])
    theta = model.unit_theta(sized, X, np.ones(len(X)))
    return model, sized, theta, np.zeros(model_sizes(sized)[3])


def tables(length):
    window, turn, roots = np.empty(length), np.empty((2, length // 2)), np.empty((2, length // 4))
    fill_tables(window, turn, roots)
    return window, turn, roots


# Kernels


@pytest.mark.parametrize("length", [2, 32, 1024])
def test_the_transform_is_that_of_scipy(length):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(length, 3)) + 1j * rng.normal(size=(length, 3))
    parts = values.real.copy(), values.imag.copy(), np.empty((length, 3)), np.empty((length, 3))
    real, imag = fourier(*parts, tables(2 * length)[2])
    np.testing.assert_allclose(real + 1j * imag, scipy.fft.fft(values, axis=0), rtol=1e-12, atol=1e-12 * length)


def test_a_frame_has_its_transform_at_odd_frequencies_and_comes_back():
    samples, spectrum = np.random.default_rng(1).normal(size=(N, 3)), np.empty((2, 3, N // 2))
    scratch = np.empty((4, N // 2, 3))
    window, turn, roots = tables(N)
    np.testing.assert_allclose(window, sine_window(N), rtol=1e-14)
    analyse(samples, window, turn, roots, spectrum, scratch)
    # Halfway between its bins lie those of a transform of twice the length.
    twice = scipy.fft.fft(samples * window[:, np.newaxis], 2 * N, axis=0)[1::4] * np.sqrt(2 / N)
    np.testing.assert_allclose((spectrum[0] + 1j * spectrum[1]).T, twice, atol=1e-13)
    assert (spectrum**2).sum() == pytest.approx(((samples * window[:, np.newaxis]) ** 2).sum(), rel=1e-12)
    back = np.ones((N, 3))
    add_synthesis(spectrum, window, turn, roots, 0.5, back, scratch)
    np.testing.assert_allclose(back, 1.0 + 0.5 * samples * window[:, np.newaxis] ** 2, atol=1e-13)


def test_row_updates_are_the_maximisers_and_keep_the_inverse():
    rng = np.random.default_rng(2)
    K, F = 3, 64
    roots = rng.normal(size=(K, F, K, 8)) + 1j * rng.normal(size=(K, F, K, 8))
    V = roots @ np.conj(roots.swapaxes(2, 3)) / 8
    W = rng.normal(size=(F, K, K)) + 1j * rng.normal(size=(F, K, K))
    rows = real_parts(W)
    inverse = np.empty_like(rows)
    log_det = invert_all(rows, inverse)
    assert log_det == pytest.approx(2 * np.linalg.slogdet(W)[1].sum(), rel=1e-12)
    for _ in range(5):
        before, expected = surrogate(V, W), row_sweep(V, W)
        log_det += update_rows(packed(V), 1.0, 0.0, rows, inverse)
        np.testing.assert_allclose(complex_rows(rows), expected, rtol=1e-9, atol=1e-9)
        assert surrogate(V, expected) < before
        W = expected
    np.testing.assert_allclose(complex_rows(inverse), np.linalg.inv(W), rtol=1e-9, atol=1e-9)
    assert log_det == pytest.approx(2 * np.linalg.slogdet(W)[1].sum(), rel=1e-10)


def test_singular_covariances_give_finite_rows():
    rows, inverse = real_parts(np.tile(np.eye(2, dtype=complex), (32, 1, 1))), np.empty((2, 2, 2, 32))
    invert_all(rows, inverse)
    assert np.isfinite(update_rows(np.zeros((2, 4, 32)), 1.0, 1e-11, rows, inverse))
    assert np.isfinite(update_rows(packed(np.ones((2, 32, 2, 2), complex)), 1.0, 1e-11, rows, inverse))
    assert np.isfinite(rows).all()
    assert np.isfinite(inverse).all()


# The model


@pytest.mark.parametrize(("K", "D"), [(2, 2), (1, 3)])
def test_em_and_its_log_likelihood_equal_the_twins(K, D):
    X = echoed(D).channels[: 3000 + HOP - 1]
    _model, sized, theta, s = started(X, K, nu=3.0)
    windows = params_of(sized, theta)
    Z = frames((X - windows.shift) / windows.scale, N, HOP)
    W = complex_rows(windows.unmixing)
    jacobian = D * np.log(sine_window(N)).sum() - N * np.log(windows.scale).sum()
    for _ in range(3):
        _, scores = score(sized, theta, np.zeros_like(s), X)
        expected = HOP / N * (frame_log_likelihood(Z, W, 3.0, K) + jacobian)
        np.testing.assert_allclose(scores[HOP - 1 :: HOP], expected, rtol=1e-10)
        assert np.count_nonzero(scores) == len(expected)
        assert e_step(sized, theta, s, X, np.ones(len(X))) == pytest.approx(expected.sum(), rel=1e-12)
        maximise(sized, theta, s, float(len(X)))
        W = em_step(Z, W, 3.0, K, 1e-11)
        np.testing.assert_allclose(complex_rows(windows.unmixing), W, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("K", "D"), [(2, 2), (1, 3)])
def test_batch_em_never_lowers_the_log_likelihood(K, D):
    X = echoed(D).channels
    model, sized, theta, s = started(X, K)
    path, _ = iterate(sized, theta, s, X, np.ones(len(X)), 60, 1e-13)
    assert np.diff(path).min() > -1e-9 * abs(path[-1])
    assert path[-1] > path[0] + 100
    fit = sem.batch_em(model, X, max_iter=5)
    assert fit.log_likelihood_path[-1] > path[-1] - 0.01 * abs(path[-1])


@pytest.mark.parametrize("hop", [N // 2, N // 4, N // 8])
def test_rows_that_change_nothing_give_back_the_channels_a_window_later(hop):
    X = echoed(3).channels[:1000] + np.array([0.0, 0.1, 5.0])
    model, sized, theta, s = started(X, hop=hop)
    sources, _ = score(sized, theta, s, X)
    np.testing.assert_allclose(model.params(sized, theta).location, [0.0, 0.0, X[:, 2].mean()])
    np.testing.assert_allclose(sources[N:], (X - [0.0, 0.0, X[:, 2].mean()])[:-N], atol=1e-12)
    np.testing.assert_allclose(sources[:N], 0.0, atol=1e-12)


def test_sources_add_up_to_what_the_reference_hears():
    X = echoed(3).channels[:4000]
    model = ConvolutiveUnmixing(n_components=3, window=N, reference=1)
    sized = model.sized(3)
    theta, s = model.unit_theta(sized, X, np.ones(len(X))), np.zeros(model_sizes(sized)[3])
    iterate(sized, theta, s, X, np.ones(len(X)), 5, 0.0)
    sources, _ = score(sized, theta, np.zeros_like(s), X)
    np.testing.assert_allclose(sources.sum(axis=1)[N:], X[:-N, 1], atol=1e-10)


def test_params_are_those_of_a_transform_in_the_records_units():
    X = echoed().channels[:6000] * [1.0, 3.0] + [2.0, -1.0]
    model, sized, theta, s = started(X)
    iterate(sized, theta, s, X, np.ones(len(X)), 5, 0.0)
    params = model.params(sized, theta)
    unmixing, mixing = (each[0] + 1j * each[1] for each in params[:2])
    np.testing.assert_allclose(unmixing @ mixing, np.broadcast_to(np.eye(2), (N // 2, 2, 2)), atol=1e-9)
    again, theta_again = model.from_params(params)
    assert params.background.shape == (2, N // 2, 0, 2)
    for one, two in zip(params, model.params(again, theta_again), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-10)
    found = [score(*each, np.zeros_like(s), X) for each in ((sized, theta), (again, theta_again))]
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-10)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9)
    # By the definition of the parameters, for one frame.
    frame = (X[500 : 500 + N] - params.location) * sine_window(N)[:, np.newaxis]
    phase = np.exp(-2j * np.pi * np.outer(params.frequencies, np.arange(N)))
    q = (np.abs(np.einsum("fkd,fd->fk", unmixing, np.sqrt(2 / N) * phase @ frame)) ** 2).sum(axis=0)
    windows = params_of(sized, theta)
    Z = frames(((X - windows.shift) / windows.scale)[500 : 500 + N], N, N)
    expected = np.einsum("fkd,jfd->fk", complex_rows(windows.unmixing), Z)
    np.testing.assert_allclose(q, (np.abs(expected) ** 2).sum(axis=0), rtol=1e-9)


def test_a_frame_with_a_missing_value_is_neither_scored_nor_learned():
    X = echoed().channels[:2000]
    _model, sized, theta, s = started(X)
    holed = X.copy()
    holed[1000] = np.nan
    spoiled = slice(1000 // HOP * HOP + HOP - 1, None, HOP)
    sources, scores = score(sized, theta, s, holed)
    assert np.isfinite(sources).all()
    assert not scores[spoiled][: N // HOP].any()
    plain = score(sized, theta, s, X)[1]
    np.testing.assert_array_equal(scores[spoiled][N // HOP :], plain[spoiled][N // HOP :])
    np.testing.assert_array_equal(scores[:1000], plain[:1000])
    e_step(sized, theta, s, holed, np.ones(len(X)))
    assert stats_of(sized, s).mass[0] == pytest.approx(1 - N / len(X))
    e_step(sized, theta, s, np.full((200, 2), np.nan), np.ones(200))
    before = theta.copy()
    maximise(sized, theta, s, 200.0)
    np.testing.assert_array_equal(theta, before)


def test_a_learner_learns_it_in_any_pieces_and_goes_on_bitwise(tmp_path):
    X = echoed().channels
    model = ConvolutiveUnmixing(n_components=2, window=N)
    whole, cut = (sem.Learner(model, refresh_every=5 * HOP) for _ in range(2))
    log_likelihood, posterior = whole.learn(X), np.empty((1500, 2))
    parts = [cut.learn(part) for part in np.split(X, [33, 700, 701, 4000])]
    np.testing.assert_allclose(np.concatenate(parts)[500:], log_likelihood[500:], rtol=1e-8)
    for one, two in zip(whole.params, cut.params, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-8)
    sem.save(cut, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(sem.load(tmp_path / "model.safetensors").learn(X[:900]), cut.learn(X[:900]))
    whole.learn(X[:1500], posterior=posterior)
    assert np.isfinite(posterior).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 1000}, "window must be a power of two"),
        ({"window": 32}, "window must be a power of two from 64"),
        ({"hop": 100}, "hop must divide half the window"),
        ({"hop": 0}, "hop must be 1"),
        ({"nu": 0.0}, "nu must be"),
        ({"reference": -1}, "reference must be"),
        ({"frozen": ("unmixing",)}, "frozen may name"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(sem.InputError, match=message):
        ConvolutiveUnmixing(**settings)


def test_what_does_not_fit_is_refused():
    with pytest.raises(sem.InputError, match="at most the 2 channels, not 3"):
        ConvolutiveUnmixing(n_components=3).sized(2)
    with pytest.raises(sem.InputError, match="reference must be a channel below 2"):
        ConvolutiveUnmixing(reference=2).sized(2)
    zeros = np.zeros((2, N // 2, 2, 2))
    params = ConvolutiveUnmixingParams(zeros, zeros + 1.0, zeros[:, :, :0], np.zeros(N // 2), np.zeros(2))
    with pytest.raises(sem.InputError, match="invertible"):
        ConvolutiveUnmixing(window=N).from_params(params)


# The unmixer


@pytest.fixture(scope="module")
def room():
    """Return three recordings of people in a room that echoes for 80 ms, 12 s long."""
    return heard_in_a_room(demo.recordings()[: 12 * RATE, :3], 3, 0.08, RATE, 1)


def separated(unmixer, channels, pieces=50):
    parts = [unmixer.process(part) for part in np.array_split(channels, pieces)]
    return np.concatenate([*parts, unmixer.flush()])[unmixer.latency.samples :]


def test_voices_in_a_room_are_told_apart_with_all_their_frequencies(room):
    unmixer = sem.ConvolutiveUnmixer(window=1024, reference=0, sample_rate=RATE)
    sources = separated(unmixer, room.channels)
    assert sources.shape == room.channels.shape
    late = slice(7 * RATE, None)
    images = room.images[late, 0]
    order = matched_to(sources[late], images)
    first = np.repeat(room.channels[late, :1], 3, axis=1)
    before, after = filtered_sdr(first, room.sources[late]), filtered_sdr(sources[late][:, order], room.sources[late])
    assert (after - before).mean() > 8
    assert (si_sdr(sources[late][:, order], images) - si_sdr(first, images)).mean() > 6
    for low, high in ((200, 700), (700, 1500), (1500, 3000), (3000, 6000)):
        band = scipy.fft.rfftfreq(len(images), 1 / RATE)
        kept = ((band >= low) & (band < high))[:, np.newaxis]
        parts = [scipy.fft.irfft(scipy.fft.rfft(each, axis=0) * kept, axis=0) for each in (sources[late], images)]
        np.testing.assert_array_equal(matched_to(*parts), order)


def test_fewer_sources_than_channels_leave_a_background(room):
    rng = np.random.default_rng(4)
    two = heard_in_a_room(room.sources[:, :2], 3, 0.05, RATE, 4)
    channels = two.channels + 0.03 * rng.normal(size=two.channels.shape)
    unmixer = sem.ConvolutiveUnmixer(2, window=1024, reference=0)
    sources = separated(unmixer, channels)
    late, images = slice(7 * RATE, None), two.images[7 * RATE :, 0]
    sources = sources[late][:, matched_to(sources[late], images)]
    gain = si_sdr(sources, images) - si_sdr(np.repeat(channels[late, :1], 2, axis=1), images)
    assert gain.mean() > 8
    params = unmixer.params
    assert params.unmixing.shape == (2, 512, 2, 3)
    rows = np.concatenate([params.unmixing, params.background], axis=2)
    product = (rows[0] + 1j * rows[1]) @ unmixer.mixing
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3)[:, :2], product.shape), atol=1e-8)
    model = unmixer.engine.model
    again = model.params(*model.from_params(params))
    for one, other in zip(params, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-7 * np.abs(one).max(initial=0.0))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 4000), max_size=6))
def test_how_samples_arrive_does_not_matter_to_the_bit(cuts):
    X = echoed().channels[:4000]
    whole, cut = (sem.ConvolutiveUnmixer(window=N) for _ in range(2))
    expected = np.concatenate([whole.process(X), whole.flush()])
    parts = [cut.process(part) for part in np.split(X, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate([*parts, cut.flush()]), expected)
    assert cut.mean_log_likelihood == whole.mean_log_likelihood
    assert whole.count == len(X) + N


def test_a_restored_unmixer_goes_on_bitwise(tmp_path):
    X = echoed().channels
    for at in (0, 10, N + 5, 5000, 7000):
        one = sem.ConvolutiveUnmixer(window=N, reference=1, sample_rate=RATE, stepsize=sem.Stepsize.constant(1e-4))
        one.process(X[:at])
        one.save(tmp_path / "unmixer.safetensors")
        two = sem.ConvolutiveUnmixer.load(tmp_path / "unmixer.safetensors")
        assert (two.settings, two.count, list(two.events)) == (one.settings, one.count, list(one.events))
        np.testing.assert_array_equal(two.process(X[at : at + 2000]), one.process(X[at : at + 2000]))
    sem.Unmixer().save(tmp_path / "other.safetensors")
    with pytest.raises(sem.InputError, match="not a convolutive unmixer"):
        sem.ConvolutiveUnmixer.load(tmp_path / "other.safetensors")


def test_a_frozen_unmixer_goes_on_unmixing_as_it_did():
    X = echoed().channels
    unmixer = sem.ConvolutiveUnmixer(window=N)
    unmixer.process(X[:8000])
    unmixer.freeze()
    before, s = unmixer.unmixing, unmixer.engine.s[: model_sizes(unmixer.engine.sized)[2]].copy()
    out = unmixer.process(X[8000:12_000])
    np.testing.assert_array_equal(unmixer.unmixing, before)
    np.testing.assert_array_equal(unmixer.engine.s[: len(s)], s)
    np.testing.assert_allclose(unmixer.unmixing @ unmixer.mixing, np.broadcast_to(np.eye(2), before.shape), atol=1e-9)
    _, theta = unmixer.engine.model.from_params(unmixer.params)
    scored, _ = score(unmixer.engine.sized, theta, np.zeros_like(unmixer.engine.s), X[7008:12_000])
    np.testing.assert_allclose(out[2 * N :], scored[992 + 2 * N :], atol=1e-8)
    assert unmixer.count == 12_000
    unmixer.thaw()
    unmixer.process(X[12_000:])
    assert not np.array_equal(unmixer.unmixing, before)


def test_a_constant_stepsize_follows_those_who_move():
    first, second = (echoed(seconds=6.0, echo=0.003, seed=0), echoed(seconds=6.0, echo=0.003, seed=0))
    swapped = np.ascontiguousarray(second.channels[:, ::-1] * [1.0, -0.5])
    X, images = np.concatenate([first.channels, swapped]), np.concatenate([first.images[:, 0], second.images[:, 1]])
    last, left = slice(-2 * RATE, None), {}
    for name, stepsize in (("moving", sem.Stepsize.constant(half_life=RATE / 2)), ("equal", sem.Stepsize.equal())):
        sources = separated(sem.ConvolutiveUnmixer(window=256, detect=False, reference=0, stepsize=stepsize), X)[last]
        left[name] = si_sdr(sources[:, matched_to(sources, images[last])], images[last]).min()
    assert left["moving"] > 8
    assert left["moving"] > left["equal"] + 3


def test_it_is_noticed_that_all_is_as_in_another_room():
    rooms = [echoed(seconds=3.0, echo=0.003, seed=seed) for seed in (0, 1)]
    X, images = (np.concatenate([getattr(each, name) for each in rooms]) for name in ("channels", "images"))
    X, images, left = np.ascontiguousarray(X), images[-RATE:, 0], []
    unmixers = [sem.ConvolutiveUnmixer(window=128, reference=0, detect=detect) for detect in (True, False)]
    for unmixer in unmixers:
        sources = separated(unmixer, X)[-RATE:]
        left.append(si_sdr(sources[:, matched_to(sources, images)], images).mean())
    assert [[event.kind for event in unmixer.events] for unmixer in unmixers] == [["start", "reset"], ["start"]]
    assert 3 * RATE < unmixers[0].events[1].at < 5 * RATE
    assert unmixers[0].count == len(X) + 128
    assert left[0] > left[1] + 6


def test_when_only_noise_is_left_nothing_has_changed(monkeypatch):
    X = echoed(seconds=4.0, echo=0.003).channels.copy()
    X[RATE : 3 * RATE] = 0.0
    X += 0.01 * np.random.default_rng(5).normal(size=X.shape)
    kinds = []
    for loud in (hops.LOUD, 0.0):
        monkeypatch.setattr(hops, "LOUD", loud)
        unmixer = sem.ConvolutiveUnmixer(window=N)
        unmixer.process(X)
        kinds.append({event.kind for event in unmixer.events})
    assert kinds == [{"start"}, {"start", "reset"}]


def silent(X):
    X[:, 1] = 0.0


def constant(X):
    X[:, 1] = 0.25


def dead(X):
    X[6000:, 1] = X[6000, 1]


def duplicated(X):
    X[:, 1] = -0.5 * X[:, 0]


def holed(X):
    X[np.random.default_rng(0).random(X.shape) < 0.001] = np.nan


def missing(X):
    X[:, 1] = np.nan


def late(X):
    X[:3000] = 0.0


def huge(X):
    X *= 1e90


def tiny(X):
    X *= 1e-90


@pytest.mark.parametrize("spoil", [silent, constant, dead, duplicated, holed, missing, late, huge, tiny])
def test_bad_channels_give_finite_sources(spoil):
    X = echoed(3, seconds=2.0).channels.copy()
    spoil(X)
    unmixer = sem.ConvolutiveUnmixer(window=N, reference=0)
    sources = separated(unmixer, X)
    assert sources.shape == X.shape
    assert np.isfinite(sources).all()
    assert np.isfinite(unmixer.unmixing).all()
    # They add up to what the reference hears: nothing of it is lost.
    there = ~np.isnan(X[:, 0])
    difference = (sources.sum(axis=1) - X[:, 0])[there] / np.abs(X[there, 0]).max()
    np.testing.assert_allclose(difference, 0.0, atol=1e-6)


def test_what_an_unmixer_cannot_use_is_refused():
    for settings_, message in (
        ({"window": 100}, "power of two"),
        ({"sample_rate": 0.0}, "sample_rate must be"),
        ({"stepsize": sem.Stepsize.constant(seconds=3.0)}, "knows no times"),
    ):
        with pytest.raises(sem.InputError, match=message):
            sem.ConvolutiveUnmixer(**settings_)
    unmixer = sem.ConvolutiveUnmixer(window=N)
    with pytest.raises(sem.InputError, match="nothing has been heard"):
        unmixer.flush()
    with pytest.raises(sem.InputError, match="64 samples that are not silence are needed, and 0"):
        _ = unmixer.params
    unmixer.process(np.zeros((3 * N, 2)))
    assert (unmixer.count, unmixer.engine) == (3 * N, None)
    with pytest.raises(sem.InputError, match="2 features"):
        unmixer.process(np.zeros((5, 3)))
    assert unmixer.count == 3 * N
    with pytest.raises(sem.InputError, match="at most the 2 channels, not 3"):
        sem.ConvolutiveUnmixer(3).process(np.zeros((5, 2)))

"""The unmixer: chunks in, sources out; what happens to it, and what it is told."""

import numpy as np
import pytest
from sklearn.decomposition import FastICA
from twins_unmixing import isr, loud_and_quiet

import stream_em as sem
from stream_em.kernels.crosstalk import crosstalk, observe
from stream_em.stepsize import Stepsize

L = 16
"""Records to a block here."""


def mixed(seed=0, n=16_000, K=3, D=None, noise=0.0):
    rng = np.random.default_rng(seed)
    sources, mixing = loud_and_quiet(rng, n, K, L, 0.5), rng.normal(size=(D or K, K))
    return np.ascontiguousarray(sources @ mixing.T + noise * rng.normal(size=(n, D or K))), mixing, sources


def run(X, chunk=700, unmixer=None, **settings):
    unmixer = unmixer or sem.Unmixer(block=L, **settings)
    parts = [unmixer.process(X[i : i + chunk]) for i in range(0, len(X), chunk)]
    return unmixer, np.concatenate(parts)


def kinds(unmixer):
    return [event.kind for event in unmixer.events if event.kind != "artefact"]


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_is_not_worse_than_batch_fastica(seed):
    X, mixing, sources = mixed(seed)
    unmixer, out = run(X)
    peer = FastICA(whiten="unit-variance", random_state=0).fit(X)
    assert isr(unmixing := unmixer.unmixing, mixing) < isr(peer.components_, mixing) + 1.0
    assert isr(unmixing, mixing) < -30
    late = np.corrcoef(out[-4000:].T, sources[-4000:].T)[:3, 3:]
    assert np.abs(late).max(axis=1).min() > 0.999
    assert kinds(unmixer) == ["start"]
    assert unmixer.unsettled < 0.01


@pytest.mark.parametrize("seed", range(2))
def test_heavy_tailed_sources_are_told_apart_sample_by_sample(seed):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(3, 3))
    X = rng.laplace(size=(16_000, 3)) @ mixing.T
    unmixer, _ = run(X, sources="sample")
    assert isr(unmixer.unmixing, mixing) < -33
    assert kinds(unmixer) == ["start"]
    assert unmixer.unsettled < 0.02


@pytest.mark.parametrize("sources", ["block", "sample"])
def test_how_samples_arrive_does_not_matter(sources):
    X, _, _ = mixed(n=6000)
    whole = run(X, chunk=6000, sources=sources)
    for chunk in (1, 57, 1600):
        part = run(X[: 2000 if chunk == 1 else 6000], chunk=chunk, sources=sources)
        np.testing.assert_allclose(part[1], whole[1][: len(part[1])], rtol=1e-7, atol=1e-9)
    assert part[0].count == 6000
    assert part[0].mean_log_likelihood == pytest.approx(whole[0].mean_log_likelihood, rel=1e-9)


def test_sources_come_from_what_was_learned_before_them():
    X, _, _ = mixed()
    unmixer, _ = run(X)
    params, chunk = unmixer.params, mixed(seed=1, n=10 * L)[0][: 3 * L]
    np.testing.assert_allclose(unmixer.process(chunk[:L]), (chunk[:L] - params.location) @ params.unmixing.T, atol=1e-9)
    unmixer.freeze()
    params, before = unmixer.params, unmixer.count
    np.testing.assert_allclose(unmixer.process(chunk), (chunk - params.location) @ params.unmixing.T, atol=1e-9)
    np.testing.assert_array_equal(unmixer.unmixing, params.unmixing)
    assert unmixer.count == before + len(chunk)
    unmixer.thaw()
    unmixer.process(mixed(seed=2)[0])
    assert not np.array_equal(unmixer.unmixing, params.unmixing)


def test_sources_are_as_loud_as_at_the_reference_or_over_all_channels():
    X, _, _ = mixed()
    unmixer, out = run(X, reference=1)
    np.testing.assert_allclose(unmixer.mixing[1], 1.0)
    np.testing.assert_allclose(out[-4000:].sum(axis=1), X[-4000:, 1] - unmixer.params.location[1], atol=1e-2)
    np.testing.assert_allclose((run(X)[0].mixing ** 2).mean(axis=0), 1.0)


def test_a_change_of_the_mixing_is_noticed_and_learned_anew():
    X, mixing, sources = mixed(n=24_000)
    X[12_000:], other = sources[12_000:] @ mixing[::-1].T, mixing[::-1]
    unmixer, _ = run(X[:14_000])
    assert kinds(unmixer) == ["start", "reset"]
    assert isr(unmixer.unmixing, other) < -15
    unmixer, _ = run(X[14_000:], unmixer=unmixer)
    assert kinds(unmixer) == ["start", "reset"]
    assert isr(unmixer.unmixing, other) < -28
    assert isr(run(X, detect=False)[0].unmixing, other) > -15


def test_order_and_sign_stay():
    X, mixing, _ = mixed(n=32_000)
    unmixer, found = sem.Unmixer(block=L), []
    for begin in range(0, len(X), 160):
        unmixer.process(X[begin : begin + 160])
        product = unmixer.unmixing @ mixing
        found.append(np.sign(product) * (np.abs(product) == np.abs(product).max(axis=1, keepdims=True)))
    assert np.array(found[20:]).std(axis=0).max() == 0.0


def test_artefacts_are_left_out():
    X, mixing, _ = mixed(n=32_000, noise=0.01)
    rng = np.random.default_rng(5)
    for begin in range(100, len(X), 1000):
        X[begin : begin + L] += 30 * np.outer(rng.normal(size=L), rng.normal(size=3))
    unmixer, _ = run(X)
    assert isr(unmixer.unmixing, mixing) < -33
    assert sum(event.kind == "artefact" for event in unmixer.events) > 20
    assert isr(run(X, gate=None)[0].unmixing, mixing) > isr(unmixer.unmixing, mixing) + 3


def test_a_channel_that_dies_and_comes_back_is_told_and_survived():
    X, mixing, _ = mixed(n=30_000, K=2, D=4, noise=0.01)
    X[12_000:20_000, 2] = 7.0
    unmixer, out = run(X, n_components=2)
    assert [event.kind for event in unmixer.events if "channel" in event.kind] == ["dead channel", "channel back"]
    assert np.isfinite(out).all()
    assert isr(unmixer.unmixing, mixing) < -20
    dead = out[14_000:20_000]
    _, kept = run(X[:12_000], n_components=2)
    np.testing.assert_allclose(dead.std(axis=0), kept[4000:].std(axis=0), rtol=0.2)


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_missing_values_never_come_out(share):
    X, _, sources = mixed(K=2, D=3, noise=0.01)
    rng = np.random.default_rng(1)
    X[rng.random(len(X)) < share, 1] = np.nan
    _, out = run(X, n_components=2)
    assert np.isfinite(out).all()
    assert np.abs(np.corrcoef(out[-4000:].T, sources[-4000:].T)[:2, 2:]).max(axis=0).min() > 0.99
    assert np.isfinite(run(np.full((3000, 2), np.nan))[1]).all()


def test_channels_that_depend_on_each_other_give_fewer_sources():
    X, mixing, _ = mixed()
    doubled = np.ascontiguousarray(X[:, [0, 1, 2, 0]])
    unmixer, out = run(doubled)
    assert (out[200:, 3] == 0.0).all()
    assert unmixer.unmixing.shape == (3, 4)
    assert isr(unmixer.unmixing, mixing[[0, 1, 2, 0]]) < -30
    forced, out = run(doubled, n_components=4)
    assert kinds(forced)[:2] == ["start", "rank"]
    assert np.isfinite(out).all()


def silent_then_loud(X):
    X[:3000] = 0.0
    return X


def clipped(X):
    return np.clip(X, -1.0, 1.0)


def one_silent(X):
    X[:, 1] = 0.0
    return X


def constant(X):
    X[:, 1] = 1e9
    return X


def far_away(X):
    return X * [1e-20, 1.0, 1e20] + [0.0, 1e6, 0.0]


def enormous(X):
    X[5000] = 1e99
    return X


@pytest.mark.parametrize("spoil", [silent_then_loud, clipped, one_silent, constant, far_away, enormous])
@pytest.mark.parametrize("n_components", [None, 2, 3])
def test_bad_signals_never_give_nan(spoil, n_components):
    unmixer, out = run(spoil(mixed(n=8000)[0]), n_components=n_components)
    assert out.shape == (8000, n_components or 3)
    assert np.isfinite(out).all()
    assert np.isfinite(unmixer.unmixing).all()
    assert np.isfinite(unmixer.mean_log_likelihood)


def test_silence_that_ends_is_learned_from():
    X, mixing, _ = mixed(n=20_000)
    X[:5000] = 0.0
    unmixer, _ = run(X)
    assert isr(unmixer.unmixing, mixing) < -25
    assert unmixer.events[0].at == 5120


def test_a_channel_that_was_silent_at_first_brings_its_source():
    X, mixing, _ = mixed(n=20_000)
    X[:5000, 2] = 0.0
    unmixer, out = run(X)
    assert [event.kind for event in unmixer.events][:3] == ["start", "channel back", "start"]
    assert (out[200:5000, 2] == 0.0).all()
    assert isr(unmixer.unmixing, mixing) < -25


def test_units_of_the_channels_do_not_matter():
    X, mixing, _ = mixed()
    scales = np.array([1e-6, 1.0, 1e9])
    one, two = run(X)[0], run(np.ascontiguousarray(X * scales))[0]
    assert isr(two.unmixing * scales, mixing) == pytest.approx(isr(one.unmixing, mixing), abs=1.0)


def test_one_channel_is_its_own_source():
    X, _, _ = mixed(K=1)
    unmixer, out = run(X + 5.0)
    assert unmixer.unmixing == pytest.approx(1.0)
    np.testing.assert_allclose(out[-100:], X[-100:] + 5.0 - unmixer.params.location, atol=5e-3)


def test_before_the_start_the_channels_come_out_and_nothing_is_known():
    X, _, _ = mixed(n=100)
    unmixer, out = run(X)
    np.testing.assert_array_equal(out, X)
    assert np.isnan(unmixer.mean_log_likelihood)
    with pytest.raises(sem.InputError, match="160 samples are needed, and 100 are there"):
        _ = unmixer.unmixing
    still = sem.Unmixer(block=16)
    still.process(np.full((640, 2), 0.3))
    with pytest.raises(sem.InputError, match="160 samples are needed, and all channels have stood still over the 640"):
        _ = still.unmixing
    assert "waiting" in repr(unmixer)
    few, out = run(np.ones((3, 50)))
    assert out.shape == (3, 50)
    assert few.count == 3


@pytest.mark.parametrize(
    ("chunk", "message"),
    [(np.ones((5, 4)), "must have 3 features"), ([[1.0, np.inf, 2.0]], "column 1"), ([["a", "b", "c"]], "numbers")],
)
def test_unusable_chunks_are_refused_and_change_nothing(chunk, message):
    X, _, _ = mixed(n=2000)
    unmixer, plain = run(X)[0], run(X)[0]
    with pytest.raises(sem.InputError, match=message):
        unmixer.process(chunk)
    np.testing.assert_array_equal(unmixer.process(X[:50]), plain.process(X[:50]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_rate": -1.0}, "sample_rate"),
        ({"n_components": 0}, "n_components"),
        ({"block": 0}, "block"),
        ({"gate": 0.1}, "gate"),
        ({"stepsize": Stepsize.constant(seconds=3.0)}, "knows no times"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(sem.InputError, match=message):
        sem.Unmixer(**settings)
    with pytest.raises(sem.InputError, match="at most the 3 channels"):
        sem.Unmixer(n_components=5).process(np.ones((2, 3)))


@pytest.mark.parametrize("at", [100, 1000, 5003, 12_500])
def test_a_loaded_unmixer_goes_on_bitwise(at, tmp_path):
    X, mixing, sources = mixed(n=16_000)
    X[12_000:] = sources[12_000:] @ mixing[::-1].T
    plain, _ = run(X[:at])
    plain.save(tmp_path / "unmixer.safetensors")
    restored = sem.Unmixer.load(tmp_path / "unmixer.safetensors")
    np.testing.assert_array_equal(run(X[at:], unmixer=restored)[1], run(X[at:], unmixer=plain)[1])
    assert list(restored.events) == list(plain.events)
    assert restored.count == plain.count == 16_000


def test_another_file_is_no_unmixer(tmp_path):
    sem.Learner(sem.GaussianMixture()).save(tmp_path / "learner.safetensors")
    with pytest.raises(sem.InputError, match="not an unmixer"):
        sem.Unmixer.load(tmp_path / "learner.safetensors")


def test_it_tells_how_long_it_takes():
    unmixer = sem.Unmixer(sample_rate=48_000)
    assert unmixer.settings.block == 480
    assert np.isnan(unmixer.real_time_factor)
    unmixer.process(mixed(n=9600)[0])
    assert unmixer.latency.samples == 0
    assert 0 < unmixer.latency.median <= unmixer.latency.worst
    assert unmixer.real_time_factor == pytest.approx(unmixer.latency.median * 5, rel=1e-6)


def test_crosstalk_is_the_mean_squared_correlation():
    rng = np.random.default_rng(0)
    y, records = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)), rng.normal(size=(300, 2))
    records[:, 1] = 4.0
    tally, products, level, still = np.zeros(1), np.ones((3, 3)), np.zeros(2), np.zeros(2, np.bool_)
    for part in (slice(0, 100), slice(100, 300)):
        assert observe(records[part], y[part], tally, products, level, still) == 1
    np.testing.assert_allclose(products, y.T @ y, rtol=1e-12)
    assert (level[1], list(still), tally[0]) == (4.0, [False, True], 300)
    norms = np.sqrt(np.diag(products))
    squares = (products / np.outer(norms, norms))[np.triu_indices(3, 1)] ** 2
    usual = np.diag(products).copy()
    assert crosstalk(products, usual) == pytest.approx(squares.mean())
    assert 0 < crosstalk(products, usual * [100.0, 1.0, 1.0]) < squares.mean()
    assert np.isnan(crosstalk(products, usual * [2000.0, 1.0, 1.0]))
    assert np.isnan(crosstalk(products, 20.0 * usual))
    assert np.isnan(crosstalk(np.ones((1, 1)), np.ones(1)))


@pytest.mark.parametrize("seed", [1, 2, 6])
def test_pauses_in_which_noise_is_heard_are_no_change_of_the_mixing(seed):
    _, mixing, sources = mixed(seed, n=64_000, K=4)
    rng = np.random.default_rng(seed + 100)
    speaking = np.repeat(rng.random((40, 4)) < 0.5, 1600, axis=0)
    speaking[:3200] = True
    X = (sources * speaking) @ mixing.T
    unmixer, _ = run(X + 0.03 * X.std(axis=0) * rng.normal(size=X.shape))
    assert kinds(unmixer) == ["start"]

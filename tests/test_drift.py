"""Alarms: at the set rate, soon enough, of the right kind, whatever the blocks, and over a restart."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import stream_em as sem
from benchmarks.samples import chain_params, chain_records, mixture_params, mixture_records
from benchmarks.scenarios import changing, watched
from stream_em.kernels.evidence import Evidence, gamble, lag_correlation, weigh
from stream_em.kernels.windows import HEAD, Reference, window_statistics, window_sums
from stream_em.learning.alarms import Alarm, common_share, looks_abrupt
from stream_em.learning.detectors import LogLikelihoodDetector, river_detector
from stream_em.learning.drift import DriftMonitor, DriftSettings, statistic_name, whiteners
from stream_em.learning.snapshot import read_snapshot, write_snapshot
from stream_em.runs.journal import read_journal

K, D = 3, 4
MODEL = sem.GaussianMixture(K)
PARAMS = mixture_params(K, D, spread=2.0)


def scored(n, seed=0, shift_at=None, size=3.0):
    """Return records, log-likelihoods and posterior under parameters that never change; one mean may be shifted."""
    X = mixture_records(PARAMS, n, seed)
    if shift_at is not None:
        X[shift_at:] += size * np.linalg.cholesky(PARAMS.covariances[0])[:, 0]
    learner = sem.Learner(MODEL, params=PARAMS)
    posterior, log_likelihood = learner.posterior(X), learner.log_likelihood(X)
    return X, log_likelihood, posterior


def alarms_of(monitor, X, log_likelihood, posterior, cuts):
    alarms = []
    for begin, end in zip([0, *cuts], [*cuts, len(X)], strict=True):
        part = slice(begin, end)
        alarms += monitor.update(X[part], log_likelihood[part], posterior[part], lambda: PARAMS)
    return alarms


def flat(monitor):
    """Return everything that a monitor holds, as bytes."""
    texts, arrays = monitor.dump()
    return texts, {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


STREAM = scored(24_000, shift_at=18_000)


# The numbers, against plain NumPy.


def test_a_window_becomes_the_statistics_that_plain_numpy_gives():
    rng = np.random.default_rng(1)
    n = 64
    X, log_likelihood, posterior = (part[:n].copy() for part in STREAM)
    log_likelihood[5] -= 100.0
    usual, means, direction = rng.normal(-7.0, 0.1, K), PARAMS.means + 0.1, rng.normal(size=(K, D))
    variance, mass = 4.0, np.array([0.2, 0.3, 0.5])
    reference = Reference(means, usual, mass, np.array([variance]), whiteners(MODEL, PARAMS, D), direction.copy())
    row, out = np.zeros(HEAD + 2 * K + K * D), np.zeros(2 + 3 * K)
    window_sums(X, posterior, log_likelihood, reference, np.empty((K, n)), row)
    window_statistics(row, reference, out)

    excess = log_likelihood - posterior @ usual
    tame = excess >= -6.0 * np.sqrt(variance)
    assert tame.sum() == n - 1
    R, x = posterior[tame], X[tame]
    N = R.sum(axis=0)
    expected = [-excess[tame].mean(), 1.0, *(N / (n - 1) - mass)]
    moves = [R[:, k] @ (x - means[k]) / np.sqrt(N[k]) for k in range(K)]
    z = [np.linalg.solve(np.linalg.cholesky(PARAMS.covariances[k]), moves[k]) for k in range(K)]
    expected += [z[k] @ z[k] for k in range(K)]
    expected += [z[k] @ direction[k] / np.linalg.norm(direction[k]) for k in range(K)]
    np.testing.assert_allclose(out, expected, rtol=1e-9)
    np.testing.assert_allclose(reference.direction, 0.75 * direction + z, rtol=1e-9)


def test_missing_values_are_left_out_of_residuals_and_their_scale_is_kept():
    X, log_likelihood, posterior = (part[:64].copy() for part in STREAM)
    X[::2, 1] = np.nan
    variance = np.array([1e6])
    reference = Reference(
        PARAMS.means + 0.5, np.zeros(K), np.zeros(K), variance, whiteners(MODEL, PARAMS, D), np.zeros((K, D))
    )
    row = np.zeros(HEAD + 2 * K + K * D)
    window_sums(X, posterior, log_likelihood, reference, np.empty((K, 64)), row)
    totals = row[HEAD + 2 * K :].reshape(K, D)
    seen = posterior[1::2]
    expected = (seen * (X[1::2, [1]] - reference.means[:, 1])).sum(axis=0)
    expected *= np.sqrt(posterior.sum(axis=0) / seen.sum(axis=0))
    np.testing.assert_allclose(totals[:, 1], expected, rtol=1e-9)
    np.testing.assert_allclose(
        totals[:, 0], (posterior * (X[:, [0]] - reference.means[:, 0])).sum(axis=0), rtol=1e-9, atol=1e-9
    )


@given(st.integers(1, 600), st.integers(0, 20), st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_bets_on_a_uniform_rank_neither_win_nor_lose_on_average(n_past, n_tied, stake):
    # All ranks of a new value among n_past, of which n_tied are equal to each other, are equally likely.
    n_tied = min(n_tied, n_past)
    wealth, since = np.zeros((1, 2)), np.zeros((1, 2), dtype=np.int64)
    total, among = np.zeros(2), n_past + 1
    above = 0
    while above < among:
        width = n_tied + 1 if above == 0 and n_tied else 1
        wealth[:] = 0.0
        gamble(wealth, since, 0, 0, float(above), float(width), float(among), stake)
        total += width * wealth[0]
        above += width
    np.testing.assert_allclose(total / among, 1.0, rtol=1e-9)


def test_a_bet_gains_what_its_density_says():
    wealth, since = np.zeros((1, 2)), np.zeros((1, 2), dtype=np.int64)
    gamble(wealth, since, 0, 7, 3.0, 1.0, 500.0, 1.0)
    low, high = 3 / 500, 4 / 500
    np.testing.assert_allclose(wealth[0, 0], (high**0.5 - low**0.5) / (high - low))
    np.testing.assert_allclose(wealth[0, 1], (high**0.25 - low**0.25) / (high - low))
    before = wealth.copy()
    gamble(wealth, since, 0, 8, 499.0, 1.0, 500.0, 0.5)
    low, high = 499 / 500, 1.0
    gain = 0.5 + 0.5 * (high**0.5 - low**0.5) / (high - low)
    np.testing.assert_allclose(wealth[0, 0], (1 + before[0, 0]) * gain)


def evidence_of(n_statistics, size=512):
    return Evidence(
        np.zeros((n_statistics, size)),
        np.tile(np.array([0, 1, 0]), (n_statistics, 1)),
        np.zeros(n_statistics),
        np.zeros(n_statistics),
        np.zeros((n_statistics, 2)),
        np.zeros((n_statistics, 2), dtype=np.int64),
    )


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy", "exponential"])
def test_the_evidence_of_independent_values_holds_the_rate_whatever_their_distribution(draw):
    rng = np.random.default_rng(3)
    n, threshold, alarms = 60_000, 300.0, 0
    values = getattr(rng, draw)(size=(n, 4))
    evidence = evidence_of(4)
    for now in range(n):
        if weigh(values[now], 4, 0, evidence, now) >= threshold:
            alarms += 1
            evidence = evidence_of(4)
    # At most n / threshold on average; not wildly fewer.
    assert alarms <= stats.poisson.ppf(0.999, n / threshold)
    assert alarms >= 0.15 * n / threshold


def test_values_that_depend_on_their_neighbours_are_averaged_until_they_do_not():
    rng = np.random.default_rng(4)
    steps, values = rng.normal(size=6000), np.zeros(6000)
    for t in range(1, 6000):
        values[t] = 0.9 * values[t - 1] + steps[t]
    assert abs(lag_correlation(values) - 0.9) < 0.03
    evidence = evidence_of(2)
    for now, value in enumerate(values):
        weigh(np.array([value, steps[now]]), 2, 0, evidence, now)
    assert evidence.counts[0, 1] >= 8
    assert evidence.counts[1, 1] == 1
    # What is left of the ring are means over so many windows.
    size, width = int(evidence.counts[0, 0]), int(evidence.counts[0, 1])
    assert size >= 32
    assert evidence.past[0, :size].std() < 0.75 * values.std()
    assert width & (width - 1) == 0


# The monitor: blocks, restarts, what is missing.


@given(st.lists(st.integers(0, len(STREAM[0])), max_size=12), st.integers(0, 24_000))
@settings(max_examples=15, deadline=None)
def test_neither_the_cuts_into_blocks_nor_a_restart_change_anything(cuts, stop):
    cuts = sorted(cuts)
    whole = DriftMonitor(MODEL)
    expected = alarms_of(whole, *STREAM, [])
    assert expected
    cut = DriftMonitor(MODEL)
    assert alarms_of(cut, *STREAM, cuts) == expected
    assert flat(cut) == flat(whole)

    first = DriftMonitor(MODEL)
    alarms = alarms_of(first, *(part[:stop] for part in STREAM), [])
    texts, arrays = first.dump()
    second = DriftMonitor.restore(MODEL, sem.Stepsize(), texts, {k: v.copy() for k, v in arrays.items()}, "here")
    alarms += alarms_of(second, *(part[stop:] for part in STREAM), [])
    assert alarms == expected
    assert flat(second) == flat(whole)


def test_a_monitor_survives_in_a_snapshot_file(tmp_path):
    monitor = DriftMonitor(MODEL, DriftSettings(123_456.0, 50))
    alarms_of(monitor, *(part[:7777] for part in STREAM), [])
    write_snapshot(tmp_path / "monitor.safetensors", *monitor.dump())
    texts, arrays = read_snapshot(tmp_path / "monitor.safetensors")
    restored = DriftMonitor.restore(MODEL, sem.Stepsize(), texts, arrays, "file")
    assert flat(restored) == flat(monitor)
    assert restored.settings == monitor.settings
    rest = [part[7777:] for part in STREAM]
    assert alarms_of(restored, *rest, []) == alarms_of(monitor, *rest, [])
    with pytest.raises(sem.InputError, match="file: no drift monitor"):
        DriftMonitor.restore(MODEL, sem.Stepsize(), {}, arrays, "file")


def test_a_monitor_of_another_shape_is_refused():
    texts, arrays = DriftMonitor(MODEL).dump()
    with pytest.raises(sem.InputError, match="another model"):
        DriftMonitor.restore(sem.GaussianMixture(K + 1), sem.Stepsize(), texts, arrays, "file")


def test_records_without_a_log_likelihood_are_passed_over_but_counted():
    X, log_likelihood, posterior = STREAM
    expected = alarms_of(DriftMonitor(MODEL), *STREAM, [])
    lead = 700
    X = np.concatenate([X[:lead], X])
    log_likelihood = np.concatenate([np.full(lead, np.nan), log_likelihood])
    posterior = np.concatenate([np.full((lead, K), np.nan), posterior])
    monitor = DriftMonitor(MODEL, stepsize=sem.Stepsize())
    alarms = alarms_of(monitor, X, log_likelihood, posterior, [350, 5000])
    assert monitor.seen == len(X)
    assert [(alarm.at - lead, alarm.statistic) for alarm in alarms] == [(a.at, a.statistic) for a in expected]


def test_missing_values_raise_no_alarm_and_hide_none():
    rng = np.random.default_rng(5)
    X = mixture_records(PARAMS, 30_000)
    X[24_000:] += 1.5 * np.linalg.cholesky(PARAMS.covariances[0])[:, 0]
    X[rng.random(X.shape) < 0.1] = np.nan
    learner = sem.Learner(MODEL, params=PARAMS)
    alarms = watched(DriftMonitor(MODEL), learner, X)
    assert [alarm for alarm in alarms if alarm.at <= 24_000] == []
    assert 24_000 < alarms[0].at < 24_500


def test_memory_is_constant():
    monitor = DriftMonitor(MODEL)
    sizes = []
    for _ in range(4):
        alarms_of(monitor, *(part[:10_000] for part in STREAM), [])
        sizes.append(sum(array.nbytes for array in monitor.dump()[1].values()))
    assert max(sizes) - min(sizes) <= 64 * (D + K + 1) * 8


def test_a_model_without_means_is_watched_by_log_likelihood_and_shares():
    X, log_likelihood, posterior = scored(20_000)
    fields = SimpleNamespace(_fields=("weights",))
    own = {"counted_features": lambda n_features: n_features, "shares": lambda posterior: posterior}
    model = SimpleNamespace(n_components=K, params_type=fields, **own)
    monitor = DriftMonitor(model)
    assert monitor.update(X, log_likelihood, posterior, SimpleNamespace) == []
    log_likelihood = log_likelihood - 1.0
    (alarm, *_) = monitor.update(X, log_likelihood, posterior, SimpleNamespace)
    assert alarm.statistic == "log-likelihood"
    assert alarm.at < 20_600
    monitor = DriftMonitor(model)
    keep = posterior[:, 0] < 0.5
    monitor.update(X, log_likelihood, posterior, SimpleNamespace)
    (alarm, *_) = monitor.update(X[keep], log_likelihood[keep], posterior[keep], SimpleNamespace)
    assert alarm.statistic == "mass"


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_whiteners_give_residuals_unit_covariance(covariance_type):
    rng = np.random.default_rng(6)
    full = PARAMS.covariances
    shapes = {"full": full, "tied": full[0], "diag": rng.random((K, D)) + 0.5, "spherical": rng.random(K) + 0.5}
    covariances = shapes[covariance_type]
    dense = {
        "full": full,
        "tied": np.array([full[0]] * K),
        "diag": np.array([np.diag(c) for c in shapes["diag"]]),
        "spherical": np.array([c * np.eye(D) for c in shapes["spherical"]]),
    }[covariance_type]
    W = whiteners(sem.GaussianMixture(K, covariance_type=covariance_type), SimpleNamespace(covariances=covariances), D)
    np.testing.assert_allclose(W @ dense @ W.transpose(0, 2, 1), np.array([np.eye(D)] * K), atol=1e-9)


@pytest.mark.parametrize(
    ("wrong", "named"), [({"window": 4}, "window"), ({"window": 64, "false_alarm_every": 100.0}, "false_alarm_every")]
)
def test_impossible_settings_are_refused(wrong, named):
    with pytest.raises(sem.InputError, match=named):
        DriftSettings(**wrong)


# Rate, delay and kind, with a learner that learns.


@pytest.mark.parametrize(
    ("kind", "n_features", "stepsize", "streams"),
    [
        ("mixture", 2, sem.Stepsize(), 10),
        ("mixture", 2, sem.Stepsize.constant(half_life=1000), 10),
        ("mixture", 16, sem.Stepsize(), 6),
        ("chain", 2, sem.Stepsize(), 10),
    ],
)
def test_no_more_false_alarms_than_set(kind, n_features, stepsize, streams):
    n, rate, alarms = 60_000, 30_000.0, 0
    for seed in range(streams):
        if kind == "mixture":
            params = mixture_params(K, n_features, spread=2.0, seed=seed)
            learner, X = sem.Learner(MODEL, stepsize=stepsize, params=params), mixture_records(params, n, seed)
        else:
            params = chain_params(K, n_features, spread=2.0, seed=seed)
            model = sem.HiddenMarkov(K)
            learner, X = sem.Learner(model, stepsize=stepsize, params=params), chain_records(params, n, seed)
        alarms += len(watched(DriftMonitor(learner.model, DriftSettings(rate), stepsize), learner, X, 4096))
    # The rate is a bound on the mean; more than this would come by chance once in a thousand times.
    assert alarms <= stats.poisson.ppf(0.999, streams * n / rate)


def first_alarms(kind, size, streams, n_features=16, before=14_000, after=6000, lasting=2000):
    """Return, for each stream, where the change began and the alarms after it."""
    found = []
    for seed in range(streams):
        start = before + 37 * seed
        params, X = changing(kind, K, n_features, size, start, after, lasting, seed)
        learner = sem.Learner(MODEL, params=params)
        alarms = watched(DriftMonitor(MODEL), learner, X)
        found.append((start, [alarm for alarm in alarms if alarm.at > start]))
    return found


def test_a_shift_of_one_mean_by_one_deviation_is_found_within_500_records():
    found = first_alarms("abrupt", 1.0, 12)
    delays = [alarms[0].at - start if alarms else np.inf for start, alarms in found]
    assert np.median(delays) < 500
    kinds = [alarms[0].kind for _, alarms in found if alarms]
    assert kinds.count("abrupt") > len(kinds) / 2
    assert all(alarms[0].statistic in ("distance", "direction") for _, alarms in found if alarms)


def test_a_burst_of_outliers_is_no_drift():
    for start, alarms in first_alarms("outliers", 1.0, 6, after=12_000):
        assert alarms[0].kind == "outliers"
        assert alarms[0].at - start < 1000
        assert [alarm for alarm in alarms if alarm.drift] == []


def test_wild_records_that_stay_are_drift():
    X = mixture_records(PARAMS, 30_000)
    wild = np.random.default_rng(7).random(len(X)) < 0.05
    wild[:14_000] = False
    X[wild] += 30.0
    learner = sem.Learner(MODEL, params=PARAMS, inhibit=10**9)
    first, second, *_ = watched(DriftMonitor(MODEL), learner, X)
    assert (first.kind, first.drift) == ("outliers", False)
    assert (second.kind, second.drift, second.statistic) == ("gradual", True, "outliers")
    assert second.at - first.at == 64 * 64


def test_a_common_move_of_all_means_is_a_level_shift():
    kinds = [alarms[0].kind for _, alarms in first_alarms("level", 2.0, 6)]
    assert kinds.count("level") >= 5


def test_a_move_that_makes_a_minority_of_the_records_wild_is_not_taken_for_outliers():
    rng = np.random.default_rng(1)
    centres = np.array([[0.0, 0.0], [5.0, 5.0], [0.0, 9.0]])[rng.integers(0, 3, 24_000)]
    centres[20_000:] += [-2.0, 2.0]
    X = centres + rng.normal(size=centres.shape)
    covariances = np.tile(np.eye(2), (3, 1, 1))
    params = sem.GaussianMixture.params_type(
        np.full(3, 1 / 3), np.array([[0.0, 0.0], [5.0, 5.0], [0.0, 9.0]]), covariances
    )
    learner = sem.Learner(sem.GaussianMixture(3), params=params)
    (alarm, *_) = watched(DriftMonitor(learner.model), learner, X)
    assert (alarm.statistic, alarm.kind) == ("outliers", "level")
    assert 20_000 < alarm.at < 20_500


def test_the_largest_change_of_all_is_not_taken_for_outliers():
    X = mixture_records(PARAMS, 15_000)
    X[14_000:] += 1000.0
    (alarm, *_) = watched(DriftMonitor(MODEL), sem.Learner(MODEL, params=PARAMS), X)
    assert alarm.drift
    assert 14_000 < alarm.at < 14_500


def test_a_chain_whose_emissions_move_raises_an_alarm():
    params = chain_params(K, D, spread=2.0)
    X = chain_records(params, 26_000)
    X[20_000:] += 1.0
    model = sem.HiddenMarkov(K)
    alarms = watched(DriftMonitor(model), sem.Learner(model, params=params), X)
    assert 20_000 < alarms[0].at < 20_600


def test_a_step_is_told_from_a_ramp():
    rng = np.random.default_rng(8)
    noise = rng.normal(size=64)
    assert looks_abrupt(noise + 4.0 * (np.arange(64) >= 40))
    assert not looks_abrupt(noise + 0.2 * np.maximum(np.arange(64) - 20, 0))


def test_moves_that_are_one_are_told_from_moves_of_one():
    W, n = np.array([np.eye(2)] * 2), np.array([100.0, 100.0])
    assert common_share(np.array([[100.0, 0.0], [100.0, 0.0]]), n, W) > 0.9
    assert common_share(np.array([[200.0, 0.0], [0.0, 0.0]]), n, W) < 0.6
    assert common_share(np.array([[200.0, 0.0], [0.0, 0.0]]), np.array([100.0, 0.0]), W) == 0.0


def test_an_alarm_is_one_line():
    line = str(Alarm(1000, 900, "distance", 2, 16_000.0, 15_625.0, "abrupt"))
    assert line == "abrupt: distance of component 2 since about record 900 (1.6e+04, alarm at 1.562e+04)"
    assert [statistic_name(bet, 2) for bet in range(10)] == [
        ("log-likelihood", None),
        ("outliers", None),
        *[(name, k) for name in ("mass", "distance", "direction", "mass") for k in range(2)],
    ]


# Detectors of others.


class Third:
    """Alarms at every third number above 3."""

    def __init__(self):
        self.count = 0
        self.drift_detected = False

    def update(self, x):
        self.count += x > 3.0
        self.drift_detected = x > 3.0 and self.count % 3 == 0


@pytest.mark.parametrize("cuts", [[], [100, 101, 5000], list(range(50, 8000, 50))])
def test_any_detector_is_fed_with_standardised_scores(cuts):
    rng = np.random.default_rng(9)
    log_likelihood = rng.uniform(-1.0, 1.0, 8000)
    log_likelihood[[7000, 7100, 7200]] = -100.0
    log_likelihood[:40] = np.nan
    detector = LogLikelihoodDetector(Third, "third")
    alarms = alarms_of(detector, np.zeros((8000, 1)), log_likelihood, np.ones((8000, 1)), cuts)
    assert [(alarm.statistic, alarm.kind, alarm.threshold) for alarm in alarms] == [("third", "drift", None)]
    assert 7200 < alarms[0].at <= 7264
    assert detector.seen == 8000


@pytest.mark.parametrize("name", ["adwin", "page-hinkley", "kswin"])
def test_detectors_of_river_find_a_fall_of_the_log_likelihood(name):
    rng = np.random.default_rng(10)
    log_likelihood = rng.normal(size=6000) - 2.0 * (np.arange(6000) >= 4000)
    alarms = alarms_of(LogLikelihoodDetector.named(name), np.zeros((6000, 1)), log_likelihood, np.ones((6000, 1)), [])
    assert alarms
    assert 4000 < alarms[0].at < 4300


def test_a_detector_that_is_not_there_is_named():
    with pytest.raises(sem.InputError, match="no detector 'ddm'"):
        river_detector("ddm")


LENGTHS = (12_000, 8000, 8000, 8000)
REGIMES = [np.random.default_rng(20 + i).normal(2.0 * (i % 2), 1.0, (length, 2)) for i, length in enumerate(LENGTHS)]


def learned(learner, X, cut=250):
    for begin in range(0, len(X), cut):
        learner.learn(X[begin : begin + cut])
    return learner


def watched_learner(**options):
    return sem.Learner(sem.GaussianMixture(n_components=2), starts=2, drift=DriftSettings(), recent=1000, **options)


class Counter:
    """A watcher of one's own: it alarms at given records."""

    def __init__(self, at):
        self.at, self.seen, self.resets = at, 0, 0

    def update(self, records, log_likelihood, posterior, params):
        places = range(self.seen + 1, self.seen + len(records) + 1)
        self.seen += len(records)
        return [Alarm(at, at, "by hand", None, 0.0, None, "drift") for at in self.at if at in places]

    def reset(self):
        self.resets += 1


@pytest.mark.parametrize("cuts", [250, 1000, 7919, 36_000])
def test_how_records_arrive_matters_neither_to_alarms_nor_to_challengers(cuts):
    # Two clusters: with two components on one, rounding would grow without end.
    X = np.concatenate(REGIMES) + 9.0 * (np.random.default_rng(3).random((36_000, 1)) < 0.4)

    def fed(cut):
        learner = watched_learner()
        learner.watchers.append(Counter([15_001, 15_003, 30_000]))
        return learned(learner, X, cut)

    one, other = fed(64), fed(cuts)
    whats = [[(event.at, event.kind, event.detail.split(":")[0]) for event in each.events] for each in (one, other)]
    assert whats[0] == whats[1]
    assert {15_001, 15_003, 30_000} < {at for at, kind, _ in whats[0] if kind == "drift"}
    for ours, theirs in zip(one.params, other.params, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert other.watchers[1].seen == one.watchers[1].seen == 36_000
    assert other.watchers[1].resets == one.watchers[1].resets > 0


def test_a_learner_that_watches_takes_up_changes_and_knows_old_regimes_again():
    learner = learned(watched_learner(), np.concatenate(REGIMES))
    drifts = [event.at for event in learner.events if event.kind == "drift"]
    assert len(drifts) == 3
    for at, change in zip(drifts, np.cumsum(LENGTHS)[:3], strict=True):
        assert change < at <= change + 500
    wins = [event for event in learner.events if event.kind == "replaced"]
    winners = [next(event for event in wins if event.at > at) for at in drifts]
    assert [event.at - at <= 300 for event, at in zip(winners, drifts, strict=True)] == [True] * 3
    # From the second visit on it is the stored regime that wins.
    assert all(" by regime of " in event.detail for event in winners[1:])
    alone = learned(sem.Learner(sem.GaussianMixture(n_components=2), starts=2), np.concatenate(REGIMES))
    assert learner.mean_log_likelihood > alone.mean_log_likelihood + 0.1


def test_a_learner_that_watches_goes_on_bitwise_from_its_file(tmp_path):
    X = np.concatenate(REGIMES[:3])
    whole = learned(watched_learner(), X)
    for stop in (250, 11_750, 12_250, 12_500, 13_000):
        first = learned(watched_learner(), X[:stop])
        first.save(tmp_path / "x.safetensors")
        again = learned(sem.load(tmp_path / "x.safetensors"), X[stop:])
        assert list(again.events) == list(whole.events)
        for ours, theirs in zip(again.state, whole.state, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_merged_learners_watch_what_comes_and_further_detectors_too():
    params = learned(watched_learner(), REGIMES[0]).params
    model = sem.GaussianMixture(n_components=2)
    drift = DriftSettings(detectors=("adwin",))
    shards = [learned(sem.Learner(model, params=params, drift=drift), part) for part in np.split(REGIMES[0], 2)]
    merged = learned(shards[0].merge(shards[1]), np.concatenate([REGIMES[0], REGIMES[1][:3000]]))
    statistics = [event.detail.split(": ")[1].split(" ")[0] for event in merged.events if event.kind == "drift"]
    assert statistics
    assert sem.Learner.restore(*merged.dump(), "x").watchers[1].name == "adwin"


def test_a_run_that_watches_goes_on_and_may_not_stop_watching(run, tmp_path):
    X = np.concatenate(REGIMES[:2])
    np.savetxt(tmp_path / "a.csv", X, delimiter=",", header="a,b", comments="")
    config = tmp_path / "c.toml"
    source = f'[source]\ntype = "files"\npath = "{tmp_path}/a.csv"\nblock_size = 250\n'
    rest = f'[model]\ntype = "gaussian-mixture"\n[run]\nfolder = "{tmp_path}/run"\n'
    config.write_text(f"{source}{rest}[drift]\n")
    assert run("run", config, "--max-records", 12_100)[0] == 0
    assert run("run", config)[0] == 0
    events = read_journal(tmp_path / "run" / "journal.db", "events")
    kinds = [row["kind"] for row in events]
    assert {"drift", "challenger", "replaced"} <= set(kinds)
    (drift,) = [row for row in events if row["kind"] == "drift"]
    assert "since about record" in drift["detail"]
    for more, said in (("", "drift: this table"), ("[drift]\nwindow = 32\n", "drift.window")):
        config.write_text(f"{source}{rest}{more}")
        code, _, err = run("run", config)
        assert code == 2
        assert said in err

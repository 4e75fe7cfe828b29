"""Several learners on one stream: what is asserted for every model, and the rules by which the champion changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CASES

import stream_em as sem
from stream_em.learning.advance import Course
from stream_em.learning.begin import begin_with
from stream_em.learning.challengers import KINDS
from stream_em.learning.keep import tensors_of
from stream_em.learning.recent import latest, no_records, remember
from stream_em.learning.tournament import FIRST_ROUND, LOOK_EVERY, MOST_ROUNDS, Contender, settle, until_look

NEVER = 10**9
all_models = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def drawn(case, n, seed=1):
    """Return records with missing values, one of them all missing, and weights if the model takes any."""
    rng = np.random.default_rng(seed)
    X = case.draw(rng, n)
    X[rng.random(X.shape) < 0.05] = np.nan
    X[n // 2] = np.nan
    return X, rng.integers(1, 3, n).astype(float) if case.model.exchangeable else np.ones(n)


def competing(case, **options):
    """Return a learner with starts that differ, recent records and a schedule."""
    return sem.Learner(
        case.model,
        **{"warmup": 100, "refresh_every": 50, "starts": 6, "recent": 150, "restart_every": 400}
        | {"half_lives": (20.0, 300.0)}
        | options,
    )


def learned(learner, X, weights, cuts=(), challenge_at=900):
    """Learn in pieces, challenge by hand on the way, and return all log-likelihoods."""
    pieces = np.split(np.arange(len(X)), sorted({*cuts, challenge_at}))
    found = []
    for piece in pieces:
        if len(piece) and piece[0] == challenge_at:
            learner.challenge("by hand")
        found.append(learner.learn(X[piece], weights[piece]))
    return np.concatenate(found)


def told(learner):
    """Return what happened, without the figures that rounding may change."""
    return [(event.at, event.kind, event.detail.split(":")[0]) for event in learner.events]


@all_models
@settings(max_examples=4, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 1500), max_size=8))
def test_a_tournament_does_not_depend_on_how_the_stream_is_cut(case, cuts):
    X, weights = drawn(case, 1500)
    whole, cut = competing(case), competing(case)
    log_likelihood = learned(whole, X, weights)
    np.testing.assert_allclose(learned(cut, X, weights, cuts), log_likelihood, rtol=1e-7, atol=1e-7)
    assert told(cut) == told(whole)
    (text, tensors), (cut_text, cut_tensors) = tensors_of(whole.tournament), tensors_of(cut.tournament)
    assert cut_text == text
    assert any(name.startswith("contender.") for name in tensors)
    for name, array in tensors.items():
        np.testing.assert_allclose(cut_tensors[name], array, rtol=1e-6, atol=1e-6, err_msg=name)


@all_models
@pytest.mark.parametrize("at", [150, 350, 450, 950, 1150])
def test_a_restored_tournament_goes_on_bitwise(case, at, tmp_path):
    X, weights = drawn(case, 1500)
    plain, stopped = competing(case), competing(case)
    log_likelihood = learned(plain, X, weights, [at])
    before = slice(0, at)
    learned(stopped, X[before], weights[before])
    stopped.save(tmp_path / "model.safetensors")
    restored = sem.load(tmp_path / "model.safetensors")
    rest = learned(restored, X[at:], weights[at:], challenge_at=900 - at if at < 900 else NEVER)
    np.testing.assert_array_equal(rest, log_likelihood[at:])
    (text, tensors), (restored_text, restored_tensors) = tensors_of(plain.tournament), tensors_of(restored.tournament)
    assert restored_text == text
    assert restored.events == plain.events
    assert restored_tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(restored_tensors[name], array, err_msg=name)


@all_models
def test_the_seed_decides_everything(case):
    X, weights = drawn(case, 1500)
    one, same, other = (competing(case, seed=seed) for seed in (3, 3, 4))
    found = [learned(learner, X, weights) for learner in (one, same, other)]
    np.testing.assert_array_equal(found[1], found[0])
    assert same.events == one.events
    assert not np.array_equal(found[2], found[0])


@all_models
def test_off_means_off(case):
    X, weights = drawn(case, 1500)
    off, given_params = sem.Learner(case.model, starts=1, warmup=100), sem.Learner(case.model, params=case.params)
    for learner in (off, given_params):
        learner.learn(X, weights)
        assert not learner.tournament.contenders
        assert not learner.tournament.checkpoints
        assert not len(learner.tournament.recent.records)
        assert tensors_of(learner.tournament)[1].keys() == set(learner.state._fields)
        with pytest.raises(sem.InputError, match="recent=5000"):
            learner.challenge("drift")


def test_learners_that_agree_have_one_start_and_a_merged_one_no_contenders():
    case = CASES[0]
    X, weights = drawn(case, 1500)
    agreeing = competing(case)
    agreeing.agree = lambda params: params
    agreeing.learn(X[:200], weights[:200])
    assert not agreeing.tournament.contenders
    other = sem.Learner(case.model, params=agreeing.params)
    agreeing, other = (sem.Learner(case.model, params=case.params, recent=100) for _ in range(2))
    agreeing.learn(X[:700], weights[:700])
    agreeing.challenge("by hand", kinds=("adapted",))
    other.learn(X[700:], weights[700:])
    merged = agreeing.merge(other)
    assert agreeing.tournament.contenders
    assert not merged.tournament.contenders
    assert merged.count == agreeing.count + other.count


def test_a_model_saved_before_there_were_tournaments_goes_on():
    case = CASES[0]
    X, weights = drawn(case, 1500)
    plain = sem.Learner(case.model, params=case.params)
    plain.learn(X[:700], weights[:700])
    metadata, tensors = plain.dump()
    tensors = {name: array.copy() for name, array in tensors.items() if name != "clock"}
    restored = sem.Learner.restore({key: text for key, text in metadata.items() if key != "tournament"}, tensors, "old")
    np.testing.assert_array_equal(restored.learn(X[700:], weights[700:]), plain.learn(X[700:], weights[700:]))


@pytest.mark.parametrize("pieces", [[1] * 25, [3, 3, 9, 10], [25], [7, 0, 18]])
def test_the_ring_holds_the_latest_records(pieces):
    recent, X = no_records(10, 2), np.arange(50.0).reshape(25, 2)
    seen = 0
    for n in pieces:
        remember(recent, X[seen : seen + n], np.arange(seen, seen + n, dtype=float))
        seen += n
        records, counts = latest(recent)
        np.testing.assert_array_equal(records, X[max(0, seen - 10) : seen])
        np.testing.assert_array_equal(counts, np.arange(max(0, seen - 10), seen))
        np.testing.assert_array_equal(latest(recent, 4)[0], X[max(0, seen - 4) : seen])


# The rules, on values made by hand


def standing(evidence, rivals, at, first_round=FIRST_ROUND, entered=0):
    """Return a tournament after `at` records whose contenders have shown this much; their states differ in theta."""
    case = CASES[0]
    sized, theta = case.model.from_params(case.params)
    course = Course(case.model, sem.Learner(case.model).settings, sized)
    tournament = begin_with(course, theta)
    tournament.state.tally[0] = at
    tournament.state.totals[:] = 7.0, 5.0, -3.0
    contenders = []
    for i, value in enumerate(evidence):
        state = begin_with(course, theta + i + 1).state
        contenders.append(
            Contender(f"one {i}", state, entered, first_round, rivals, np.array(value, dtype=float).reshape(2))
        )
    return tournament._replace(contenders=tuple(contenders))


def names(tournament):
    return [each.name for each in tournament.contenders]


def test_starts_are_halved_at_each_doubling_and_the_best_leads():
    before = standing([(i, 0) for i in (3, -1, 8, -2, 5, -9, 4)], rivals=0, at=100, first_round=100)
    after, events = settle(before, 1e-3)
    assert after.champion == "one 2"
    assert after.state is before.contenders[2].state
    np.testing.assert_array_equal(after.state.totals, before.state.totals)
    assert names(after) == ["one 4", "one 6", "one 0"]
    assert [each.evidence[0] for each in after.contenders] == [0, 0, 0]
    assert [(event.at, event.kind) for event in events] == [(7.0, "replaced")]
    assert [until_look(after.contenders[0], at) for at in (100, 150, 199, 200)] == [100, 50, 1, 200]
    after.state.tally[0] = 150
    assert settle(after, 1e-3) == (after, [])
    after.state.tally[0] = 200
    for each in after.contenders:
        each.evidence[0] = -1.0
    after, events = settle(after, 1e-3)
    assert (after.champion, len(after.contenders), events) == ("one 2", 1, [])
    after.state.tally[0] = 400
    assert not settle(after, 1e-3)[0].contenders


def test_a_beaten_start_goes_on_beside_the_new_champion():
    before = standing([(1, 0), (0.5, 0), (-6, 0)], rivals=0, at=100, first_round=100)
    after, _ = settle(before, 1e-3)
    assert (after.champion, names(after)) == ("one 0", ["one 1"])
    before = standing([(1, 0), (-2, 0), (-6, 0)], rivals=0, at=100, first_round=100)
    after, _ = settle(before, 1e-3)
    assert (after.champion, names(after)) == ("one 0", ["start"])
    assert after.contenders[0].state is before.state


@pytest.mark.parametrize("at", [LOOK_EVERY, FIRST_ROUND, FIRST_ROUND + 512, 4 * FIRST_ROUND])
@pytest.mark.parametrize("rivals", [1, 4])
@pytest.mark.parametrize("delta", [1e-3, 0.1])
def test_a_challenger_wins_if_its_evidence_exceeds_the_bound(at, rivals, delta):
    j = {64: 0, 512: 0, 1024: 1, 2048: 2}[at]
    bound = np.log(rivals * (j + 1) * (j + 2) / delta)
    for excess, winner in ((-1e-6, "start"), (1e-6, "one 0")):
        after, events = settle(standing([(bound + excess, 0)], rivals, at), delta)
        assert after.champion == winner
        assert [event.kind for event in events if event.kind != "dropped"] == ["replaced"] * (excess > 0)


def test_the_shares_of_all_rounds_and_rivals_make_the_error_rate():
    shares = [1 / ((j + 1) * (j + 2)) for j in range(MOST_ROUNDS)]
    assert sum(shares) == pytest.approx(1 - 1 / (MOST_ROUNDS + 1))


def test_between_looks_nothing_is_settled():
    before = standing([(1000, 0)], 1, LOOK_EVERY - 1)
    assert settle(before, 1e-3) == (before, [])


def test_the_others_are_measured_against_a_new_champion():
    before = standing([(20, 0), (15, 0)], 2, 64)
    late = before.contenders[1]._replace(name="late", entered=3, evidence=np.array([9.0, 0.0]))
    after, _ = settle(before._replace(contenders=(*before.contenders, late)), 1e-3)
    assert after.champion == "one 0"
    assert [each.evidence[0] for each in after.contenders] == [-5, 0]


def test_challengers_are_dropped_for_a_reason_that_is_told():
    after, events = settle(standing([(-1, 0), (-2, 0), (-3, 0)], 3, FIRST_ROUND), 1e-3)
    assert names(after) == ["one 0", "one 1"]
    assert after.contenders[1].evidence.tolist() == [0, -2 / FIRST_ROUND]
    assert "one 2: in the worse half; -3 nats" in events[0].detail
    n = FIRST_ROUND
    lost, closing = standing([(-50, -50 / n)], 1, 2 * n), standing([(-50, -80 / n)], 1, 2 * n)
    after, events = settle(lost, 1e-3)
    assert (names(after), events[0].kind) == ([], "dropped")
    assert "clearly lost" in events[0].detail
    assert names(settle(closing, 1e-3)[0]) == ["one 0"]
    after, events = settle(standing([(3, 0)], 1, n << (MOST_ROUNDS - 1)), 1e-3)
    assert names(after) == []
    assert "last round" in events[0].detail


@all_models
@pytest.mark.parametrize("n", [1, 3])
def test_a_challenge_with_hardly_any_record_does_no_harm(case, n):
    X, weights = drawn(case, 700)
    learner = sem.Learner(case.model, params=case.params, recent=500)
    learner.learn(X[:n], weights[:n])
    learner.challenge("at once")
    log_likelihood = learner.learn(X[n:], weights[n:])
    assert np.isfinite(log_likelihood).all()
    assert log_likelihood[-200:].mean() > -20


@pytest.mark.parametrize("frozen", [("weights",), ("means",), ("means", "covariances")])
def test_challengers_leave_alone_what_is_to_stay(frozen):
    case = CASES[0]
    model = sem.GaussianMixture(n_components=3, frozen=frozen)
    params = model.params_type(
        np.array([0.5, 0.4, 0.1]), np.vstack([case.params.means, [9.0, 9.0, 9.0]]), np.array([np.eye(3)] * 3)
    )
    learner = sem.Learner(model, params=params, recent=500, restart_every=1000)
    X, _ = drawn(case, 4000)
    learner.learn(X[:2000])
    learner.challenge("by hand")
    assert not any(name.startswith("fresh") for name in names(learner.tournament))
    learner.learn(X[2000:])
    learner.challenge("by hand")
    for state in (learner.tournament.state, *(each.state for each in learner.tournament.contenders)):
        for name in frozen:
            np.testing.assert_allclose(
                getattr(model.params(learner.sized, state.theta), name), getattr(params, name), atol=1e-12
            )


def test_impossible_settings_are_told():
    model = CASES[0].model
    for options, message in (
        ({"delta": 0.0}, "delta must be"),
        ({"delta": 1}, "delta must be"),
        ({"recent": -1}, "recent must be"),
        ({"recent": 10**8}, "recent must be"),
        ({"restart_every": 0, "recent": 10}, "restart_every must be"),
    ):
        with pytest.raises(sem.InputError, match=message):
            sem.Learner(model, **options)
    learner = sem.Learner(model, params=CASES[0].params, recent=100)
    with pytest.raises(sem.InputError, match=f"kinds may be {', '.join(KINDS)}; not 'new'"):
        learner.challenge("drift", kinds=("new",))
    learner.challenge("nothing was seen yet")
    assert not learner.tournament.contenders
    with pytest.raises(sem.InputError, match="have started"):
        sem.Learner(model, recent=100).challenge("drift")

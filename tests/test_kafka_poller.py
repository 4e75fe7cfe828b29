"""The thread that polls, on a client of wood: what it tells, and that nothing stops it silently."""

import threading
import time

import numpy as np
import pytest

import stream_em as sem
from stream_em.streams.kafka import poller as polling
from stream_em.streams.kafka.interface import BrokerAwayError, Fetched, OffsetsGoneError, Partition, Range, Topic
from stream_em.streams.kafka.poller import Poller

ONE, TWO = Partition("t", 0), Partition("t", 1)


class WoodenClient:
    """Messages of partitions as lists; may be away, stuck, or without what is asked for."""

    def __init__(self, **messages):
        self.messages = {Partition("t", int(name[1:])): count for name, count in messages.items()}
        self.begins = dict.fromkeys(self.messages, 0)
        self.at, self.assigned, self.pauses, self.committed, self.fetches = {}, [], [], [], 0
        self.away = self.stuck = self.paused = self.commit_fails = False
        self.topic = Topic("a" * 32, tuple(each.number for each in self.messages))
        self.there = True
        self.commit_error = None

    def topics(self, names, seconds):
        if self.away:
            raise BrokerAwayError("no broker")
        return {"t": self.topic} if self.there else {}

    def assign(self, positions):
        self.at = dict(positions)
        self.assigned.append(dict(positions))
        self.stuck = False

    def fetch(self, most, seconds):
        self.fetches += 1
        for partition, offset in self.at.items():
            if self.away or self.stuck or self.paused:
                break
            if not self.begins[partition] <= offset <= self.messages[partition]:
                raise OffsetsGoneError(each for each in [partition])
            n = min(5, self.messages[partition] - offset)
            if n > 0:
                self.at[partition] += n
                return [Fetched.of(partition, np.arange(offset, offset + n), [b"x" * 10] * n, 0.0, [None] * n)]
        time.sleep(0.005)
        return []

    def pause(self, paused):
        self.paused = paused
        self.pauses.append(paused)

    def position(self, partition):
        return self.at[partition]

    def ranges(self, partitions, seconds):
        if self.away:
            raise BrokerAwayError("no broker at x within 1 s")
        return {each: Range(self.begins[each], self.messages[each]) for each in partitions}

    def end(self, partition):
        return self.messages[partition]

    def commit(self, offsets, seconds):
        if self.commit_fails:
            raise BrokerAwayError("no coordinator")
        self.committed.append(dict(offsets))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, seconds in (
        ("ASK_SECONDS", 0.05),
        ("LOOK_SECONDS", 0.05),
        ("STUCK_SECONDS", 0.2),
        ("PAUSE_SECONDS", 0.1),
    ):
        monkeypatch.setattr(polling, name, seconds)


@pytest.fixture
def polled():
    """Start pollers, and stop them at the end."""
    made = []

    def polled(client, until=None, most=1000, on_data_loss="fail", give_up_after=60.0):
        poller = Poller(
            client,
            dict.fromkeys(client.messages, 0),
            topics={"t": client.topic},
            wanted=lambda client, seconds: client.topics(None, seconds),
            until=until,
            most_messages=most,
            on_data_loss=on_data_loss,
            give_up_after=give_up_after,
        )
        poller.start()
        made.append(poller)
        return poller

    yield polled
    for poller in made:
        assert poller.join(5)


def taken(poller, seconds=0.5):
    """Take all that comes for some time: offsets by partition, and the kinds of notes."""
    offsets, kinds, end = {}, [], time.monotonic() + seconds
    while time.monotonic() < end:
        got = poller.buffer.take(1000, 0.01)
        kinds += [note.kind for note in got.notes]
        for fetched in got.fetched:
            offsets.setdefault(fetched.partition, []).extend(fetched.offsets.tolist())
        if got.ended:
            break
    return offsets, kinds


def test_a_bounded_run_ends_at_its_offsets(polled):
    client = WoodenClient(p0=20, p1=30)
    poller = polled(client, until={ONE: 13, TWO: 30})
    assert taken(poller, 5) == ({ONE: list(range(13)), TWO: list(range(30))}, [])
    assert polled(WoodenClient(p0=0), until={ONE: 0}).buffer.take(1, 5).ended


def test_a_full_buffer_pauses_and_polling_goes_on(polled):
    client = WoodenClient(p0=1000)
    poller = polled(client, most=20)
    time.sleep(0.3)
    assert client.pauses == [True], "after a short wait"
    assert 20 <= poller.buffer.messages <= 25
    before = client.fetches
    time.sleep(0.1)
    assert client.fetches > before, "a member that does not poll would be expelled"
    offsets, _ = taken(poller, 3)
    assert offsets[ONE] == list(range(1000))
    assert client.pauses[1] is False


def test_an_outage_is_told_once_and_its_end_too(polled):
    client = WoodenClient(p0=5)
    poller = polled(client)
    taken(poller, 0.1)
    client.away = True
    assert taken(poller, 0.4)[1] == ["broker-away"]
    assert "the broker has been away for" in poller.trouble
    client.away, client.messages[ONE] = False, 8
    offsets, kinds = taken(poller, 0.4)
    assert (offsets[ONE], kinds) == ([5, 6, 7], ["broker-back"])
    assert poller.trouble is None


def test_a_silent_topic_is_no_outage(polled):
    poller = polled(WoodenClient(p0=0), give_up_after=0.1)
    assert taken(poller, 0.4) == ({}, [])
    assert poller.trouble is None


def test_it_gives_up_after_the_time_that_was_set(polled):
    client = WoodenClient(p0=3)
    client.away = True
    poller = polled(client, give_up_after=0.2)
    begin = time.monotonic()
    with pytest.raises(sem.OutsideError, match=r"no broker at x.*gave up after.*goes on where it stopped"):
        taken(poller, 5)
    assert 0.1 < time.monotonic() - begin < 2


def test_a_client_that_is_stuck_is_told_again_what_to_read(polled):
    client = WoodenClient(p0=10)
    poller = polled(client)
    taken(poller, 0.1)
    client.stuck, client.messages[ONE] = True, 20
    offsets, kinds = taken(poller, 1)
    assert offsets[ONE] == list(range(10, 20))
    assert kinds == ["stuck"]


def test_offsets_that_are_gone_stop_it_or_are_told(polled):
    client = WoodenClient(p0=50)
    client.begins[ONE] = 20
    with pytest.raises(sem.OutsideError, match="offset 0 is gone, the broker begins at 20"):
        taken(polled(client), 5)
    for policy, expected in (("earliest", list(range(20, 50))), ("latest", [])):
        client = WoodenClient(p0=50)
        client.begins[ONE] = 20
        offsets, kinds = taken(polled(client, on_data_loss=policy))
        assert offsets.get(ONE, []) == expected
        assert kinds == ["data-loss"]


def test_new_partitions_are_found(polled):
    client = WoodenClient(p0=5)
    poller = polled(client)
    taken(poller, 0.1)
    client.messages[TWO], client.begins[TWO] = 7, 0
    client.topic = client.topic._replace(partitions=(0, 1))
    offsets, kinds = taken(poller)
    assert offsets == {TWO: list(range(7))}
    assert kinds == ["new-partition"]
    assert client.assigned[-1] == {ONE: 5, TWO: 0}


def test_a_topic_that_is_deleted_or_made_anew_is_noticed(polled):
    for change, said in (
        ({"there": False}, "was deleted while it was read"),
        ({"topic": Topic("b" * 32, (0,))}, "anew"),
    ):
        for policy in ("fail", "earliest"):
            client = WoodenClient(p0=5)
            poller = polled(client, on_data_loss=policy)
            taken(poller, 0.1)
            for name, value in change.items():
                setattr(client, name, value)
            if policy == "fail":
                with pytest.raises(sem.OutsideError, match=said):
                    taken(poller, 5)
            else:
                offsets, kinds = taken(poller)
                assert kinds == ["data-loss"]
                assert offsets.get(ONE, []) == ([] if "there" in change else list(range(5)))


def test_a_topic_made_anew_that_is_noticed_by_its_offsets_is_begun_once(polled, monkeypatch):
    monkeypatch.setattr(polling, "LOOK_SECONDS", 0.3)
    client = WoodenClient(p0=50)
    poller = polled(client, on_data_loss="earliest")
    taken(poller, 0.1)
    client.messages[ONE], client.topic = 8, Topic("b" * 32, (0,))
    offsets, kinds = taken(poller, 1)
    assert offsets[ONE] == list(range(8))
    assert kinds == ["data-loss"]


def test_messages_of_a_topic_and_of_another_of_its_name_come_apart(polled):
    client = WoodenClient(p0=5)
    poller = polled(client, on_data_loss="earliest")
    until_there(poller, 5)
    client.topic = Topic("b" * 32, (0,))
    until_there(poller, 10)
    for id in ("a" * 32, "b" * 32):
        got = poller.buffer.take(1000, 0.01).fetched
        assert [(each.topic_id, each.offsets.tolist()) for each in got] == [(id, list(range(5)))]
        assert {part.topic_id for part in (got[0].part(0, 2), got[0].part(2, None))} == {id}


def until_there(poller, messages):
    """Wait until so many messages are in the buffer."""
    deadline = time.monotonic() + 5
    while poller.buffer.messages < messages and time.monotonic() < deadline:
        time.sleep(0.01)
    assert poller.buffer.messages == messages


def test_a_topic_that_is_missing_for_a_moment_is_not_gone(polled, monkeypatch):
    monkeypatch.setattr(polling, "LOOK_SECONDS", 0.2)
    client = WoodenClient(p0=5)
    poller = polled(client)
    client.there = False
    threading.Timer(0.25, setattr, (client, "there", True)).start()
    assert taken(poller, 0.8)[1] == []


def test_commits_are_made_by_the_same_thread_and_failures_told_once(polled):
    client = WoodenClient(p0=5)
    poller = polled(client)
    poller.commit({ONE: 3})
    taken(poller, 0.1)
    assert client.committed == [{ONE: 3}]
    client.commit_fails = True
    kinds = []
    for offset in (4, 5):
        poller.commit({ONE: offset})
        kinds += taken(poller, 0.1)[1]
    assert kinds == ["commit-failed"]
    client.commit_fails = False
    poller.commit({ONE: 5})
    assert poller.join(5)
    assert client.committed[-1] == {ONE: 5}


def test_lag_counts_what_waits_here_and_there(polled):
    client = WoodenClient(p0=100)
    poller = polled(client, most=20)
    time.sleep(0.2)
    assert poller.lag == 100
    taken(poller)
    assert poller.lag == 0

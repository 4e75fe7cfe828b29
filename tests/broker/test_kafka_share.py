"""Several processes of one group share the partitions of a topic: nothing is lost and nothing counted twice."""

import json
import random
import signal
import subprocess
import time
from contextlib import closing

import numpy as np
import pyarrow.parquet as pq
import pytest
from crash.harness import STREAM_EM
from kafka import KafkaProducer

import stream_em as sem
from broker.helpers import until
from broker.test_kafka_kill import records
from stream_em.configfile import load_config
from stream_em.learning.store import SnapshotStore, read
from stream_em.pipeline import members as members_module
from stream_em.pipeline.loop import Pipeline
from stream_em.pipeline.members import member_of
from stream_em.runs.journal import read_journal
from stream_em.runs.shared import merged_snapshot, partition_folders
from stream_em.streams.kafka.membership import open_membership

SESSION = {
    "kafka-python": "options = {session_timeout_ms = 2000, heartbeat_interval_ms = 300}",
    "confluent-kafka": 'options = {"session.timeout.ms" = 2000, "heartbeat.interval.ms" = 300}',
}
CONFIG = """
[kafka]
bootstrap_servers = "{address}"
client = "{client}"
{session}

[source]
type = "kafka"
topics = "{topic}"
format = "float64"
fields = ["a", "b", "c"]
group = "{topic}"
share = true
block_size = 500

[model]
type = "gaussian-mixture"
n_components = {n_components}

[learner]
{learner}

[snapshots]
every_seconds = 0.2
keep = 2

[[sinks]]
what = "log-likelihoods"
rows_per_file = 20000

[run]
folder = "{folder}"
"""
COUNTING = 'stepsize = "equal"\nstarts = 1'


@pytest.fixture
def shared(tmp_path, address, client, new_topic):
    """Write a config of a topic with four partitions; returns its path, the run folder and the topic."""

    def shared(name="run", topic=None, n_components=1, learner=COUNTING, share=True):
        topic = topic or new_topic(4)
        path, folder = tmp_path / f"{name}.toml", tmp_path / name
        text = CONFIG.format(
            address=address,
            client=client,
            session=SESSION[client],
            topic=topic,
            n_components=n_components,
            learner=learner,
            folder=folder,
        )
        path.write_text(text if share else text.replace("share = true", "share = false"))
        return path, folder, topic

    return shared


class Members:
    """Processes that run one config."""

    def __init__(self, config, folder):
        self.config = config
        self.folder = folder
        self.running = []
        self.n_started = 0

    def start(self):
        """Start a process and wait until it takes part."""
        self.n_started += 1
        log = self.folder.parent / f"{self.folder.name}-{self.n_started}.log"
        with log.open("w") as file:
            process = subprocess.Popen([STREAM_EM, "run", str(self.config)], stderr=file)
        self.running.append(process)
        until(lambda: '"started"' in log.read_text(), 60)
        return process

    def stop(self, process, number=signal.SIGTERM):
        process.send_signal(number)
        assert process.wait(30) == (0 if number == signal.SIGTERM else -number)
        self.running.remove(process)

    def stop_all(self):
        for process in list(self.running):
            process.send_signal(signal.SIGCONT)
            self.stop(process)

    def taken(self):
        """Return how many records the newest snapshots know."""
        if not (self.folder / "partitions").is_dir():
            return 0
        folders = partition_folders(self.folder)
        return sum(read(SnapshotStore(folder / "snapshots").paths()[-1]).progress.records for folder in folders)

    def kinds(self):
        """Return what the logs of all members tell, in the order of the members."""
        logs = sorted(self.folder.parent.glob(f"{self.folder.name}-*.log"))
        lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        return [line["event"] for line in lines]


@pytest.fixture
def members():
    made = []

    def members(config, folder):
        made.append(Members(config, folder))
        return made[-1]

    yield members
    for each in made:
        for process in each.running:
            process.kill()
            process.wait()


def check_counted(folder, values):
    """Each record is in the statistics of one partition once, and in its output once."""
    snapshot = merged_snapshot(folder)
    assert (snapshot.learner.count, snapshot.progress.records) == (len(values), len(values))
    sums = snapshot.learner.params.means[0] * snapshot.learner.count
    np.testing.assert_array_equal(np.round(sums), values.sum(axis=0))
    np.testing.assert_allclose(sums, np.round(sums), atol=0.1)
    scores = [pq.read_table(each / "log-likelihoods") for each in partition_folders(folder)]
    places = {(row["partition"], row["offset"]) for table in scores for row in table.to_pylist()}
    assert len(places) == sum(len(table) for table in scores) == len(values)


def check_rebalances(shared, members, send, run, n_records, n_changes):
    config, folder, topic = shared()
    values = records(n_records)
    parts = np.array_split(values, n_changes + 1)
    group, rng = members(config, folder), random.Random(0)
    send(topic, [row.tobytes() for row in parts[0]])
    group.start()
    group.start()
    for part in parts[1:]:
        until(lambda: group.taken() > 0, 60)
        send(topic, [row.tobytes() for row in part])
        time.sleep(rng.uniform(0, 1.5))
        if len(group.running) < 2 or (len(group.running) < 4 and rng.random() < 0.5):
            group.start()
        else:
            group.stop(rng.choice(group.running), rng.choice([signal.SIGTERM, signal.SIGKILL]))
    until(lambda: group.taken() == n_records, 60)
    group.stop_all()
    assert run("run", config, "--until-end", "--quiet")[0] == 0
    check_counted(folder, values)
    return group


def test_members_come_go_and_are_killed(shared, members, send, run):
    group = check_rebalances(shared, members, send, run, 30_000, 6)
    assert {"assigned", "revoked"} <= set(group.kinds())


@pytest.mark.slow
def test_members_come_go_and_are_killed_a_hundred_times(shared, members, send, run):
    check_rebalances(shared, members, send, run, 1_000_000, 100)


def test_a_frozen_member_loses_its_partitions_and_discards(shared, members, send):
    config, folder, topic = shared()
    values = records(20_000)
    group = members(config, folder)
    frozen = group.start()
    send(topic, [row.tobytes() for row in values[:10_000]])
    until(lambda: group.taken() == 10_000, 60)
    frozen.send_signal(signal.SIGSTOP)
    other = group.start()
    until(lambda: "waiting" in group.kinds(), 60)
    send(topic, [row.tobytes() for row in values[10_000:]])
    time.sleep(1)
    # What nobody else may touch stays as it was, until its owner is back, hears that it lost it, and lets go.
    assert group.taken() == 10_000
    frozen.send_signal(signal.SIGCONT)
    # Until it hears that, it may go on: nobody else has begun.
    until(lambda: "lost" in group.kinds(), 60)
    until(lambda: group.taken() == 20_000, 60)
    group.stop(frozen)
    group.stop(other)
    check_counted(folder, values)
    outcomes = [
        row["outcome"] for each in partition_folders(folder) for row in read_journal(each / "journal.db", "sessions")
    ]
    assert "lost" in outcomes


def newest(folder):
    return SnapshotStore(folder / "snapshots").newest()[0].learner


def drawn(n):
    rng = np.random.default_rng(1)
    return rng.normal([0.0, 4.0, -4.0], [1.0, 0.5, 2.0], (n, 3)) + rng.integers(0, 3, (n, 1)) * 6.0


def test_merged_parameters_are_those_of_one_member_alone(shared, members, send, run, tmp_path):
    X = drawn(12_000)
    start = tmp_path / "start.safetensors"
    begun = sem.Learner(sem.GaussianMixture(n_components=3))
    begun.learn(X[:3000])
    begun.save(start)
    settings = f'params = "{start}"\nstepsize = "equal"\n'
    frozen, moving = f"{settings}inhibit = {2**50}", settings
    config, folder, topic = shared("frozen", None, 3, frozen)
    send(topic, [row.tobytes() for row in X])
    group = members(config, folder)
    group.start()
    group.start()
    until(lambda: group.taken() == len(X), 60)
    group.stop_all()
    alone, alone_folder, _ = shared("alone", topic, 3, frozen)
    assert run("run", alone, "--until-end", "--quiet")[0] == 0
    plain, plain_folder, _ = shared("plain", topic, 3, frozen, share=False)
    assert run("run", plain, "--until-end", "--quiet")[0] == 0
    whole = newest(plain_folder)
    whole.refresh()
    ours, ones = merged_snapshot(folder).learner, merged_snapshot(alone_folder).learner
    assert ours.count == ones.count == whole.count == len(X)
    for name, value in whole.params._asdict().items():
        np.testing.assert_allclose(getattr(ours.params, name), value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(getattr(ones.params, name), value, rtol=1e-9, atol=1e-9)
    # With parameters that move, partitions still learn alike whoever reads them; one learner of all is the same in law.
    results = []
    for name, share in (("m1", True), ("m2", False)):
        config, folder, _ = shared(name, topic, 3, moving, share=share)
        assert run("run", config, "--until-end", "--quiet")[0] == 0
        results.append(
            merged_snapshot(folder).learner if share else SnapshotStore(folder / "snapshots").newest()[0].learner
        )
    n = len(X)
    deviations = [np.sqrt(np.diagonal(learner.params.covariances, axis1=1, axis2=2)) for learner in results]
    # Two estimates from the same n records, K = 3 of about equal weight: 5 standard errors of a mean.
    assert (np.abs(results[0].params.means - results[1].params.means) < 5 * deviations[1] / np.sqrt(n / 3)).all()
    assert results[0].log_likelihood(X).mean() == pytest.approx(results[1].log_likelihood(X).mean(), abs=0.02)


def test_partitions_agree_on_a_start_and_commands_show_them_merged(shared, send, run, admin, tmp_path):
    X = drawn(6_000)
    config, folder, topic = shared("run", None, 3, "starts = 2")
    # The last partition never comes through a warm-up of its own.
    for number, n in enumerate([2500, 2000, 1450, 50]):
        send(topic, [row.tobytes() for row in X[sum([2500, 2000, 1450][:number]) :][:n]], partition=number)
    assert run("run", config, "--until-end", "--quiet")[0] == 0
    code, out, _ = run("show", folder, "--json")
    shown = json.loads(out)
    assert (code, shown["count"], shown["positions"]["records"]) == (0, 6000, 6000)
    assert shown["positions"]["source"]["topics"][topic]["partitions"] == {"0": 2500, "1": 2000, "2": 1450, "3": 50}
    found = np.sort(np.array(shown["params"]["means"])[:, 0])
    np.testing.assert_allclose(found, [0, 6, 12], atol=0.5)
    assert "0 messages behind" in run("lag", config)[1]
    stored = admin.list_group_offsets(topic)
    assert sum(at.offset for at in stored.get(topic, stored).values()) == 6000
    for command in ("report", "snapshots"):
        code, _, err = run(command, folder)
        assert code == 2
        assert "name one of" in err
    assert run("report", folder / "partitions" / f"{topic}-0")[0] == 0
    np.savetxt(tmp_path / "new.csv", X[:10], delimiter=",", header="a,b,c", comments="")
    assert len(run("score", folder, tmp_path / "new.csv")[1].splitlines()) == 11
    for command in (("run", config, "--max-records", 5), ("run", config, "--set", "source.share=false")):
        code, _, err = run(*command)
        assert code == 2
        assert "share" in err
    assert run("run", config, "--until-end", "--fresh", "--quiet")[0] == 0
    assert merged_snapshot(folder).learner.count == 6000


class Late:
    """A membership that is told only later what is its own, as by a leader who has not heard of a new topic yet."""

    def __init__(self, membership):
        self._membership = membership
        self._looks = 0

    def __getattr__(self, name):
        return getattr(self._membership, name)

    def held(self, seconds):
        held = self._membership.held(seconds)
        self._looks += held.joined
        return held if self._looks > 5 else held._replace(partitions=frozenset())


def test_a_member_that_has_nothing_at_first_waits_for_it(shared, send, run, monkeypatch):
    config, folder, topic = shared()
    send(topic, [row.tobytes() for row in drawn(1000)], partition=0)
    monkeypatch.setattr(members_module, "open_membership", lambda *given: Late(open_membership(*given)))
    assert run("run", config, "--until-end", "--quiet")[0] == 0
    assert merged_snapshot(folder).learner.count == 1000


def test_new_partitions_and_latest_lose_nothing(shared, members, send, admin, address):
    config, folder, topic = shared()
    config.write_text(config.read_text().replace("share = true", 'share = true\nstart = "latest"'))
    send(topic, [row.tobytes() for row in records(100)])
    group = members(config, folder)
    group.start()
    until(lambda: (folder / "begin.json").exists(), 60)
    send(topic, [row.tobytes() for row in records(1000)])
    admin.create_partitions({topic: 6})
    until(lambda: group.kinds().count("assigned") == 6, 60)
    with closing(KafkaProducer(bootstrap_servers=address)) as fresh:
        for number in (4, 5):
            send(topic, [row.tobytes() for row in records(500)], partition=number, by=fresh)
    until(lambda: group.taken() == 2000, 60)
    group.stop_all()
    assert merged_snapshot(folder).learner.count == 2000


def test_slow_work_does_not_get_a_member_expelled(shared, send, client, monkeypatch):
    config, folder, topic = shared()
    limits = {"kafka-python": "{max_poll_interval_ms = 2000, ", "confluent-kafka": '{"max.poll.interval.ms" = 2000, '}
    config.write_text(config.read_text().replace("options = {", f"options = {limits[client]}"))
    values = records(6000)
    send(topic, [row.tobytes() for row in values])
    take, slow = Pipeline._take, [5.0]

    def slowly(pipeline, block):
        if len(block) and slow:
            time.sleep(slow.pop())
        take(pipeline, block)

    monkeypatch.setattr(Pipeline, "_take", slowly)
    loaded = load_config(config)
    told = []
    with member_of(loaded.config, folder, loaded.text, until_end=True) as member:
        member.on_event = lambda kind, detail: told.append(kind)
        member.run()
    assert not slow
    assert told.count("assigned") == 4
    assert "lost" not in told
    check_counted(folder, values)


def test_a_pattern_finds_new_topics_and_one_bad_message_stops_all_saved(shared, members, new_topic, send, run):
    config, folder, topic = shared()
    text = config.read_text().replace(f'topics = "{topic}"', f'topic_pattern = "{topic}-[ab]"')
    config.write_text(text)
    code, _, err = run("run", config, "--until-end")
    assert code == 0, err
    group = members(config, folder)
    group.start()
    for name, n in (("a", 1000), ("b", 700)):
        new_topic(2, f"{topic}-{name}")
        send(f"{topic}-{name}", [row.tobytes() for row in records(n)])
    until(lambda: group.taken() == 1700, 60)
    send(f"{topic}-a", [row.tobytes() for row in records(50)], partition=0)
    send(f"{topic}-a", [b"no numbers"], partition=0)
    process = group.running.pop()
    assert process.wait(30) == 2
    log = (folder.parent / f"{folder.name}-1.log").read_text()
    assert f"topic {topic}-a, partition 0, offset" in log.splitlines()[-1]
    assert group.taken() == 1750

"""Output in transactions: each row once, whatever becomes of the source topic and of the run before."""

import json
import signal
import subprocess
import time
from contextlib import closing, contextmanager, suppress

import pytest
from crash.harness import STREAM_EM
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import TopicAlreadyExistsError

from broker.helpers import committed, objects, until
from stream_em.learning.store import SnapshotStore, read
from stream_em.runs.journal import read_journal

CONFIG = """
[kafka]
bootstrap_servers = "{address}"
client = "{client}"
[source]
type = "kafka"
topics = "{topic}"
fields = ["a", "b"]
on_data_loss = "earliest"
[model]
type = "gaussian-mixture"
n_components = 1
[learner]
starts = 1
[snapshots]
every_seconds = {every}
[run]
folder = "{folder}"
[[sinks]]
what = "log-likelihoods"
type = "kafka"
topic = "{scores}"
exactly_once = true
"""


@contextmanager
def running(config):
    """Give a run in a process of its own, and end it with all that is left of it."""
    with subprocess.Popen([STREAM_EM, "run", config], stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def write_config(tmp_path, address, client):
    def write_config(topic, scores, every=0.5):
        path = tmp_path / "c.toml"
        path.write_text(
            CONFIG.format(
                address=address, client=client, topic=topic, scores=scores, every=every, folder=tmp_path / "run"
            )
        )
        return path

    return write_config


def snapshot_of(folder):
    return read(SnapshotStore(folder / "snapshots").paths()[-1])


def fill(address, topic, number, begin, end):
    """Send by a producer that is gone afterwards: one that stays would make a deleted topic anew."""
    with closing(KafkaProducer(bootstrap_servers=address)) as producer:
        for value in objects(begin, end):
            producer.send(topic, value, partition=number)
        producer.flush()


def test_a_source_topic_made_anew_loses_no_row(run, write_config, new_topic, admin, address, tmp_path):
    topic, scores = new_topic(2), new_topic(1)
    config, folder = write_config(topic, scores), tmp_path / "run"
    fill(address, topic, 0, 0, 700)
    fill(address, topic, 1, 700, 750)
    assert run("run", config, "--until-end")[0] == 0
    # It begins with marks of the old topic, up to offsets 700 and 50.
    with running(config) as process:
        fill(address, topic, 0, 750, 800)
        until(lambda: snapshot_of(folder).progress.records == 800)
        admin.delete_topics([topic])
        time.sleep(0.2)
        # kafka-python asks for the topic that it reads, and so the broker has made it anew already.
        with suppress(TopicAlreadyExistsError):
            new_topic(2, topic)
        fill(address, topic, 0, 1000, 1600)
        until(lambda: snapshot_of(folder).progress.records == 1400)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert snapshot_of(folder).progress.source["topics"][topic]["partitions"] == {"0": 600}
    fill(address, topic, 1, 1600, 1700)
    assert run("run", config, "--until-end")[0] == 0
    rows = [json.loads(message.value) for message in committed(address, scores)]
    old, new = [(0, i) for i in range(750)] + [(1, i) for i in range(50)], [(0, i) for i in range(600)]
    assert sorted((row["partition"], row["offset"]) for row in rows) == sorted(old + new + [(1, i) for i in range(100)])
    kinds = [event["kind"] for event in read_journal(folder / "journal.db", "events")]
    assert kinds.count("data-loss") == 1


def last_stable(address, topic, isolation_level):
    """Return the end of a topic of one partition for such readers."""
    consumer = KafkaConsumer(bootstrap_servers=address, isolation_level=isolation_level)
    (end,) = consumer.end_offsets([TopicPartition(topic, 0)]).values()
    consumer.close()
    return end


def test_a_fresh_run_does_not_wait_for_the_transaction_of_the_killed_one(
    run, write_config, new_topic, send, address, tmp_path
):
    topic, scores = new_topic(1), new_topic(1)
    config = write_config(topic, scores, every=300)
    send(topic, objects(0, 700))
    with running(config) as process:
        until(lambda: last_stable(address, scores, "read_uncommitted") >= 700)
        process.kill()
    assert last_stable(address, scores, "read_committed") == 0, "it was killed inside a transaction"
    identity = (tmp_path / "run" / "identity").read_text()
    code, _, err = run("run", config, "--until-end", "--fresh")
    assert code == 0, err
    rows = [json.loads(message.value) for message in committed(address, scores)]
    assert [row["offset"] for row in rows] == list(range(700))
    assert (tmp_path / "run" / "identity").read_text() != identity


def test_a_fresh_run_without_a_broker_leaves_the_old_one_where_it_is(run, write_config, new_topic, send, tmp_path):
    topic = new_topic(1)
    config = write_config(topic, new_topic(1))
    send(topic, objects(0, 600))
    assert run("run", config, "--until-end")[0] == 0
    nobody = ("--set", "kafka.bootstrap_servers=127.0.0.1:1", "--set", "kafka.connect_timeout=1")
    code, _, err = run("run", config, "--fresh", *nobody)
    assert code == 3
    assert "no broker at 127.0.0.1:1" in err.splitlines()[-1]
    assert snapshot_of(tmp_path / "run").progress.records == 600

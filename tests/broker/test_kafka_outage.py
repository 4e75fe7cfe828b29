"""A broker that goes away: the run says so, waits, goes on within seconds, and never hangs."""

import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from crash.harness import STREAM_EM
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from broker.conftest import started
from broker.helpers import objects, until
from stream_em.learning.store import SnapshotStore, read
from stream_em.runs.journal import read_journal
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.settings import KafkaSettings
from stream_em.streams.kafka.source import KafkaSource

CONFIG = """
[kafka]
bootstrap_servers = "{address}"
client = "{client}"
[source]
type = "kafka"
topics = "t"
fields = ["a", "b"]
give_up_after = {give_up_after}
[model]
type = "gaussian-mixture"
covariance_type = "diag"
[learner]
starts = 1
[snapshots]
every_seconds = 0.5
[run]
folder = "{folder}"
log_every_seconds = 0.5
[serve]
port = 0
stalled_after = 1.0
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker that the tests here may stop and kill."""
    broker = started(tmp_path_factory.mktemp("outage"))
    yield broker
    broker.stop()


def fill(broker, begin, end, topic):
    producer = KafkaProducer(bootstrap_servers=broker.address, linger_ms=20)
    for value in objects(begin, end):
        producer.send(topic, value)
    producer.flush()
    producer.close()


def new_topic(broker, name):
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    admin.create_topics([NewTopic(name, 2, 1)])
    admin.close()
    return name


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_records_flow_within_three_seconds_of_the_port_being_open(broker, client, number):
    topic = new_topic(broker, f"{client}-{number}")
    fill(broker, 0, 1000, topic)
    settings = KafkaSettings(topics=topic, fields=["a", "b"])
    source = KafkaSource(Connection(bootstrap_servers=broker.address, client=client), settings)
    seen, notes = [], []

    def read_all():
        for block in source:
            seen.extend(block.values[:, 0].astype(int).tolist())
            notes.extend(note.kind for note in block.notes)

    thread = threading.Thread(target=read_all)
    thread.start()
    until(lambda: len(seen) == 1000)
    broker.stop(number)
    until(lambda: source.trouble is not None, 10)
    assert "broker has been away" in source.trouble
    time.sleep(3)
    broker.start()
    threading.Thread(target=fill, args=(broker, 1000, 1001, topic)).start()
    begin = time.monotonic()
    until(lambda: len(seen) > 1000)
    assert time.monotonic() - begin < 5, "the producer of the test needs up to 2 s of that"
    fill(broker, 1001, 1500, topic)
    until(lambda: len(seen) == 1500)
    source.stop()
    thread.join(5)
    source.close()
    assert sorted(seen) == list(range(1500))
    assert notes == ["broker-away", "broker-back"]


@pytest.mark.slow
def test_an_outage_of_a_minute_is_waited_for(broker, client):
    topic = new_topic(broker, f"minute-{client}")
    fill(broker, 0, 500, topic)
    settings = KafkaSettings(topics=topic, fields=["a", "b"])
    source = KafkaSource(Connection(bootstrap_servers=broker.address, client=client), settings)
    seen = []
    thread = threading.Thread(target=lambda: [seen.extend(block.values[:, 0].astype(int)) for block in source])
    thread.start()
    until(lambda: len(seen) == 500)
    broker.stop(signal.SIGKILL)
    time.sleep(60)
    broker.start()
    fill(broker, 500, 1000, topic)
    assert until(lambda: len(seen) == 1000) < 5
    source.stop()
    thread.join(5)
    source.close()
    assert sorted(seen) == list(range(1000))


def status_of(address, path):
    try:
        with urllib.request.urlopen(address + path, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_run_says_that_the_broker_is_away_and_goes_on(broker, client, tmp_path):
    topic = new_topic(broker, f"run-{client}")
    fill(broker, 0, 2000, topic)
    config = tmp_path / "c.toml"
    text = CONFIG.format(address=broker.address, client=client, give_up_after=60, folder=tmp_path / "run")
    config.write_text(text.replace('"t"', f'"{topic}"'))
    log = (tmp_path / "log").open("w+")
    with subprocess.Popen([STREAM_EM, "run", str(config)], stderr=log) as process:
        address = until_said(tmp_path / "log", "serving")["address"]
        until(lambda: SnapshotStore(tmp_path / "run/snapshots").paths())
        until(lambda: status_of(address, "/readyz")[0] == 200)
        broker.stop(signal.SIGKILL)
        until_said(tmp_path / "log", "broker-away")
        until(lambda: status_of(address, "/readyz")[0] == 503)
        assert "the broker has been away" in status_of(address, "/readyz")[1]
        assert status_of(address, "/healthz")[0] == 200
        assert "stream_em_source_up 0.0" in status_of(address, "/metrics")[1]
        broker.start()
        until_said(tmp_path / "log", "broker-back")
        fill(broker, 2000, 3000, topic)
        until(lambda: "stream_em_records_total 3000.0" in status_of(address, "/metrics")[1])
        until(lambda: "stream_em_source_up 1.0" in status_of(address, "/metrics")[1])
        assert status_of(address, "/readyz")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    log.close()
    snapshot = read(SnapshotStore(tmp_path / "run/snapshots").paths()[-1])
    assert snapshot.learner.count == 3000
    snapshot.learner.refresh()
    total = snapshot.learner.params.weights @ snapshot.learner.params.means
    assert np.isfinite(total).all()
    kinds = [event["kind"] for event in read_journal(tmp_path / "run/journal.db", "events")]
    assert [kind for kind in kinds if kind.startswith("broker")] == ["broker-away", "broker-back"]


def until_said(log, event):
    found = []

    def said():
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        found[:] = [line for line in lines if line["event"] == event]
        return bool(found)

    until(said)
    return found[-1]


def test_it_gives_up_with_exit_code_3_and_goes_on_later(broker, client, tmp_path):
    topic = new_topic(broker, f"give-up-{client}")
    fill(broker, 0, 2000, topic)
    config = tmp_path / "c.toml"
    text = CONFIG.format(address=broker.address, client=client, give_up_after=2.5, folder=tmp_path / "run")
    config.write_text(text.replace('"t"', f'"{topic}"'))
    with subprocess.Popen([STREAM_EM, "run", str(config)], stderr=subprocess.PIPE, text=True) as process:
        until(lambda: SnapshotStore(tmp_path / "run/snapshots").paths())
        broker.stop(signal.SIGTERM)
        assert process.wait(30) == 3
        last = process.stderr.read().splitlines()[-1]
    assert last.startswith("stream-em: error: kafka: ")
    assert "source.give_up_after" in last
    broker.start()
    fill(broker, 2000, 2500, topic)
    done = subprocess.run([STREAM_EM, "run", str(config), "--until-end"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read(SnapshotStore(tmp_path / "run/snapshots").paths()[-1]).learner.count == 2500


def test_an_idle_topic_is_no_outage(broker, client):
    topic = new_topic(broker, f"idle-{client}")
    settings = KafkaSettings(topics=topic, fields=["a"], give_up_after=1.5)
    source = KafkaSource(Connection(bootstrap_servers=broker.address, client=client), settings)
    blocks = []
    thread = threading.Thread(target=lambda: blocks.extend(source))
    thread.start()
    time.sleep(4)
    assert source.trouble is None
    assert source.lag == (0, "messages")
    source.stop()
    thread.join(5)
    source.close()
    assert blocks == []

"""`stream-em run` on a topic, and the commands around it, as a person uses them."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crash.harness import STREAM_EM

import stream_em as sem
from broker.cluster import PASSWORD, USER, consumed
from broker.helpers import committed, until
from stream_em.learning.store import SnapshotStore, read
from stream_em.runs.journal import read_journal

CONFIG_FILE = Path(__file__).parents[2] / "configs" / "kafka.toml"
RNG = np.random.default_rng(0)
X = np.where(RNG.random((6000, 1)) < 0.3, RNG.normal(-5, 1, (6000, 2)), RNG.normal([5, 9], [2, 0.5], (6000, 2)))
CONFIG = """
[kafka]
bootstrap_servers = "{address}"
client = "{client}"

[source]
type = "kafka"
topics = "{topic}"
fields = ["a", "b"]
block_size = 1000
group = "{topic}-group"

[model]
type = "gaussian-mixture"
covariance_type = "diag"

[learner]
starts = 2

[run]
folder = "{folder}"
"""


@pytest.fixture
def topic(new_topic, send):
    """A topic of three partitions that holds X."""
    name = new_topic(3)
    send(name, [json.dumps({"a": a, "b": b}).encode() for a, b in X.tolist()])
    return name


@pytest.fixture
def config(tmp_path, address, client, topic):
    path = tmp_path / "c.toml"
    path.write_text(CONFIG.format(address=address, client=client, topic=topic, folder=tmp_path / "run"))
    return path


def newest(folder):
    return read(SnapshotStore(folder / "snapshots").paths()[-1])


def started(*arguments, **more):
    process = subprocess.Popen([STREAM_EM, *map(str, arguments)], stderr=subprocess.PIPE, text=True, **more)
    line = process.stderr.readline()
    assert '"started"' in line, line
    return process


def test_a_run_learns_all_and_goes_on_where_it_stopped(run, config, topic, admin, tmp_path):
    code, out, err = run("run", config, "--until-end", "--max-records", 2500)
    assert (code, out) == (0, ""), err
    assert newest(tmp_path / "run").learner.count == 2500
    code, out, _ = run("lag", config, "--json")
    rows = json.loads(out)
    assert sum(row["lag"] for row in rows) == 3500
    assert {row["topic"] for row in rows} == {topic}
    assert all(0 < row["seconds"] < 600 for row in rows if row["lag"])
    assert run("run", config, "--until-end")[0] == 0
    snapshot = newest(tmp_path / "run")
    assert snapshot.learner.count == 6000
    learner = sem.Learner(sem.GaussianMixture(covariance_type="diag"), starts=2)
    learner.learn(X)
    ours, theirs = (np.sort(each.params.means, axis=0) for each in (snapshot.learner, learner))
    np.testing.assert_allclose(ours, theirs, atol=0.3)
    code, out, _ = run("lag", config)
    assert "0 messages behind" in out
    stored = admin.list_group_offsets(f"{topic}-group")
    stored = stored.get(f"{topic}-group", stored)
    assert sum(at.offset for at in stored.values()) == 6000


def test_blocks_of_samples_come_in_and_sources_go_out_as_such(run, config, client, new_topic, send, address, tmp_path):
    heard, sources = new_topic(1), new_topic(1)
    loudness = np.repeat(np.exp(RNG.normal(size=(100, 2))), 80, axis=0)
    signal = (loudness * RNG.normal(size=(8000, 2))) @ [[1.0, 0.4], [0.7, 1.0]]
    send(heard, [block.astype("<f4").tobytes() for block in np.split(signal, 20)])
    settings = {"address": address, "client": client, "topic": heard, "folder": tmp_path / "run"}
    model = CONFIG.replace('"gaussian-mixture"\ncovariance_type = "diag"', '"signal-unmixing"\nblock = 80')
    config.write_text(
        model.replace("[source]", '[source]\nformat = "pcm-float32"').format(**settings)
        + f'[[sinks]]\nwhat = "sources"\ntype = "kafka"\ntopic = "{sources}"\nformat = "pcm-float32"\n'
        + '[[sinks]]\nwhat = "sources"\ntype = "jsonl"\n'
    )
    code, _, err = run("run", config, "--until-end")
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "run" / "sources.jsonl").read_text().splitlines()]
    messages = committed(address, sources)
    values = np.concatenate([np.frombuffer(message.value, "<f4") for message in messages]).reshape(-1, 2)
    expected = np.array([[row["source_1"], row["source_2"]] for row in rows], dtype="f4")
    assert len(expected) >= 6000
    np.testing.assert_array_equal(values, expected)
    place = "-".join(str(rows[0][name]) for name in ("topic", "partition", "offset", "record"))
    assert messages[0].key.decode() == place


def test_what_it_finds_goes_to_topics_with_the_place_as_key(run, config, new_topic, topic, address):
    scores, events, params = new_topic(2), new_topic(1), new_topic(1)
    config.write_text(
        config.read_text()
        + f'[[sinks]]\nwhat = "posteriors"\ntype = "kafka"\ntopic = "{scores}"\n'
        + f'[[sinks]]\nwhat = "events"\ntype = "kafka"\ntopic = "{events}"\n'
        + f'[[sinks]]\nwhat = "parameters"\ntype = "kafka"\ntopic = "{params}"\nevery_records = 2000\n'
    )
    code, _, err = run("run", config, "--until-end")
    assert code == 0, err
    rows = {key: json.loads(value) for key, value in consumed(address, scores, 6000)}
    assert len(rows) == 6000
    for key, row in rows.items():
        assert key == f"{topic}-{row['partition']}-{row['offset']}"
    scored = [row for row in rows.values() if row["log_likelihood"] is not None]
    assert len(scored) == 5500
    for row in scored:
        assert abs(row["posterior_0"] + row["posterior_1"] - 1) < 1e-9
    ((key, value), *_) = consumed(address, params, 3)
    assert int(float(key)) == json.loads(value)["count"] >= 2000


def test_dead_letters_keep_bytes_key_and_headers(run, config, new_topic, topic, send, address, tmp_path):
    letters = new_topic(1)
    send(topic, [b"\xff\x00", b"what"], 0, key=b"the key", headers=[("trace", b"\x01\x02")])
    text = config.read_text()
    config.write_text(
        text.replace("block_size", f'on_error = "dead-letter"\ndead_letter_topic = "{letters}"\nblock_size')
    )
    code, _, err = run("run", config, "--until-end")
    assert code == 0, err
    _, second = consumed(address, letters, 2, headers=True)
    assert "trace:" in second[0]
    for name in ("stream_em.reason:", f"stream_em.topic:{topic}", "stream_em.partition:0", "stream_em.offset:"):
        assert name in second[0]
    assert "the key" in second[0]
    assert second[1] == "what"
    assert newest(tmp_path / "run").progress.rejected == 2
    config.write_text(text.replace("block_size", 'on_error = "dead-letter"\nblock_size').replace("/run", "/file"))
    assert run("run", config, "--until-end")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "file" / "dead-letter.jsonl").read_text().splitlines()]
    assert [line["base64"] for line in lines] == ["/wA=", None]
    assert lines[1]["place"] == {"topic": topic, "partition": 0, "offset": lines[0]["place"]["offset"] + 1}
    assert (lines[0]["key"], lines[0]["headers"]) == ("dGhlIGtleQ==", [["trace", "AQI="]])


def test_too_many_bad_messages_stop_the_run(run, config, topic, send):
    send(topic, [b"bad"] * 3000, 0)
    code, _, err = run(
        "run", config, "--until-end", "--set", "source.on_error=skip", "--set", "source.max_error_rate=0.4"
    )
    assert code == 2
    assert "records cannot be used, more than source.max_error_rate" in err.splitlines()[-1]


def test_a_bad_message_is_one_line_with_its_place(run, config, topic, send):
    send(topic, [b"bad"], 1)
    code, _, err = run("run", config, "--until-end")
    assert code == 2
    assert f"topic {topic}, partition 1, offset " in err.splitlines()[-1]


@pytest.mark.parametrize("busy", [False, True])
def test_sigterm_ends_it_within_two_seconds(config, topic, send, tmp_path, busy):
    process = started("run", config)
    folder = tmp_path / "run"
    if busy:
        for _ in range(20):
            send(topic, [b'{"a": 1, "b": 2}'] * 5000)
    else:
        until(lambda: read_journal(folder / "journal.db", "refreshes"))
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert time.monotonic() - begin < 2
    process.stderr.close()
    snapshot = newest(folder)
    places = snapshot.progress.source["topics"][topic]["partitions"]
    assert snapshot.progress.records == sum(places.values())


def test_another_topic_than_was_learned_is_refused(run, config, new_topic):
    assert run("run", config, "--until-end", "--max-records", 100)[0] == 0
    code, _, err = run("run", config, "--set", f"source.topics={new_topic(1)}")
    assert code == 2
    assert "source.topics: this run has learned from" in err.splitlines()[-1]


def test_lost_messages_are_exit_code_3_or_journalled(run, config, topic, admin, tmp_path):
    from kafka import TopicPartition

    run("run", config, "--until-end", "--max-records", 100)
    admin.delete_records({TopicPartition(topic, number): 500 for number in range(3)})
    code, out, err = run("run", config, "--until-end")
    assert (code, out) == (3, "")
    assert "is gone, the broker begins at 500; set source.on_data_loss" in err.splitlines()[-1]
    assert run("run", config, "--until-end", "--set", "source.on_data_loss=earliest")[0] == 0
    events = read_journal(tmp_path / "run" / "journal.db", "events")
    assert [event["kind"] for event in events].count("data-loss") == 3
    assert newest(tmp_path / "run").learner.count == 100 + 6000 - 1500


def test_produce_loads_a_file_that_a_run_then_learns(run, config, new_topic, address, client, tmp_path):
    data, topic = tmp_path / "data.parquet", new_topic(2)
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), data)
    for message_format in ("float64", "arrow"):
        options = ("--bootstrap-servers", address, "--client", client, "--message-format", message_format)
        code, out, err = run("produce", data, "--topic", topic, *options)
        assert (code, err) == (0, "")
        assert out.startswith(f"6,000 records into {topic}: ")
        settings = ("--set", f"source.topics={topic}", "--set", f"source.format={message_format}")
        code, _, err = run("run", config, "--until-end", "--fresh", *settings, "--max-records", 6000)
        assert code == 0, err
        snapshot = newest(tmp_path / "run")
        assert snapshot.learner.count == 6000
        topic = new_topic(2)


def test_a_topic_that_is_not_there_is_made_and_told(run, config, topic, address, tmp_path):
    config.write_text(config.read_text() + f'[[sinks]]\nwhat = "events"\ntype = "kafka"\ntopic = "{topic}-new"\n')
    assert run("run", config, "--until-end")[0] == 0
    events = read_journal(tmp_path / "run" / "journal.db", "events")
    assert ("topic-made", f"topic {topic}-new was not there") in [(each["kind"], each["detail"]) for each in events]
    np.savetxt(tmp_path / "data.csv", X[:50], delimiter=",", header="a,b", comments="")
    code, out, _ = run("produce", tmp_path / "data.csv", "--topic", f"{topic}-p", "--bootstrap-servers", address)
    assert code == 0
    assert out.startswith(f"50 records into {topic}-p (made now): ")


def test_the_config_for_kafka_runs(run, topic, new_topic, address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = CONFIG_FILE.read_text().replace('topic = "scores"', f'topic = "{new_topic(1)}"')
    (tmp_path / "kafka.toml").write_text(text)
    settings = [f"source.topics={topic}", 'source.fields=["a", "b"]', f"kafka.bootstrap_servers={address}"]
    options = [part for setting in settings for part in ("--set", setting)]
    code, _, err = run("run", "kafka.toml", "--until-end", *options, "--set", "model.covariance_type=diag")
    assert code == 0, err
    assert newest(tmp_path / "runs/kafka").learner.count == 6000


def checked(config):
    # In a process of its own: it turns the compiler off.
    return subprocess.run([STREAM_EM, "check", config], capture_output=True, text=True, check=False)


def test_check_says_what_would_be_read_and_made(config, topic, new_topic, admin, tmp_path):
    done = checked(config)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert f"from {topic} (3 partitions, 6,000 messages)" in line
    scores, text = new_topic(1), config.read_text()
    letters = f'on_error = "dead-letter"\ndead_letter_topic = "{topic}-letters"\nblock_size'
    sinks = f'[[sinks]]\nwhat = "events"\ntype = "kafka"\ntopic = "{scores}"\n'
    config.write_text(text.replace("block_size", letters) + sinks)
    done = checked(config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == f"{config}: output topics: {scores} is there, {topic}-letters will be made"
    assert f"{topic}-letters" not in admin.list_topics()
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    _, _, rest = text.partition("[model]")
    nobody = '[kafka]\nbootstrap_servers = "127.0.0.1:1"\nconnect_timeout = 1\n[source]\ntype = "files"\npath = "'
    config.write_text(f'{nobody}{tmp_path}/d.csv"\n[model]{rest}{sinks}')
    done = checked(config)
    assert done.returncode == 3
    assert "output topics: kafka: no broker at 127.0.0.1:1" in done.stderr


def test_produce_wants_a_topic_that_can_be(run, tmp_path):
    code, out, err = run("produce", tmp_path / "none.csv", "--topic", "my topic")
    assert (code, out) == (2, "")
    assert "--topic: 'my topic' cannot be the name of a topic" in err


def test_other_rows_into_the_topic_of_a_sink_are_refused(run, config, new_topic, address):
    scores, text = new_topic(1), config.read_text()
    sink = f'type = "kafka"\ntopic = "{scores}"\n'
    config.write_text(f'{text}[[sinks]]\nwhat = "log-likelihoods"\n{sink}')
    assert run("run", config, "--until-end", "--max-records", 3000)[0] == 0
    config.write_text(f'{text}[[sinks]]\nwhat = "posteriors"\n{sink}')
    code, _, err = run("run", config, "--until-end")
    assert code == 2
    assert f"what is 'posteriors', but this run has written 'log-likelihoods' into topic:{scores}; set it" in err


@pytest.fixture
def secure(config, own_broker, client, monkeypatch):
    """The config over TLS with a password from the environment."""
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    text = config.read_text()
    _, _, rest = text.partition("[source]")
    config.write_text(
        f'[kafka]\nbootstrap_servers = "{own_broker.secure_address}"\nclient = "{client}"\n'
        f'security_protocol = "SASL_SSL"\nsasl_mechanism = "SCRAM-SHA-256"\nsasl_username = "{USER}"\n'
        f'sasl_password = "${{KAFKA_PASSWORD}}"\nssl_cafile = "{own_broker.certificate}"\nconnect_timeout = 30\n'
        f"[source]{rest}"
    )
    return config


def test_tls_and_passwords_and_no_secret_on_the_disk(run, secure, tmp_path):
    code, _, err = run("run", secure, "--until-end", "--set", "run.log_every_seconds=0.01")
    assert code == 0, err
    assert newest(tmp_path / "run").learner.count == 6000
    assert PASSWORD not in err
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
    assert "${KAFKA_PASSWORD}" in (tmp_path / "run" / "config.toml").read_text()


def test_a_wrong_password_is_one_line_without_it(run, secure, monkeypatch):
    monkeypatch.setenv("KAFKA_PASSWORD", "wr0ng-secret")
    code, out, err = run("run", secure, "--until-end")
    assert (code, out) == (3, "")
    assert "refuses" in err.splitlines()[-1]
    assert "sasl_password" in err.splitlines()[-1]
    assert "wr0ng-secret" not in err


def test_a_certificate_that_nobody_trusts_is_one_line(run, secure):
    code, out, err = run("run", secure, "--until-end", "--set", "kafka.ssl_cafile=/etc/ssl/certs/ca-certificates.crt")
    assert (code, out) == (3, "")
    assert "certificate" in err.splitlines()[-1]


def test_a_password_that_is_written_down_is_refused(run, secure):
    secure.write_text(secure.read_text().replace("${KAFKA_PASSWORD}", "hunter2"))
    code, _, err = run("run", secure)
    assert code == 2
    assert "kafka.sasl_password: a secret must not be written down; write ${NAME}" in err
    assert "hunter2" not in err

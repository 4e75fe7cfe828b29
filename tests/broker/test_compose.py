"""The stack of deploy/compose.yaml without containers: the image's own set-up, a real broker, the shipped config."""

import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from crash.harness import STREAM_EM

from broker.cluster import SCRIPT, START_SECONDS, free_ports

DEPLOY = SCRIPT.parents[1]
PASSWORD = "wonderland7"
INSIDE = ("9092", "9093", "9094", "9095")


@pytest.fixture
def stack(tmp_path):
    """Start the broker that compose.yaml describes; gives its services with everything on loopback, and free ports."""
    fetched = subprocess.run([SCRIPT, "fetch"], capture_output=True, text=True, check=False)
    assert fetched.returncode == 0, fetched.stderr
    ports = dict(zip(INSIDE, free_ports(len(INSIDE)), strict=True))
    text = (DEPLOY / "compose.yaml").read_text().replace("/var/lib/kafka/data", str(tmp_path / "data"))
    text = re.sub(r"\$\{KAFKA_PASSWORD:\?[^}]*\}", PASSWORD, text)
    text = re.sub(r"//(broker)?:", "//127.0.0.1:", text)
    text = re.sub(r":(909[2-5])\b", lambda match: f":{ports[match[1]]}", text)
    services = yaml.safe_load(text)["services"]
    folders = {name: tmp_path / name for name in ("default", "mounted", "final")}
    for folder in folders.values():
        folder.mkdir()
    setup = [f"--{name}-configs-dir={folder}" for name, folder in folders.items()]
    environment = {**os.environ, "CLUSTER_ID": "AAAAAAAAAAAAAAAAAAAAAA", **services["broker"]["environment"]}
    java("kafka.docker.KafkaDockerWrapper", "setup", *setup, environment=environment)
    with (tmp_path / "broker.log").open("w") as log:
        command = java_command("kafka.Kafka", folders["final"] / "server.properties")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for(ports["9095"], process, tmp_path / "broker.log")
        yield services, ports
    finally:
        process.terminate()
        process.wait(60)


def java_command(*arguments):
    libs = Path(os.environ.get("STREAM_EM_KAFKA_HOME", SCRIPT.parents[2] / ".kafka")) / "libs"
    logging = f"-Dlog4j2.configurationFile={SCRIPT.with_name('log4j2.properties')}"
    return ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", logging, "-cp", f"{libs}/*", *arguments]


def java(*arguments, environment=None):
    done = subprocess.run(java_command(*arguments), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for(port, process, log):
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def stream_em(*arguments, password):
    environment = {**os.environ, "KAFKA_PASSWORD": password}
    return subprocess.run([STREAM_EM, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_the_learner_reaches_the_broker_with_the_password_and_not_without(stack, tmp_path):
    services, ports = stack
    java("org.apache.kafka.tools.TopicCommand", *services["topic"]["command"][1:])
    data = tmp_path / "data.csv"
    data.write_text("x0,x1\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(2000)))
    config = (DEPLOY / "learner.toml").read_text().replace("0.0.0.0", "127.0.0.1").replace("/var/lib", str(tmp_path))
    for inside, listener in (("9092", "network"), ("9094", "published")):
        path = tmp_path / f"{listener}.toml"
        path.write_text(config.replace("broker:9092", f"127.0.0.1:{ports[inside]}"))
        sent = stream_em("produce", str(data), "--topic", "records", "--config", str(path), password=PASSWORD)
        assert sent.returncode == 0, sent.stderr
    command, _ = services["learner"]["command"]
    run = [command, str(tmp_path / "network.toml"), "--until-end", "--set", "serve.port=0"]
    refused = stream_em(*run, password="something-else")
    assert refused.returncode == 3
    assert "check sasl_username, sasl_password" in refused.stderr
    done = stream_em(*run, password=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["records"] == 4000
    assert (tmp_path / "stream-em" / "learner" / "parameters.jsonl").exists()
    everything = [path.read_bytes() for path in (tmp_path / "stream-em").rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in content for content in everything)

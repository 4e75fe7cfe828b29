"""A real broker for the tests: Apache Kafka on free ports of the loopback, with a folder of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "deploy" / "kafka" / "broker"
USER, PASSWORD, STORE_PASSWORD = "alice", "wonderland-7", "for-the-test"
START_SECONDS = 120


def free_ports(n):
    """Return ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Broker:
    """One broker with a plain listener and one with TLS and passwords; can be stopped, killed and started again."""

    def __init__(self, folder):
        self.folder = folder
        self.port, self.controller, self.secure_port = free_ports(3)
        self.address = f"127.0.0.1:{self.port}"
        self.secure_address = f"127.0.0.1:{self.secure_port}"
        self.certificate = folder / "broker.pem"
        self.process = None
        fetched = subprocess.run([SCRIPT, "fetch"], capture_output=True, text=True, check=False)
        if fetched.returncode:
            raise RuntimeError(f"the Kafka tests need a broker: {fetched.stderr.strip().splitlines()[-1]}")
        self._make_certificate()

    def start(self):
        """Start it and wait until its port is open."""
        plain = f"PLAINTEXT://127.0.0.1:{self.port}"
        secure = f"SASL_SSL://127.0.0.1:{self.secure_port}"
        settings = [
            f"listeners={plain},{secure},CONTROLLER://127.0.0.1:{self.controller}",
            f"advertised.listeners={plain},{secure}",
            "sasl.enabled.mechanisms=SCRAM-SHA-256",
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config="
            "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            f"ssl.keystore.location={self.folder / 'broker.p12'}",
            f"ssl.keystore.password={STORE_PASSWORD}",
            "ssl.keystore.type=PKCS12",
        ]
        environment = {
            **os.environ,
            "KAFKA_FORMAT_OPTIONS": f"--add-scram SCRAM-SHA-256=[name={USER},password={PASSWORD}]",
        }
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [SCRIPT, "run", str(self.folder / "data"), str(self.port), str(self.controller), *settings],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start: {(self.folder / 'broker.log').read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def listens(self):
        """Tell whether its port is open."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number=signal.SIGTERM):
        """End it, kindly or not."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def _make_certificate(self):
        keytool = shutil.which("keytool")
        if keytool is None:
            raise RuntimeError("the Kafka tests need keytool, which comes with Java: install openjdk-17-jre-headless")
        store = ["-keystore", str(self.folder / "broker.p12"), "-storepass", STORE_PASSWORD, "-storetype", "PKCS12"]
        make = ["-genkeypair", "-alias", "broker", "-keyalg", "RSA", "-keysize", "2048", "-validity", "30"]
        name = ["-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1,dns:localhost", "-ext", "bc:c"]
        subprocess.run([keytool, *make, *name, *store], check=True, capture_output=True)
        export = ["-exportcert", "-rfc", "-alias", "broker", "-file", str(self.certificate)]
        subprocess.run([keytool, *export, *store], check=True, capture_output=True)


def consumed(address, topic, n, headers=False):
    """Return the first n messages by Kafka's own console consumer: key (or headers and key) and value, as texts."""
    libs = Path(os.environ.get("STREAM_EM_KAFKA_HOME", SCRIPT.parents[2] / ".kafka")) / "libs"
    properties = ["print.key=true", "key.separator=\x1f", *(["print.headers=true"] if headers else [])]
    formatting = [part for name in properties for part in ("--formatter-property", name)]
    java = ["java", "-Xmx256m", "-cp", f"{libs}/*", "org.apache.kafka.tools.consumer.ConsoleConsumer"]
    which = ["--bootstrap-server", address, "--topic", topic, "--from-beginning", "--max-messages", str(n)]
    command = [*java, *which, "--timeout-ms", "30000", *formatting]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return [tuple(line.rsplit("\x1f", 1)) for line in lines]

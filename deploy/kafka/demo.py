"""Learn real sensor records from a real Kafka topic, be killed in the middle, go on: each record is counted once.

Run it as `broker with python demo.py`, or with the address of a broker in KAFKA_BOOTSTRAP_SERVERS.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stream_em.demo import SENSORS, shuttle_path

STREAM_EM = str(Path(sys.executable).with_name("stream-em"))
RECORDS = 49_097
TOPIC = "shuttle"
CONFIG = """
[kafka]
bootstrap_servers = "{address}"

[source]
type = "kafka"
topics = "{topic}"
fields = {fields}
group = "demo"
end = "now"
block_size = 500

[model]
type = "gaussian-mixture"
n_components = 3

[snapshots]
every_seconds = 0.2

[[sinks]]
what = "log-likelihoods"
type = "csv"

[run]
folder = "{folder}"
"""


def main() -> None:
    """Run the demo in a temporary folder."""
    address = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    with tempfile.TemporaryDirectory(prefix="stream-em-demo-") as name:
        folder, config = Path(name) / "run", Path(name) / "demo.toml"
        fields = json.dumps(list(SENSORS))
        config.write_text(CONFIG.format(address=address, topic=TOPIC, fields=fields, folder=folder))
        say(f"a broker listens at {address}; {RECORDS:,} records of {len(SENSORS)} sensors go into the topic {TOPIC}")
        subprocess.run([*produce(address), str(shuttle_path())], check=True)
        say("compiling what the model needs, once")
        subprocess.run([STREAM_EM, "warm", str(config)], check=True)
        say("learning starts, and is killed with SIGKILL after its first snapshots")
        killed = learn_and_kill(config, folder)
        say(f"killed; the newest snapshot says {killed:,} records. The same command goes on:")
        subprocess.run([STREAM_EM, "run", str(config)], check=True)
        show(folder)
        subprocess.run([STREAM_EM, "lag", str(config)], check=True)


def produce(address: str) -> list[str]:
    """Return the command that loads files into the topic."""
    options = ["--bootstrap-servers", address, "--topic", TOPIC, "--fields", ",".join(SENSORS)]
    return [STREAM_EM, "produce", *options]


def learn_and_kill(config: Path, folder: Path) -> int:
    """Start the run, kill it as soon as it has saved something, and return how many records that was."""
    with subprocess.Popen([STREAM_EM, "run", str(config), "--quiet"]) as process:
        snapshots = folder / "snapshots"
        while process.poll() is None and len(list(snapshots.glob("*.safetensors"))) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    return count_of(folder)


def show(folder: Path) -> None:
    """Say what was counted, by the snapshot and by the output."""
    lines = (folder / "log-likelihoods.csv").read_text().splitlines()
    places = {tuple(line.split(",")[:3]) for line in lines[1:]}
    count = count_of(folder)
    say(f"the statistics count {count:,} of {RECORDS:,} records; the output has {len(lines) - 1:,} rows,")
    say(f"of {len(places):,} different offsets: every record once, in spite of the kill")
    if not count == len(places) == len(lines) - 1 == RECORDS:
        sys.exit("that is wrong")


def count_of(folder: Path) -> int:
    """Return the count of records in the newest snapshot."""
    shown = subprocess.run([STREAM_EM, "show", str(folder), "--json"], check=True, capture_output=True)
    return int(json.loads(shown.stdout)["count"])


def say(text: str) -> None:
    """Print a step."""
    print(f"* {text}", flush=True)


if __name__ == "__main__":
    main()

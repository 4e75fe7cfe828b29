"""
Continuous model updating from Kafka
====================================

Sensors send their readings to a Kafka topic. A run learns from it for as long as it is left alone: it keeps a model
up to date, survives being stopped, and notices when the sensors change. This program plays both parts, and looks at
what the run has kept.

It needs a broker: ``deploy/kafka/broker with python docs/examples/kafka_topic.py`` starts one for as long as it
runs (Java 17, Maven). The records come with river (Statlog Shuttle).
"""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import stream_em as sem
from stream_em.demo import SENSORS, shuttle_path

BROKER = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
TOPIC = f"sensors-{time.time_ns()}"
FIELDS = SENSORS[4], SENSORS[7]
place = tempfile.TemporaryDirectory(prefix="stream-em-")
folder = Path(place.name)


def stream_em(*arguments):
    """Run the program `stream-em`; return what it prints."""
    program = Path(sys.executable).with_name("stream-em")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def send(name, records):
    """Send records (n, 2) to the topic, by way of a file."""
    np.savetxt(folder / name, records, delimiter=",", header=",".join(FIELDS), comments="", fmt="%g")
    stream_em("produce", str(folder / name), "--topic", TOPIC, "--bootstrap-servers", BROKER, "--quiet")


# %%
# The config
# ----------
#
# All that a run needs to know is in one file. ``[drift]`` watches for changes; ``end = "now"`` makes it stop when
# it has read what is there, because this page must end some day. Leave it out, and it waits for more.

config = folder / "sensors.toml"
_ = config.write_text(f"""
[kafka]
bootstrap_servers = "{BROKER}"

[source]
type = "kafka"
topics = "{TOPIC}"
fields = {json.dumps(FIELDS)}
group = "{TOPIC}"
end = "now"
block_size = 1000

[model]
type = "gaussian-mixture"
n_components = 3

[drift]

[[sinks]]
what = "log-likelihoods"
type = "csv"

[run]
folder = "{folder / "run"}"
journal_every_seconds = 0.1
""")

# %%
# The first day
# -------------

everything = np.concatenate([block.values for block in sem.open_source(shuttle_path(), fields=FIELDS)])
monday, tuesday = everything[:20_000], everything[20_000:30_000].copy()

send("monday.csv", monday)
stream_em("run", str(config), "--quiet")
print(stream_em("lag", str(config)))

# %%
# Nothing waits. What was learned is in the newest snapshot, and each message has been counted once:

learned = json.loads(stream_em("show", str(folder / "run"), "--json"))
print(f"{learned['count']:,.0f} records, {learned['log_likelihood']:.2f} nats each")
print(np.round(learned["params"]["means"], 1))

# %%
# The second day
# --------------
#
# In the night someone has replaced the first sensor, and the new one reads ten units more. The same command goes on
# where it stopped.

tuesday[:, 0] += 10
send("tuesday.csv", tuesday)
stream_em("run", str(config), "--quiet")

with sqlite3.connect(folder / "run" / "journal.db") as journal:
    for records, kind, detail in journal.execute("SELECT records, kind, detail FROM events ORDER BY rowid"):
        print(f"{records:>6,}  {kind:10}  {detail}")

# %%
# Drift was found soon after record 20,000. Challengers entered, made from the latest records, and took the model's
# place when they had predicted better by more than chance allows. The journal has all of it. The file that the sink
# wrote has the log-likelihood of every message, by what was known before it.

table = np.genfromtxt(folder / "run" / "log-likelihoods.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
print(table.dtype.names, len(table))
log_likelihood = table["log_likelihood"]
smooth = np.convolve(np.nan_to_num(log_likelihood, nan=np.nanmean(log_likelihood)), np.ones(200) / 200, mode="valid")

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
axes.plot(np.arange(len(smooth)) + 200, smooth, color="#c2410c")
axes.axvline(20_000, color="#9aa5b1", linewidth=1)
axes.set(
    xlabel="messages", ylabel="log-likelihood, nats", title="Mean of 200 messages, each scored before it was learned"
)
plt.show()

# %%
# The model anywhere else
# -----------------------
#
# A snapshot is a file, and ``load`` gives a learner: to score with, or to go on learning from anything.

newest = max((folder / "run" / "snapshots").glob("*.safetensors"))
learner = sem.load(newest)
print(learner)
print(learner.log_likelihood([[28.0, 48.0], [38.0, 48.0]]).round(1))

"""kill -9 at any moment of a run on a topic: every message enters statistics and outputs exactly once."""

import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from crash.harness import killed, undisturbed

from broker.helpers import committed
from stream_em.learning.store import SnapshotStore, read
from stream_em.streams.codecs import codec_named

CONFIG = """
[kafka]
bootstrap_servers = "{address}"
client = "{client}"

[source]
type = "kafka"
topics = "{topic}"
format = "float64"
fields = ["a", "b", "c"]
end = "now"
group = "{topic}"
block_size = 2000

[model]
type = "gaussian-mixture"
n_components = 1

[learner]
stepsize = "equal"
starts = 1

[snapshots]
every_seconds = 0.07
keep = 3

[[sinks]]
what = "log-likelihoods"
rows_per_file = 50000
"""


def records(n):
    """Return whole numbers whose sums tell whether one of them was lost or counted twice."""
    i = np.arange(n)
    return np.column_stack([i % 1000, i * 7919 % 1009, i // 1000]).astype(float)


def check_kills(folder, address, client, new_topic, send, n_records, n_kills):
    topic = new_topic(3)
    values = records(n_records)
    ends = send(topic, [row.tobytes() for row in values])
    config = folder / "c.toml"
    config.write_text(CONFIG.format(address=address, client=client, topic=topic))
    undisturbed(config, folder / "warm")
    seconds = undisturbed(config, folder / "whole")
    rng, kills, run = random.Random(0), 0, 0
    while kills < n_kills:
        run += 1
        broken = folder / f"killed-{run}"
        while kills < n_kills and killed(config, broken, seconds, rng):
            kills += 1
        undisturbed(config, broken)
        check_counted(broken, values, ends)


def check_counted(folder, values, offsets):
    """Each record is in the statistics once, and in the output once."""
    snapshot = read(SnapshotStore(folder / "snapshots").paths()[-1])
    learner = snapshot.learner
    assert (learner.count, snapshot.progress.records) == (len(values), len(values))
    learner.refresh()
    sums = learner.params.means[0] * learner.count
    np.testing.assert_array_equal(np.round(sums), values.sum(axis=0))
    np.testing.assert_allclose(sums, np.round(sums), atol=0.1)
    scores = pq.read_table(folder / "log-likelihoods")
    places = list(zip(scores["partition"].to_pylist(), scores["offset"].to_pylist(), strict=True))
    assert len(places) == len(set(places)) == len(values)
    positions = snapshot.progress.source["topics"].popitem()[1]["partitions"]
    assert sum(positions.values()) == len(values) == len(offsets)


def test_a_few_kills_change_nothing(tmp_path, address, client, new_topic, send):
    check_kills(tmp_path, address, client, new_topic, send, 60_000, 6)


@pytest.mark.slow
def test_two_hundred_kills_change_nothing(tmp_path, address, client, new_topic, send):
    check_kills(tmp_path, address, client, new_topic, send, 1_000_000, 200)


@pytest.mark.parametrize("message_format", ["float64", pytest.param("arrow", marks=pytest.mark.slow)])
def test_in_transactions_the_output_topic_has_each_row_once(tmp_path, address, client, new_topic, send, message_format):
    topic, scores, n = new_topic(3), new_topic(2), 30_000
    codec = codec_named(message_format, ["a", "b", "c"])
    values = records(n)
    send(topic, [message for i in range(0, n, 70) for message in codec.encode(values[i : i + 70], codec.fields)])
    config = tmp_path / "c.toml"
    text = CONFIG.format(address=address, client=client, topic=topic).partition("[[sinks]]")[0]
    sink = f'[[sinks]]\nwhat = "log-likelihoods"\ntype = "kafka"\ntopic = "{scores}"\nexactly_once = true\n'
    config.write_text(text.replace("float64", message_format) + sink)
    rng = random.Random(1)
    kills = sum(killed(config, tmp_path / "run", 3.0, rng) for _ in range(4))
    undisturbed(config, tmp_path / "run")
    keys = [message.key for message in committed(address, scores)]
    assert len(keys) == len(set(keys)) == n, f"after {kills} kills"
    assert read(SnapshotStore(tmp_path / "run" / "snapshots").paths()[-1]).learner.count == n

"""From a topic to a learned model, against the bare client that only counts; one broker for both, on the same cores."""

import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

import stream_em as sem
from benchmarks.pipeline import compared, learned, often
from benchmarks.rows import Row, alternated
from benchmarks.samples import mixture_params, mixture_records
from stream_em.config import Config, FilesSource
from stream_em.streams.codecs import codec_named
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.producing import open_producer
from stream_em.streams.kafka.settings import KafkaSettings

K, D, PARTITIONS, ARROW_ROWS = 3, 16, 3, 1000
FIELDS = [f"x{d}" for d in range(D)]
BROKER = Path(__file__).parents[1] / "deploy" / "kafka" / "broker"


def run(quick: bool) -> Iterator[Row]:
    """Yield each client and format against the client alone, Arrow batches against Parquet, and the price of saving."""
    n, n_arrow, rounds = (3000, 5000, 1) if quick else (1_000_000, 3_000_000, 3)
    values = mixture_records(mixture_params(K, D, spread=2.0), n)
    with a_broker() as address, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python, confluent = (Connection(address, client) for client in ("kafka-python", "confluent-kafka"))
        json_topic = filled(confluent, "json", np.round(values, 4))
        raw_topic = filled(confluent, "float64", values)
        yield against(python, json_topic, "json", poll_python, n, rounds, ">= 0.8")
        yield against(python, raw_topic, "float64", poll_python, n, rounds)
        yield against(confluent, json_topic, "json", poll_confluent, n, rounds)
        yield against(confluent, raw_topic, "float64", poll_confluent, n, rounds, ">= 0.6")
        yield arrow_against_parquet(confluent, folder, n_arrow, rounds)
        saved = replace(of_topic(python, raw_topic, "float64"), source=settings(raw_topic, "float64", "saved"))
        yield compared("Kafka: snapshot and commit every second", often(saved), n, folder, rounds, "<= 1.03")


def against(
    connection: Connection,
    topic: str,
    format: str,
    poll: Callable[[Connection, str, int], None],
    n: int,
    rounds: int,
    goal: str = "",
) -> Row:
    """Return records a second of learning from a topic and of polling it, and the share that learning reaches."""
    config = of_topic(connection, topic, format)
    learned(config)
    ours, bare = alternated(lambda: learned(config), lambda: poll(connection, topic, n), rounds)
    name = f"Kafka, {format}, {connection.client} : bare client"
    note = f"times as many a second; {n:,} messages K={K} D={D}, {PARTITIONS} partitions"
    return Row(name, n / median(ours), n / median(bare), median(bare) / median(ours), goal, "records/s", note)


def arrow_against_parquet(connection: Connection, folder: Path, n: int, rounds: int) -> Row:
    """Return records a second of the same run from Arrow messages and from a Parquet file."""
    values = mixture_records(mixture_params(K, D, spread=2.0), n)
    path = folder / "records.parquet"
    pq.write_table(pa.table(dict(zip(FIELDS, values.T, strict=True))), path)
    topic = filled(connection, "arrow", values)
    config = of_topic(connection, topic, "arrow")
    plain = Config(FilesSource(str(path)), sem.GaussianMixture(K))
    learned(plain)
    ours, file = alternated(lambda: learned(config), lambda: learned(plain), rounds)
    note = f"times as many a second; {n:,} records, {ARROW_ROWS:,} a message"
    ratio = median(file) / median(ours)
    name = f"Kafka, arrow, {connection.client} : Parquet file"
    return Row(name, n / median(ours), n / median(file), ratio, ">= 0.7", "records/s", note)


@contextmanager
def a_broker() -> Iterator[str]:
    """Give the address of $KAFKA_BOOTSTRAP_SERVERS, or of a broker that runs meanwhile."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield given
        return
    command = [BROKER, "with", "sh", "-c", "echo $KAFKA_BOOTSTRAP_SERVERS; cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("")


def filled(connection: Connection, format: str, values: np.ndarray) -> str:
    """Return the name of a new topic with these records."""
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic

    topic = f"{format}-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=connection.servers)
    admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs={"max.message.bytes": str(16 << 20)})])
    admin.close()
    codec = codec_named(format, FIELDS)
    producer = open_producer(connection, 60.0)
    for begin in range(0, len(values), ARROW_ROWS):
        for message in codec.encode(np.ascontiguousarray(values[begin : begin + ARROW_ROWS]), FIELDS):
            producer.send(topic, None, message)
    producer.flush()
    producer.close()
    return topic


def of_topic(connection: Connection, topic: str, format: str) -> Config:
    """Return a config that reads a topic to its end."""
    return Config(settings(topic, format), sem.GaussianMixture(K), kafka=connection)


def settings(topic: str, format: str, group: str | None = None) -> KafkaSettings:
    """Return what is to be read."""
    return KafkaSettings(topics=topic, format=format, fields=FIELDS, end="now", group=group)


def poll_python(connection: Connection, topic: str, n: int) -> None:
    """Count messages with kafka-python."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=connection.servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    count_all(lambda: [record for batch in consumer.poll(1000, 5000).values() for record in batch], n)
    consumer.close()


def poll_confluent(connection: Connection, topic: str, n: int) -> None:
    """Count messages with confluent-kafka."""
    from confluent_kafka import Consumer, TopicPartition

    servers = ",".join(connection.servers)
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bare", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    count_all(lambda: consumer.consume(5000, 1.0), n)
    consumer.close()


def count_all(poll: Callable[[], Sequence[object]], n: int) -> None:
    """Poll until n messages came."""
    count = 0
    while count < n:
        count += len(poll())

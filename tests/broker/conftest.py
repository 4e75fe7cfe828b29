"""A real broker, topics on it, and both clients."""

import gc
import itertools
import os
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from broker.cluster import Broker
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.settings import KafkaSettings
from stream_em.streams.kafka.source import KafkaSource

NUMBERS = itertools.count(1)
LEFT_OPEN = r"ignore:Exception ignored in. <(socket\.socket|ssl\.SSLSocket):pytest.PytestUnraisableExceptionWarning"


def pytest_collection_modifyitems(items):
    """Let kafka-python leave sockets to the garbage collector, as it does where nobody listens."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(LEFT_OPEN))


@pytest.fixture(autouse=True)
def collected():
    """Collect them within the test that they belong to."""
    yield
    gc.collect()


def started(folder):
    """Start a broker in a folder; what is missing on this machine fails the test in one line."""
    try:
        return Broker(folder).start()
    except RuntimeError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def own_broker(tmp_path_factory):
    broker = started(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def address(request):
    """The broker of $KAFKA_BOOTSTRAP_SERVERS, or one of our own."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    return given or request.getfixturevalue("own_broker").address


@pytest.fixture(scope="session")
def admin(address):
    client = KafkaAdminClient(bootstrap_servers=address)
    yield client
    client.close()


@pytest.fixture
def new_topic(admin):
    """Make a topic with a name of its own."""

    def new_topic(partitions=3, name=None, **configs):
        name = name or f"t{os.getpid()}-{next(NUMBERS)}"
        configs = {key.replace("_", "."): str(value) for key, value in configs.items()}
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        return name

    return new_topic


@pytest.fixture(scope="session")
def send(address):
    """Send messages; returns when the broker has them."""
    producer = KafkaProducer(bootstrap_servers=address, linger_ms=20, max_request_size=16 << 20)

    def send(topic, values, partition=None, key=None, headers=None, by=producer):
        futures = [by.send(topic, value=value, partition=partition, key=key, headers=headers) for value in values]
        by.flush()
        return [future.get(10).offset for future in futures]

    yield send
    producer.close()


@pytest.fixture(params=["kafka-python", "confluent-kafka"])
def client(request):
    return request.param


@pytest.fixture
def source(client, address):
    """Make sources, and close them at the end."""
    made = []

    def source(topics=None, until_end=True, connection=None, **settings):
        connection = connection or Connection(bootstrap_servers=address, client=client)
        made.append(KafkaSource(connection, KafkaSettings(topics=topics, **settings), until_end))
        return made[-1]

    yield source
    for each in made:
        each.close()

"""What a run is told about topics, and its position in them: read, or refused in one line."""

import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as sem
from stream_em.config import SinkSection
from stream_em.streams.kafka.batch import Place
from stream_em.streams.kafka.clients import open_client
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.interface import Partition, Range
from stream_em.streams.kafka.names import check_topic
from stream_em.streams.kafka.positions import Position, position_in
from stream_em.streams.kafka.producing import open_producer
from stream_em.streams.kafka.ranges import settled
from stream_em.streams.kafka.settings import KafkaSettings, parse_start

PLACES = st.dictionaries(
    st.builds(Partition, st.sampled_from(["a", "b"]), st.integers(0, 5)),
    st.builds(Place, st.integers(0, 1 << 60), st.integers(0, 5)),
)


@given(PLACES, st.lists(st.text(max_size=3), max_size=2))
@settings(max_examples=100, deadline=None)
def test_a_position_goes_through_json(places, fields):
    ids = {partition.topic: "0" * 32 for partition in places}
    kept = msgspec.json.decode(msgspec.json.encode(Position(places, ids, tuple(fields)).as_json()))
    assert position_in(kept) == Position(places, ids, tuple(fields))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        {"topics": 3},
        {"topics": {"t": {"partitions": {"0": 1}}}},
        {"topics": {"t": {"id": "x", "partitions": {"0": -1}}}},
        {"topics": {"t": {"id": "x", "partitions": {"first": 1}}}},
        {"topics": {}, "file": "x.csv"},
    ],
)
def test_what_is_no_position_is_refused(wrong):
    with pytest.raises(sem.InputError, match="malformed"):
        position_in(wrong)


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_start_or_refused(text):
    said = "latest"
    try:
        parse_start(text)
    except sem.InputError as error:
        said = str(error)
    assert "latest" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "name a topic, or give a topic_pattern"),
        ({"topics": "a", "topic_pattern": "b"}, "one of the two"),
        ({"topics": []}, "name at least one"),
        ({"topic_pattern": "("}, "is no regular expression"),
        ({"topics": "a", "format": "avro"}, "schema_registry: is needed"),
        ({"topics": "a", "dead_letter_topic": "b"}, 'needs on_error = "dead-letter"'),
        ({"topics": ""}, "topics: '' cannot be the name of a topic"),
        ({"topics": ["a", "b c"]}, "topics: 'b c' cannot be the name of a topic"),
        ({"topics": "a", "on_error": "dead-letter", "dead_letter_topic": ".."}, "dead_letter_topic: '..' cannot be"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(more, said):
    with pytest.raises(sem.InputError, match=said):
        KafkaSettings(**more)


def test_what_is_within_its_range_stays_and_the_rest_is_told():
    one, two, three = (Partition("t", number) for number in range(3))
    ranges = {one: Range(0, 10), two: Range(5, 10), three: Range(0, 3)}
    offsets, notes = settled({one: 10, two: 2, three: 7}, ranges, "earliest")
    assert offsets == {one: 10, two: 5, three: 0}
    assert [note.kind for note in notes] == ["data-loss", "data-loss"]
    assert "3 messages lost" in notes[0].detail
    assert "deleted and made anew" in notes[1].detail
    offsets, notes = settled({one: 3, two: 2, three: 7}, ranges, "latest")
    assert offsets == {one: 3, two: 10, three: 3}
    with pytest.raises(sem.OutsideError, match=r"set source\.on_data_loss"):
        settled({two: 2}, ranges, "fail")


@pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"])
def test_a_library_that_is_not_installed_is_one_line(client, monkeypatch):
    monkeypatch.setitem(sys.modules, {"kafka-python": "kafka", "confluent-kafka": "confluent_kafka"}[client], None)
    with pytest.raises(sem.InputError, match=rf"{client} is not installed; pip install 'stream-em\["):
        open_client(Connection(client=client))


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "...", "x" * 249])
def test_names_of_topics(name):
    check_topic(name, "topic")


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "a\n", "x" * 250])
def test_what_cannot_be_the_name_of_a_topic(name):
    with pytest.raises(sem.InputError, match=r"^--topic: .* cannot be the name of a topic; use up to 249 letters"):
        check_topic(name, "--topic")
    with pytest.raises(sem.InputError, match="topic: "):
        SinkSection("events", "kafka", topic=name)


@pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"])
def test_files_for_tls_are_looked_at_before_it_connects(client, tmp_path):
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("what")
    for files, said in (
        ({"ssl_cafile": "no/such.pem"}, "kafka.ssl_cafile: no/such.pem: cannot be read: No such file or directory"),
        ({"ssl_certfile": "no/such.pem"}, "kafka.ssl_certfile: no/such.pem: cannot be read"),
        ({"ssl_certfile": garbage, "ssl_keyfile": "no/such.key"}, "kafka.ssl_keyfile: no/such.key: cannot be read"),
        ({"ssl_cafile": tmp_path}, "kafka.ssl_cafile: .*: cannot be read: Is a directory; name a PEM file"),
        ({"ssl_cafile": garbage}, r"kafka.ssl_cafile: .*garbage.pem: cannot be used: .*; name a PEM file"),
        ({"ssl_certfile": garbage}, "kafka.ssl_certfile: .*garbage.pem: cannot be used with ssl_keyfile"),
    ):
        named = {key: str(path) for key, path in files.items()}
        connection = Connection("127.0.0.1:1", client, security_protocol="SSL", connect_timeout=600, **named)
        with pytest.raises(sem.InputError, match=said):
            open_client(connection)
        with pytest.raises(sem.InputError, match=said):
            open_producer(connection, 600)

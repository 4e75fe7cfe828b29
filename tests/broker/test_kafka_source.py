"""Topics as a source: every record once, from any position, whatever is in the topic."""

import json
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import NewPartitions

import stream_em as sem
from broker.helpers import counted, objects, through_json, until
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.settings import KafkaSettings
from stream_em.streams.kafka.source import KafkaSource


def test_all_partitions_are_read_each_in_its_order(source, new_topic, send):
    topic = new_topic(3)
    for number in range(3):
        send(topic, objects(1000 * number, 1000 * number + 1000), number)
    blocks = list(source(topic, block_size=300))
    assert sorted(counted(blocks)) == list(range(3000))
    for number in range(3):
        there = [
            (offset, value)
            for block in blocks
            for where, offset, value in zip(
                block.places["partition"], block.places["offset"], block.values[:, 0], strict=True
            )
            if where == number
        ]
        assert there == [(i, 1000 * number + i) for i in range(1000)]
    assert {block.places["topic"] for block in blocks} == {topic}
    assert {block.fields for block in blocks} == {("a", "b")}
    assert max(map(len, blocks)) <= 300
    assert blocks[-1].position["topics"][topic]["partitions"] == {"0": 1000, "1": 1000, "2": 1000}


def test_reading_goes_on_at_every_position(source, new_topic, send):
    topic = new_topic(2)
    send(topic, objects(0, 500))
    first = source(topic, block_size=60)
    seen = []
    for block in first:
        seen += counted([block])
        again = source(topic, block_size=60)
        again.seek(through_json(block.position))
        assert sorted(seen + counted(again)) == list(range(500))
        again.close()


def test_a_limit_cuts_anywhere(source, new_topic, send):
    topic = new_topic(2)
    send(topic, objects(0, 300))
    reader = source(topic)
    position, seen = None, []
    for limit in (1, 99, 100, 7, 1000):
        reader.seek(position, limit)
        blocks = list(reader)
        seen += counted(blocks)
        position = through_json(blocks[-1].position)
    assert sorted(seen) == list(range(300))


def test_where_a_new_run_begins(source, new_topic, send):
    topic = new_topic(2)
    send(topic, objects(0, 10), 0)
    send(topic, objects(10, 20), 1)
    time.sleep(0.05)
    now = time.time()
    time.sleep(0.05)
    assert sorted(counted(source(topic, start="latest"))) == []
    assert sorted(counted(source(topic, start="offsets:0=8,1=9"))) == [8, 9, 19]
    send(topic, objects(20, 25), 0)
    assert sorted(counted(source(topic, start=f"timestamp:{now}"))) == [20, 21, 22, 23, 24]
    assert sorted(counted(source(topic, start="earliest"))) == list(range(25))
    assert sorted(counted(source(topic, start="offsets:0=15,1=10"))) == []
    for until_end in (True, False):
        with pytest.raises(
            sem.InputError,
            match=rf"source.start: topic {topic}, partition 0 holds offsets 0 up to 15, and 999 is beyond",
        ):
            source(topic, start="offsets:0=999", until_end=until_end).seek(None)
    with pytest.raises(sem.InputError, match="there is no partition 7; there are 2"):
        source(topic, start="offsets:7=0").seek(None)


@pytest.mark.parametrize("wrong", ["soon", "timestamp:yesterday", "offsets:a=b", "offsets:0=-1"])
def test_a_wrong_start_is_said_with_the_spellings(source, wrong):
    with pytest.raises(sem.InputError, match='use "earliest", "latest", "timestamp:'):
        source("t", start=wrong)


def test_an_endless_run_waits_and_stops_soon(source, new_topic, send):
    topic = new_topic(1)
    send(topic, objects(0, 5))
    reader = source(topic, until_end=False)
    blocks = []
    thread = threading.Thread(target=lambda: blocks.extend(reader))
    thread.start()
    until(lambda: len(counted(blocks)) == 5)
    send(topic, objects(5, 9))
    until(lambda: len(counted(blocks)) == 9)
    begin = time.monotonic()
    reader.stop()
    thread.join(5)
    assert time.monotonic() - begin < 1
    assert counted(blocks) == list(range(9))


def test_fields_are_chosen_or_those_of_the_first_message(source, new_topic, send):
    topic = new_topic(1)
    send(topic, [b'{"a": 1, "b": 2, "c": 3}'])
    assert source(topic).fields == ("a", "b", "c")
    reader = source(topic, fields=["c", "a"])
    assert [block.values.tolist() for block in reader] == [[[3.0, 1.0]]]
    last = next(iter(source(topic)))
    empty = source(topic, until_end=True)
    empty.seek(through_json(last.position))
    assert empty.fields == ("a", "b", "c")


def test_a_field_that_no_message_has_is_told_once(source, new_topic, send):
    topic = new_topic(1)
    send(topic, objects(0, 5000))
    blocks = list(source(topic, fields=["a", "zz"], block_size=500))
    assert counted(blocks) == list(range(5000))
    (note,) = [note for block in blocks for note in block.notes]
    assert (note.kind, "'zz'" in note.detail) == ("field-missing", True)
    assert not [note for block in source(topic, fields=["b", "a"]) for note in block.notes]


def test_without_a_message_the_fields_are_not_known(source, new_topic):
    with pytest.raises(sem.InputError, match=r"no message has come yet; name the fields in source\.fields"):
        source(new_topic(1)).fields  # noqa: B018


def test_an_empty_topic_ends_at_once(source, new_topic):
    assert list(source(new_topic(3), fields=["a"])) == []


def test_a_topic_that_is_not_there_is_said_with_the_nearest(source, new_topic):
    topic = new_topic(1)
    with pytest.raises(sem.InputError, match=f"there is no topic '{topic}x'; did you mean '{topic}'?"):
        source(f"{topic}x").seek(None)


def test_several_topics_and_patterns(source, new_topic, send):
    north = new_topic(1)
    one, two = new_topic(1, f"{north}-1"), new_topic(2, f"{north}-2")
    send(one, objects(0, 50))
    send(two, objects(50, 100))
    blocks = list(source([one, two], block_size=20))
    assert sorted(counted(blocks)) == list(range(100))
    assert {block.places["topic"] for block in blocks} == {one, two}
    reader = source(topic_pattern=f"{north}-.*")
    assert sorted(counted(reader)) == list(range(100))
    last = list(source(topic_pattern=f"{north}-[12]"))[-1]
    assert set(last.position["topics"]) == {one, two}


def test_new_partitions_are_read_from_their_start(source, new_topic, send, admin, address, monkeypatch):
    monkeypatch.setattr("stream_em.streams.kafka.poller.LOOK_SECONDS", 0.2)
    topic = new_topic(1)
    send(topic, objects(0, 10))
    reader = source(topic, until_end=False, fields=["a", "b"])
    blocks = []
    thread = threading.Thread(target=lambda: blocks.extend(reader))
    thread.start()
    until(lambda: len(counted(blocks)) == 10)
    admin.create_partitions({topic: NewPartitions(3)})
    until(lambda: partitions_of(reader) == 3)
    producer = KafkaProducer(bootstrap_servers=address)  # one that knows the new partitions
    for number in range(3):
        send(topic, objects(10 + number, 11 + number), number, by=producer)
    producer.close()
    until(lambda: len(counted(blocks)) == 13)
    reader.stop()
    thread.join(5)
    assert sorted(counted(blocks)) == list(range(13))
    kinds = [note.kind for block in blocks for note in block.notes]
    assert kinds.count("new-partition") == 2


def partitions_of(reader):
    return sum(len(topic.partitions) for topic in reader._poller.topics.values())


def test_tombstones_are_passed_over_and_told(source, new_topic, send):
    topic = new_topic(1)
    send(topic, [*objects(0, 2), None, *objects(2, 3), None], key=b"k")
    blocks = list(source(topic))
    assert counted(blocks) == [0, 1, 2]
    assert [note.detail for block in blocks for note in block.notes] == ["2 messages without a value were passed over"]
    assert blocks[0].places["offset"].tolist() == [0, 1, 3]
    assert blocks[-1].position["topics"][topic]["partitions"] == {"0": 5}


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd", "snappy"])
def test_compressed_messages(source, new_topic, send, address, compression):
    topic = new_topic(1)
    producer = KafkaProducer(bootstrap_servers=address, compression_type=compression, linger_ms=50)
    send(topic, objects(0, 1000), by=producer)
    producer.close()
    assert counted(source(topic)) == list(range(1000))


@pytest.mark.parametrize("isolation_level", ["read_committed", "read_uncommitted"])
def test_aborted_transactions_are_left_out_if_asked(source, new_topic, send, address, isolation_level):
    topic = new_topic(1)
    producer = KafkaProducer(bootstrap_servers=address, transactional_id=f"{topic}-{isolation_level}")
    producer.init_transactions()
    for begin, commit in ((0, True), (10, False), (20, True), (30, False)):
        producer.begin_transaction()
        for value in objects(begin, begin + 10):
            producer.send(topic, value)
        producer.flush()
        producer.commit_transaction() if commit else producer.abort_transaction()
    producer.close()
    reader = source(topic, isolation_level=isolation_level)
    expected = [*range(10), *range(20, 30)] if isolation_level == "read_committed" else list(range(40))
    assert counted(reader) == expected
    # At the end there are only marks of transactions left, and they count as read.
    until(lambda: reader.lag == (0, "messages"))


def test_messages_of_ten_megabytes(source, new_topic, send):
    topic = new_topic(1, max_message_bytes=16 << 20)
    values = [json.dumps({"a": i, "pad": "x" * (10 << 20)}).encode() for i in range(3)]
    send(topic, values)
    assert counted(source(topic, fields=["a"])) == [0, 1, 2]


BAD = [b'{"a": 0}', b"what", b'{"a": 2}', b"\xff\x00", b'{"a": "x"}', b'{"a": 5}']


def test_a_message_that_cannot_be_used_stops_after_what_came_before_it(source, new_topic, send):
    topic = new_topic(1)
    send(topic, BAD)
    reader = source(topic, fields=["a"])
    blocks = iter(reader)
    first = next(blocks)
    assert counted([first]) == [0]
    assert first.position["topics"][topic]["partitions"] == {"0": 1}
    with pytest.raises(sem.InputError, match=rf"topic {topic}, partition 0, offset 1: .*on_error"):
        next(blocks)


def test_messages_that_cannot_be_used_are_kept_as_they_were(source, new_topic, send):
    topic = new_topic(1)
    send(topic, BAD, key=b"the key", headers=[("h", b"\x01")])
    (block,) = list(source(topic, fields=["a"], on_error="skip"))
    assert counted([block]) == [0, 2, 5]
    assert [(record.place["offset"], record.content) for record in block.rejected] == [
        (1, b"what"),
        (3, b"\xff\x00"),
        (4, b'{"a": "x"}'),
    ]
    for record in block.rejected:
        assert record.reason.startswith(f"topic {topic}, partition 0, offset {record.place['offset']}: ")
        assert (record.key, record.headers) == (b"the key", (("h", b"\x01"),))
    for limit in range(1, 6):
        reader = source(topic, fields=["a"], on_error="skip")
        reader.seek(None, limit)
        (first,) = list(reader)
        assert len(first) + len(first.rejected) == limit
        reader.seek(through_json(first.position))
        rest = list(reader)
        assert counted([first, *rest]) == [0, 2, 5]
        assert [record for part in [first, *rest] for record in part.rejected] == list(block.rejected)


class RawName(str):
    """The name of a header that goes out as bytes that are no text."""

    def encode(self, *_):
        return b"\xff\xfe"


def test_a_header_whose_name_is_no_text(source, new_topic, send, client):
    topic = new_topic(3)
    wrong = [(RawName("x"), b"1")]
    send(topic, objects(0, 50), 0)
    send(topic, objects(50, 60), 1)
    send(topic, objects(60, 61), 1, headers=wrong)
    send(topic, [b"what"] * 20, 1, headers=wrong)
    reader = source(topic, fields=["a", "b"], on_error="skip")
    if client == "confluent-kafka":
        blocks = list(reader)
        assert sorted(counted(blocks)) == list(range(61))
        rejected = [record for block in blocks for record in block.rejected]
        assert [record.place["offset"] for record in rejected] == list(range(11, 31))
        for record in rejected:
            assert record.content == b"what"
            assert record.headers == (("stream_em.headers-lost", b"one has a name that is not UTF-8"),)
        return
    blocks, said = [], rf'^topic {topic}, partition 1, offset 10: .*UnicodeDecodeError.* to "confluent-kafka"'
    with pytest.raises(sem.InputError, match=said):
        blocks.extend(block for block in reader)
    places = blocks[-1].position["topics"][topic]["partitions"]
    assert places["1"] == 10
    assert len(counted(blocks)) == sum(places.values())


def test_what_the_broker_has_deleted_stops_the_run_or_is_told(source, new_topic, send, admin):
    topic = new_topic(1)
    send(topic, objects(0, 100))
    reader = source(topic, fields=["a"])
    reader.seek(None, 10)
    position = through_json(list(reader)[-1].position)
    admin.delete_records({TopicPartition(topic, 0): 40})
    with pytest.raises(sem.OutsideError, match=r"offset 10 is gone, the broker begins at 40; set source.on_data_loss"):
        source(topic, fields=["a"]).seek(position)
    earliest = source(topic, fields=["a"], on_data_loss="earliest")
    earliest.seek(position)
    blocks = list(earliest)
    assert counted(blocks) == list(range(40, 100))
    (note,) = [note for block in blocks for note in block.notes]
    assert note.kind == "data-loss"
    assert "30 messages lost; reading goes on at 40" in note.detail
    latest = source(topic, fields=["a"], on_data_loss="latest")
    latest.seek(position)
    blocks = list(latest)
    assert counted(blocks) == []
    assert "90 messages lost; reading goes on at 100" in blocks[0].notes[0].detail


def read_while_most_is_deleted(source, topic, connection, admin):
    """Read one record, delete up to offset 30, read the rest; return all records and notes."""
    reader = source(topic, connection=connection, fields=["a"], block_size=1, on_data_loss="earliest")
    blocks = iter(reader)
    first = next(blocks)
    admin.delete_records({TopicPartition(topic, 0): 30})
    rest = list(blocks)
    return counted([first, *rest]), [note for block in rest for note in block.notes]


def test_what_is_deleted_while_it_is_read_is_told(source, new_topic, send, admin, address, client):
    little = {"kafka-python": {}, "confluent-kafka": {"queued.max.messages.kbytes": 1, "fetch.max.bytes": 4 << 20}}
    connection = Connection(bootstrap_servers=address, client=client, options=little[client])
    for _ in range(5):
        topic = new_topic(1, max_message_bytes=4 << 20)
        send(topic, [json.dumps({"a": i, "pad": "x" * (2 << 20)}).encode() for i in range(40)])
        seen, notes = read_while_most_is_deleted(source, topic, connection, admin)
        if len(seen) < 40:  # or else the client had fetched all before the broker deleted any
            break
    assert seen[-10:] == list(range(30, 40))
    assert seen[:-10] == list(range(len(seen) - 10))
    assert len(seen) < 40
    assert [note.kind for note in notes] == ["data-loss"], notes
    assert f"{40 - len(seen)} messages lost; reading goes on at 30" in notes[0].detail


def test_a_topic_made_anew_is_not_taken_for_the_old_one(source, new_topic, send, admin):
    topic = new_topic(1)
    send(topic, objects(0, 20))
    reader = source(topic, fields=["a"])
    reader.seek(None, 10)
    position = through_json(list(reader)[-1].position)
    admin.delete_topics([topic])
    until(lambda: topic not in admin.list_topics())
    time.sleep(0.2)
    new_topic(1, topic)
    send(topic, objects(100, 130))
    with pytest.raises(sem.OutsideError, match="was deleted and made anew"):
        source(topic, fields=["a"]).seek(position)
    anew = source(topic, fields=["a"], on_data_loss="earliest")
    anew.seek(position)
    assert counted(anew) == list(range(100, 130))
    del position["topics"][topic]["id"]
    with pytest.raises(sem.InputError, match="malformed"):
        source(topic, fields=["a"]).seek(position)


def test_offsets_are_committed_for_lag_tools(source, new_topic, send, admin, client):
    topic = new_topic(2)
    group = f"group-{topic}"
    send(topic, objects(0, 50), 0)
    reader = source(topic, group=group)
    blocks = list(reader)
    reader.commit(blocks[-1].position)
    reader.close()
    stored = admin.list_group_offsets(group)
    flat = {each: at.offset for each, at in (stored.get(group, stored)).items()}
    assert flat[TopicPartition(topic, 0)] == 50


def test_a_broker_that_is_not_there_is_one_line(source, client):
    nobody = Connection(bootstrap_servers="127.0.0.1:1", client=client, connect_timeout=1)
    with pytest.raises(sem.OutsideError, match=r"no broker at 127.0.0.1:1 within 1 s.*check kafka.bootstrap_servers"):
        source("t", connection=nobody).seek(None)


def test_options_of_the_client_are_passed_through_and_checked(source, new_topic, send, address, client):
    topic = new_topic(1)
    send(topic, objects(0, 3))
    good = {"kafka-python": {"fetch_min_bytes": 1}, "confluent-kafka": {"fetch.min.bytes": 1}}[client]
    connection = Connection(bootstrap_servers=address, client=client, options=good)
    assert counted(source(topic, connection=connection)) == [0, 1, 2]
    wrong = Connection(bootstrap_servers=address, client=client, options={"no_such_option": 1})
    with pytest.raises(sem.InputError, match="no_such_option"):
        source(topic, connection=wrong).seek(None)
    ours = {"kafka-python": {"group_id": "x"}, "confluent-kafka": {"group.id": "x"}}[client]
    taken = Connection(bootstrap_servers=address, client=client, options=ours)
    with pytest.raises(sem.InputError, match="is set by stream_em itself"):
        source(topic, connection=taken).seek(None)


def test_messages_tell_when_they_were_sent(source, new_topic, address, client):
    topic = new_topic(2)
    with closing(KafkaProducer(bootstrap_servers=address)) as producer:
        for i, message in enumerate(objects(0, 60)):
            producer.send(topic, message, partition=i % 2, timestamp_ms=1_700_000_000_000 + 250 * i)
    timed = KafkaSource(
        Connection(bootstrap_servers=address, client=client), KafkaSettings(topics=topic), True, timestamps=True
    )
    with closing(timed):
        blocks = list(timed)
    values = np.concatenate([block.values[:, 0] for block in blocks])
    times = np.concatenate([block.timestamps for block in blocks])
    assert sorted(values) == list(range(60))
    np.testing.assert_allclose(times, 1.7e9 + 0.25 * values, atol=1e-6)

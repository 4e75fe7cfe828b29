"""Where reading begins, and what is done where the broker no longer has what was to be read."""

from collections.abc import Mapping

from stream_em.errors import InputError, OutsideError
from stream_em.streams.kafka.interface import Client, Partition, Range
from stream_em.streams.kafka.settings import OnDataLoss, Start, check_offsets
from stream_em.streams.records import Note

_MEND = 'set source.on_data_loss to "earliest" or "latest" to go on without them, or start anew with --fresh'


def first_offsets(client: Client, start: Start, partitions: list[Partition], seconds: float) -> dict[Partition, int]:
    """Return where a new run begins in each partition.

    Raises `InputError` if it asks for partitions that are not there, or offsets beyond their ends.
    """
    check_offsets(start, partitions)
    if start.timestamp is not None:
        return client.offsets_at(partitions, start.timestamp, seconds) if partitions else {}
    ranges = client.ranges(partitions, seconds) if partitions else {}
    if start.offsets is None:
        return {each: at.end if start.end == "latest" else at.begin for each, at in ranges.items()}
    offsets = {each: start.offsets.get(each.number, at.begin) for each, at in ranges.items()}
    for each, at in ranges.items():
        if offsets[each] > at.end:
            raise InputError(
                f"source.start: {each} holds offsets {at.begin:,} up to {at.end:,}, and {offsets[each]:,} is beyond"
                " the end; choose one within, or latest"
            )
    return offsets


def settled(
    offsets: Mapping[Partition, int], ranges: Mapping[Partition, Range], on_data_loss: OnDataLoss
) -> tuple[dict[Partition, int], list[Note]]:
    """Return where reading goes on in each partition, and what was lost there.

    Raises `OutsideError` if an offset is outside its partition's range and `on_data_loss` is "fail".
    """
    there, notes = {}, []
    for partition, offset in offsets.items():
        begin, end = ranges[partition]
        if begin <= offset <= end:
            there[partition] = offset
            continue
        if offset < begin:
            what = f"{partition}: offset {offset:,} is gone, the broker begins at {begin:,}"
            lost = begin - offset if on_data_loss != "latest" else end - offset
            count = f"{lost:,} messages lost"
        else:
            what = f"{partition}: offset {offset:,} is beyond the end, {end:,}: the topic was deleted and made anew"
            count = "what came after it in the old topic is lost" + (
                f", and {end - begin:,} messages of the new one are passed over" if on_data_loss == "latest" else ""
            )
        if on_data_loss == "fail":
            raise OutsideError(f"kafka: {what}; {_MEND}")
        there[partition] = end if on_data_loss == "latest" else begin
        notes.append(Note("data-loss", f"{what}; {count}; reading goes on at {there[partition]:,}"))
    return there, notes


def deleted(topic: str, on_data_loss: OnDataLoss) -> Note:
    """Return what happened to a topic that is not there any more; raises `OutsideError` if that is to stop."""
    if on_data_loss == "fail":
        raise OutsideError(f"kafka: topic {topic} was deleted while it was read; {_MEND}")
    return Note("data-loss", f"topic {topic} was deleted; what was not read of it is lost")


def made_anew(topic: str, on_data_loss: OnDataLoss) -> Note:
    """Return what happened to a topic that has another id than before; raises `OutsideError` if that is to stop."""
    what = f"topic {topic} was deleted and made anew"
    if on_data_loss == "fail":
        raise OutsideError(f"kafka: {what}; {_MEND}")
    where = "end" if on_data_loss == "latest" else "start"
    return Note("data-loss", f"{what}; what was not read of the old one is lost; reading goes on at its {where}")

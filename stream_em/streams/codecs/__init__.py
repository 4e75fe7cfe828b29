"""Messages to records and back: many at a time, straight into one matrix."""

import difflib
from collections.abc import Sequence

from stream_em.errors import InputError
from stream_em.streams.cells import check_chosen
from stream_em.streams.codecs.interface import Codec
from stream_em.streams.codecs.reasons import check_text
from stream_em.streams.codecs.registry import SchemaRegistry
from stream_em.streams.codecs.single import Format, SingleCodec

FORMATS = ("json", "json-array", "csv", "msgpack", "float32", "float64", "arrow", "avro")
SIGNAL_FORMATS = ("pcm-int16", "pcm-float32")
"""Many samples a message, and no names."""
SEVERAL = ("arrow", *SIGNAL_FORMATS)
"""The formats of which a message holds several records."""


def codec_named(
    format: str,
    fields: Sequence[str] | None,
    schema_registry: SchemaRegistry | None = None,
    subject: str | None = None,
) -> Codec:
    """Return the codec of a format, for these fields in this order, or those that the messages have.

    `schema_registry` is for avro, and so is `subject`, under which `encode` registers its schema. Raises `InputError`
    for an unknown format, no or repeated fields, and avro without registry or the package fastavro.
    """
    name = format.lower()
    known = (*FORMATS, *SIGNAL_FORMATS)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        offer = f"did you mean {near[0]!r}? Formats" if near else "formats"
        raise InputError(f"there is no message format {format!r}; {offer} are {', '.join(known)}")
    check_chosen(fields)
    names = tuple(fields or ())
    check_text(names)
    if name == "arrow":
        from stream_em.streams.codecs.arrowformat import ArrowCodec

        return ArrowCodec(names)
    if name in SIGNAL_FORMATS:
        from stream_em.streams.codecs.pcmformat import PcmCodec

        return PcmCodec("int16" if name == "pcm-int16" else "float32", names)
    if name == "avro":
        from stream_em.streams.codecs.avroformat import RECORD_NAME, AvroCodec

        if schema_registry is None:
            raise InputError("message format avro needs a schema registry; give its URL")
        return AvroCodec(names, schema_registry, subject or RECORD_NAME)
    return SingleCodec(_format(name), names)


def _format(name: str) -> Format:
    """Return a format of one record a message."""
    if name in ("json", "json-array"):
        from stream_em.streams.codecs.jsonformat import JsonArrays, JsonObjects

        return JsonObjects() if name == "json" else JsonArrays()
    if name == "csv":
        from stream_em.streams.codecs.csvformat import CsvLines

        return CsvLines()
    if name == "msgpack":
        from stream_em.streams.codecs.msgpackformat import MsgPack

        return MsgPack()
    from stream_em.streams.codecs.floatformat import Floats

    return Floats("float32" if name == "float32" else "float64")

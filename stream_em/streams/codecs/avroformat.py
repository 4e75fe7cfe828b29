"""Avro with a schema registry: a zero byte, the number of the schema, a record."""

import struct
from collections.abc import Sequence
from io import BytesIO
from sys import maxsize
from typing import Any

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.errors import InputError
from stream_em.streams.codecs.avrofields import Choice
from stream_em.streams.codecs.avroschema import RecordSchema, record_schema
from stream_em.streams.codecs.interface import Decoded
from stream_em.streams.codecs.registry import NoSchemaError, SchemaRegistry
from stream_em.streams.codecs.single import Row, SingleCodec

RECORD_NAME = "stream_em.Record"
_HEAD = struct.Struct(">BI")


class AvroCodec(SingleCodec):
    """The codec of Avro; it asks the registry before it decodes, so that a registry that is away is no message's fault.

    Raises `InputError` if the package fastavro is not installed.
    """

    def __init__(self, fields: tuple[str, ...], registry: SchemaRegistry, subject: str) -> None:
        try:
            import fastavro  # noqa: F401
        except ImportError:
            raise InputError(
                "message format avro needs the package fastavro; install it with pip install 'stream-em[kafka]'"
            ) from None
        self._avro = _Avro(registry, subject)
        super().__init__(self._avro, fields)

    def decode(self, messages: Sequence[bytes]) -> Decoded:
        """Return the records of all messages; raises `OutsideError` and `InputError` for the registry."""
        self._avro.fetch(messages)
        return super().decode(messages)


class _Avro:
    """Records under a schema each; `fetch` must have seen a message before it is parsed."""

    few = maxsize
    """Each message needs a call of its own anyway."""

    def __init__(self, registry: SchemaRegistry, subject: str) -> None:
        import fastavro

        self._read: Any = fastavro.schemaless_reader
        self._write: Any = fastavro.schemaless_writer
        self._registry = registry
        self._subject = subject
        self._schemas: dict[bytes, RecordSchema | str] = {}
        """By how messages begin; why not, if one is of no use."""
        self._missing: dict[bytes, str] = {}
        self._fields: tuple[str, ...] = ()
        self._choices: dict[bytes, Choice | str] = {}

    def fetch(self, messages: Sequence[bytes]) -> None:
        """Ask for the schemas that messages name; raises `OutsideError` and `InputError` for the registry."""
        self._missing = {}
        for head in {message[: _HEAD.size] for message in messages} - self._schemas.keys():
            if len(head) < _HEAD.size or head[0]:
                continue
            try:
                schema = self._registry.schema(_number(head))
            except NoSchemaError as error:
                self._missing[head] = str(error)
                continue
            try:
                self._schemas[head] = record_schema(schema)
            except InputError as error:
                self._schemas[head] = f"schema {_number(head)} {error}"

    def parse_all(self, messages: Sequence[bytes], fields: tuple[str, ...]) -> None:
        """Refuse: there is nothing to gain."""

    def parse(self, message: bytes, fields: tuple[str, ...]) -> tuple[tuple[str, ...], Row]:
        """Read one record."""
        if fields is not self._fields:
            self._fields, self._choices = fields, {}
        head = message[: _HEAD.size]
        choice = self._choices.get(head)
        if choice is None:
            choice = self._choices[head] = self._chosen(head, fields)
        if isinstance(choice, str):
            raise InputError(choice)
        body = BytesIO(message)
        body.seek(_HEAD.size)
        try:
            record = self._read(body, choice.schema, None)
        except Exception:
            what = f"does not fit {choice.name}; it is damaged, cut short or written with another schema"
            raise InputError(what) from None
        if body.tell() != len(message):
            raise InputError(f"has {len(message) - body.tell():,} bytes behind its record; check what wrote it")
        return choice.fields, choice.row(record)

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Write each field as null or double, under a schema that is registered when it is first needed."""
        for field in fields:
            if not (field.isascii() and field.isidentifier()):
                raise InputError(f"field {field!r}: Avro names are letters, digits and _; rename it, or write json")
        if not len(values):
            return []
        space, _, name = RECORD_NAME.rpartition(".")
        columns = [{"name": field, "type": ["null", "double"], "default": None} for field in fields]
        schema = {"type": "record", "name": name, "namespace": space, "fields": columns}
        head = _HEAD.pack(0, self._registry.register(self._subject, schema))
        parsed = record_schema(schema).parsed
        cells = values.astype(object)
        cells[np.isnan(values)] = None
        messages = []
        for row in cells.tolist():
            message = BytesIO(head)
            message.seek(_HEAD.size)
            self._write(message, parsed, dict(zip(fields, row, strict=True)))
            messages.append(message.getvalue())
        return messages

    def _chosen(self, head: bytes, fields: tuple[str, ...]) -> Choice | str:
        """Return how records that begin so become rows of these fields, or why they cannot."""
        if len(head) < _HEAD.size or head[0]:
            return "does not begin with a zero byte and the number of a schema; check what wrote it"
        schema = self._schemas.get(head) or self._missing[head]
        if isinstance(schema, str):
            return schema
        try:
            return Choice(schema, fields, f"schema {_number(head)}")
        except InputError as error:
            return str(error)


def _number(head: bytes) -> int:
    """Return the number of the schema that a message names."""
    number: int = _HEAD.unpack(head)[1]
    return number

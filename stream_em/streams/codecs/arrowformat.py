"""Arrow IPC, stream or file: some batches of records a message."""

from collections.abc import Sequence

import numpy as np

from stream_em.arrays import FloatArray, IntArray
from stream_em.errors import InputError
from stream_em.streams.cells import check_fields
from stream_em.streams.codecs.arrowguard import MOST_VALUES, checked_stream
from stream_em.streams.codecs.interface import Decoded, Unreadable
from stream_em.streams.codecs.reasons import EMPTY, NO_FIELDS, check_text, damaged, encodable, reason_of, unusable_rows
from stream_em.streams.columnar import as_numpy, check_types

_ENCODED_VALUES = 1 << 16
"""Values of an encoded message (512 KB): Kafka takes 1 MB unless told otherwise."""


class ArrowCodec:
    """The codec of Arrow IPC."""

    several = True

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields

    def decode(self, messages: Sequence[bytes]) -> Decoded:
        """Return the records of all messages."""
        fields = self.fields
        parts: list[tuple[int, FloatArray, IntArray]] = []
        unreadable: list[Unreadable] = []
        for index, message in enumerate(messages):
            try:
                fields, values = _table(message, fields)
            except InputError as error:
                unreadable.append(Unreadable(index, reason_of(error)))
                continue
            wrong = unusable_rows(values, fields)
            unreadable += [Unreadable(index, f"record {row}, {reason}") for row, reason in wrong.items()]
            numbers = np.delete(np.arange(len(values)), list(wrong))
            parts.append((index, values[numbers] if wrong else values, numbers))
        self.fields = fields
        if not parts:
            nothing = np.empty(0, dtype=np.int64)
            return Decoded(np.empty((0, len(fields))), nothing, nothing, tuple(unreadable))
        indices, tables, records = zip(*parts, strict=True)
        came_from = np.repeat(np.array(indices, dtype=np.int64), [len(table) for table in tables])
        return Decoded(np.concatenate(tables), came_from, np.concatenate(records), tuple(unreadable))

    def encode(self, values: FloatArray, fields: Sequence[str]) -> list[bytes]:
        """Return as many stream messages as keep each below Kafka's usual limit."""
        import pyarrow as pa

        values = encodable(values, fields)
        rows = max(1, _ENCODED_VALUES // len(fields))
        schema = pa.schema([(field, pa.float64()) for field in fields])
        messages = []
        for start in range(0, len(values), rows):
            columns = [pa.array(column, from_pandas=True) for column in values[start : start + rows].T]
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                writer.write_batch(pa.record_batch(columns, schema=schema))
            messages.append(sink.getvalue().to_pybytes())
        return messages


def _table(message: bytes, fields: tuple[str, ...]) -> tuple[tuple[str, ...], FloatArray]:
    """Return the fields, all if none are given, and (n, d) values of a message; raises `InputError` with a reason."""
    import pyarrow as pa

    if not message:
        raise InputError(EMPTY)
    stream, claimed = checked_stream(message)
    try:
        reader = pa.ipc.open_stream(pa.py_buffer(stream))
        names: list[str] = reader.schema.names
    except Exception as error:
        raise damaged(error) from None
    chosen = fields or tuple(names)
    if not chosen:
        raise InputError(NO_FIELDS)
    check_text(chosen)
    check_fields(chosen, names, "")
    for field in chosen:
        if names.count(field) > 1:
            raise InputError(f"two columns are named {field!r}; rename one of them")
    try:
        check_types(reader.schema, chosen, "")
    except InputError as error:
        raise InputError(str(error).removesuffix(" with --fields")) from None
    if claimed * len(chosen) > MOST_VALUES:
        raise InputError(f"has {claimed * len(chosen):,} values; write messages of at most {MOST_VALUES:,}")
    values = np.empty((claimed, len(chosen)))
    row = 0
    try:
        for batch in reader:
            batch.validate()
            for j, field in enumerate(chosen):
                column = batch.column(field)
                # Arrow believes a message that names places outside its buffers, unless it is told to look.
                column.validate(full=True)
                values[row : row + len(column), j] = as_numpy(column)
            row += batch.num_rows
    except Exception as error:
        raise damaged(error) from None
    return chosen, values[:row]

"""Which of the schemas that a registry holds are safe to read with.

With a schema that contains itself, or a list of items without bytes, a short message makes fastavro overrun its stack
or fill the memory.
"""

from typing import Any, NamedTuple

from stream_em.errors import InputError

_LEAST_BYTES = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}
_KEPT = frozenset({"type", "name", "namespace", "fields", "items", "values", "symbols", "size", "scale"})
_DEEPEST = 64
_MOST_PARTS = 10_000


class RecordSchema(NamedTuple):
    """A schema as fastavro wants it, the types of its fields, and the types that these may name."""

    parsed: Any
    fields: dict[str, Any]
    named: dict[str, Any]


def record_schema(schema: Any) -> RecordSchema:
    """Check a schema as JSON gives it.

    Raises `InputError`, to be read behind its name, for one that is broken, no record, or unsafe to read with.
    """
    import fastavro

    named: dict[str, Any] = {}
    try:
        parsed = fastavro.parse_schema(_reduced(schema), named)
        if not isinstance(parsed, dict) or parsed["type"] != "record":
            raise InputError("describes no record; wrap it in one")
        _Cost(named).of(parsed)
        return RecordSchema(parsed, {field["name"]: field["type"] for field in parsed["fields"]}, named)
    except InputError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"is broken ({what}); register it again") from None


def _reduced(schema: Any, depth: int = 0) -> Any:
    """Keep what tells how bytes are read; a logical type is kept where fastavro does not act on it."""
    if depth > _DEEPEST:
        raise InputError("is nested too deeply; register a flat one")
    if isinstance(schema, list):
        return [_reduced(each, depth + 1) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key in _KEPT}
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = _reduced(kept[key], depth + 1)
    if isinstance(kept.get("type"), dict | list):
        return kept["type"]
    if "fields" in kept:
        kept["fields"] = [
            {"name": field["name"], "type": _reduced(field["type"], depth + 1)} for field in kept["fields"]
        ]
    return kept | {"logical": schema["logicalType"]} if "logicalType" in schema else kept


class _Cost:
    """The fewest bytes and the most parts that a value of each type has, as far as these do not depend on the bytes."""

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._known: dict[str, tuple[int, int]] = {}
        self._inside: list[str] = []

    def of(self, kind: Any) -> tuple[int, int]:
        """Return both; raises `InputError` for a type without bounds."""
        if isinstance(kind, str):
            return (_LEAST_BYTES[kind], 1) if kind in _LEAST_BYTES else self.of(self._named[kind])
        if isinstance(kind, list):
            costs = [self.of(each) for each in kind]
            return 1 + min(least for least, _ in costs), 1 + max(parts for _, parts in costs)
        if kind["type"] == "array":
            least, parts = self.of(kind["items"])
            if not least:
                raise InputError("has a list of items without bytes, which any message could make endless; change it")
            return 1, 1 + parts
        if kind["type"] == "map":
            return 1, 1 + self.of(kind["values"])[1]
        if kind["type"] == "enum":
            return 1, 1
        if kind["type"] == "fixed":
            return int(kind["size"]), 1
        return self._of_record(kind) if "fields" in kind else self.of(kind["type"])

    def _of_record(self, record: dict[str, Any]) -> tuple[int, int]:
        name = record["name"]
        if name in self._inside:
            raise InputError("contains itself; register a flat one")
        if len(self._inside) > _DEEPEST:
            raise InputError("is nested too deeply; register a flat one")
        if name not in self._known:
            self._inside.append(name)
            costs = [self.of(field["type"]) for field in record["fields"]]
            self._inside.pop()
            self._known[name] = sum(least for least, _ in costs), 1 + sum(parts for _, parts in costs)
            if self._known[name][1] > _MOST_PARTS:
                raise InputError(f"has more than {_MOST_PARTS:,} parts; register a smaller one")
        return self._known[name]

"""The JSON schema of a config, made from the code, for editors."""

import json
from typing import Any

import msgspec

from stream_em.config import LearnerSection, Run, Serve, SinkSection, Snapshots
from stream_em.configcheck import SOURCES
from stream_em.learning.drift import DriftSettings
from stream_em.models import all_models
from stream_em.streams.kafka.connection import Connection

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> str:
    """Return the schema as indented JSON text."""
    learner = _definition(LearnerSection)
    learner["properties"]["stepsize"] = {
        "type": "string",
        "description": "polynomial:0.6, equal (then ,offset=10 or ,floor=0.01), constant:0.01, half-life:1000 or 2h",
        "default": "polynomial:0.6",
    }
    schema = {
        "$schema": DIALECT,
        "title": "stream_em config",
        "type": "object",
        "properties": {
            "source": {"anyOf": [_tagged(kind, name) for name, kind in SOURCES.items()]},
            "model": {"anyOf": [_tagged(kind, name) for name, kind in all_models().items()]},
            "learner": learner,
            "drift": _definition(DriftSettings),
            "snapshots": _definition(Snapshots),
            "sinks": {"type": "array", "items": _definition(SinkSection)},
            "run": _definition(Run),
            "serve": _definition(Serve),
            "kafka": _definition(Connection),
        },
        "required": ["source", "model"],
        "additionalProperties": False,
    }
    return json.dumps(schema, indent=2) + "\n"


def _definition(kind: type[msgspec.Struct]) -> dict[str, Any]:
    schema = msgspec.json.schema(kind)
    definition: dict[str, Any] = schema["$defs"][kind.__name__]
    return _without_titles(definition)


def _tagged(kind: type[msgspec.Struct], name: str) -> dict[str, Any]:
    definition = _definition(kind)
    definition["properties"] = {"type": {"const": name}} | {
        key: value for key, value in definition["properties"].items() if key != "type"
    }
    definition["required"] = ["type", *(key for key in definition.get("required", []) if key != "type")]
    return definition


def _without_titles(definition: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key not in ("title", "description")}

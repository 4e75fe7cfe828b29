"""The parts of the reference that are made from the code at each build: config keys and commands."""

import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

from sphinx.util import logging

from stream_em import cli
from stream_em.configschema import config_schema

logger = logging.getLogger(__name__)
DOCS = Path(__file__).parents[1]
KEY = re.compile(r"^(?:# )?(\w+) = [^#]*# (.*)$")
BOUNDS = {"minimum": "≥ {:,.15g}", "exclusiveMinimum": "> {:,.15g}", "maximum": "≤ {:,.15g}"}


def write_tables(app: Any) -> None:
    """Write the generated parts as Markdown, to be included."""
    folder = DOCS / "_tables"
    folder.mkdir(exist_ok=True)
    texts = {"config": config_tables(), "commands": command_reference()}
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def config_tables() -> str:
    """Return a table of keys for each table of a config."""
    meanings = comments(DOCS.parent / "configs" / "file.toml", "learner")
    parts = []
    for table, definition in json.loads(config_schema())["properties"].items():
        for kind in definition.get("anyOf", [definition.get("items", definition)]):
            of_type = kind["properties"].pop("type") if "const" in kind["properties"].get("type", {}) else {}
            name = f"[[{table}]]" if definition.get("type") == "array" else f"[{table}]"
            parts.append(f"## {name} of type {of_type['const']}\n" if of_type else f"## {name}\n")
            rows = []
            for key, schema in kind["properties"].items():
                needed = key in kind.get("required", ())
                default = "*needed*" if needed else spelled(schema.get("default"))
                meaning = schema.get("description") or meanings.get(key, "")
                if not meaning and table != "model":
                    logger.warning("[%s] %s has no meaning: add a description, or a comment in configs/", table, key)
                rows.append([f"`{key}`", type_of(schema), default, *([] if table == "model" else [meaning])])
            if table == "model":
                parts.append(f"The meaning of each key: [{of_type['const']}](#{of_type['const']}).\n")
            heads = ["key", "type", "default"]
            parts.append(markdown_table(heads if table == "model" else [*heads, "meaning"], rows))
    return "\n".join(parts)


def comments(path: Path, table: str) -> dict[str, str]:
    """Return what a config file says behind each key of a table."""
    found: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8").partition(f"\n[{table}]\n")[2].partition("\n\n")[0].splitlines()
    key = ""
    for line in lines:
        if match := KEY.match(line):
            key, found[match[1]] = match[1], match[2]
        elif key:
            found[key] += " " + line.strip("# ")
    return found


def type_of(schema: dict[str, Any]) -> str:
    """Return a type in words, with its bounds."""
    if "anyOf" in schema:
        return " or ".join(type_of(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {type_of(schema['items'])}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    bounds = [text.format(schema[name]) for name, text in BOUNDS.items() if name in schema]
    return " ".join([words.get(schema["type"], "table"), ", ".join(bounds)]).strip()


def spelled(value: Any) -> str:
    """Return a default as TOML writes it."""
    return "" if value is None else f"`{json.dumps(value)}`"


def command_reference() -> str:
    """Return each command's help, as the program prints it."""
    parts = []
    for command in cli.app.registered_commands:
        name = command.name or command.callback.__name__
        parts.append(f"## stream-em {name}\n\n```text\n{help_of(name)}\n```\n")
    return "\n".join(parts)


def help_of(command: str) -> str:
    """Return what `stream-em COMMAND --help` prints."""
    said = io.StringIO()
    wide = mock.patch.dict(os.environ, COLUMNS="100")
    with wide, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        cli.main([command, "--help"])
    return said.getvalue().strip()


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def setup(app: Any) -> dict[str, bool]:
    """Write the tables before anything is read."""
    app.connect("builder-inited", write_tables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

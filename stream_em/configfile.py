"""A config's TOML: read with errors that name the key and the mend, secrets taken from the environment."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import tomlkit

from stream_em.config import Config
from stream_em.configcheck import SOURCES, SetText, config_of
from stream_em.errors import InputError
from stream_em.stepsize import Stepsize

_SECRET = re.compile(r"\$(\$\{|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_LARGEST_CONFIG = 1 << 20


class Loaded(NamedTuple):
    """A config, its text with `--set` applied and secrets still as ${NAME}, and the secrets by name."""

    config: Config
    text: str
    secrets: dict[str, str]


def load_config(path: Path, settings: Iterable[str] = (), environment: Mapping[str, str] | None = None) -> Loaded:
    """Read a config; `settings` are texts section.key=value that overrule it.

    `${NAME}` in a value is taken from `environment` (default: the process's); `$${` stands for a plain `${`. Raises
    `InputError` naming the file, the key, what was expected and the nearest valid spelling; never with a secret in it.
    """
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise InputError(f"{path}: is larger than a megabyte; is it a config?")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return parse_config(text, str(path), settings, environment)


def parse_config(
    text: str, name: str, settings: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> Loaded:
    """Read a config's text; `name` is what messages call it. See `load_config`."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{name}: is not TOML: {error}") from None
    text = _overrule(raw, text, name, settings)
    secrets: dict[str, str] = {}
    try:
        raw = _with_secrets(raw, "", os.environ if environment is None else environment, secrets)
        return Loaded(config_of(raw), text, secrets)
    except InputError as error:
        raise InputError(f"{name}: {hide(str(error), secrets)}") from None


def hide(message: str, secrets: Mapping[str, str]) -> str:
    """Return a message with ${NAME} in the place of every secret."""
    for variable, value in sorted(secrets.items(), key=lambda item: -len(item[1])):
        for shown in {value, repr(value)[1:-1]} if value else ():
            message = message.replace(shown, f"${{{variable}}}")
    return message


def _overrule(raw: dict[str, Any], text: str, name: str, settings: Iterable[str]) -> str:
    """Apply section.key=value texts to the parsed config and to its text, which keeps its comments."""
    document = tomlkit.parse(text)
    for setting in settings:
        key, equals, value = setting.partition("=")
        section, dot, inner = key.strip().partition(".")
        if not (equals and dot and inner) or "." in inner or section == "sinks":
            raise InputError(f"--set {key.strip()}: write it as section.key=value, for a section other than sinks")
        if not isinstance(raw.setdefault(section, {}), dict):
            raise InputError(f"{name}: {section} must be a table: write [{section}] and its keys below")
        raw[section][inner] = _toml_value(value.strip())
        if section not in document:
            document[section] = tomlkit.table()
        document[section][inner] = raw[section][inner]
    return tomlkit.dumps(document)


def _toml_value(text: str) -> Any:
    try:
        values = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text
    return values["value"] if len(values) == 1 else text


def _with_secrets(value: Any, key: str, environment: Mapping[str, str], secrets: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: _with_secrets(inner, f"{key}.{name}".lstrip("."), environment, secrets)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_with_secrets(inner, f"{key}[{i}]", environment, secrets) for i, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def secret(match: re.Match[str]) -> str:
        variable = match[2]
        if variable is None:
            return "${"
        if variable not in environment:
            raise InputError(
                f"{key}: the environment has no variable {variable}; set it, or write $${{ for a plain ${{"
            )
        secrets[variable] = environment[variable]
        return environment[variable]

    return SetText(_SECRET.sub(secret, value))


def with_folder(loaded: Loaded, default: Path) -> tuple[Loaded, Path]:
    """Return the config with `run.folder` written out, and that folder."""
    if loaded.config.run.folder is not None:
        return loaded, Path(loaded.config.run.folder).expanduser()
    run = msgspec.structs.replace(loaded.config.run, folder=str(default))
    document = tomlkit.parse(loaded.text)
    if "run" not in document:
        document["run"] = tomlkit.table()
    document["run"]["folder"] = str(default)
    config = msgspec.structs.replace(loaded.config, run=run)
    return loaded._replace(config=config, text=tomlkit.dumps(document)), default


def text_of(config: Config) -> str:
    """Return TOML that reads as this config; keys with their default are left out."""
    document: dict[str, Any] = {}
    for field in msgspec.structs.fields(Config):
        section = getattr(config, field.name)
        if isinstance(section, tuple):
            document[field.name] = [_changed(item) for item in section]
        elif section is not None:
            document[field.name] = _changed(section)
    document["source"] = {"type": _name_in(SOURCES, type(config.source)), **document["source"]}
    document["model"] = {"type": config.model.name, **document["model"]}
    return tomlkit.dumps({name: section for name, section in document.items() if section})


def _changed(section: msgspec.Struct) -> dict[str, Any]:
    values = {}
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if field.required or value != field.default:
            values[field.name] = value.spelling if isinstance(value, Stepsize) else value
    return values


def _name_in(kinds: dict[str, Any], kind: type) -> str:
    return next(name for name, known in kinds.items() if known is kind)

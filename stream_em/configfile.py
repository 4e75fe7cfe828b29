"""A config's TOML: read with errors that name the key and the mend, secrets taken from the environment."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import msgspec
import tomlkit

from stream_em.config import Config, FilesSource
from stream_em.errors import InputError
from stream_em.models import model_type
from stream_em.stepsize import Stepsize
from stream_em.streams.kafka.connection import Secret
from stream_em.streams.kafka.settings import KafkaSettings

SOURCES: dict[str, type[FilesSource] | type[KafkaSettings]] = {"files": FilesSource, "kafka": KafkaSettings}
_SECRET = re.compile(r"\$(\$\{|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_LARGEST_CONFIG = 1 << 20
_SECRET_NAMES = re.compile("password|secret|token|sasl.jaas|key.pem", re.IGNORECASE)


class Loaded(NamedTuple):
    """A config, its text with `--set` applied and secrets still as ${NAME}, and the secrets by name."""

    config: Config
    text: str
    secrets: dict[str, str]


class _Text(str):
    """A value that came as text, from --set or the environment, whatever its type is to be."""

    __slots__ = ()


def load_config(path: Path, settings: Iterable[str] = (), environment: Mapping[str, str] | None = None) -> Loaded:
    """Read a config; `settings` are texts section.key=value that overrule it.

    `${NAME}` in a value is taken from `environment` (default: the process's); `$${` stands for a plain `${`. Raises
    `InputError` naming the file, the key, what was expected and the nearest valid spelling; never with a secret in it.
    """
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise InputError(f"{path}: is larger than a megabyte; is it a config?")
        text = path.read_text("utf-8")
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
        return Loaded(_config(raw), text, secrets)
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
            raise InputError(f"--set {setting}: write it as section.key=value, for a section other than sinks")
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

    return _Text(_SECRET.sub(secret, value))


def _config(raw: dict[str, Any]) -> Config:
    kinds = {field.name: field.type for field in msgspec.structs.fields(Config)}
    _check_names(raw, kinds, "")
    for required in ("source", "model"):
        if required not in raw:
            raise InputError(f"[{required}] is missing; write a table [{required}] with its type")
    sections: dict[str, Any] = {}
    for name, value in raw.items():
        if name == "sinks":
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                raise InputError("sinks must be tables: write [[sinks]] for each of them")
            kind = get_args(kinds["sinks"])[0]
            sections[name] = tuple(_section(item, kind, f"sinks[{i}]") for i, item in enumerate(value))
        elif not isinstance(value, dict):
            raise InputError(f"{name} must be a table: write [{name}] and its keys below")
        else:
            sections[name] = _section(value, _section_type(name, value, kinds[name]), name)
    return Config(**sections)


def _section_type(name: str, value: dict[str, Any], kind: Any) -> Any:
    if name == "model":
        chosen = _type_of(value, "model")
        try:
            return model_type(chosen)
        except InputError as error:
            raise InputError(f"model.type: {error}") from None
    if name == "source":
        chosen = _type_of(value, "source")
        if chosen not in SOURCES:
            raise InputError(f"source.type: there is no source {chosen!r}; {_offer(chosen, SOURCES)}")
        return SOURCES[chosen]
    return next((part for part in get_args(kind) if part is not type(None)), kind)


def _type_of(value: dict[str, Any], section: str) -> str:
    if "type" not in value:
        near = difflib.get_close_matches("type", value, 1)
        raise InputError(f"{section}.type is missing{f'; is {near[0]!r} meant to be it?' if near else ''}")
    if not isinstance(value["type"], str):
        raise InputError(f"{section}.type: expected a text, not {value['type']!r}")
    return str(value["type"])


def _section(raw: dict[str, Any], kind: type[msgspec.Struct], place: str) -> Any:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    tagged = place in ("model", "source")
    _check_names(raw, [*fields, "type"] if tagged else fields, f"{place}.")
    values = {}
    for name, value in raw.items():
        if not (tagged and name == "type"):
            _check_secret(value, fields[name].type, f"{place}.{name}")
            values[name] = _value(value, fields[name].type, f"{place}.{name}")
    for name, field in fields.items():
        if field.required and name not in values:
            raise InputError(f"{place}.{name} is missing: expected {expected(field.type)}")
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"[{place}]: {error}") from None


def _value(value: Any, kind: Any, key: str) -> Any:
    if kind is Stepsize:
        if not isinstance(value, str):
            raise InputError(f"{key}: expected a text such as 'polynomial:0.6', not {value!r}")
        try:
            return Stepsize.parse(value)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
    plain = [_plain(item) for item in value] if isinstance(value, list) else _plain(value)
    try:
        return msgspec.convert(plain, kind, strict=not isinstance(value, _Text))
    except msgspec.ValidationError:
        near = f"; {_offer(value, _choices(kind))}" if isinstance(value, str) and _choices(kind) else ""
        raise InputError(f"{key}: expected {expected(kind)}, not {_short(value)}{near}") from None


def _check_secret(value: Any, kind: Any, key: str) -> None:
    """Raise `InputError` for a password that is written down: configs are copied, and kept in run folders."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if _SECRET_NAMES.search(str(name)):
                _check_secret(inner, Secret, f"{key}.{name}")
        return
    is_secret = get_origin(kind) is Annotated and any((meta.extra or {}).get("secret") for meta in get_args(kind)[1:])
    if is_secret and not isinstance(value, _Text):
        raise InputError(f"{key}: a secret must not be written down; write ${{NAME}} and set NAME in the environment")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, _Text) else value


def expected(kind: Any) -> str:
    """Say in words which values a key takes."""
    if get_origin(kind) is Annotated:
        inner, *metas = get_args(kind)
        bounds = [
            f"{word} {getattr(meta, bound)}"
            for meta in metas
            for bound, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("min_length", "of length"))
            if getattr(meta, bound) is not None
        ]
        return " ".join([expected(inner), ", ".join(bounds)]).strip()
    if choices := _choices(kind):
        return " or ".join(repr(choice) for choice in choices)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(expected(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) in (list, tuple):
        return "a list of texts"
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, str(kind))


def _choices(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Annotated:
        return _choices(get_args(kind)[0])
    arguments = get_args(kind)
    return arguments if arguments and all(isinstance(argument, str) for argument in arguments) else ()


def _check_names(raw: Mapping[str, Any], known: Iterable[str], prefix: str) -> None:
    for name in raw:
        if name not in known:
            raise InputError(f"{prefix}{name}: there is no such key; {_offer(name, known)}")


def _offer(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, 1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"


def _short(value: Any) -> str:
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


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

"""What a config's keys may be: checked against their types, with errors that name the key and the mend."""

import difflib
import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from stream_em.config import Config, FilesSource
from stream_em.errors import InputError
from stream_em.models import model_type
from stream_em.stepsize import Stepsize
from stream_em.streams.kafka.connection import Secret
from stream_em.streams.kafka.settings import KafkaSettings

SOURCES: dict[str, type[FilesSource] | type[KafkaSettings]] = {"files": FilesSource, "kafka": KafkaSettings}
_SECRET_NAMES = re.compile("password|secret|token|sasl.jaas|key.pem", re.IGNORECASE)


class SetText(str):
    """A value that came as text, from --set or the environment, whatever its type is to be."""

    __slots__ = ()


def config_of(raw: dict[str, Any]) -> Config:
    """Return a config from the tables of its TOML; raises `InputError` that names key and mend."""
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
    if "\0" in str(value):
        raise InputError(f"{key}: holds a NUL character; remove it")
    plain = [_plain(item) for item in value] if isinstance(value, list) else _plain(value)
    try:
        return msgspec.convert(plain, kind, strict=not isinstance(value, SetText))
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
    if is_secret and not isinstance(value, SetText):
        raise InputError(f"{key}: a secret must not be written down; write ${{NAME}} and set NAME in the environment")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, SetText) else value


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

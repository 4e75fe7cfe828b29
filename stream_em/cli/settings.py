"""A model's settings from the texts on the command line."""

import difflib
from collections.abc import Iterable
from typing import Any

import msgspec

from stream_em.errors import InputError
from stream_em.models import model_type
from stream_em.models.interface import Settings


def model_from_options(name: str, options: dict[str, Any], texts: Iterable[str]) -> Settings:
    """Return the model of that name, set by the `options` that are not None and then by `key=value` texts.

    Raises `InputError` for an unknown model or setting (offering the nearest one) and an impossible value.
    """
    kind = model_type(name)
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    chosen = {key: value for key, value in options.items() if value is not None}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: write it as key=value")
        chosen[key] = value
    for key in chosen:
        if key not in types:
            near = difflib.get_close_matches(key, types, 1) or list(types)
            raise InputError(f"{name} has no setting {key!r}; did you mean {' or '.join(near)}?")
    return kind(**{key: _value(key, value, types[key]) for key, value in chosen.items()})


def _value(key: str, value: Any, kind: Any) -> Any:
    if isinstance(value, str) and getattr(kind, "__origin__", None) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{key}={value}: {error}") from None

"""Constructors made from settings, so that a face need not repeat them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def initialiser(
    defaults: Mapping[str, Any], then: Callable[[Any], None] | None = None, positional: int | None = None
) -> Callable[..., None]:
    """Return an `__init__` with these parameters, the first `positional` of which (None: all) need no name.

    It keeps them under their names, as they are given, and calls `then` with the object.
    """
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [own]
    for i, (name, default) in enumerate(defaults.items()):
        by_place = positional is None or i < positional
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if by_place else inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=default))
    signature = inspect.Signature(parameters)

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807
        bound = signature.bind(self, *arguments, **named)
        bound.apply_defaults()
        for name, value in list(bound.arguments.items())[1:]:
            setattr(self, name, value)
        if then is not None:
            then(self)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__

"""The models, one latent-variable model a file; whatever lies in this folder and names itself is found."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterator

from stream_em.errors import InputError
from stream_em.models.interface import Settings


def all_models() -> dict[str, type[Settings]]:
    """Return every model type by its name."""
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
    named = {model.name: model for model in _below(Settings) if hasattr(model, "name")}
    return dict(sorted(named.items()))


def _below(kind: type[Settings]) -> Iterator[type[Settings]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def model_type(name: str) -> type[Settings]:
    """Return the model type of that name, or raise an `InputError` that offers the nearest one."""
    models = all_models()
    if name not in models:
        near = difflib.get_close_matches(name, models, 1) or list(models)
        raise InputError(f"there is no model {name!r}; did you mean {' or '.join(near)}?")
    return models[name]

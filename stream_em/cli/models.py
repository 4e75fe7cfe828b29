"""`stream-em models`."""

from typing import Any, get_args


def models() -> None:
    """List the models, their settings and their parameters."""
    import msgspec
    from rich.box import SIMPLE
    from rich.table import Table

    from stream_em.cli.output import console
    from stream_em.models import all_models

    target = console()
    for name, model in all_models().items():
        target.print(f"[bold]{name}[/bold]: {model.summary}")
        target.print(f"parameters: {', '.join(model.params_type._fields)}")  # type: ignore[attr-defined]
        table = Table(box=SIMPLE)
        table.add_column("setting")
        table.add_column("default")
        table.add_column("values")
        for field in msgspec.structs.fields(model):
            values = ", ".join(model.freezable) if field.name == "frozen" else _values(field.type)
            table.add_row(field.name, _text(field.default), values)
        target.print(table)
    target.print("Usage: stream-em fit DATA --model NAME --set SETTING=VALUE", markup=False)


def _text(default: Any) -> str:
    if default is None or default == ():
        return "none"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _values(kind: Any) -> str:
    parts = [part for part in get_args(kind) if part is not type(None)]
    choices = [getattr(part, "__name__", str(part)) for part in parts]
    return ", ".join(choices) if choices else getattr(kind, "__name__", str(kind))

"""`stream-em check`."""

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from stream_em.cli.run import SET


def check(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.toml]", help="The config to check.")] = None,
    settings: SET = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of all configs.")] = False,
) -> None:
    """Check a config and that its data can be opened; nothing is learned or written."""
    # Nothing is computed here, and importing the compiler would take longer than all the rest.
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    from stream_em.errors import InputError, OutsideError

    if schema:
        from stream_em.configschema import config_schema

        print(config_schema(), end="")
        return
    if config is None:
        raise InputError("check: name a config, or ask for the --schema")
    from stream_em.configfile import hide, load_config, with_folder
    from stream_em.pipeline.assemble import source_of

    loaded, folder = with_folder(load_config(config, settings or []), Path("runs") / config.stem)
    try:
        with closing(source_of(loaded.config)) as source:
            found = source.probe()
    except (InputError, OutsideError) as error:
        raise type(error)(f"{config}: [source]: {hide(str(error), loaded.secrets)}") from None
    model = loaded.config.model
    print(f"{config}: ok: {model.name} of {model.n_components} from {found} into {folder}")

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
    """Check a config, that its data can be opened and its topics reached; nothing is learned or written."""
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
    from stream_em.pipeline.opening import output_topics
    from stream_em.streams.kafka.connection import Connection
    from stream_em.streams.kafka.producing import missing_topics

    loaded, folder = with_folder(load_config(config, settings or []), Path("runs") / config.stem)
    topics, place = output_topics(loaded.config), "[source]"
    try:
        with closing(source_of(loaded.config)) as source:
            found = source.probe()
        place = "output topics"
        missing = missing_topics(loaded.config.kafka or Connection(), topics)
    except (InputError, OutsideError) as error:
        raise type(error)(f"{config}: {place}: {hide(str(error), loaded.secrets)}") from None
    model = loaded.config.model
    print(f"{config}: ok: {model.name} of {model.n_components} from {found} into {folder}")
    if topics:
        told = [f"{topic} {'will be made' if topic in missing else 'is there'}" for topic in topics]
        print(f"{config}: output topics: {', '.join(told)}")

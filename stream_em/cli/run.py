"""`stream-em run`."""

from pathlib import Path
from typing import Annotated

import typer

CONFIG = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to run; see configs/.")]
SET = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrule a key of the config; may repeat."),
]


def run(
    config: CONFIG,
    settings: SET = None,
    max_records: Annotated[int | None, typer.Option(min=1, help="Stop after so many records.")] = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop where the data end now: a followed file, a topic.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew; what the run folder holds is renamed, never deleted.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress; errors only.")] = False,
) -> None:
    """Run a config: learn from its source, save snapshots, write its sinks; go on where it stopped."""
    from contextlib import ExitStack

    from stream_em.cli.display import Display
    from stream_em.cli.learning import compile_kernels
    from stream_em.cli.signals import stopped_by_signals
    from stream_em.configfile import load_config, with_folder
    from stream_em.errors import InputError, OutsideError
    from stream_em.pipeline.assemble import pipeline_of
    from stream_em.pipeline.loop import Pipeline
    from stream_em.pipeline.members import Member, member_of
    from stream_em.pipeline.opening import set_aside

    loaded = load_config(config, settings or [])
    loaded, folder = with_folder(loaded, Path("runs") / config.stem)
    try:
        with ExitStack() as stack:
            if fresh and (aside := set_aside(loaded.config, folder)):
                typer.echo(f"the old run is kept in {aside}", err=True)
            display = stack.enter_context(Display(loaded.config, folder, quiet=quiet))
            compile_kernels(loaded.config.model, loaded.config.learner.robust)
            pipeline: Pipeline | Member
            if getattr(loaded.config.source, "share", False):
                if max_records is not None:
                    raise InputError("--max-records: several processes share this run; bound it with --until-end")
                pipeline = stack.enter_context(
                    member_of(loaded.config, folder, loaded.text, until_end=until_end, secrets=loaded.secrets)
                )
                display.watch(pipeline)
            else:
                pipeline = stack.enter_context(
                    pipeline_of(
                        loaded.config,
                        folder,
                        loaded.text,
                        until_end=until_end,
                        limit=max_records,
                        secrets=loaded.secrets,
                    )
                )
                display.follow(pipeline)
            if loaded.config.serve is not None:
                from stream_em.service.server import serving

                address = stack.enter_context(serving(pipeline.status, loaded.config.serve))
                display.tell("serving", address=address)
            with stopped_by_signals(pipeline.stop) as stopped:
                outcome = pipeline.run()
            display.ended(outcome)
    except (InputError, OutsideError) as error:
        from stream_em.configfile import hide

        raise type(error)(hide(str(error), loaded.secrets)) from None
    if stopped.code:
        raise typer.Exit(stopped.code)

"""`stream-em fit`."""

from pathlib import Path
from typing import Annotated

import typer

from stream_em.cli.options import Channels, Dtype, Format, SampleRate

INTERRUPTED = 130


def fit(
    data: Annotated[
        list[str], typer.Argument(metavar="DATA...", help="Files, folders or patterns; - is standard input.")
    ],
    model: Annotated[str, typer.Option(help="Name of the model; see `stream-em models`.")] = "gaussian-mixture",
    components: Annotated[
        int | None, typer.Option(help="Number of components or states [default: the model's].")
    ] = None,
    covariance_type: Annotated[
        str | None, typer.Option(help="full, tied, diag or spherical [default: the model's].")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A further setting of the model; may repeat."),
    ] = None,
    fields: Annotated[str | None, typer.Option(metavar="A,B", help="Columns to learn from [default: all].")] = None,
    format: Format = None,
    sample_rate: SampleRate = None,
    channels: Channels = None,
    dtype: Dtype = None,
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="Whether a CSV begins with names [default: look]."),
    ] = None,
    stepsize: Annotated[
        str, typer.Option(help="polynomial:0.6, equal, constant:0.01 or half-life:1000 (in records).")
    ] = "polynomial:0.6",
    refresh_every: Annotated[int, typer.Option(help="Records between two M-steps.")] = 512,
    starts: Annotated[int, typer.Option(help="Starts to choose the first parameters from.")] = 8,
    warmup: Annotated[
        int | None,
        typer.Option(help="Records to start from [default: 20 a component and field, at least 500]."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the starts.")] = 0,
    drift: Annotated[
        bool, typer.Option("--drift", help="Watch for drift; at an alarm challengers compete with the model.")
    ] = False,
    restart_every: Annotated[
        int | None,
        typer.Option(metavar="N", help="Let new starts challenge the model every N records [default: never]."),
    ] = None,
    robust: Annotated[
        float | None,
        typer.Option(help="Leave out records so many deviations below the usual log-likelihood [default: learn all]."),
    ] = None,
    passes: Annotated[int, typer.Option(min=1, help="How often to go through the data.")] = 1,
    block_size: Annotated[int, typer.Option(help="Records read at a time.")] = 8192,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Save to this run folder, or to this .safetensors file."),
    ] = None,
    averaged: Annotated[
        bool, typer.Option("--averaged", help="Show parameters averaged over the last half of the stream.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress and no tables.")] = False,
) -> None:
    """Learn a model from files or standard input, record by record, in constant memory."""
    from contextlib import ExitStack

    from stream_em.cli import places, summary
    from stream_em.cli.display import Display
    from stream_em.cli.learning import compile_kernels
    from stream_em.cli.output import console
    from stream_em.cli.settings import model_from_options
    from stream_em.cli.signals import stopped_by_signals
    from stream_em.config import Config, FilesSource, LearnerSection, Run
    from stream_em.configfile import text_of
    from stream_em.learning.drift import DriftSettings
    from stream_em.learning.store import read
    from stream_em.pipeline.assemble import new_learner, pipeline_of, source_of
    from stream_em.pipeline.loop import Pipeline
    from stream_em.stepsize import Stepsize
    from stream_em.streams.signals import sample_type

    options = {"n_components": components, "covariance_type": covariance_type}
    config = Config(
        model=model_from_options(model, options, settings or []),
        learner=LearnerSection(
            Stepsize.parse(stepsize), refresh_every, starts, seed, warmup, restart_every=restart_every, robust=robust
        ),
        drift=DriftSettings() if drift else None,
        source=FilesSource(
            path=data if len(data) > 1 else data[0],
            fields=[name.strip() for name in fields.split(",")] if fields is not None else None,
            format=format,
            header=header,
            block_size=block_size,
            passes=passes,
            sample_rate=sample_rate,
            channels=channels,
            dtype=sample_type(dtype),
        ),
        run=Run(folder=None if out is None else str(out)),
    )
    with ExitStack() as stack:
        source_of(config).close()
        if out is not None:
            places.prepare_output(out)
        display = stack.enter_context(Display(config, out, quiet=quiet, logs=False))
        compiling = compile_kernels(config.model, robust)
        if out is None or places.is_snapshot_name(out):
            pipeline = Pipeline(new_learner(config), source_of(config))
            stack.callback(pipeline.close)
        else:
            pipeline = stack.enter_context(pipeline_of(config, out, text_of(config)))
        display.follow(pipeline)
        with stopped_by_signals(pipeline.stop):
            outcome = pipeline.run()
        learner = pipeline.learner
    path = places.saved(learner, out) if out is not None and learner.count > 0 else None
    if outcome.ended == "stopped":
        if path is not None:
            console(stderr=True).print(f"saved {path}", soft_wrap=True, markup=False)
        raise typer.Exit(INTERRUPTED)
    if as_json:
        rate = outcome.records / outcome.seconds
        speed = {"records": outcome.records, "seconds": outcome.seconds, "records_per_second": rate}
        saved = None if path is None else read(path)
        progress, created = (None, None) if saved is None else (saved.progress, saved.created)
        print(summary.as_json(learner, averaged, progress, created, **speed))
    elif not quiet:
        more = {"speed": summary.speed(outcome.records, outcome.seconds, compiling)}
        if path is not None:
            more["saved"] = str(path)
        summary.print_report(console(), learner, averaged, more)

"""`stream-em fit`."""

from pathlib import Path
from typing import Annotated

import typer


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
    format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl, parquet, arrow or npy; overrules suffixes.")
    ] = None,
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
    import time

    from stream_em.cli import report, runs
    from stream_em.cli.learning import blocks_of, compile_kernels, learn_blocks
    from stream_em.cli.output import console
    from stream_em.cli.settings import model_from_options
    from stream_em.errors import InputError
    from stream_em.learning.learner import Learner
    from stream_em.learning.snapshot import read_snapshot
    from stream_em.stepsize import Stepsize
    from stream_em.streams.files import open_source

    options = {"n_components": components, "covariance_type": covariance_type}
    learner = Learner(
        model_from_options(model, options, settings or []),
        stepsize=Stepsize.parse(stepsize),
        refresh_every=refresh_every,
        starts=starts,
        seed=seed,
        warmup=warmup,
    )
    names = [name.strip() for name in fields.split(",")] if fields is not None else None
    source = open_source(data, fields=names, format=format, block_size=block_size, has_header=header)
    if passes > 1 and source.n_bytes is None:
        raise InputError("standard input can be read only once; save it to a file to use --passes")
    if out is not None:
        runs.prepare_output(out)
    records, begin = 0, time.perf_counter()
    blocks = blocks_of(source, passes)
    compiling = compile_kernels(learner.model)
    try:
        for log_likelihood in learn_blocks(learner, blocks, source, passes, quiet=quiet):
            records += len(log_likelihood)
        learner.start()
    except KeyboardInterrupt:
        if out is not None and learner.count > 0:
            console(stderr=True).print(f"saved {runs.save(learner, out)}", soft_wrap=True, markup=False)
        raise
    seconds = time.perf_counter() - begin - compiling
    path = runs.save(learner, out) if out is not None else None
    if as_json:
        metadata = read_snapshot(path)[0] if path is not None else {}
        speed = {"records": records, "seconds": seconds, "records_per_second": records / seconds}
        print(report.as_json(learner, metadata, averaged, **speed))
    elif not quiet:
        more = {"speed": report.speed(records, seconds, compiling)}
        if path is not None:
            more["saved"] = str(path)
        report.print_report(console(), learner, averaged, more)

"""`stream-em score`."""

from pathlib import Path
from typing import Annotated

import typer

from stream_em.cli.options import Channels, Dtype, Format, SampleRate


def score(
    place: Annotated[Path, typer.Argument(metavar="SNAPSHOT", help="A snapshot, or a run folder: its newest.")],
    data: Annotated[
        list[str], typer.Argument(metavar="DATA...", help="Files, folders or patterns; - is standard input.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .csv, .jsonl or .parquet file [default: CSV on the screen].")
    ] = None,
    fields: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns to score [default: those it learned from].")
    ] = None,
    format: Format = None,
    sample_rate: SampleRate = None,
    channels: Channels = None,
    dtype: Dtype = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether a CSV begins with names [default: look].")
    ] = None,
    averaged: Annotated[
        bool, typer.Option("--averaged", help="Use parameters averaged over the last half of the stream.")
    ] = False,
) -> None:
    """Write the log-likelihood of each record and its posterior probabilities; nothing is learned.

    The records of a hidden Markov model are taken as one new sequence, each state given the records up to its own.
    """
    import numpy as np

    from stream_em.cli import places
    from stream_em.learning.learner import scorer
    from stream_em.sinks.single import writing_rows
    from stream_em.sinks.tables import posterior_rows
    from stream_em.streams.ahead import read_ahead
    from stream_em.streams.files import open_source

    learner = places.learned_in(place).learner
    reader = scorer(learner, averaged)
    names = [name.strip() for name in fields.split(",")] if fields is not None else list(learner.fields) or None
    opened = open_source(
        data,
        fields=names,
        format=format,
        has_header=header,
        sample_rate=sample_rate,
        channels=channels,
        dtype=dtype,
    )
    with opened as source, writing_rows(out) as write:
        for block in read_ahead(source):
            posterior = np.empty((len(block), learner.model.n_components))
            log_likelihood = reader.learn(block, posterior=posterior)
            write(posterior_rows(block.places, log_likelihood, posterior))

"""`stream-em show`."""

from pathlib import Path
from typing import Annotated

import typer


def show(
    place: Annotated[Path, typer.Argument(metavar="RUN|SNAPSHOT", help="A run folder, or one snapshot of it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    averaged: Annotated[
        bool, typer.Option("--averaged", help="Parameters averaged over the last half of the stream.")
    ] = False,
) -> None:
    """Show what was learned."""
    from stream_em.cli import places, summary
    from stream_em.cli.output import console
    from stream_em.learning.learner import Learner
    from stream_em.learning.snapshot import read_snapshot

    path = places.find_snapshot(place)
    metadata, _ = read_snapshot(path)
    learner = Learner.load(path)
    if as_json:
        print(summary.as_json(learner, metadata, averaged))
    else:
        more = {"created": metadata.get("created", ""), "file": str(path)}
        summary.print_report(console(), learner, averaged, more)

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

    snapshot = places.learned_in(place)
    if as_json:
        print(summary.as_json(snapshot.learner, averaged, snapshot.progress, snapshot.created))
    else:
        more = {"created": snapshot.created, "file": str(snapshot.path)}
        summary.print_report(console(), snapshot.learner, averaged, more)

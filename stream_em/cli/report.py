"""`stream-em report`."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        Path | None, typer.Option(metavar="PAGE.html", help="Where to write it [default: report.html in RUN].")
    ] = None,
) -> None:
    """Write what a run learned, and how, as one HTML page with pictures."""
    from stream_em.report.facts import read_run
    from stream_em.report.page import page_of, write_page
    from stream_em.report.style import require_matplotlib

    require_matplotlib()
    path = run / "report.html" if out is None else out
    write_page(path, page_of(read_run(run)))
    print(path)

"""Where the commands print: at most 100 columns, and no control characters unless it is a terminal."""

import sys

from rich.console import Console
from rich.table import Table

WIDTH = 100


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or standard error."""
    stream = sys.stderr if stderr else sys.stdout
    terminal = Console(file=stream, highlight=False)
    width = min(terminal.width, WIDTH) if stream.isatty() else WIDTH
    return Console(file=stream, width=width, highlight=False)


def facts(rows: dict[str, str]) -> Table:
    """Return names and values as two columns."""
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table

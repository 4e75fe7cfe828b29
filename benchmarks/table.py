"""Rows as a table on the terminal or in Markdown."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from benchmarks.machine import Machine
from benchmarks.rows import Row

HEADINGS = ("benchmark", "stream_em", "peer", "unit", "ratio", "goal", "met", "note")


def print_table(machine: Machine, rows: Iterable[Row]) -> None:
    """Print a table as wide as the terminal; a file gets whole lines."""
    console = Console()
    if not console.is_terminal:
        console.width = 240
    table = Table(*HEADINGS, caption="\n".join(captions(machine)), caption_justify="left")
    for column in table.columns[1:6]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        table.add_row(*cells(row), style="" if row.met is not False else "yellow")
    console.print(table)


def print_markdown(machine: Machine, rows: Iterable[Row]) -> None:
    """Print a table that can be pasted into a README."""
    lines = [" | ".join(HEADINGS), "---|" + "---:|" * 5 + "---|---", *(" | ".join(cells(row)) for row in rows)]
    print("\n".join(f"| {line} |" for line in lines))
    print(f"\n{'; '.join(captions(machine))}.")


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row, in the order of the headings."""
    met = {None: "", True: "yes", False: "NO"}[row.met]
    return (row.name, figure(row.ours), figure(row.peer), row.unit, row.ratio_shown, row.goal, met, row.note)


def figure(value: float | None) -> str:
    """Return four significant digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def captions(machine: Machine) -> list[str]:
    """Return what ratios depend on."""
    return [f"one core multiplies float64 matrices at {machine.peak:.1f} GFLOP/s", *machine.blas]

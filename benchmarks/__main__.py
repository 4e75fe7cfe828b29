"""Run the benchmarks and print one table."""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator

from benchmarks import THEMES

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
FORCED_BLAS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def main() -> None:
    """Measure the themes asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare stream_em with other packages.")
    parser.add_argument("themes", nargs="*", metavar="THEME", help=f"one of {', '.join(THEMES)} [default: all]")
    parser.add_argument("--quick", action="store_true", help="toy sizes: shows that it runs, measures nothing")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    arguments = parser.parse_args()
    unknown = set(arguments.themes) - set(THEMES)
    if unknown:
        parser.error(f"there is no theme {', '.join(sorted(unknown))}; choose from {', '.join(THEMES)}")
    start_clean()

    from benchmarks.machine import machine
    from benchmarks.table import print_markdown, print_table

    described = machine(arguments.quick)
    rows = measured(arguments.themes or THEMES, arguments.quick)
    (print_markdown if arguments.markdown else print_table)(described, rows)


def start_clean() -> None:
    """Start this process again, if need be, so that BLAS is loaded with one thread and the kernel of this processor."""
    clean = {name: value for name, value in os.environ.items() if name not in FORCED_BLAS}
    clean |= dict.fromkeys(ONE_THREAD, "1")
    if clean != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], clean)


def measured(themes: list[str] | tuple[str, ...], quick: bool) -> Iterator:
    """Yield the rows of all themes, each named on standard error as it comes."""
    for theme in themes:
        print(f"{theme} …", file=sys.stderr, flush=True)
        for row in importlib.import_module(f"benchmarks.{theme}").run(quick):
            print(f"  {row.name}: {row.shown()}", file=sys.stderr, flush=True)
            yield row


if __name__ == "__main__":
    main()

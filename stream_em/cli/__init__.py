"""The command line, one file a command; printing help imports neither numpy nor numba nor pyarrow."""

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from stream_em import __version__
from stream_em.cli import check, demo, fit, lag, models, produce, report, score, show, snapshots, unmix, warm
from stream_em.cli import run as run_command
from stream_em.errors import InputError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)
for command in (
    demo.demo,
    fit.fit,
    run_command.run,
    score.score,
    show.show,
    report.report,
    snapshots.snapshots,
    produce.produce,
    lag.lag,
    unmix.unmix,
    models.models,
    check.check,
    warm.warm,
):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 2 the input is wrong, 3 disk or network failed, 130 interrupted."""
    try:
        code = app(arguments, prog_name="stream-em", standalone_mode=False) or 0
    except (InputError, typer.TyperException) as error:
        _report(error.format_message() if isinstance(error, typer.TyperException) else str(error))
        code = 2
    except OSError as error:
        _report(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        code = 3
    if code == 130:
        print("stream-em: interrupted", file=sys.stderr)
    sys.exit(code)


def run() -> NoReturn:
    """Be the `stream-em` program: SIGTERM stops it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    # A closed standard output is nobody's fault; there is just nobody to tell.
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    try:
        sys.stdout.flush()
    except OSError as error:
        _report(f"standard output: {error.strerror}")
        code = 3
    sys.stderr.flush()
    # The interpreter's own exit would abort if a reading thread still were inside Arrow or waiting on a pipe.
    os._exit(code)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Learn mixtures and hidden Markov models from streams of records by online EM."""
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _report(message: str) -> None:
    print(f"stream-em: error: {' '.join(message.split())}", file=sys.stderr)

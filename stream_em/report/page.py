"""The page: one HTML file that needs nothing else."""

import os
from collections.abc import Sequence
from pathlib import Path
from string import Template

from stream_em.errors import InputError, OutsideError
from stream_em.report.facts import Run
from stream_em.report.pictures import Picture, pictures_of
from stream_em.report.stylesheet import STYLESHEET
from stream_em.report.tables import (
    as_html,
    components_table,
    events_table,
    facts_table,
    sessions_table,
    snapshots_table,
)
from stream_em.report.words import count, number
from stream_em.version import __version__

PAGE_SUFFIXES = (".html", ".htm")
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$stylesheet</style>
</head>
<body>
<header>
<h1>$name</h1>
<p class="model">$subtitle</p>
</header>
<main>
$body
</main>
<footer><p>Written by stream_em $version from $place</p></footer>
</body>
</html>
""")


def page_of(run: Run) -> str:
    """Return the page of a run; the same run gives the same text."""
    pictures = {picture.key: picture for picture in pictures_of(run)}
    history = [figure(pictures[key]) for key in ("log-likelihood", "shares")]
    parts = [
        *map(note, run.notes),
        tiles(_tiles(run)),
        section("How learning went", f'<div class="pair">{"".join(history)}</div>', figure(pictures["means"])),
        section("What was learned", components_table(run), figure(pictures["data"]), *_transitions(pictures)),
        section("The run", facts_table(run), sessions_table(run)),
        section("Events", events_table(run)),
        section("Snapshots", snapshots_table(run)),
    ]
    model = "no model yet" if run.learner is None else f"{run.learner.model.name}: {run.learner.model.summary}"
    return whole_page(run.name, model, parts, run.place)


def whole_page(name: str, subtitle: str, parts: Sequence[str], place: str) -> str:
    """Return a page of parts that are HTML, written from what lies at a place."""
    return _PAGE.substitute(
        title=as_html(f"{name} · stream_em"),
        stylesheet=STYLESHEET,
        name=as_html(name),
        subtitle=as_html(subtitle),
        body="\n".join(part for part in parts if part),
        version=as_html(__version__),
        place=as_html(place),
    )


def write_page(path: Path, text: str) -> None:
    """Write a page, whole or not at all.

    Raises `InputError` if something other than a page is meant, `OutsideError` if it cannot be written.
    """
    if path.suffix.lower() not in PAGE_SUFFIXES or path.is_dir():
        raise InputError(f"{path}: name a file that ends in .html")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            temporary.write_text(text, "utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutsideError(f"{path}: cannot be written: {error.strerror or error}") from None


def note(text: str) -> str:
    """Return a remark that must not be overlooked."""
    return f'<p class="note" role="note">{as_html(text)}</p>'


def section(title: str, *parts: str) -> str:
    """Return a section of parts that are HTML."""
    return f"<section>\n<h2>{as_html(title)}</h2>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def figure(picture: Picture) -> str:
    """Return a picture with its title and its sentence."""
    kind = "one" if len(picture.panels) == 1 else "many"
    panels = "".join(f'<div class="panel">{panel}</div>' for panel in picture.panels)
    panels = f'<div class="panels {kind} {picture.key}">{panels}</div>' if panels else ""
    caption = f"<figcaption>{as_html(picture.caption)}</figcaption>"
    return f'<figure id="{picture.key}"><h3>{as_html(picture.title)}</h3>{panels}{caption}</figure>'


def _transitions(pictures: dict[str, Picture]) -> list[str]:
    return [figure(pictures["transitions"])] if "transitions" in pictures else []


def _tiles(run: Run) -> dict[str, str]:
    mean = run.learner.mean_log_likelihood if run.learner is not None else float("nan")
    return {
        "records": count(run.progress.records),
        "rejected": count(run.progress.rejected),
        "log-likelihood, nats a record": number(mean, 5),
        "records a second": number(run.records_per_second, 3),
    }


def tiles(values: dict[str, str]) -> str:
    """Return the few numbers that are to be seen first."""
    return (
        '<dl class="tiles">'
        + "".join(f"<div><dt>{as_html(name)}</dt><dd>{as_html(value)}</dd></div>" for name, value in values.items())
        + "</dl>"
    )

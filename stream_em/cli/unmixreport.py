"""The page of `stream-em unmix --report`: what was separated, how fast, and pictures of it."""

from pathlib import Path

from stream_em.cli.separation import Separation, lines_of
from stream_em.cli.unmixpicture import SETTLED, Remembered
from stream_em.errors import InputError
from stream_em.report.page import PAGE_SUFFIXES, figure, note, section, tiles, whole_page, write_page
from stream_em.report.separation import separation_pictures
from stream_em.report.style import require_matplotlib
from stream_em.report.tables import lines_table, rows_table
from stream_em.sinks.disk import writing

MOST_EVENTS = 200


def check_page(path: Path) -> None:
    """Raise `InputError` if something other than a page is meant, and if matplotlib is not installed."""
    if path.suffix.lower() not in PAGE_SUFFIXES:
        raise InputError(f"--report {path}: name a file that ends in .html")
    require_matplotlib()


def save_page(path: Path, separation: Separation, seen: Remembered) -> None:
    """Write the page; raises `OutsideError` if it cannot be written."""
    unmixer, rate = separation.unmixer, separation.signal.rate
    took = separation.chunk_times()
    numbers = {
        "sources": str(separation.n_sources),
        "seconds of signal": f"{separation.samples / rate:,.1f}",
        "of real time": f"{100 * unmixer.real_time_factor:.2f} %",
        "ms a chunk, 99 %": f"{1000 * took.p99:.2f}",
    }
    events = [[f"{event.at / rate:,.2f}", event.kind, event.detail] for event in unmixer.events]
    caption = f"{len(events)} in all" + (f"; the last {MOST_EVENTS}" if len(events) > MOST_EVENTS else "")
    told = rows_table(["second", "event", "what"], events[-MOST_EVENTS:], caption, 3)
    curve, *spectrograms = (
        figure(picture) for picture in separation_pictures(SETTLED, seen.curves(), seen.rows(), rate)
    )
    parts = [
        *map(note, separation.all_notes()),
        tiles(numbers),
        section("How it settled", curve),
        section("The last seconds", *spectrograms),
        section("The signal", lines_table(lines_of(separation))),
        section("Events", told if events else "<p>Nothing out of the ordinary happened.</p>"),
    ]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    subtitle = "superimposed signals told apart while they came"
    write_page(path, whole_page(separation.folder.resolve().name, subtitle, parts, str(separation.folder)))

"""The tables of the page."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

from stream_em.report import style
from stream_em.report.components import MOST_DRAWN, components_of
from stream_em.report.facts import SHOWN_SNAPSHOTS, Run
from stream_em.report.past import SHOWN_EVENTS, Session
from stream_em.report.pictures import MOST_FIELDS, component_word, field_names
from stream_em.report.words import count, measured, moment, number, settings, size, visible

_OUTCOMES = {
    "end": "reached the end of its data",
    "limit": "reached its limit of records",
    "stopped": "was stopped",
    "failed": "failed",
}


def as_html(value: str) -> str:
    """Return a text from anywhere as HTML."""
    return escape(visible(value, 1000))


def facts_table(run: Run) -> str:
    """Return what is to be said of the run in one line each."""
    rows = {"run folder": run.place, "written": run.created}
    if run.learner is not None:
        rows |= {
            "records learned": count(run.learner.count),
            "records left out": count(run.learner.left_out) if run.learner.left_out else "",
            "model": run.learner.model.name,
            "model settings": settings(run.learner.model),
            "learner settings": settings(run.learner.settings),
            "fields": f"{run.learner.n_features or 0}: {visible(', '.join(field_names(run, 60)), 1000)}",
        }
    if run.sessions:
        last = run.sessions[-1]
        rows["sessions"] = f"{count(len(run.sessions))}, the last {_outcome(last)} {moment(last.ended)}".strip()
        rows["throughput"] = f"{number(run.records_per_second, 3)} records a second, with starting and saving"
    rows["snapshots kept"] = count(run.n_snapshots)
    return lines_table(rows)


def lines_table(rows: Mapping[str, str]) -> str:
    """Return a table of names and what is to be said of them; what is empty is left out."""
    body = "".join(f'<tr><th scope="row">{as_html(k)}</th><td>{as_html(v)}</td></tr>' for k, v in rows.items() if v)
    return f'<div class="scroll"><table class="facts"><tbody>{body}</tbody></table></div>'


def components_table(run: Run) -> str:
    """Return a table of the components: the legend of all pictures, and the numbers for those who cannot see them."""
    components, word, names = components_of(run.learner), component_word(run), field_names(run)
    if components is None:
        return ""
    fields, drawn = components.telling_fields(MOST_FIELDS), components.drawn()
    deviations = np.sqrt(components.variances())
    rows = []
    for k in drawn:
        values = [measured(float(components.means[k, d]), float(deviations[k, d])) for d in fields]
        rows.append([_badge(k), as_html(f"{components.shares[k]:.4f}"), *map(as_html, values)])
    caption = f"Share, and mean ± standard deviation, of each {word}."
    if len(components.shares) > MOST_DRAWN:
        caption += f" These {MOST_DRAWN} of {count(len(components.shares))} have the greatest shares."
    if len(fields) < len(names):
        caption += f" Shown are {len(fields)} of {len(names)} fields: those whose means differ most."
    return _table([word, "share", *(names[d] for d in fields)], rows, caption, n_text=1)


def _badge(k: int) -> str:
    return f'<span class="badge" style="background:{style.colour(k)};color:{style.on_colour(k)}">{k}</span>'


def sessions_table(run: Run) -> str:
    """Return a table of when the run was started and how that ended."""
    rows = [
        [
            str(i),
            moment(session.started),
            moment(session.ended),
            _outcome(session),
            visible(session.version),
            count(session.begin),
            count(session.records),
            number(session.records / session.seconds, 3) if session.seconds > 0 and session.records else "",
        ]
        for i, session in enumerate(run.sessions, 1)
    ][-SHOWN_SNAPSHOTS:]
    head = ["session", "started", "ended", "it", "version", "from record", "records", "a second"]
    return _table(head, _escaped(rows), "When the run was started, and how it ended.", n_text=5) if rows else ""


def events_table(run: Run) -> str:
    """Return a table of the latest events, all counted by kind."""
    if not run.events:
        return "<p>Nothing out of the ordinary happened.</p>"
    by_kind = sorted(run.event_counts.items(), key=lambda pair: (-pair[1], pair[0]))
    counted = ", ".join(f"{count(n)} {kind}" for kind, n in by_kind)
    caption = f"All events: {counted}."
    if sum(run.event_counts.values()) > len(run.events):
        caption += f" The last {SHOWN_EVENTS}, newest first:"
    rows = [
        [moment(e["time"]), visible(e["kind"] or ""), visible(e["detail"] or ""), count(e["records"])]
        for e in run.events
    ]
    return rows_table(["time", "event", "what", "records"], rows, caption, n_text=3)


def snapshots_table(run: Run) -> str:
    """Return a table of the latest snapshots."""
    if not run.snapshots:
        return "<p>None yet.</p>"
    rows = [
        [
            kept.name,
            moment(kept.written),
            kept.note,
            size(kept.n_bytes),
            "" if kept.seconds is None else f"{number(1000 * kept.seconds, 3)} ms",
        ]
        for kept in run.snapshots
    ]
    caption = f"{count(run.n_snapshots)} kept, newest first"
    caption += f"; the last {SHOWN_SNAPSHOTS}." if run.n_snapshots > SHOWN_SNAPSHOTS else "."
    return rows_table(["snapshot", "written", "", "size", "took"], rows, caption, n_text=3)


def _outcome(session: Session) -> str:
    return visible(_OUTCOMES.get(session.outcome, session.outcome))


def rows_table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, n_text: int) -> str:
    """Return a table of cells that are texts; the first `n_text` columns hold words, the others numbers."""
    return _table(head, _escaped(rows), caption, n_text)


def _escaped(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    return [[as_html(cell) for cell in row] for row in rows]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, n_text: int) -> str:
    """Return a table of cells that are HTML; the first `n_text` columns hold words, the others numbers."""
    top = "".join(
        f'<th scope="col"{"" if i < n_text else " class=n"}>{as_html(name)}</th>' for i, name in enumerate(head)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{'' if i < n_text else ' class=n'}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    caption = as_html(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )

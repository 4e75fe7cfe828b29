"""Which pictures a run has, drawn as SVG, each with a sentence that says what one sees."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import NamedTuple

import numpy as np

from stream_em.arrays import FloatArray
from stream_em.report import clouds, history, style
from stream_em.report.components import MOST_DRAWN, Components, components_of
from stream_em.report.facts import Run
from stream_em.report.transitions import draw_transitions
from stream_em.report.words import count, visible

MOST_FIELDS = 6
_PAIRED_FIELDS = 4
"""Four fields have six pairs."""
_LONGEST_NAME = 28


class Picture(NamedTuple):
    """A picture for the page: one or more panels, or none and the reason why."""

    key: str
    title: str
    panels: tuple[str, ...]
    caption: str


def field_names(run: Run, most: int = _LONGEST_NAME) -> list[str]:
    """Return a short name of each field."""
    width = 0 if run.learner is None else run.learner.n_features or 0
    names = run.learner.fields if run.learner is not None else ()
    return [visible(name, most) for name in names or [f"x{d}" for d in range(width)]]


def component_word(run: Run) -> str:
    """Return what a component of this model is called."""
    return "component" if run.learner is None or run.learner.model.exchangeable else "state"


def pictures_of(run: Run) -> list[Picture]:
    """Draw all pictures of a run; raises `InputError` if matplotlib is not installed."""
    style.require_matplotlib()
    components = components_of(run.learner)
    drawn = components.drawn() if components is not None else []
    found = [_log_likelihood(run), _shares(run, drawn), _means(run, components, drawn), _data(run, components, drawn)]
    params = run.learner.params._asdict() if components is not None and run.learner is not None else {}
    if "transitions" in params:
        found.append(_transitions(np.asarray(params["transitions"]), drawn))
    return found


def _log_likelihood(run: Run) -> Picture:
    key, title = "log-likelihood", "Log-likelihood"
    if np.isnan(run.likelihoods.values).all():
        return Picture(key, title, (), "No picture: the journal holds no log-likelihood yet.")
    with _styled(key, 0) as name:
        drawn = history.draw_log_likelihood(run.likelihoods, run.sessions, run.event_marks, history.span_of(run))
        panel = style.as_svg(drawn.figure, name, "Log-likelihood in nats a record over the records of the run")
    caption = (
        "How well the model foresaw each record before it learned it: mean log-likelihood since the journal's row"
        " before; higher is better."
    )
    if len(run.likelihoods.values) > history.BINS:
        caption += " The band spans the rows that are drawn as one point."
    if len(run.likelihoods.values) == 1:
        caption += " There is one row so far: they are run.journal_every_seconds apart."
    if len(run.sessions) > 1:
        caption += " Dashed lines: a later session began."
    if run.event_marks:
        caption += " Marks at the top: events."
    if drawn.n_outside:
        caption += f" Not in the picture: {count(drawn.n_outside)} far above or below."
    return Picture(key, title, (panel,), caption)


def _shares(run: Run, drawn: list[int]) -> Picture:
    path, word = run.params_path, component_word(run)
    title = "Weights" if word == "component" else "Shares of the states"
    if not len(path.records) or not drawn or path.shares.shape[1] <= max(drawn):
        return Picture("shares", title, (), _no_params(run))
    with _styled("shares", 0) as name:
        panel = style.as_svg(
            history.draw_shares(path, drawn, history.span_of(run)), name, f"Share of each {word} over the records"
        )
    if word == "component":
        caption = "The share of the records that each component stands for, one upon the other; they sum to 1."
    else:
        caption = (
            "How often the chain is in each state in the long run, by the transitions learned so far (their stationary"
            " distribution); the shares sum to 1."
        )
    return Picture("shares", title, (panel,), caption + _selection(path.shares.shape[1], word, "at least 5 %"))


def _means(run: Run, components: Components | None, drawn: list[int]) -> Picture:
    path, word, names = run.params_path, component_word(run), field_names(run)
    shaped = components is not None and path.means.shape[1:] == components.means.shape
    if not len(path.records) or components is None or not shaped:
        return Picture("means", "Means", (), _no_params(run))
    fields = components.telling_fields(MOST_FIELDS)
    panels = []
    for field in fields:
        with _styled("means", field) as name:
            figure = history.draw_means(path, drawn, field, names[field], history.span_of(run))
            panels.append(style.as_svg(figure, name, f"Mean of {names[field]} in each {word} over the records"))
    caption = f"The mean of {'each field' if len(fields) > 1 else 'the field'} over the records, one line a {word}."
    caption += _fields_selection(len(fields), len(names), word)
    return Picture("means", "Means", tuple(panels), caption + _selection(len(components.shares), word))


def _data(run: Run, components: Components | None, drawn: list[int]) -> Picture:
    key, title, word, names = "data", "Data and model", component_word(run), field_names(run)
    if components is None and not len(run.recent):
        return Picture(key, title, (), "No picture: no records were saved and no parameters learned yet.")
    assigned, hidden = _assigned(run, components)
    if drawn:
        assigned = np.where(np.isin(assigned, drawn), assigned, np.nan)
    D = run.recent.shape[1]
    panels, outside = [], 0
    if D == 1:
        with _styled(key, 0) as name:
            result = clouds.draw_histogram(run.recent, assigned, components, drawn, names[0])
            panels.append(style.as_svg(result.figure, name, f"Histogram of {names[0]} and the densities learned"))
        outside = result.n_outside
    else:
        fields = (
            components.telling_fields(_PAIRED_FIELDS) if components is not None else list(range(min(D, _PAIRED_FIELDS)))
        )
        for number, (i, j) in enumerate(combinations(fields, 2)):
            with _styled(key, number) as name:
                result = clouds.draw_pair(run.recent, assigned, components, drawn, (i, j), (names[i], names[j]))
                title_of = f"Records in {names[i]} and {names[j]}, and the ellipses learned"
                panels.append(style.as_svg(result.figure, name, title_of))
            outside = max(outside, result.n_outside)
    return Picture(key, title, tuple(panels), _data_caption(run, components, word, hidden, outside))


def _data_caption(run: Run, components: Components | None, word: str, hidden: int, outside: int) -> str:
    n, D = run.recent.shape
    caption = f"The last {count(n)} records of the newest snapshot" if n else "The snapshot holds no records"
    if components is None:
        first = f" Shown are the first {_PAIRED_FIELDS} of {D} fields." if D > _PAIRED_FIELDS else ""
        return f"{caption}; there is no model of them yet.{first}"
    if D == 1:
        caption += f" as a histogram in the colours of the most probable {word}s, under the density of each {word} and"
        caption += " their sum."
    else:
        caption += f", each in the colour of its most probable {word}" if n else ""
        caption += f"; the ellipses lie 1 and 2 standard deviations around the mean of each {word}."
    if hidden:
        caption += f" {count(hidden)} records without any value are not shown."
    if D > 1 and n and np.isnan(run.recent).any():
        caption += " A record that lacks one of the two values is a dash at the edge."
    if outside:
        place = "the picture" if D < 3 else "one panel"
        caption += f" {count(outside)} far record{'s lie' if outside > 1 else ' lies'} outside of {place}."
    if D > _PAIRED_FIELDS:
        caption += _fields_selection(_PAIRED_FIELDS, D, word)
    return caption + _selection(len(components.shares), word)


def _transitions(transitions: FloatArray, drawn: list[int]) -> Picture:
    with _styled("transitions", 0) as name:
        panel = style.as_svg(draw_transitions(transitions, drawn), name, "Probability of each state after each state")
    caption = (
        "How probable each state (column) is after each state (row): the stronger the colour, the likelier; the scale"
        " lets rare transitions be seen, too."
    )
    return Picture("transitions", "Transitions", (panel,), caption + _selection(len(transitions), "state", ""))


@contextmanager
def _styled(key: str, number: int) -> Iterator[str]:
    name = f"picture-{key}-{number}"
    with style.styled(name):
        yield name


def _assigned(run: Run, components: Components | None) -> tuple[FloatArray, int]:
    """Return the most probable component (n,) of each recent record, NaN if unknown, and how many have no value."""
    assigned = np.full(len(run.recent), np.nan)
    empty = np.isnan(run.recent).all(axis=1)
    if components is not None and run.learner is not None and len(run.recent):
        assigned[:] = run.learner.posterior(run.recent).argmax(axis=1)
    assigned[empty] = np.nan
    return assigned, int(empty.sum())


def _no_params(run: Run) -> str:
    if run.learner is None or not run.learner.started:
        return "No picture: there are no parameters yet."
    if len(run.likelihoods.records):
        return "No picture: the journal keeps no parameters of a model this large; the newest ones are below."
    return "No picture: the journal holds no parameters; the newest ones are below."


def _selection(n_components: int, word: str, numbered: str = f"the {style.MOST_BADGES} greatest shares") -> str:
    text = ""
    if n_components > style.MOST_BADGES and numbered:
        text += f" Numbers: the {word}s with {numbered}."
    if n_components > MOST_DRAWN:
        text += f" Only the {MOST_DRAWN} greatest of {count(n_components)} are drawn."
    return text


def _fields_selection(shown: int, n_fields: int, word: str) -> str:
    if shown >= n_fields:
        return ""
    return (
        f" Shown are {shown} of {n_fields} fields: those whose means differ most, in units of the deviation within a"
        f" {word}."
    )

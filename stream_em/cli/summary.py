"""What was learned, as JSON and as tables."""

import math
from typing import Any

import msgspec
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream_em.arrays import FloatArray
from stream_em.cli.output import facts
from stream_em.learning.learner import Learner
from stream_em.learning.store import Progress
from stream_em.models.interface import Settings
from stream_em.report.components import variances_of

SHOWN_FIELDS, SHOWN_COLUMNS = 6, 9
SHOWN_EVENTS = 5


def as_json(
    learner: Learner, averaged: bool, progress: Progress | None = None, created: str | None = None, **more: Any
) -> str:
    """Return the learner, its progress if it is one of a run, and `more` as one line of JSON; NaN is null."""
    params = learner.averaged_params if averaged else learner.params
    description = {
        "model": learner.model.name,
        "count": int(learner.count) if learner.count.is_integer() else learner.count,
        "log_likelihood": learner.mean_log_likelihood,
        "params": {name: np.asarray(value).tolist() for name, value in params._asdict().items()},
        "positions": {} if progress is None else progress,
        "created": created,
        "fields": learner.fields,
        "left_out": learner.left_out,
        "settings": {"model": learner.model, "learner": learner.settings},
    }
    return msgspec.json.encode(description | more).decode()


def print_report(target: Console, learner: Learner, averaged: bool, more: dict[str, str]) -> None:
    """Print the learned parameters, `more` facts, and the last events but the coming and going of challengers."""
    params, K = (learner.averaged_params if averaged else learner.params)._asdict(), learner.model.n_components
    target.print(_components(learner, params))
    for name, value in params.items():
        if name != "covariances" and name != "means" and np.ndim(value) == 2:
            target.print(_matrix(name, np.asarray(value)))
    target.print(
        facts(
            {
                "model": _settings(learner.model),
                "records": f"{learner.count:,.10g}",
                "log-likelihood": _log_likelihood(learner),
            }
            | {name: f"{value[0]:.4g}" for name, value in params.items() if np.shape(value) == (1,) != (K,)}
            | ({"left out": f"{learner.left_out:,.10g} records more"} if learner.settings.robust is not None else {})
            | more
        )
    )
    told = [event for event in learner.events if event.kind not in ("challenger", "dropped")]
    for event in told[-SHOWN_EVENTS:]:
        target.print(Text(f"after {event.at:,.0f} records: {event.kind}: {event.detail}", style="dim"))


def _components(learner: Learner, params: dict[str, FloatArray]) -> Table:
    """Return a row for each component: its scalars, and mean ± standard deviation of each field."""
    K = learner.model.n_components
    table = _table("learned components")
    scalars = {name: np.asarray(v) for name, v in params.items() if np.shape(v) == (K,) and name != "covariances"}
    for name in scalars:
        table.add_column(name, justify="right")
    columns = [_numbers(values) for values in scalars.values()]
    cells = [[str(k), *(column[k] for column in columns)] for k in range(K)]
    if "means" in params:
        means = np.asarray(params["means"])
        covariance_type = getattr(learner.model, "covariance_type", "full")
        deviations = np.sqrt(variances_of(params["covariances"], covariance_type, means.shape))
        D = means.shape[1]
        shown = D if D <= SHOWN_FIELDS else SHOWN_FIELDS - 1
        for name in (learner.fields or [f"x{d}" for d in range(D)])[:shown]:
            table.add_column(name, justify="right")
        for k, row in enumerate(cells):
            row += [_measured(means[k, d], deviations[k, d]) for d in range(shown)]
        if shown < D:
            table.caption = f"mean ± standard deviation; {D - shown} more fields: --json has all"
        else:
            table.caption = "mean ± standard deviation"
    for row in cells:
        table.add_row(*row)
    return table


def _matrix(name: str, values: FloatArray) -> Table:
    table, n = _table(name), values.shape[1]
    shown = n if n <= SHOWN_COLUMNS else SHOWN_COLUMNS - 1
    for j in range(shown):
        table.add_column(str(j), justify="right")
    for k, row in enumerate(values[:, :shown]):
        table.add_row(str(k), *(f"{value:.4g}" for value in row))
    if shown < n:
        table.caption = f"{n - shown} more columns: --json has all"
    return table


def _numbers(values: FloatArray) -> list[str]:
    """Return values with four decimals, or four digits if that says too little or too much of all of them."""
    largest = float(np.abs(values).max())
    return [f"{value:.4f}" if largest == 0.0 or 0.01 <= largest < 1e5 else f"{value:.4g}" for value in values]


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE)
    table.add_column("")
    return table


def _measured(mean: float, deviation: float) -> str:
    """Return the deviation to two digits, and the mean to the same decimal place."""
    if not math.isfinite(deviation):
        return f"{mean:.4g} ± {deviation:.2g}"
    decimals = 1 - math.floor(math.log10(deviation)) if deviation > 0 else 3
    if abs(mean) >= 1e6 or deviation >= 1e6 or decimals > 6:
        return f"{mean:.4g} ± {deviation:.2g}"
    decimals = max(decimals, 0)
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{round(mean, decimals) + 0.0:.{decimals}f} ± {deviation:.{decimals}f}"


def _settings(model: Settings) -> str:
    """Return the model's name and the settings that are not as usual."""
    usual = {field.name: field.default for field in msgspec.structs.fields(model)}
    changed = {name: value for name, value in msgspec.structs.asdict(model).items() if value != usual[name]}
    return " ".join([model.name, *(f"{name}={value}" for name, value in changed.items())])


def _log_likelihood(learner: Learner) -> str:
    if np.isnan(learner.mean_log_likelihood):
        return "none yet: every record went into the warm-up that chooses the first parameters"
    return f"{learner.mean_log_likelihood:.6g} nats a record (running mean, each scored before it was learned)"


def speed(records: int, seconds: float, compiling: float) -> str:
    """Return records a second in words; the time to compile, once after an installation, is told apart."""
    text = f"{records / seconds:,.0f} records a second ({records:,} in {seconds:.2f} s)"
    return f"{text}; compiling before took {compiling:.1f} s, first time only" if compiling > 2.0 else text

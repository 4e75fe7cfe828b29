"""`stream-em snapshots`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Action(StrEnum):
    """What to do with the snapshots of a run."""

    list = "list"
    verify = "verify"
    restore = "restore"


def snapshots(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    action: Annotated[str, typer.Argument(metavar="|".join(Action), help="What to do with them.")] = Action.list,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="For restore: which one.")] = None,
) -> None:
    """List the snapshots of a run, verify them, or restore one: the next `run` goes on from there."""
    from rich.box import SIMPLE
    from rich.table import Table

    from stream_em.cli.output import console
    from stream_em.errors import InputError
    from stream_em.learning import store
    from stream_em.runs.folder import RunFolder
    from stream_em.runs.journal import Journal
    from stream_em.runs.shared import refuse_shared

    if str(run) in list(Action) and action not in list(Action):
        what = f"{run} NAME" if str(run) == Action.restore else run
        raise InputError(f"snapshots: the run folder comes first: stream-em snapshots RUN {what}")
    if action not in list(Action):
        raise InputError(f"snapshots: there is no action {action!r}; there are {', '.join(Action)}")
    kept = store.SnapshotStore(run / "snapshots")
    paths = kept.paths()
    refuse_shared(run)
    if not paths:
        raise InputError(f"{run}: this folder has no snapshots; name a run folder")
    if action == Action.restore:
        if name is None:
            raise InputError(f"{run}: name the snapshot to restore; there are {', '.join(path.stem for path in paths)}")
        chosen = next((path for path in paths if name in (path.name, path.stem)), None)
        if chosen is None:
            raise InputError(
                f"{run}: there is no snapshot {name!r}; there are {', '.join(path.stem for path in paths)}"
            )
        records = store.read(chosen).progress.records
        folder = RunFolder(run)
        try:
            aside = kept.set_aside(chosen)
            journal = Journal(folder.journal_path)
            journal.happened(records, [("restored", f"{chosen.name}; later ones are in {aside}")])
            journal.close()
        finally:
            folder.close()
        print(
            f"the next run goes on from {chosen.name}; "
            + (f"later ones are in {aside}" if aside else "it is the newest")
        )
        return
    table = Table(box=SIMPLE)
    for title in ("snapshot", "records", "log-likelihood", "created", ""):
        table.add_column(title, justify="right" if title in ("records", "log-likelihood") else "left")
    damaged = []
    for path in paths:
        try:
            snapshot = store.read(path)
        except InputError as error:
            damaged.append(str(error))
            table.add_row(path.stem, "", "", "", "damaged")
            continue
        mean = f"{snapshot.learner.mean_log_likelihood:.6g}"
        table.add_row(path.stem, f"{snapshot.progress.records:,}", mean, snapshot.created, "ok")
    console().print(table)
    if damaged and action == Action.verify:
        raise InputError(f"{len(damaged)} of {len(paths)} snapshots cannot be used: {damaged[0]}")

"""`stream-em lag`."""

from pathlib import Path
from typing import Annotated

import typer

from stream_em.cli.run import SET


def lag(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The config of the run.")],
    settings: SET = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Show how far the newest snapshot of a run is behind its topics: position, end and lag of each partition.

    What was learned since that snapshot counts as lag; /metrics tells it as it is now.
    """
    import json

    from rich.box import SIMPLE
    from rich.table import Table

    from stream_em.cli.output import console
    from stream_em.configfile import hide, load_config, with_folder
    from stream_em.errors import InputError, OutsideError
    from stream_em.learning.store import SnapshotStore
    from stream_em.runs.shared import shared_progress
    from stream_em.streams.kafka.connection import Connection
    from stream_em.streams.kafka.lag import partition_lags
    from stream_em.streams.kafka.settings import KafkaSettings

    loaded, folder = with_folder(load_config(config, settings or []), Path("runs") / config.stem)
    source = loaded.config.source
    if not isinstance(source, KafkaSettings):
        raise InputError(f'{config}: lag is about a source of type "kafka"')
    if source.share:
        position = shared_progress(folder).source
    else:
        snapshot, _ = SnapshotStore(folder / "snapshots").newest()
        position = None if snapshot is None else snapshot.progress.source
    try:
        rows = partition_lags(loaded.config.kafka or Connection(), source, position)
    except (InputError, OutsideError) as error:
        raise type(error)(hide(str(error), loaded.secrets)) from None
    if as_json:
        print(json.dumps([row._asdict() for row in rows]))
        return
    table = Table(box=SIMPLE)
    for title in ("topic", "partition", "position", "end", "lag", "seconds"):
        table.add_column(title, justify="left" if title == "topic" else "right")
    for row in rows:
        behind = "" if row.seconds is None else f"{row.seconds:,.1f}"
        table.add_row(row.topic, str(row.partition), f"{row.position:,}", f"{row.end:,}", f"{row.lag:,}", behind)
    console().print(table)
    total = sum(row.lag for row in rows)
    read = "to read; no snapshot yet" if position is None else "behind, by the newest snapshot"
    console().print(f"{total:,} messages {read}")

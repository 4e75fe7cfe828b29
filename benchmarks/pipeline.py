"""What a run costs beyond learning: snapshots and journal, a sink of all posteriors, and watching for drift."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from msgspec.structs import replace

import stream_em as sem
from benchmarks.files import D, K, write
from benchmarks.rows import Row, alternated
from stream_em.config import Config, FilesSource, Run, SinkSection, Snapshots
from stream_em.configfile import text_of
from stream_em.pipeline.assemble import new_learner, pipeline_of, source_of
from stream_em.pipeline.loop import Pipeline


def run(quick: bool) -> Iterator[Row]:
    """Yield the times of a whole run with each of them against one with neither."""
    n, passes, rounds = (5000, 1, 1) if quick else (1_000_000, 20, 3)
    long = 1 if quick else 200  # passes that take more than one snapshot's default interval
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "records.parquet"
        write(n, data, folder / "records.csv")
        plain = Config(FilesSource(str(data), passes=passes), sem.GaussianMixture(K))
        learned(plain)
        yield compared("snapshots and journal as by default", with_(plain, long), n * long, folder, 1, "<= 1.03")
        yield compared("snapshots and journal every second", often(plain), n * passes, folder, rounds)
        yield compared("posteriors to Parquet", scored(plain, "parquet"), n * passes, folder, rounds, "<= 1.3")
        yield compared("posteriors to CSV", scored(plain, "csv"), n * passes, folder, rounds)
        yield from watched(n, 1 if quick else 5, folder)


def watched(n: int, streams: int, folder: Path) -> Iterator[Row]:
    """Yield the throughput with drift watched against that without, over streams that do not change."""
    for kind in ("CSV", "Parquet"):
        ours, without, alarms = [], [], 0
        for seed in range(streams):
            data = {"Parquet": folder / "records.parquet", "CSV": folder / "records.csv"}
            write(n, data["Parquet"], data["CSV"], seed)
            plain = Config(FilesSource(str(data[kind])), sem.GaussianMixture(K))
            drift = replace(plain, drift=sem.DriftSettings())
            alarms += sum(event.kind == "drift" for event in learned(drift).events)
            watching, learning = alternated(lambda c=drift: learned(c), lambda c=plain: learned(c), 3)
            ours.append(median(watching))
            without.append(median(learning))
        rates = n * streams / sum(ours), n * streams / sum(without)
        note = f"times the records/s; {streams} x {n:,} records K={K} D={D} from {kind}, {alarms} false alarms in them"
        yield Row(f"drift watched, {kind}", *rates, rates[0] / rates[1], ">= 0.9", "records/s", note)


def compared(title: str, config: Config, n: int, folder: Path, rounds: int, goal: str = "") -> Row:
    """Return how many times as long a run takes as learning the same records and keeping nothing."""
    ours, without = alternated(lambda: kept(config, folder), lambda: learned(config), rounds)
    ratio = median(ours) / median(without)
    note = f"times as long as learning alone; {n:,} records K={K} D={D} from Parquet"
    return Row(title, n / median(ours), n / median(without), ratio, goal, "records/s", note)


def often(config: Config) -> Config:
    """Return the config with a snapshot and a row in the journal every second."""
    return replace(config, snapshots=Snapshots(every_seconds=1.0), run=Run(journal_every_seconds=1.0))


def scored(config: Config, kind: str) -> Config:
    """Return the config with all posteriors written."""
    return replace(config, sinks=(SinkSection("posteriors", kind),))


def with_(config: Config, passes: int) -> Config:
    """Return the config with another number of passes."""
    return replace(config, source=replace(config.source, passes=passes))


def learned(config: Config) -> sem.Learner:
    """Learn and keep nothing but the learner."""
    pipeline = Pipeline(new_learner(config), source_of(config))
    pipeline.run()
    pipeline.close()
    return pipeline.learner


def kept(config: Config, folder: Path) -> None:
    """Run in a run folder that is thrown away."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        pipeline_of(config, Path(place) / "run", text_of(config)) as pipeline,
    ):
        pipeline.run()

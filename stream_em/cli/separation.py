"""What `stream-em unmix` does: from recordings to a file for each source, while they are read."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from stream_em.arrays import FloatArray
from stream_em.cli.opensignal import Signal
from stream_em.cli.output import console, facts
from stream_em.errors import InputError, OutsideError
from stream_em.sinks import sink_for
from stream_em.sinks.interface import Sink
from stream_em.sinks.wav import WavSink
from stream_em.streams.ahead import read_patiently
from stream_em.unmixing.channels import ChannelCheck
from stream_em.unmixing.metrics import BlockTimes, block_times
from stream_em.unmixing.unmixer import Unmixer

PATIENCE_SECONDS = 0.5
FLUSH_SECONDS = 5.0
MOST_TIMES = 1_000_000
MOST_EVENTS_SHOWN = 12


@contextmanager
def prepared(folder: Path, kind: str, rate: float, force: bool, data: Sequence[str]) -> Iterator[Sink]:
    """Open the output in a folder that is empty of sources, or emptied of them by `force`, but never of the `data`."""
    if kind not in ("wav", "parquet", "csv", "jsonl"):
        raise InputError(f"--write must be wav, parquet, csv or jsonl, not {kind!r}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out-dir {folder}: is a file; name a folder")
    there = _written(folder)
    if there and not force:
        raise InputError(f"{there[0]}: is there already; name another folder, or write over it with --force")
    for path in there:
        if any(Path(name).exists() and path.samefile(name) for name in data):
            raise InputError(f"{path}: is read, and would be written over; name another folder")
    sink: Sink = WavSink(folder, rate) if kind == "wav" else sink_for(kind, folder / _table_name(kind))
    try:
        for path in there:
            path.unlink()
    except OSError as error:
        raise OutsideError(f"{folder}: cannot be emptied: {error.strerror or error}") from None
    try:
        sink.open(None)
        yield sink
    finally:
        sink.close()


def discard(folder: Path) -> None:
    """Remove what was written into a folder before anything could be learned: that are no sources."""
    for path in _written(folder):
        path.unlink()


def _written(folder: Path) -> list[Path]:
    return sorted([*folder.glob("source_*.wav"), *folder.glob("sources.*"), *folder.glob("sources/part-*.parquet")])


def _table_name(kind: str) -> str:
    return "sources" if kind == "parquet" else f"sources.{kind}"


class Separation:
    """One signal on its way through an unmixer into a sink."""

    def __init__(self, signal: Signal, unmixer: Unmixer, sink: Sink, folder: Path) -> None:
        self.signal = signal
        self.folder = folder
        self.unmixer = unmixer
        self.check = ChannelCheck(signal.source.fields)
        self._width = unmixer.settings.n_components or len(signal.source.fields)
        self.samples = 0
        self._heard = False
        self.seconds = 0.0
        self.stopped = False
        self.times: list[float] = []
        self.notes: list[str] = []
        self.watch: Callable[[float, FloatArray, FloatArray, Unmixer], None] | None = None
        self._sink = sink
        self._flushed = time.monotonic()

    def stop(self) -> None:
        """Let `run` end soon, with what there is by then."""
        self.stopped = True
        self.signal.source.stop()

    def run(self, *, show: bool) -> None:
        """Separate all that comes; raises `InputError` if it is too short for anything to be learned."""
        target = console(stderr=True)
        columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.fields[note]}"))
        begin = time.monotonic()
        with Progress(*columns, console=target, transient=True, disable=not (show and target.is_terminal)) as progress:
            task = progress.add_task("", total=self.signal.source.n_bytes, note="")
            try:
                for block in read_patiently(self.signal.source, PATIENCE_SECONDS):
                    if self.stopped:
                        break
                    if block is None or len(block) == 0:
                        continue
                    self.notes += [note.detail for note in block.notes]
                    self.take(block.values)
                    note = f"{self.samples / self.signal.rate:,.1f} s of signal"
                    progress.update(task, completed=self.signal.source.bytes_read, note=note)
            finally:
                # What was separated before the source failed is whole.
                self._sink.flush()
        self.seconds = time.monotonic() - begin
        if self.unmixer.engine is not None or self.stopped:
            return
        discard(self.folder)
        if not self._heard:
            raise InputError("all channels are silent, from start to end: there is nothing to separate")
        # This says how many samples are needed, and how many there were, if nothing could be learned.
        _ = self.unmixer.unmixing

    @property
    def n_sources(self) -> int:
        """The number of sources that the channels allow; 0 before anything was learned."""
        return 0 if self.unmixer.engine is None else len(self.unmixer.unmixing)

    def chunk_times(self) -> BlockTimes:
        """Return how long a chunk took: median, 99 %, longest."""
        return block_times(self.times)

    def all_notes(self) -> list[str]:
        """Return what there is to say of channels, sources and what was lost on the way."""
        found = self.check.notes() + self.notes[:MOST_EVENTS_SHOWN]
        if self.n_sources < self._width:
            found.append(f"the channels allow no more than {self.n_sources} sources; the files of others are silent")
        return found

    def take(self, values: FloatArray) -> None:
        """Separate the next samples (n, D)."""
        self.check.look(values)
        self.samples += len(values)
        begin = time.perf_counter()
        sources = self.unmixer.process(values)
        if len(self.times) < MOST_TIMES:
            self.times.append(time.perf_counter() - begin)
        if self.watch is not None:
            self.watch(self.samples / self.signal.rate, values, sources, self.unmixer)
        self._heard = self._heard or bool(sources.any())
        self._sink.write({f"source_{k + 1}": np.ascontiguousarray(sources[:, k]) for k in range(self._width)})
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._sink.flush()
            self._flushed = time.monotonic()


def lines_of(separation: Separation) -> dict[str, str]:
    """Return what was separated and how fast, in words."""
    rate, fields, took = separation.signal.rate, separation.signal.source.fields, separation.chunk_times()
    return {
        "channels": f"{len(fields)}: {', '.join(fields)}",
        "sources": f"{separation.n_sources}, in {separation.folder}",
        "signal": f"{separation.samples / rate:,.2f} s at {rate:g} Hz, read, separated and written in"
        f" {separation.seconds:,.2f} s",
        "computing": f"{100 * separation.unmixer.real_time_factor:.2f} % of real time;"
        f" a chunk {1000 * took.p50:.2f} ms (median), {1000 * took.p99:.2f} ms (99 %)",
    }


def told(separation: Separation, *, as_json: bool, quiet: bool) -> None:
    """Print what was separated, how fast, and what happened."""
    rate, fields, unmixer = separation.signal.rate, separation.signal.source.fields, separation.unmixer
    events = [(event.at / rate, event.kind, event.detail) for event in unmixer.events]
    notes = separation.all_notes()
    if as_json:
        found: dict[str, Any] = {
            "channels": list(fields),
            "sources": separation.n_sources,
            "sample_rate": rate,
            "samples": separation.samples,
            "seconds": separation.seconds,
            "real_time_factor": unmixer.real_time_factor,
            "chunk_seconds": separation.chunk_times()._asdict(),
            "events": [{"second": at, "kind": kind, "detail": detail} for at, kind, detail in events],
            "notes": notes,
            "folder": str(separation.folder),
        }
        print(json.dumps(found))
    elif not quiet:
        rows = lines_of(separation)
        lines = [f"{at:,.2f} s: {kind}, {detail}" for at, kind, detail in events[:MOST_EVENTS_SHOWN]]
        if len(events) > MOST_EVENTS_SHOWN:
            lines.append(f"and {len(events) - MOST_EVENTS_SHOWN} more: --json has them all")
        rows["events"] = "\n".join(lines)
        target = console()
        target.print(facts(rows))
        for note in notes:
            target.print(f"note: {note}", markup=False)

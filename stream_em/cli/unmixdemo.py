"""`stream-em demo unmix`: four recordings mixed, streamed through an unmixer, and compared with batch FastICA."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from stream_em.arrays import FloatArray
from stream_em.cli.learning import compile_unmixer
from stream_em.cli.opensignal import open_signal
from stream_em.cli.output import console
from stream_em.cli.separation import Separation, prepared
from stream_em.demo import MIXING, MOVED, RECORDINGS, recordings
from stream_em.report.separation import Axis, Curve, Row, save_separation
from stream_em.report.style import require_matplotlib
from stream_em.sinks.disk import writing
from stream_em.streams.ahead import read_ahead
from stream_em.streams.files import open_source
from stream_em.streams.signals import soundfile_for
from stream_em.unmixing import metrics
from stream_em.unmixing.unmixer import Unmixer

RATE = 16_000
CHUNK, LOOK_SECONDS = 160, 0.1
LEVEL_DB = -20.0
LAST_SECONDS = 5.0
INTERFERENCE = Axis(
    "How much of the others is left in each source: lower is better", "interference to signal, dB", -70.0, LEVEL_DB
)
HEADROOM = 8.0
"""The mixtures are divided by this, so that none is clipped."""


class Streamed(NamedTuple):
    """What came of one stream."""

    times: FloatArray
    ratio: FloatArray
    """(T,): interference to signal in dB, at those times, of what was known then."""
    unmixing: FloatArray
    sources: FloatArray
    """(n, 4): as they came out, in the recordings' order."""
    seconds: float
    """From the first sample read to the last one written."""
    took: metrics.BlockTimes
    real_time_factor: float
    matched: list[int]
    """Which of the sources is which recording, in the end."""


def demo_unmix(folder: Path) -> None:
    """Mix, separate, measure, and write everything into a folder."""
    soundfile = soundfile_for("demo unmix:")
    require_matplotlib()
    signals = recordings()
    seconds = len(signals) / RATE
    target = console()
    target.print(
        f"Four recordings of {seconds:.0f} s that ship with the package (a French, an Italian and a Russian speaker,"
        " and music) are mixed as four microphones would hear them, and separated while the mixture is read, in chunks"
        f" of {1000 * CHUNK / RATE:.0f} ms. The unmixer is shown neither the recordings nor the mixing. Then"
        " the same with the microphones moved in the middle.\n"
    )
    compiling = compile_unmixer()
    half = len(signals) // 2
    moving = np.concatenate([signals[:half] @ MIXING.T, signals[half:] @ MOVED.T])
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        mixture, moved = folder / "mixture.wav", folder / "moved.wav"
        soundfile.write(mixture, signals @ MIXING.T / HEADROOM, RATE, subtype="PCM_16")
        soundfile.write(moved, moving / HEADROOM, RATE, subtype="PCM_16")
    still = _streamed(mixture, folder, signals, lambda _: MIXING)
    after = _streamed(moved, folder / "moved", signals, lambda at: MIXING if at <= seconds / 2 else MOVED)
    heard = soundfile.read(mixture)[0]
    target.print(_table(signals, heard, still))
    last = slice(len(signals) - int(LAST_SECONDS * RATE), None)
    back = metrics.reacquisition_time(LEVEL_DB, after.times, after.ratio, seconds / 2)
    lines = {
        f"below {LEVEL_DB:.0f} dB": f"after {metrics.time_to(LEVEL_DB, still.times, still.ratio):.1f} s;"
        f" after the microphones had moved, again after {back:.1f} s",
        "streamed": f"{seconds:.0f} s of sound read, separated, measured and written in {still.seconds:.1f} s,"
        f" {seconds / still.seconds:.0f} times real time",
        "a chunk": f"{1e6 * still.took.p50:.0f} µs (median), {1e6 * still.took.p99:.0f} µs (99 %), of the"
        f" {1e6 * CHUNK / RATE:,.0f} that it lasts",
        "compiling": f"{compiling:.1f} s, the first time only",
    }
    for name, line in lines.items():
        target.print(f"{name}: {line}")
    _draw(folder / "separation.png", signals[last], heard[last], still, after)
    target.print(f"\nWhat is in {folder}: mixture.wav (four channels, before) and moved.wav; after:")
    for k, name in enumerate(RECORDINGS):
        target.print(f"  source_{still.matched[k] + 1}.wav, moved/source_{after.matched[k] + 1}.wav  {name}")
    target.print(f"and the pictures: {folder / 'separation.png'}")
    target.print("\nWhat to type next:", style="bold")
    target.print(f"  stream-em unmix {mixture} --out-dir {folder / 'again'}", soft_wrap=True, markup=False)


def _streamed(path: Path, folder: Path, signals: FloatArray, mixing_at: Callable[[float], FloatArray]) -> Streamed:
    """Separate a mixture into a folder; measure against the mixing of each time."""
    opened = open_signal([str(path)], None, None, None, None, None, block_size=CHUNK)
    unmixer = Unmixer(len(RECORDINGS), sample_rate=RATE)
    times: list[float] = []
    ratio: list[float] = []
    begin = time.perf_counter()
    with opened.source as source, prepared(folder, "wav", RATE, True, [str(path)]) as sink:
        separation = Separation(opened, unmixer, sink, folder)
        for block in read_ahead(source):
            separation.take(block.values)
            at = separation.samples / RATE
            if unmixer.engine is not None and at >= LOOK_SECONDS * (len(times) + 1):
                times.append(at)
                ratio.append(metrics.interference_to_signal(unmixer.unmixing, mixing_at(at)))
        sink.flush()
    took = time.perf_counter() - begin
    estimated = _read(folder, len(RECORDINGS))
    last = slice(len(signals) - int(LAST_SECONDS * RATE), None)
    matched = metrics.matched_to(estimated[last], signals[last]).tolist()
    return Streamed(
        np.array(times),
        np.array(ratio),
        unmixer.unmixing,
        estimated[:, matched],
        took,
        metrics.block_times(separation.times),
        unmixer.real_time_factor,
        matched,
    )


def _read(folder: Path, count: int) -> FloatArray:
    """Return the sources (n, K) that lie in a folder."""
    paths = [str(folder / f"source_{k + 1}.wav") for k in range(count)]
    return np.stack([np.concatenate([block.values[:, 0] for block in open_source(path)]) for path in paths], axis=1)


def _table(signals: FloatArray, heard: FloatArray, still: Streamed) -> Table:
    """Compare what came out of the stream with batch FastICA on the whole mixture, where scikit-learn is installed."""
    last = slice(len(signals) - int(LAST_SECONDS * RATE), None)
    seconds = len(signals) / RATE
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for title in ("", "interference", "Amari index", "SI-SDR", "worst", "computing"):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)

    def add(name: str, unmixing: FloatArray, ratio: float, estimated: FloatArray, load: float) -> None:
        quality = metrics.si_sdr(estimated[last], signals[last])
        amari = metrics.amari_index(unmixing, MIXING, correlation=np.corrcoef(signals.T))
        decibels = (f"{ratio:.1f} dB", f"{amari:.4f}", f"{np.median(quality):.1f} dB", f"{quality.min():.1f} dB")
        table.add_row(name, *decibels, f"{100 * load:.2f} % of real time")

    looks = still.times > seconds - LAST_SECONDS
    settled = float(np.median(still.ratio[looks]))
    add("stream_em, while it came", still.unmixing, settled, still.sources, still.real_time_factor)
    try:
        from sklearn.decomposition import FastICA
    except ImportError:
        table.caption = "pip install scikit-learn to compare with batch FastICA"
        table.caption_justify = "left"
        return table
    begin = time.perf_counter()
    batch = FastICA(len(RECORDINGS), whiten="unit-variance", fun="logcosh", max_iter=1000, tol=1e-6, random_state=0)
    estimated = batch.fit_transform(heard)
    load = (time.perf_counter() - begin) / seconds
    ratio = metrics.interference_to_signal(batch.components_, MIXING)
    matched = estimated[:, metrics.matched_to(estimated, signals)]
    add("FastICA, all at once", batch.components_, ratio, matched, load)
    return table


def _draw(path: Path, signals: FloatArray, heard: FloatArray, still: Streamed, after: Streamed) -> None:
    names = [name.capitalize() for name in RECORDINGS]
    n = len(signals)
    rows = (
        Row("recorded", names, signals),
        Row("heard", [f"microphone {k + 1}" for k in range(heard.shape[1])], heard),
        Row("separated", [f"source {k + 1}" for k in still.matched], still.sources[-n:]),
    )
    curves = (
        Curve("microphones at rest", still.times, still.ratio),
        Curve("microphones moved in the middle", after.times, after.ratio),
    )
    with writing(path):
        save_separation(path, INTERFERENCE, curves, rows, RATE)

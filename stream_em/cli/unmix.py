"""`stream-em unmix`."""

from pathlib import Path
from typing import Annotated

import typer

from stream_em.cli.options import Channels, Dtype, Format

INTERRUPTED = 130


def unmix(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...",
            help="Recordings with one signal in several channels, one after the other; - is standard input, mic: or"
            " mic:DEVICE a microphone.",
        ),
    ],
    out_dir: Annotated[Path, typer.Option(metavar="DIR", help="Where source_1.wav, source_2.wav, … are written.")],
    sources: Annotated[
        int | None, typer.Option(min=1, help="How many sources there are [default: as many as channels allow].")
    ] = None,
    mode: Annotated[
        str, typer.Option(help="What shares a source's loudness: block (speech, music) or sample.")
    ] = "block",
    reference: Annotated[
        str | None,
        typer.Option(metavar="CHANNEL", help="Sources as loud as they are there [default: over all channels]."),
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect/--no-detect", help="Notice that the mixing has changed, and learn it anew.")
    ] = True,
    fields: Annotated[str | None, typer.Option(metavar="A,B", help="Channels to unmix [default: all].")] = None,
    format: Format = None,
    sample_rate: Annotated[
        float | None, typer.Option(metavar="HZ", help="Of raw PCM, a table or a microphone: samples a second.")
    ] = None,
    channels: Channels = None,
    dtype: Dtype = None,
    write: Annotated[str, typer.Option(help="wav, or one table of all sources: parquet, csv or jsonl.")] = "wav",
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw how it settled, and spectrograms of the last seconds: .png, .svg, .pdf."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with these pictures, figures and events.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over the sources that are in DIR already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress and no table.")] = False,
) -> None:
    """Separate superimposed signals while they are read, faster than they sound, in constant memory."""
    from stream_em.cli.learning import compile_unmixer
    from stream_em.cli.opensignal import mode_named, open_signal
    from stream_em.cli.separation import Separation, prepared, told
    from stream_em.cli.signals import stopped_by_signals
    from stream_em.cli.unmixpicture import Remembered, check_picture, save_picture
    from stream_em.cli.unmixreport import check_page, save_page
    from stream_em.unmixing.unmixer import Unmixer

    names = [name.strip() for name in fields.split(",")] if fields is not None else None
    if picture is not None:
        check_picture(picture)
    if report is not None:
        check_page(report)
    opened = open_signal(data, names, format, sample_rate, channels, dtype)
    with opened.source as source:
        unmixer = Unmixer(
            sources,
            sources=mode_named(mode),
            detect=detect,
            reference=None if reference is None else opened.channel(reference),
            sample_rate=opened.rate,
        )
        seen = None if picture is None and report is None else Remembered(source.fields, opened.rate)
        with prepared(out_dir, write, opened.rate, force, data) as sink:
            compile_unmixer()
            separation = Separation(opened, unmixer, sink, out_dir)
            separation.watch = None if seen is None else seen.look
            with stopped_by_signals(separation.stop):
                separation.run(show=not (quiet or as_json))
    if seen is not None and unmixer.engine is not None:
        if picture is not None:
            save_picture(picture, seen)
        if report is not None:
            save_page(report, separation, seen)
    if separation.samples:
        told(separation, as_json=as_json, quiet=quiet)
    if separation.stopped:
        raise typer.Exit(INTERRUPTED)

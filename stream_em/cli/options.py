"""Options that several commands have, about the files they read."""

from typing import Annotated

import typer

Format = Annotated[
    str | None,
    typer.Option(
        help="csv, tsv, jsonl, parquet, arrow, npy, audio (wav, flac, ogg, aiff), edf (also bdf) or pcm; overrules"
        " suffixes."
    ),
]
SampleRate = Annotated[
    float | None, typer.Option(metavar="HZ", help="Of raw PCM (format pcm): samples a second of each channel.")
]
Channels = Annotated[int | None, typer.Option(help="Of raw PCM: channels, whose samples come in turn.")]
Dtype = Annotated[
    str | None,
    typer.Option(help="Of raw PCM: uint8, int16 (the default), int24, int32, float32 or float64, little-endian."),
]

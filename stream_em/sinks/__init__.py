"""Where a run writes what it found: every row exactly once, in spite of crashes."""

from pathlib import Path

from stream_em.sinks.interface import Sink


def sink_for(type: str, path: Path, rows_per_file: int = 131_072, sample_rate: float = 1.0) -> Sink:
    """Return the sink of a type ("jsonl", "csv", "parquet", "wav"); nothing is opened yet."""
    if type == "wav":
        from stream_em.sinks.wav import WavSink

        return WavSink(path, sample_rate)
    if type == "parquet":
        from stream_em.sinks.parquet import ParquetSink

        return ParquetSink(path, rows_per_file)
    from stream_em.sinks.appended import AppendedSink
    from stream_em.sinks.lines import csv_lines, json_lines

    return AppendedSink(path, json_lines if type == "jsonl" else csv_lines)

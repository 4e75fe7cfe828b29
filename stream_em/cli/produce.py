"""`stream-em produce`."""

from typing import Annotated

import typer

from stream_em.cli.options import Channels, Dtype, Format, SampleRate


def produce(
    data: Annotated[
        list[str], typer.Argument(metavar="DATA...", help="Files, folders or patterns; - is standard input.")
    ],
    topic: Annotated[str, typer.Option(help="The topic; made with the broker's defaults if it is not there.")],
    bootstrap_servers: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The broker; several with commas.")
    ] = "127.0.0.1:9092",
    message_format: Annotated[
        str,
        typer.Option(help="json, json-array, csv, msgpack, float32, float64, arrow, avro, pcm-int16 or pcm-float32."),
    ] = "json",
    fields: Annotated[str | None, typer.Option(metavar="A,B", help="Columns to send [default: all].")] = None,
    format: Format = None,
    sample_rate: SampleRate = None,
    channels: Channels = None,
    dtype: Dtype = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether a CSV begins with names [default: look].")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="For arrow and pcm: records of a message.")] = 1000,
    client: Annotated[str, typer.Option(help="kafka-python or confluent-kafka (an extra, faster).")] = "kafka-python",
    schema_registry: Annotated[str | None, typer.Option(metavar="URL", help="For avro: the schema registry.")] = None,
    config: Annotated[
        str | None, typer.Option(metavar="CONFIG.toml", help="Take the table [kafka] of this config: TLS, passwords.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Load files into a Kafka topic, at the client's full speed."""
    import time
    from contextlib import closing
    from pathlib import Path

    import msgspec
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from stream_em.cli.output import console
    from stream_em.configfile import load_config
    from stream_em.errors import InputError
    from stream_em.streams.ahead import read_ahead
    from stream_em.streams.codecs import SEVERAL, codec_named
    from stream_em.streams.codecs.registry import SchemaRegistry
    from stream_em.streams.files import open_source
    from stream_em.streams.kafka.connection import Connection
    from stream_em.streams.kafka.names import check_topic
    from stream_em.streams.kafka.producing import make_topics, open_producer

    check_topic(topic, "--topic")
    try:
        if config is not None:
            connection = load_config(Path(config)).config.kafka or Connection()
        else:
            connection = msgspec.convert({"bootstrap_servers": bootstrap_servers, "client": client}, Connection)
    except msgspec.ValidationError as error:
        raise InputError(f"--client {client}: {error}") from None
    names = [name.strip() for name in fields.split(",")] if fields is not None else None
    target = console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
    begin, sent = time.monotonic(), 0
    made = make_topics(connection, [topic])
    with (
        open_source(
            data,
            fields=names,
            format=format,
            has_header=header,
            block_size=batch if message_format.lower() in SEVERAL else 8192,
            sample_rate=sample_rate,
            channels=channels,
            dtype=dtype,
        ) as source,
        Progress(*columns, console=target, transient=True, disable=quiet or not target.is_terminal) as progress,
        closing(open_producer(connection, PATIENCE_SECONDS)) as producer,
    ):
        registry = None if schema_registry is None else SchemaRegistry(schema_registry)
        codec = codec_named(message_format, source.fields, registry, f"{topic}-value")
        task = progress.add_task("", total=source.n_bytes, note="")
        for block in read_ahead(source):
            for message in codec.encode(block.values, source.fields):
                producer.send(topic, None, message)
            sent += len(block)
            note = f"{sent:,} records, {sent / (time.monotonic() - begin):,.0f}/s"
            progress.update(task, completed=source.bytes_read, note=note)
        producer.flush()
    seconds = time.monotonic() - begin
    if not quiet:
        where = f"{topic} (made now)" if made else topic
        print(f"{sent:,} records into {where}: {sent / seconds:,.0f} a second ({seconds:.1f} s)")


PATIENCE_SECONDS = 60.0
"""So long a message waits for a broker that is away."""

"""``hedgeflow source alternative``: timestamped texts or numbers into the log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.options import Bootstrap, Config, Partitions, settings_of
from pipeline.commands.rejected import told
from pipeline.commands.until_signal import run_until_signal


def register(app: typer.Typer) -> None:
    """Add the command to the group ``source``."""
    app.command(
        epilog="Examples: [bold]hedgeflow source alternative posts.jsonl --mapping posts.toml[/bold]; "
        "[bold]hedgeflow source alternative --topic social.posts --mapping posts.toml[/bold]"
    )(alternative)


def alternative(
    file: Annotated[Path | None, typer.Argument(help="JSON lines or CSV, plain or gzip.", show_default=False)] = None,
    topic: Annotated[
        str | None, typer.Option("--topic", help="A Kafka topic of JSON to follow instead.", show_default=False)
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="What the fields mean, as TOML.", show_default=False)
    ] = None,
    bootstrap: Bootstrap = None,
    partitions: Partitions = None,
    config: Config = None,
) -> None:
    """Publish texts or numbers of a file to md.events, or follow a topic until Ctrl-C.

    docs/alternative-data.md describes the mapping. The recorded files of the project need none.
    """
    from features.errors import ConfigError

    if (file is None) == (topic is None):
        raise ConfigError("Name a file, or a topic with --topic.", "Exactly one of the two.")
    settings = settings_of(config, bootstrap=bootstrap, partitions=partitions)
    found = _mapping(mapping, file)
    if file is not None:
        _publish(file, found, settings)
    else:
        _follow(str(topic), found, settings)


def _mapping(path: Path | None, file: Path | None) -> Any:
    from features.errors import ConfigError
    from pipeline.sources.alternative_mapping import read_mapping
    from pipeline.sources.alternative_recorded import RECORDED

    if path is not None:
        return read_mapping(path)
    if file is not None and file.name in RECORDED:
        return RECORDED[file.name]
    raise ConfigError("There is no mapping.", "Say with --mapping what the fields mean: docs/alternative-data.md.")


def _publish(file: Path, mapping: Any, settings: Any) -> None:
    from features.stage import Reject
    from pipeline.edge import Edge, live_session
    from pipeline.kafka import create_topics
    from pipeline.log import KafkaLog
    from pipeline.sources.alternative import AlternativeFile

    refused: list[Any] = []
    source = AlternativeFile(file, mapping, on_reject=refused.append)
    create_topics(settings)
    log = KafkaLog(settings)
    for reject in refused:
        log.reject(reject.origin, Reject(reject.reason, reject.detail), reject.payload)
    edge = Edge(log, f"alternative.{mapping.source}", live_session())
    for batch in source.batches():
        edge.send(batch)
    log.flush()
    typer.echo(
        f"{edge.rows:,} rows to md.events at {settings.bootstrap}; {source.duplicates:,} duplicate record(s) left out; "
        f"rejected {told(log.rejected)}"
    )


def _follow(topic: str, mapping: Any, settings: Any) -> None:
    from pipeline.kafka import create_topics
    from pipeline.log import KafkaLog
    from pipeline.logging import configure_logging
    from pipeline.source_metrics import SourceState, watched
    from pipeline.sources.alternative_topic import AlternativeTopic
    from pipeline.sources.numbering import resumed_edge

    stage = f"source.alternative.{mapping.source}"
    configure_logging(settings, stage=stage)
    create_topics(settings)
    log = KafkaLog(settings)
    edge = resumed_edge(log, f"alternative.{mapping.source}", settings)
    with watched(settings, stage, lambda: SourceState(edge.rows, log.rejected, edge.newest_event_ns)) as turn:
        interrupted = run_until_signal(AlternativeTopic(settings, topic, mapping, edge, log, turn))
    if interrupted:
        raise typer.Exit(130)

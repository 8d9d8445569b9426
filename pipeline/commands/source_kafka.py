"""``hedgeflow source kafka``: a user's own topics of JSON into the log."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from pipeline.commands.increments import IncrementsOption, increments_of
from pipeline.commands.options import Bootstrap, Config, Partitions, settings_of
from pipeline.commands.rejected import told
from pipeline.commands.until_signal import run_until_signal


class Format(StrEnum):
    """What the messages are."""

    TARDIS = "tardis"
    HEDGEFLOW = "hedgeflow"


def register(app: typer.Typer) -> None:
    """Add the command to the group ``source``."""
    app.command(
        name="kafka",
        epilog="Examples: [bold]hedgeflow source kafka --topics desk.books,desk.trades --format hedgeflow[/bold]; "
        "[bold]hedgeflow source kafka --topics tardis --format tardis --increment binance-futures:*=0.01,0.001[/bold]",
    )(kafka)


def kafka(
    topics: Annotated[str, typer.Option("--topics", help="Topics to read, by comma.")],
    format: Annotated[
        Format, typer.Option("--format", help="tardis (normalized messages) or hedgeflow (our columns).")
    ],
    increment: IncrementsOption = None,
    bootstrap: Bootstrap = None,
    partitions: Partitions = None,
    config: Config = None,
) -> None:
    """Follow topics of JSON and publish to md.events until Ctrl-C or SIGTERM.

    docs/sources.md shows the messages. Offsets are committed after the rows are acknowledged; what cannot be used
    becomes a dead letter. Started again, it goes on where it was.
    """
    from pipeline.kafka import create_topics
    from pipeline.logging import configure_logging
    from pipeline.source_metrics import SourceState, watched
    from pipeline.sources.json_topics import JsonTopics, PositionedLog
    from pipeline.sources.numbering import resumed_edge

    settings = settings_of(config, bootstrap=bootstrap, partitions=partitions)
    decoder = _decoder(format, increments_of(increment))
    configure_logging(settings, stage="source.kafka")
    create_topics(settings)
    log = PositionedLog(settings)
    edge = resumed_edge(log, "source.kafka", settings)
    with watched(settings, "source.kafka", lambda: SourceState(edge.rows, log.rejected, edge.newest_event_ns)) as turn:
        source = JsonTopics(settings, [each for each in topics.split(",") if each], decoder, edge, log, turn)
        interrupted = run_until_signal(source)
    typer.echo(
        f"{source.messages:,} messages, {edge.rows:,} rows to md.events at {settings.bootstrap}; "
        f"{source.repeated:,} were there already; rejected {told(log.rejected)}"
    )
    if interrupted:
        raise typer.Exit(130)


def _decoder(form: Format, given: dict[str, tuple[str, str]]) -> Any:
    from pipeline.sources.json_events import HedgeflowMessages
    from pipeline.sources.json_tardis import TardisMessages
    from pipeline.sources.tardis_increments import TardisIncrements

    increments = TardisIncrements([], given)
    return TardisMessages(increments) if form is Format.TARDIS else HedgeflowMessages(increments)

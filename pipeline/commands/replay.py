"""``hedgeflow replay``: recordings into the log, or against the venue's own best quotes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.options import Bootstrap, Config, Partitions, settings_of

CHECK_FAILED = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]hedgeflow replay usdm_btcusdt_20240808.gz --verify-book[/bold]; "
        "[bold]hedgeflow replay usdm_btcusdt_20240808.gz --bootstrap localhost:9092[/bold]"
    )(replay)


def replay(
    files: Annotated[list[Path], typer.Argument(help="Binance recordings: local receive time and raw JSON a line.")],
    verify_book: Annotated[
        bool, typer.Option("--verify-book", help="Compare best bid and ask with bookTicker; nothing is published.")
    ] = False,
    bootstrap: Bootstrap = None,
    partitions: Partitions = None,
    config: Config = None,
) -> None:
    """Publish recordings to md.events, or verify the books that they give.

    With --verify-book, prints matched/compared and exits with 8 on a mismatch.
    """
    if verify_book:
        _verify(files)
        return
    _publish(files, settings_of(config, bootstrap=bootstrap, partitions=partitions))


def _verify(files: list[Path]) -> None:
    from collections import Counter

    from pipeline.sources.verify import verify_book

    rejects: Counter[str] = Counter()

    def count(reject: Any) -> None:
        rejects[reject.reason] += 1

    result = verify_book(files, on_reject=count)
    for name, check in result.instruments.items():
        unseen = f" ({check.invalid:,} more while our book was invalid)" if check.invalid else ""
        typer.echo(f"{name}: matched {check.matched:,}/{check.compared:,}{unseen}")
    for each in result.mismatches:
        typer.echo(f"  {each.instrument} update {each.update_id}: ours {each.book}, the venue's {each.venue}")
    if rejects:
        typer.echo("rejected: " + ", ".join(f"{reason} {count:,}" for reason, count in sorted(rejects.items())))
    typer.echo(f"matched/compared: {result.matched}/{result.compared}")
    if not result.ok:
        raise typer.Exit(CHECK_FAILED)


def _publish(files: list[Path], settings: Any) -> None:
    from features.stage import Reject
    from pipeline.edge import Edge
    from pipeline.kafka import create_topics
    from pipeline.log import KafkaLog
    from pipeline.sources.recorded import RecordedFiles

    create_topics(settings)
    log = KafkaLog(settings)

    def refuse(reject: Any) -> None:
        log.reject(reject.origin, Reject(reject.reason, reject.detail), reject.payload)

    edge = Edge(log, "replay")
    for batch in RecordedFiles(files, on_reject=refuse).batches():
        edge.send(batch)
    log.flush()
    typer.echo(f"{edge.rows:,} rows to md.events at {settings.bootstrap}; rejected {dict(log.rejected) or 'nothing'}")

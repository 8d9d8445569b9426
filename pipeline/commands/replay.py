"""``hedgeflow replay``: recordings into the log, or against the venue's own best quotes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.counting import counting
from pipeline.commands.increments import IncrementsOption, increments_of
from pipeline.commands.options import Bootstrap, Config, Partitions, settings_of
from pipeline.commands.rejected import told

CHECK_FAILED = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]hedgeflow replay usdm_btcusdt_20240808.gz --verify-book[/bold]; "
        "[bold]hedgeflow replay deribit_trades_2020-03-01_BTC-PERPETUAL.csv.gz --bootstrap localhost:9092[/bold]"
    )(replay)


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(help="Recordings of Binance or Deribit, Tardis CSV, LOBSTER files, or the folder of a lake."),
    ],
    verify_book: Annotated[
        bool,
        typer.Option("--verify-book", help="Of Binance: compare best bid and ask with bookTicker; publish nothing."),
    ] = False,
    increment: IncrementsOption = None,
    bootstrap: Bootstrap = None,
    partitions: Partitions = None,
    config: Config = None,
) -> None:
    """Publish recordings to md.events, or verify the books that they give.

    Files of several kinds merge by receive time; docs/sources.md says what each must look like. With --verify-book,
    prints matched/compared and exits with 8 on a mismatch.
    """
    if verify_book:
        _verify(files)
        return
    settings = settings_of(config, bootstrap=bootstrap, partitions=partitions)
    _publish(files, increments_of(increment), settings)


def _verify(files: list[Path]) -> None:
    from collections import Counter

    from features.errors import BadInputError
    from pipeline.sources.open_files import Form, form_of
    from pipeline.sources.verify import verify_book

    for path in files:
        if (form := form_of(path)) is not Form.BINANCE:
            raise BadInputError(
                f"{path} is a file of the kind {form}.",
                "--verify-book compares Binance recordings with their bookTicker.",
            )
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
        typer.echo(f"rejected: {told(rejects)}")
    typer.echo(f"matched/compared: {result.matched}/{result.compared}")
    if not result.ok:
        raise typer.Exit(CHECK_FAILED)


def _publish(files: list[Path], increments: dict[str, tuple[str, str]], settings: Any) -> None:
    from pipeline.edge import Edge, live_session
    from pipeline.interrupts import interrupted_between_steps
    from pipeline.kafka import create_topics
    from pipeline.log import KafkaLog
    from pipeline.sources.open_files import open_source

    refused: list[Any] = []  # until there is a log
    source = open_source(files, increments=increments, on_reject=refused.append)
    create_topics(settings)
    log = KafkaLog(settings)
    edge = Edge(log, "replay", live_session())
    with counting("replay", "rows") as show, interrupted_between_steps() as look:
        for batch in source.batches():
            look()
            edge.send(batch)
            _send_dead_letters(refused, log)
            show(edge.rows)
    _send_dead_letters(refused, log)
    log.flush()
    typer.echo(f"{edge.rows:,} rows to md.events at {settings.bootstrap}; rejected {told(log.rejected)}")


def _send_dead_letters(refused: list[Any], log: Any) -> None:
    from features.stage import Reject

    for reject in refused:
        log.reject(reject.origin, Reject(reject.reason, reject.detail), reject.payload)
    refused.clear()

"""``hedgeflow source``: market data into the log as it happens."""

from __future__ import annotations

import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands import source_alternative, source_kafka
from pipeline.commands.options import Bootstrap, Config, Partitions, settings_of
from pipeline.commands.rejected import told

app = typer.Typer(help="Bring data into the log as it happens.", no_args_is_help=True)


class Venue(StrEnum):
    """Where live data comes from."""

    BINANCE = "binance"
    DERIBIT = "deribit"


@app.callback()
def group() -> None:
    """Bring data into the log as it happens."""


@app.command(
    epilog="Examples: [bold]hedgeflow source run binance --symbols BTCUSDT,ETHUSDT --capture ./raw[/bold]; "
    "[bold]hedgeflow source run deribit --symbols BTC-PERPETUAL,BTC-options[/bold]"
)
def run(
    venue: Annotated[Venue, typer.Argument(help="The venue, by its public websocket.")],
    symbols: Annotated[
        list[str],
        typer.Option("--symbols", help="Symbols, by comma; of Deribit also whole chains: BTC-options, BTC-futures."),
    ],
    market: Annotated[str, typer.Option("--market", help="Of Binance: usdm (futures) or spot.")] = "usdm",
    capture: Annotated[
        Path | None, typer.Option("--capture", help="Folder for the raw messages, which `replay` reads.")
    ] = None,
    option_books: Annotated[
        bool, typer.Option("--option-books/--no-option-books", help="Of Deribit: books of options beside quotes.")
    ] = True,
    url: Annotated[
        str | None, typer.Option("--url", help="Websocket in place of the venue's own.", show_default=False)
    ] = None,
    rest_url: Annotated[
        str | None, typer.Option("--rest-url", help="Of Binance: REST depth endpoint.", show_default=False)
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="End after so long.", min=0.0)] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the jitter between attempts to connect.")] = 0,
    bootstrap: Bootstrap = None,
    partitions: Partitions = None,
    config: Config = None,
) -> None:
    """Follow a venue and publish to md.events until Ctrl-C, SIGTERM or --seconds.

    A lost connection is opened again, and a book with a gap gets a new snapshot. Messages that cannot be used become
    dead letters. What was captured replays into the same events.
    """
    import asyncio

    from pipeline.edge import Edge, live_session
    from pipeline.kafka import create_topics
    from pipeline.log import KafkaLog
    from pipeline.logging import configure_logging
    from pipeline.source_metrics import watched
    from pipeline.sources.live.outlet import Outlet
    from pipeline.sources.live.session import follow

    settings = settings_of(config, bootstrap=bootstrap, partitions=partitions)
    stage = f"source.{venue.value}"
    configure_logging(settings, stage=stage)
    create_topics(settings)
    log = KafkaLog(settings)
    outlet = Outlet(Edge(log, venue.value, live_session()), on_reject=_dead_letters(log))
    wanted = [symbol for each in symbols for symbol in each.split(",") if symbol]
    common = {"symbols": wanted, "capture": capture, "seed": seed}
    live = (
        _binance(outlet, market=market, ws_url=url, rest_url=rest_url, **common)
        if venue is Venue.BINANCE
        else _deribit(outlet, url=url, option_books=option_books, **common)
    )
    try:
        with watched(settings, stage, lambda: _state(outlet, live, log)) as turn:
            ended_by = asyncio.run(follow(live, seconds, turn=turn))
    finally:
        log.flush()
        _report(outlet, live, log, settings)
    if ended_by == signal.SIGINT:
        raise typer.Exit(130)


def _binance(outlet: Any, **options: Any) -> Any:
    from pipeline.sources.live.binance import BinanceConfig, BinanceLive

    return BinanceLive(BinanceConfig(**options), outlet)


def _deribit(outlet: Any, url: str | None, **options: Any) -> Any:
    from pipeline.sources.live.deribit import WS_URL, DeribitConfig, DeribitLive

    return DeribitLive(DeribitConfig(url=url or WS_URL, **options), outlet)


def _dead_letters(log: Any) -> Any:
    from features.stage import Reject

    def refuse(reject: Any) -> None:
        log.reject(reject.origin, Reject(reject.reason, reject.detail), reject.payload)

    return refuse


def _state(outlet: Any, live: Any, log: Any) -> Any:
    from pipeline.source_metrics import SourceState

    counts = {"messages": outlet.messages, **live.counts}
    return SourceState(outlet.edge.rows, log.rejected, outlet.edge.newest_event_ns, counts, live.clock_offset_ns)


def _report(outlet: Any, live: Any, log: Any, settings: Any) -> None:
    typer.echo(f"{outlet.messages:,} messages, {outlet.edge.rows:,} rows to md.events at {settings.bootstrap}")
    typer.echo(f"counted: {told(live.counts)}")
    typer.echo(f"rejected: {told(log.rejected)}")


source_alternative.register(app)
source_kafka.register(app)

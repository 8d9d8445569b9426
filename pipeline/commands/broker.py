"""``hedgeflow broker``: the embedded Kafka-compatible broker."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from pipeline.commands.options import Config, Partitions, settings_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]hedgeflow broker --port 9092[/bold]")(broker)


def broker(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 9092,
    partitions: Partitions = None,
    config: Config = None,
) -> None:
    """Run the embedded broker on the loopback interface and create the topics.

    It keeps everything in memory: what it holds is gone when it stops.
    """
    from pipeline.broker import EmbeddedBroker
    from pipeline.kafka import create_topics

    # A script's background job ignores Ctrl-C, and SIGTERM would leave the broker's own process behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _leave)
    with EmbeddedBroker(port) as running:
        create_topics(settings_of(config, bootstrap=running.bootstrap, partitions=partitions))
        typer.echo(f"broker at {running.bootstrap} (in memory only); stop with Ctrl-C")
        running.wait()


def _leave(_number: int, _frame: Any) -> None:
    raise SystemExit(0)

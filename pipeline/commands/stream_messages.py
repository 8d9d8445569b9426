"""``hedgeflow stream messages``: features of a user's own JSON messages, without the log of market events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Bootstrap, Config, settings_of
from pipeline.commands.until_signal import run_until_signal


def register(app: typer.Typer) -> None:
    """Add the command to the group ``stream``."""
    app.command(
        name="messages",
        epilog="Examples: [bold]hedgeflow stream messages examples/quote_features.py --topics quotes "
        "--to quotes.features[/bold]; [bold]hedgeflow stream messages examples/trade_bars.py --topics trades "
        "--to trades.bars[/bold]",
    )(messages)


def messages(
    file: Annotated[Path, typer.Argument(help="Python file that declares STAGE: MessageFeatures or MessageBars.")],
    topics: Annotated[str, typer.Option("--topics", help="Topics of JSON to read, by comma.")],
    to: Annotated[str, typer.Option("--to", help="Topic of the rows, Arrow; made where it is missing.")],
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Compute rows of your own JSON messages until Ctrl-C or SIGTERM.

    Each micro-batch is parsed and computed as columns. State and offsets are checkpointed as those of every worker;
    what cannot be used becomes a dead letter. docs/messages.md shows the declarations.
    """
    from pipeline.logging import configure_logging
    from pipeline.messages.worker import make_message_worker

    settings = settings_of(config, bootstrap=bootstrap)
    configure_logging(settings, stage="messages")
    worker = make_message_worker(settings, file, [each for each in topics.split(",") if each], to)
    if run_until_signal(worker):
        raise typer.Exit(130)

"""``hedgeflow``: the command line. Commands import what they need when they run, so ``--help`` is quick."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from features.errors import HedgeflowError
from pipeline.commands import (
    backfill,
    broker,
    dead_letters,
    demo,
    doctor,
    features,
    forecast,
    hedge,
    lag,
    lake,
    regimes,
    replay,
    report,
    source,
    sql,
    stream,
    surface,
    topics,
    vol,
)

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="hedgeflow",
    help="Live market data in, hedges out: features, regimes, forecasts and deep hedging over one log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Start here: [bold]hedgeflow demo[/bold]. Exit codes: 2 usage, 3 bad input, 4 configuration, 5 model, "
    "6 broker, 7 lake, 8 a check failed, 130 interrupted.",
)

for module in (demo, replay, backfill, sql, report, doctor, broker, lag):
    module.register(app)
for name, group in (
    ("source", source.app),
    ("stream", stream.app),
    ("features", features.app),
    ("regimes", regimes.app),
    ("forecast", forecast.app),
    ("surface", surface.app),
    ("hedge", hedge.app),
    ("vol", vol.app),
    ("topics", topics.app),
    ("lake", lake.app),
    ("dead-letters", dead_letters.app),
):
    app.add_typer(group, name=name)


class State:
    """Whether tracebacks are wanted."""

    verbose = False


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the traceback of an error, and debug logs.")] = False,
) -> None:
    """Options before the command."""
    State.verbose = verbose


def main() -> None:
    """Run the command line: errors are one line with the remedy, Ctrl-C exits with 130."""
    try:
        app(standalone_mode=True)
    except HedgeflowError as error:
        _fail(error, f"hedgeflow: {error}", error.exit_code)
    except SystemExit as leaving:
        # Typer turns Ctrl-C into this status without a word.
        if leaving.code == EXIT_INTERRUPTED:
            typer.echo("hedgeflow: interrupted", err=True)
        raise
    except BrokenPipeError:
        sys.exit(0)


def _fail(error: BaseException, line: str, code: int) -> None:
    if State.verbose:
        traceback.print_exception(error)
    typer.echo(line, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

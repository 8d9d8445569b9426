"""``hedgeflow report``: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Config, LakePath, settings_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]hedgeflow report hedgeflow-demo[/bold]")(report)


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run: lake, portfolio.json, and report.html when done.")],
    lake: LakePath = None,
    portfolio: Annotated[Path | None, typer.Option("--portfolio", help="Portfolio, if it lies elsewhere.")] = None,
    config: Config = None,
) -> None:
    """Write report.html: regimes, books, surface, forecast and hedges, out of sample, from the lake alone."""
    from pipeline.portfolios import read_limits
    from pipeline.report.build import REPORT_FILE, evaluate, write_report

    held = portfolio or folder / "portfolio.json"
    settings = settings_of(config, lake=lake or folder / "lake", portfolio=held)
    evaluation = evaluate(folder, settings.lake, settings.portfolio, read_limits(settings.limits))
    typer.echo(str(write_report(evaluation, folder / REPORT_FILE)))

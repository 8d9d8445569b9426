"""``hedgeflow demo``: the whole way, once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import Config, Seed


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]hedgeflow demo[/bold]; [bold]hedgeflow demo --minutes 40 --seed 7[/bold]; "
        "[bold]hedgeflow demo --data ../shared/data --minutes 5[/bold]"
    )(demo)


def demo(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of recorded data; without it the simulated exchange.", show_default=False),
    ] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", help="Market time: half of it to fit on, half to hedge.")
    ] = 30.0,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder for lake, models and report.")] = Path("hedgeflow-demo"),
    bootstrap: Annotated[
        str | None,
        typer.Option("--bootstrap", help="A Kafka of yours instead of the embedded broker.", show_default=False),
    ] = None,
    partitions: Annotated[int, typer.Option("--partitions", help="Partitions of topics keyed by underlying.")] = 2,
    batches: Annotated[int, typer.Option("--policy-batches", help="Steps of the policy's optimizer.")] = 240,
    device: Annotated[str, typer.Option("--device", help="Where the policy is trained: cpu or cuda.")] = "cpu",
    config: Config = None,
) -> None:
    """Simulated or recorded market through Kafka: features, regimes, forecast, hedges, lake, report.

    Exits with 8 if a single streamed row differs from its backfill.
    """
    from rich.console import Console

    from pipeline.demo.closing import print_closing
    from pipeline.demo.run import DemoOptions, run_demo
    from pipeline.portfolios import read_limits
    from pipeline.report.build import REPORT_FILE, evaluate, write_report

    console = Console()
    options = DemoOptions(
        data, minutes, seed, out, bootstrap, partitions, policy_batches=batches, device=device, config=config
    )
    run = run_demo(options, console)
    limits = read_limits(run.settings.limits)
    evaluation = evaluate(out, run.settings.lake, run.settings.portfolio, limits)
    report = write_report(evaluation, out / REPORT_FILE)
    print_closing(console, run, evaluation, report)
    if run.differing:
        raise typer.Exit(8)

"""``hedgeflow stream``: the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.options import Bootstrap, Config, LakePath, Models, Partitions, settings_of
from pipeline.commands.until_signal import run_until_signal

app = typer.Typer(help="Run the streaming workers.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Run the streaming workers."""


@app.command(
    epilog="Examples: [bold]hedgeflow stream run features --bootstrap localhost:9092[/bold]; "
    "[bold]hedgeflow stream run lake --lake ./lake[/bold]"
)
def run(
    stage: Annotated[str, typer.Argument(help="features | universe | signals | own | decisions | lake")],
    bootstrap: Bootstrap = None,
    lake: LakePath = None,
    models: Models = None,
    portfolio: Annotated[
        Path | None, typer.Option("--portfolio", help="What the decisions stage hedges, as JSON.")
    ] = None,
    partitions: Partitions = None,
    config: Config = None,
) -> None:
    """Run one stage until Ctrl-C or SIGTERM; it then finishes, checkpoints and leaves.

    Killed with -9 instead, it goes on from its last checkpoint when it is started again: nothing is lost, nothing
    counts twice.
    """
    from pipeline.logging import configure_logging

    settings = settings_of(
        config, bootstrap=bootstrap, lake=lake, models=models, portfolio=portfolio, partitions=partitions
    )
    configure_logging()
    worker = _worker(stage, settings)
    interrupted = run_until_signal(worker)
    if interrupted:
        raise typer.Exit(130)


def _worker(stage: str, settings: Any) -> Any:
    if stage == "lake":
        from pipeline.lake_writer import LakeWriter

        return LakeWriter(settings)
    if stage == "decisions":
        from pipeline.decisions import DecisionWorker

        return DecisionWorker(settings)
    from pipeline.stages import stage_spec
    from pipeline.worker import Worker

    return Worker(settings, stage_spec(stage, settings))

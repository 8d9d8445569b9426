"""``hedgeflow hedge``: train the policy, explain decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.manifests import print_manifest
from pipeline.commands.options import Config, LakePath, Models, Seed, settings_of
from pipeline.commands.regimes import Until

app = typer.Typer(help="Train the hedging policy, and explain what it decided.", no_args_is_help=True)


@app.command(
    epilog="Example: [bold]hedgeflow hedge train --lake hedgeflow-demo/lake --models ./models "
    "--portfolio hedgeflow-demo/portfolio.json[/bold]"
)
def train(
    lake: LakePath = None,
    models: Models = None,
    portfolio: Annotated[Path | None, typer.Option("--portfolio", help="The portfolio to hedge, as JSON.")] = None,
    until: Until = None,
    batches: Annotated[int, typer.Option(help="Steps of the optimizer.")] = 240,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Seed = 0,
    config: Config = None,
) -> None:
    """Train a no-trade-band policy by pathwise gradients on expected shortfall; needs fitted regimes in --models."""
    from rich.progress import Progress

    from hedger.training import TrainingConfig
    from pipeline.fit import train_policy_artifact
    from pipeline.portfolios import read_portfolio

    settings = settings_of(config, lake=lake, models=models, portfolio=portfolio)
    wanted = TrainingConfig(n_batches=batches, device=device, seed=seed)
    with Progress(transient=True) as bar:
        task = bar.add_task("training", total=1.0)
        manifest = train_policy_artifact(
            settings.lake,
            settings.models,
            read_portfolio(settings.portfolio),
            until,
            wanted,
            lambda share, _text: bar.update(task, completed=share),
        )
    print_manifest(manifest)

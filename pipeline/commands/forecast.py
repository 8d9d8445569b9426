"""``hedgeflow forecast``: fit the variance forecast."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.manifests import print_manifest
from pipeline.commands.options import Config, LakePath, Models, Seed, settings_of
from pipeline.commands.regimes import Until

app = typer.Typer(help="Forecast realized variance.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Forecast realized variance."""


@app.command(epilog="Example: [bold]hedgeflow forecast fit --lake hedgeflow-demo/lake --models ./models[/bold]")
def fit(
    lake: LakePath = None,
    models: Models = None,
    until: Until = None,
    horizon: Annotated[int, typer.Option("--horizon-bars", help="Bars of the interval that is forecast.")] = 30,
    seed: Seed = 0,
    config: Config = None,
) -> None:
    """Fit HAR, and LightGBM on its residual; out-of-sample QLIKE of both on the purged tail of the rows."""
    from pipeline.fit import fit_forecast_artifact

    settings = settings_of(config, lake=lake, models=models)
    print_manifest(fit_forecast_artifact(settings, until, seed, horizon))

"""``hedgeflow regimes``: fit and show the regime model."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.manifests import print_manifest
from pipeline.commands.options import Config, LakePath, Models, Seed, settings_of

app = typer.Typer(help="Fit and show the market's regimes.", no_args_is_help=True)

Until = Annotated[
    int | None, typer.Option("--until", help="Use rows known by this time (ns UTC); later ones are not looked at.")
]


@app.command(epilog="Example: [bold]hedgeflow regimes fit --lake hedgeflow-demo/lake --models ./models[/bold]")
def fit(
    lake: LakePath = None, models: Models = None, until: Until = None, seed: Seed = 0, config: Config = None
) -> None:
    """Fit three regimes (hidden Markov model and K-Means) on the lake's universe rows."""
    from pipeline.fit import fit_regimes_artifact

    settings = settings_of(config, lake=lake, models=models)
    print_manifest(fit_regimes_artifact(settings, until, seed))


@app.command(epilog="Example: [bold]hedgeflow regimes show --models hedgeflow-demo/models[/bold]")
def show(models: Models = None, config: Config = None) -> None:
    """What a fitted model says of each regime: how long it lasts, and where its observations lie."""
    from rich.console import Console
    from rich.table import Table

    from features.signals import REGIMES
    from pipeline.model_folders import REGIMES_FOLDER
    from pipeline.user_features import catalogue_of
    from regimes.model import load_regimes

    settings = settings_of(config, models=models)
    model = load_regimes(settings.models / REGIMES_FOLDER, catalogue_of(settings).hash)
    names = [" + ".join(observation.columns) for observation in model.observations]
    table = Table("regime", "lasts (bars)", *names, title=f"regimes {model.version}, means in standard deviations")
    for k, name in enumerate(REGIMES):
        lasts = 1.0 / max(1e-12, 1.0 - float(model.markov.transition[k, k]))
        table.add_row(name, f"{lasts:.0f}", *(f"{mean:+.2f}" for mean in model.markov.mean[k]))
    Console().print(table)

"""``hedgeflow features``: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands import text
from pipeline.commands.options import Config, settings_of

app = typer.Typer(help="The catalogue of features.", no_args_is_help=True)
text.register(app)


@app.command("list", epilog="Example: [bold]hedgeflow features list[/bold]")
def list_features(config: Config = None) -> None:
    """Every feature with its unit and window, your own among them."""
    from rich.console import Console
    from rich.table import Table

    from features.feature import window_name
    from pipeline.user_features import catalogue_of

    catalogue = catalogue_of(settings_of(config))
    table = Table(
        "feature", "unit", "window", "from", title=f"catalogue {catalogue.hash}: {len(catalogue.all)} features"
    )
    for feature in catalogue.all:
        window = window_name(feature.window_ns) if feature.window_ns else "the bar"
        table.add_row(feature.name, feature.unit, window, ", ".join(feature.inputs))
    Console().print(table)


@app.command(epilog="Example: [bold]hedgeflow features show order_flow_imbalance[/bold]")
def show(name: Annotated[str, typer.Argument(help="Name of a feature.")], config: Config = None) -> None:
    """One feature: its formula, its reference, and when it is null."""
    from difflib import get_close_matches

    from features.declared import own_activity
    from features.errors import ConfigError
    from features.feature import window_name
    from pipeline.user_features import catalogue_of

    catalogue = catalogue_of(settings_of(config))
    known = {feature.name: feature for feature in (*own_activity.FEATURES, *catalogue.all)}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "`hedgeflow features list` shows them."
        raise ConfigError(f"There is no feature {name!r}.", hint)
    feature = known[name]
    lines = {
        "unit": feature.unit,
        "window": window_name(feature.window_ns) if feature.window_ns else "the bar",
        "formula": feature.formula,
        "null when": feature.null_when,
        "from": ", ".join(feature.inputs),
        "computed by": feature.implementation,
        "reference": feature.reference,
    }
    typer.echo(feature.name)
    for label, value in lines.items():
        if value:
            typer.echo(f"  {label:<12} {value}")


@app.command(epilog="Example: [bold]hedgeflow features document --config my.toml > features.md[/bold]")
def document(config: Config = None) -> None:
    """The whole catalogue as Markdown: what docs/features.md holds for the features of the house."""
    from pipeline.feature_document import feature_document
    from pipeline.user_features import catalogue_of

    typer.echo(feature_document(catalogue_of(settings_of(config))), nl=False)

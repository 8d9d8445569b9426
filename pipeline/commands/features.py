"""``hedgeflow features``: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="The catalogue of features.", no_args_is_help=True)


@app.command("list", epilog="Example: [bold]hedgeflow features list[/bold]")
def list_features() -> None:
    """Every feature with its unit and window."""
    from rich.console import Console
    from rich.table import Table

    from features.catalog import FEATURES, UNIVERSE_FEATURES, catalogue_hash

    table = Table("feature", "unit", "window", "from", title=f"catalogue {catalogue_hash()}")
    for feature in FEATURES + UNIVERSE_FEATURES:
        window = f"{feature.window_ns / 1e9:g} s" if feature.window_ns else "at bar end"
        table.add_row(feature.name, feature.unit, window, feature.inputs)
    Console().print(table)


@app.command(epilog="Example: [bold]hedgeflow features show order_flow_imbalance[/bold]")
def show(name: Annotated[str, typer.Argument(help="Name of a feature.")]) -> None:
    """One feature: its formula, and when it is null."""
    from difflib import get_close_matches

    from features.catalog import FEATURES, UNIVERSE_FEATURES
    from features.errors import ConfigError

    known = {feature.name: feature for feature in FEATURES + UNIVERSE_FEATURES}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "`hedgeflow features list` shows them."
        raise ConfigError(f"There is no feature {name!r}.", hint)
    feature = known[name]
    typer.echo(f"{feature.name}\n  unit      {feature.unit}\n  formula   {feature.formula}")
    typer.echo(f"  null when {feature.null_when}\n  from      {feature.inputs}")

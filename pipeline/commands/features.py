"""``hedgeflow features``: the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands import text
from pipeline.commands.options import Config, settings_of

if TYPE_CHECKING:
    from features.catalog import Catalogue
    from features.feature import Feature

app = typer.Typer(help="The catalogue of features.", no_args_is_help=True)
text.register(app)


@app.command("list", epilog="Example: [bold]hedgeflow features list[/bold]")
def list_features(config: Config = None) -> None:
    """Every feature with its unit and window, by table of the lake; your own among them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pipeline.user_features import catalogue_of

    catalogue = catalogue_of(settings_of(config))
    # A name is whole however narrow the terminal: it is what one copies.
    table = Table(box=box.SIMPLE, title=f"catalogue {catalogue.hash}: {len(catalogue.all)} features of the market")
    tables = _tables(catalogue)
    table.add_column(
        "feature", no_wrap=True, min_width=max(len(each.name) for all_ in tables.values() for each in all_)
    )
    table.add_column("unit", overflow="fold")
    table.add_column("window", no_wrap=True, min_width=len("the bar"))
    table.add_column("from", overflow="fold")
    for name, features in tables.items():
        table.add_row(f"[bold]table {name}[/bold]")
        for feature in features:
            table.add_row(feature.name, feature.unit, _window(feature), ", ".join(feature.inputs))
        table.add_section()
    Console().print(table)


def _tables(catalogue: Catalogue) -> dict[str, tuple[Feature, ...]]:
    """What each table of the lake adds; ``universe`` has the columns of ``features``, too."""
    from features.catalog import UNIVERSE_FEATURES
    from features.declared import own_activity

    return {
        "features": catalogue.features,
        "universe (those above, and)": UNIVERSE_FEATURES,
        "own_activity": own_activity.FEATURES,
    }


def _window(feature: Feature) -> str:
    from features.feature import window_name

    return window_name(feature.window_ns) if feature.window_ns else "the bar"


@app.command(epilog="Example: [bold]hedgeflow features show order_flow_imbalance[/bold]")
def show(name: Annotated[str, typer.Argument(help="Name of a feature.")], config: Config = None) -> None:
    """One feature: its formula, its reference, and when it is null."""
    from difflib import get_close_matches

    from features.errors import ConfigError
    from pipeline.user_features import catalogue_of

    catalogue = catalogue_of(settings_of(config))
    tables = _tables(catalogue)
    known = {feature.name: feature for name in reversed(tables) for feature in tables[name]}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "`hedgeflow features list` shows them."
        raise ConfigError(f"There is no feature {name!r}.", hint)
    feature = known[name]
    lines = {
        "unit": feature.unit,
        "window": _window(feature),
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

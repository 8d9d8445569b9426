"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings as TOML; HEDGEFLOW_* in the environment wins over it.")
]
Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap", help="host:port of the Kafka broker.", show_default=False)
]
LakePath = Annotated[str | None, typer.Option("--lake", help="Folder or URL of the lake.", show_default=False)]
Models = Annotated[Path | None, typer.Option("--models", help="Folder of the model artifacts.", show_default=False)]
Partitions = Annotated[
    int | None, typer.Option("--partitions", help="Partitions of the topics keyed by underlying.", show_default=False)
]
Format = Annotated[Literal["table", "json"], typer.Option("--format", help="How to print it.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything that is random.")]


def settings_of(config: Path | None, **overrides: Any) -> Any:
    """The settings in force: defaults, file, environment, then the options that were given."""
    from pipeline.settings import load_settings

    return load_settings(config, **overrides)

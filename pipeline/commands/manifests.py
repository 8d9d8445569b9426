"""How commands show a model that they have made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.artifact import Manifest


def print_manifest(manifest: Manifest) -> None:
    """Its version, what it was fitted on, and its metrics."""
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "value")
    for name, value in manifest.metrics.items():
        table.add_row(name, f"{value:.6g}")
    console = Console()
    console.print(f"{manifest.kind} {manifest.version}", highlight=False)
    console.print(table)
    for name, value in manifest.data.items():
        console.print(f"{name}: {value}", highlight=False, markup=False)

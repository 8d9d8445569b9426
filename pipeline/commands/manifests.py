"""How commands show a model that they have made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.artifact import Manifest


def print_manifest(manifest: Manifest) -> None:
    """Its version, what it was fitted on, and its metrics."""
    from rich.console import Console
    from rich.table import Table

    data = ", ".join(f"{name} {value}" for name, value in manifest.data.items())
    table = Table("metric", "value", title=f"{manifest.kind} {manifest.version}", caption=data)
    for name, value in manifest.metrics.items():
        table.add_row(name, f"{value:.6g}")
    Console().print(table)

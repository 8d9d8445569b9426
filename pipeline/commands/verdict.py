"""A line of ``hedgeflow doctor``."""

from __future__ import annotations

WARN, FAIL, FINE = "[yellow]look[/]", "[red]fails[/]", "[green]fine[/]"

Finding = tuple[str, str, str, str]
"""What was checked, the verdict, what was found, and what to do."""

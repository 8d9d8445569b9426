"""How data moves: sources, codecs, Kafka workers, checkpoints, lake, backfill, query, command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.query import open_lake

__all__ = ["open_lake"]


def __getattr__(name: str) -> Any:
    """Load on first use: ``hedgeflow --help`` needs none of it."""
    if name == "open_lake":
        from pipeline.query import open_lake

        return open_lake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

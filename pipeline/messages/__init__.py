"""Features of a user's own JSON messages, a micro-batch at a time: row by row, or as bars a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.messages.bars import MessageBars
    from pipeline.messages.features import MessageFeatures

__all__ = ["MessageBars", "MessageFeatures"]


def __getattr__(name: str) -> Any:
    """Load what is asked for only then: polars and numba take their time."""
    if name == "MessageBars":
        from pipeline.messages.bars import MessageBars

        return MessageBars
    if name == "MessageFeatures":
        from pipeline.messages.features import MessageFeatures

        return MessageFeatures
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""How commands say what could not be used."""

from __future__ import annotations

from collections.abc import Mapping


def told(counts: Mapping[str, int]) -> str:
    """``reason 12, other 3``, or ``nothing``."""
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items())) or "nothing"

"""What the catalogue says of a feature: everything, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

FLOAT: Final = "float64"
INTEGER: Final = "int64"

ARROW_TYPES: Final = {FLOAT: pa.float64(), INTEGER: pa.int64()}

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the feature rows.

    Args:
        name: of the column, in the field's standard terms; a windowed one ends with its window (``_5m``).
        unit: of the values, ``1`` where they have none.
        formula: what is computed, in plain text.
        null_when: when the value is unknown.
        inputs: kinds of event, or names of other features.
        implementation: dotted name of the function that computes it.
        reference: author, year and equation.
        window_ns: how far back it looks; 0: at the bar's end only.
        dtype: ``FLOAT`` or ``INTEGER``.
    """

    name: str
    unit: str
    formula: str
    null_when: str
    inputs: tuple[str, ...]
    implementation: str
    reference: str = ""
    window_ns: int = 0
    dtype: str = FLOAT


def window_name(window_ns: int) -> str:
    """A window as names write it: ``10s``, ``1m``, ``5m``, ``1h``."""
    for unit, length in (("h", 60 * MINUTE), ("m", MINUTE), ("s", SECOND)):
        if window_ns % length == 0:
            return f"{window_ns // length}{unit}"
    return f"{window_ns}ns"

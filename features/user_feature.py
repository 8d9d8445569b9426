"""A feature of a user's own, computed from the columns of the feature row whenever a bar closes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from features.feature import Feature

Array = np.ndarray[Any, Any]

Update: TypeAlias = Callable[[Array, Array], float]
"""``update(inputs, state) -> value``: float64 arrays; NaN is unknown, in inputs and value. It may write ``state``."""


@dataclass(frozen=True)
class UserFeature:
    """A declaration with its function.

    Args:
        feature: ``inputs`` names columns of the feature row that stand before it; their values are ``inputs[0]``,
            ``inputs[1]`` ... of ``update``.
        update: called once a bar and instrument, in order. It must depend on nothing but its arguments: no clock, no
            random numbers, no module state. Then it gives the same bits live, in backfill and after a restart.
        state_size: numbers that ``update`` remembers from bar to bar, an instrument; they start as NaN.
        source_hash: of the code, part of the catalogue's hash; whoever loads the file sets it.
    """

    feature: Feature
    update: Update
    state_size: int = 0
    source_hash: str = ""

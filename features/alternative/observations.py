"""The last observations of one number: its level, change and z-score."""

from __future__ import annotations

import math
from typing import Any

from features.declared.alternative import required


class Observations:
    """The newest observations of a number, by the time at which each happened.

    An observation with the time of the newest one revises it; an older one is left out, for what came after it has
    been emitted already. Both happen when feeds correct or repeat themselves.

    Args:
        before: how many observations before the newest one are kept.
    """

    def __init__(self, before: int) -> None:
        self._before = before
        self._values: list[float] = []
        self._ts_event = 0

    def add(self, value: float, ts_event: int) -> None:
        """Take one finite observation."""
        if self._values and ts_event < self._ts_event:
            return
        if self._values and ts_event == self._ts_event:
            self._values[-1] = value
            return
        self._values = [*self._values[-self._before :], value] if self._before else [value]
        self._ts_event = ts_event

    @property
    def level(self) -> float:
        """The newest; NaN before the first."""
        return self._values[-1] if self._values else math.nan

    @property
    def change(self) -> float:
        """The newest less the one before; NaN before there are two."""
        return finite(self._values[-1] - self._values[-2]) if len(self._values) > 1 else math.nan

    @property
    def zscore(self) -> float:
        """(x - m) / sd against those before x, in two passes from the oldest on; NaN while they are too few or equal.

        Example: 14 after 10, 11, 12, 13 (m = 11.5, sd = sqrt(5 / 3)) is 1.9365 standard deviations high.
        """
        *earlier, x = self._values or [math.nan]
        if len(earlier) < required(self._before) or min(earlier) == max(earlier):
            return math.nan
        total = 0.0
        for value in earlier:
            total += value
        mean = total / len(earlier)
        squares = 0.0
        for value in earlier:
            squares += (value - mean) * (value - mean)
        sd = math.sqrt(squares / (len(earlier) - 1))
        return finite((x - mean) / sd) if sd > 0.0 else math.nan

    def snapshot(self) -> list[Any]:
        """The state, exactly."""
        return [self._ts_event, list(self._values)]

    def restore(self, state: list[Any]) -> None:
        """Continue where :meth:`snapshot` was taken."""
        self._ts_event, values = state
        self._values = list(values)


def finite(value: float) -> float:
    """NaN, unknown, where numbers near the largest of floats overflowed."""
    return value if math.isfinite(value) else math.nan

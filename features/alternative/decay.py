"""Means and rates with an exponential kernel, which decay at items only (DESIGN 3)."""

from __future__ import annotations

import math
from typing import Any, Final

from features.declared.alternative import HOUR

_NEVER: Final = -1


class DecayedMean:
    """sum_i exp(-(t - a_i) / tau) x_i / sum_i exp(-(t - a_i) / tau).

    The factor exp(-(t - a_n) / tau) since the last item n stands above and below the line: between two items the mean
    does not move, and nothing is computed when it is read.

    Args:
        tau_ns: the kernel's time constant.
    """

    def __init__(self, tau_ns: int) -> None:
        self._tau_ns = tau_ns
        self._at_ns = _NEVER
        self._weight = 0.0
        self._total = 0.0

    def add(self, x: float, at_ns: int) -> None:
        """Take one observation; ``at_ns`` does not decrease."""
        kept = 0.0 if self._at_ns == _NEVER else math.exp(-(at_ns - self._at_ns) / self._tau_ns)
        self._weight = self._weight * kept + 1.0
        self._total = self._total * kept + x
        self._at_ns = at_ns

    @property
    def mean(self) -> float:
        """NaN before the first observation."""
        return self._total / self._weight if self._weight else math.nan

    def snapshot(self) -> list[Any]:
        """The state, exactly."""
        return [self._at_ns, self._weight, self._total]

    def restore(self, state: list[Any]) -> None:
        """Continue where :meth:`snapshot` was taken."""
        self._at_ns, self._weight, self._total = state


class DecayedRate:
    """sum_i exp(-(t - a_i) / tau) / tau in items per hour.

    Args:
        tau_ns: the kernel's time constant.
    """

    def __init__(self, tau_ns: int) -> None:
        self._tau_ns = tau_ns
        self._at_ns = _NEVER
        self._weight = 0.0

    def add(self, at_ns: int) -> None:
        """Count one item; ``at_ns`` does not decrease."""
        self._weight = self._decayed(at_ns) + 1.0
        self._at_ns = at_ns

    def per_hour(self, end_ns: int) -> float:
        """At ``end_ns``, from the last item in one step; NaN before the first."""
        return math.nan if self._at_ns == _NEVER else self._decayed(end_ns) * (HOUR / self._tau_ns)

    def snapshot(self) -> list[Any]:
        """The state, exactly."""
        return [self._at_ns, self._weight]

    def restore(self, state: list[Any]) -> None:
        """Continue where :meth:`snapshot` was taken."""
        self._at_ns, self._weight = state

    def _decayed(self, at_ns: int) -> float:
        if self._at_ns == _NEVER:
            return 0.0
        return self._weight * math.exp(-(at_ns - self._at_ns) / self._tau_ns)

"""SVI, a smile of five numbers: w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + s^2)) (Gatheral 2004).

Butterflies are looked for at points: on a grid that reaches beyond the quotes, far beyond it, and about the bend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from features.kernel import kernel
from features.surface.model import FloatArray

Array = np.ndarray[Any, Any]

GRID: Final = 41
FAR: Final = 24
"""Points on either side beyond the grid, each ``_GROWTH`` further out: a wing that looks free at four deviations may
bend the price of a call upwards at six."""
_GROWTH: Final = 1.1
NEAR: Final = 16
"""Points on either side of m, from s / 2 on, each 1.6 times as far: what is beside a narrow bend falls into the grid's
gaps."""
CHECKS: Final = GRID + 2 * (FAR + NEAR)
REACH: Final = 4.0
"""How far the grid goes at least, in standard deviations."""


@kernel
def svi_variance(a: float, b: float, rho: float, m: float, s: float, k: float) -> float:
    """Total variance at log-moneyness k."""
    x = k - m
    return a + b * (rho * x + math.sqrt(x * x + s * s))


@kernel
def svi_butterfly(a: float, b: float, rho: float, m: float, s: float, k: float) -> float:
    """Durrleman's g at k; minus infinity where the variance is not positive."""
    x = k - m
    root = math.sqrt(x * x + s * s)
    w = a + b * (rho * x + root)
    if not w > 0.0:
        return -math.inf
    first = b * (rho + x / root)
    second = b * s * s / (root * root * root)
    level = 1.0 - k * first / (2.0 * w)
    return level * level - 0.25 * first * first * (1.0 / w + 0.25) + 0.5 * second


@kernel
def grid_ends(k: Array, w: Array) -> tuple[float, float]:
    """Where the grid of a slice begins and ends: at its quotes, or ``REACH`` deviations out."""
    nearest = 0
    for i in range(len(k)):
        if abs(k[i]) < abs(k[nearest]):
            nearest = i
    reach = REACH * math.sqrt(w[nearest])
    return min(k[0], -reach), max(k[len(k) - 1], reach)


@kernel
def lowest_butterfly(raw: Array, low: float, high: float) -> float:
    """Durrleman's g of a, b, rho, m, s: the least of where a slice is checked."""
    found = math.inf
    for i in range(CHECKS):
        found = min(found, svi_butterfly(raw[0], raw[1], raw[2], raw[3], raw[4], check_point(raw, low, high, i)))
    return found


@kernel
def check_point(raw: Array, low: float, high: float, i: int) -> float:
    """Where a slice is checked: on the grid, ever further out beyond it, and about its own bend."""
    if i < GRID:
        return low + (high - low) * i / (GRID - 1)
    side = -1.0 if i % 2 == 0 else 1.0
    at = (i - GRID) // 2
    if at < FAR:
        return (low if side < 0.0 else high) * _GROWTH ** (at + 1)
    return float(raw[3] + side * 0.5 * raw[4] * 1.6 ** (at - FAR))


@dataclass(frozen=True, slots=True)
class SVI:
    """A smile w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + s^2))."""

    a: float
    b: float
    rho: float
    m: float
    s: float

    def total_variance(self, k: ArrayLike) -> FloatArray:
        """w(k), of the shape of k."""
        x = np.asarray(k, np.float64) - self.m
        found: FloatArray = self.a + self.b * (self.rho * x + np.sqrt(x * x + self.s * self.s))
        return found

    def slopes(self, k: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """w with w' = b (rho + x / r) and w'' = b s^2 / r^3, where x = k - m and r = sqrt(x^2 + s^2)."""
        x = np.asarray(k, np.float64) - self.m
        root = np.maximum(np.sqrt(x * x + self.s * self.s), 1e-150)
        first, second = self.b * (self.rho + x / root), self.b * self.s * (self.s / root) / root**2
        return self.a + self.b * (self.rho * x + root), first, second

    @property
    def bend(self) -> tuple[float, float]:
        """m and s."""
        return self.m, self.s

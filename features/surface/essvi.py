r"""eSSVI: a smile of three numbers an expiry, and a surface of them that has no static arbitrage by construction.

A slice has the total variance

    w(k) = (theta + rho psi k + sqrt((psi k + theta rho)^2 + theta^2 (1 - rho^2))) / 2

(Hendriks and Martini 2019, "The extended SSVI volatility surface", eq. 2), with theta the total variance at the money.
It is written here in its wings, right = psi (1 + rho) and left = psi (1 - rho), the slopes of 2 w far out to either
side, because in them what excludes arbitrage is nearly a box:

- no butterfly: right, left < 4 and psi max(right, left) <= 4 theta (Gatheral and Jacquier 2014, theorem 4.2);
- no calendar between t1 < t2: theta, right and left do not decrease, and psi / theta does not increase (Hendriks and
  Martini 2019, prop. 3.5; Corbetta, Cohort, Laachir and Martini 2019, "Robust calibration and arbitrage-free
  interpolation of SSVI slices").

Between expiries theta, right and left are linear in time. That keeps all of these: psi / theta lies between its ends,
and psi max(right, left) is convex in time where 4 theta is linear. Before the first expiry all three scale with time,
so the smile keeps its volatilities; beyond the last one theta goes on with flat volatility and the wings stay.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.kernel import kernel

Array = np.ndarray[Any, Any]

MAX_WING: Final = 3.999
"""Wings below 4: at 4 the density far out would vanish too slowly (Lee 2004)."""


@kernel
def essvi_variance(theta: float, right: float, left: float, k: float) -> float:
    """Total variance of a slice at log-moneyness k."""
    psi, skew = 0.5 * (right + left), 0.5 * (right - left)
    root = math.sqrt(max(psi * psi * k * k + 2.0 * theta * skew * k + theta * theta, 0.0))
    return 0.5 * (theta + skew * k + root)


@kernel
def essvi_slopes(theta: float, right: float, left: float, k: float) -> tuple[float, float, float]:
    """Total variance with its first two derivatives by k."""
    psi, skew = 0.5 * (right + left), 0.5 * (right - left)
    root = math.sqrt(max(psi * psi * k * k + 2.0 * theta * skew * k + theta * theta, 0.0))
    if root == 0.0:
        return 0.5 * theta, 0.5 * skew, 0.0
    inner = psi * psi * k + theta * skew
    first = 0.5 * (skew + inner / root)
    second = 0.5 * theta * theta * (psi * psi - skew * skew) / (root * root * root)
    return 0.5 * (theta + skew * k + root), first, second


@kernel
def no_butterfly(theta: float, right: float, left: float) -> bool:
    """Whether the slice has none, by the sufficient condition."""
    wing = max(right, left)
    return bool(theta > 0.0 and min(right, left) > 0.0 and wing < 4.0 and 0.5 * (right + left) * wing <= 4.0 * theta)


@kernel
def no_calendar(theta1: float, right1: float, left1: float, theta2: float, right2: float, left2: float) -> bool:
    """Whether the second slice lies nowhere below the first, by the sufficient condition."""
    ordered = theta2 >= theta1 and right2 >= right1 and left2 >= left1
    return bool(ordered and (right2 + left2) * theta1 <= (right1 + left1) * theta2)


@kernel
def essvi_at(years_E: Array, slice_E3: Array, years: float) -> tuple[float, float, float]:
    """(theta, right, left) of the surface at a time to expiry; NaN without any slice.

    Args:
        years_E: times to expiry of the slices, increasing, in years; shape (E,).
        slice_E3: theta, right, left of each; shape (E, 3).
        years: at which it is wanted.
    """
    last = len(years_E) - 1
    if last < 0 or not years > 0.0:
        return math.nan, math.nan, math.nan
    if years <= years_E[0]:
        share = years / years_E[0]
        return share * slice_E3[0, 0], share * slice_E3[0, 1], share * slice_E3[0, 2]
    if years >= years_E[last]:
        return slice_E3[last, 0] * (years / years_E[last]), slice_E3[last, 1], slice_E3[last, 2]
    at = 1
    while years_E[at] < years:
        at += 1
    share = (years - years_E[at - 1]) / (years_E[at] - years_E[at - 1])
    before, after = slice_E3[at - 1], slice_E3[at]
    return (
        before[0] + share * (after[0] - before[0]),
        before[1] + share * (after[1] - before[1]),
        before[2] + share * (after[2] - before[2]),
    )


@kernel
def essvi_like(years_E: Array, slice_E3: Array, years: float) -> tuple[float, float, float]:
    """What a slice at some time may look like: :func:`essvi_at` between slices, beyond them the nearest one's shape.

    Its volatility at the money stays, and its wings go with its deviation: the smile is the same in deviations. Such a
    slice may cross others; it is where a fit begins.
    """
    last = len(years_E) - 1
    if last < 0 or not years > 0.0:
        return math.nan, math.nan, math.nan
    if years_E[0] < years < years_E[last]:
        return essvi_at(years_E, slice_E3, years)
    nearest = 0 if years <= years_E[0] else last
    share = years / years_E[nearest]
    root = math.sqrt(share)
    theta, right, left = slice_E3[nearest]
    return theta * share, min(right * root, MAX_WING), min(left * root, MAX_WING)


@kernel
def essvi_volatility(years_E: Array, slice_E3: Array, k: float, years: float) -> float:
    """Implied volatility of the surface, 1 / sqrt(year); NaN without any slice."""
    theta, right, left = essvi_at(years_E, slice_E3, years)
    return math.sqrt(essvi_variance(theta, right, left, k) / years) if years > 0.0 else math.nan

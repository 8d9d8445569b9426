"""Features of a surface: closed forms where there are some, scipy's roots and integrals where there are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from features.surface.black import black_price
from features.surface.slices import variance_at
from features.surface.streamed_features import (
    DAYS,
    NAMES,
    surface_features_kernel,
    variance_swap_level,
    volatility_at_delta,
)

Array = np.ndarray[Any, Any]

MONTH = 30 / 365
YEARS = np.array([7, 30, 60, 90, 180]) / 365
NO_SVI = np.full((5, 5), math.nan)
THETA = 0.4 * YEARS / (1 + 0.3 * YEARS)
"""At-the-money total variances of an SSVI surface with phi = 1 / sqrt(theta (1 + theta))."""
RHO = -0.3
PSI = THETA / np.sqrt(THETA * (1 + THETA))
SSVI = np.column_stack([THETA, PSI * (1 + RHO), PSI * (1 - RHO)])
FLAT = np.column_stack([0.36 * YEARS, *np.zeros((4, 5))])
"""SVI slices of 60 % volatility."""
FLAT[:, 4] = 0.1


def features_of(years: Array, essvi: Array, svi: Array) -> dict[str, float]:
    out = np.empty(len(NAMES))
    surface_features_kernel(years, essvi, svi, out)
    return dict(zip(NAMES, out.tolist(), strict=True))


def test_a_flat_surface() -> None:
    found = features_of(YEARS, SSVI, FLAT)
    level = {name for name in NAMES if name.startswith(("atm_iv", "forward_iv", "variance_swap"))}
    for name, value in found.items():
        # The second difference at a step of 1e-3 has the rounding of 1e-16 over its square.
        close = {"smile_curvature_30d": 1e-9, "variance_swap_7d": 1e-8, "variance_swap_30d": 1e-8}.get(name, 1e-12)
        assert value == pytest.approx(0.6 if name in level else 0.0, abs=close), name


def test_closed_forms_of_ssvi() -> None:
    """w'(0) = rho psi and w''(0) = psi^2 (1 - rho^2) / (2 theta); s = sqrt(w / T)."""
    found = features_of(YEARS, SSVI, NO_SVI)
    atm = np.sqrt(THETA / YEARS)
    for days, expected in zip(DAYS, atm.tolist(), strict=True):
        assert found[f"atm_iv_{days}d"] == pytest.approx(expected, rel=1e-14)
    s, psi, theta = atm[1], PSI[1], THETA[1]
    slope = RHO * psi / (2 * s * MONTH)
    curvature = psi**2 * (1 - RHO**2) / (4 * theta * s * MONTH) - slope**2 / s
    # Central differences at 1e-3 of a smile whose width is 0.16: right to its square, 4e-5.
    assert found["skew_slope_30d"] == pytest.approx(slope, rel=1e-4)
    assert found["smile_curvature_30d"] == pytest.approx(curvature, rel=1e-3)
    assert found["term_slope"] == pytest.approx(atm[3] - atm[0], rel=1e-12)
    assert found["term_curvature"] == pytest.approx(atm[1] - 0.5 * (atm[0] + atm[3]), rel=1e-12)
    forward = math.sqrt((THETA[3] - THETA[1]) / (60 / 365))
    assert found["forward_iv_30d_90d"] == pytest.approx(forward, rel=1e-12)


def _at_delta(delta: float, years: float) -> float:
    def volatility(k: float) -> float:
        return math.sqrt(variance_at(YEARS, SSVI, NO_SVI, k, years) / years)

    def excess(k: float) -> float:
        deviation = volatility(k) * math.sqrt(years)
        return float(norm.cdf(0.5 * deviation - k / deviation)) - delta

    return volatility(float(brentq(excess, -4.0, 4.0, xtol=1e-15)))


@pytest.mark.parametrize("years", [1 / 365, 30 / 365, 45 / 365, 1.0])
@pytest.mark.parametrize("delta", [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_the_volatility_at_a_delta_is_the_root(delta: float, years: float) -> None:
    found = volatility_at_delta(YEARS, SSVI, NO_SVI, years, delta)
    assert found == pytest.approx(_at_delta(delta, years), abs=1e-13)


def test_risk_reversals_and_butterflies() -> None:
    found = features_of(YEARS, SSVI, NO_SVI)
    for name, delta in (("25d", 0.25), ("10d", 0.1)):
        call, put = _at_delta(delta, MONTH), _at_delta(1 - delta, MONTH)
        assert found[f"risk_reversal_{name}"] == pytest.approx(call - put, abs=1e-12)
        assert found[f"butterfly_{name}"] == pytest.approx(0.5 * (call + put) - found["atm_iv_30d"], abs=1e-12)
    assert found["risk_reversal_10d"] < found["risk_reversal_25d"] < 0.0 < found["butterfly_25d"]


@pytest.mark.parametrize("years", [7 / 365, 30 / 365, 180 / 365])
def test_the_variance_swap_is_the_integral_of_its_options(years: float) -> None:
    def option(k: float) -> float:
        volatility = math.sqrt(variance_at(YEARS, SSVI, NO_SVI, k, years) / years)
        return float(black_price(1.0, math.exp(k), years, volatility, k > 0.0)) * math.exp(-k)

    reach = 60 * math.sqrt(variance_at(YEARS, SSVI, NO_SVI, 0.0, years))
    total = sum(quad(option, *ends, epsabs=1e-12, limit=200)[0] for ends in ((-reach, 0.0), (0.0, reach)))
    found = variance_swap_level(YEARS, SSVI, NO_SVI, years)
    assert found == pytest.approx(math.sqrt(2 / years * total), abs=1e-6)
    assert found > math.sqrt(variance_at(YEARS, SSVI, NO_SVI, 0.0, years) / years)


def test_what_is_unknown() -> None:
    nothing = features_of(YEARS[:0], SSVI[:0], NO_SVI[:0])
    assert all(math.isnan(value) for value in nothing.values())
    one = features_of(YEARS[1:2], SSVI[1:2], NO_SVI[1:2])
    unknown = {name for name, value in one.items() if math.isnan(value)}
    assert unknown == {"term_slope", "term_curvature", "forward_iv_30d_90d"}
    assert one["atm_iv_7d"] == pytest.approx(one["atm_iv_180d"], rel=1e-14)
    falling = SSVI[[1, 3]] * np.array([[1.0], [0.1]])
    crossed = features_of(YEARS[[1, 3]], falling, NO_SVI[:2])
    assert {name for name, value in crossed.items() if math.isnan(value)} == {"forward_iv_30d_90d"}

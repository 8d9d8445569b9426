"""The check of a surface: each arbitrage that was planted is found by either way, and a free surface has none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi

from features.surface.arbitrage import TOLERANCE, WIDTH, check_arbitrage
from features.surface.essvi_surface import ESSVISurface, fit_essvi
from features.surface.heston import Heston
from features.surface.model import ExpiryFit, FitReport, SliceSurface, Smile, SurfaceOf
from features.surface.nonparametric import fit_nonparametric
from features.surface.svi import SVI

FREE = SVI(0.04, 0.1, -0.3, 0.0, 0.2)
VOGT = SVI(-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)
"""Vogt's smile with a butterfly about k = 0.9 (Gatheral and Jacquier 2014, example 3.1)."""

TOO_STEEP = SVI(0.04, 2.0, 0.9, 0.0, 0.1)
"""A right wing of slope 3.8, of at most 2."""


def report_of(years: list[float]) -> FitReport:
    fits = (ExpiryFit(int(each * 365 * 86_400e9), each, 0, 0.0, 0, 0) for each in years)
    return FitReport("planted", tuple(fits), 0.0)


def surface_of(**smiles: Smile) -> SliceSurface:
    """Smiles by the name of their day, such as ``d30``."""
    years = [int(name[1:]) / 365 for name in smiles]
    return SliceSurface(np.array(years), tuple(smiles.values()), report_of(years))


def test_free_surfaces_have_none() -> None:
    later = SVI(0.08, 0.1, -0.3, 0.0, 0.2)
    for surface in (surface_of(d30=FREE), surface_of(d30=FREE, d60=later), surface_of(d30=FREE, d60=FREE)):
        report = check_arbitrage(surface)
        assert report.is_free, report
        assert report.exact is None
    heston = Heston(0.3, 2.0, 0.25, 1.0, -0.3, report_of([0.02, 0.1, 1.0]))
    assert check_arbitrage(heston).is_free
    fitted = check_arbitrage(fit_essvi(points_of(chain_of([2, 7, 30, 365], ssvi))))
    assert fitted.is_free
    assert fitted.exact


def test_a_planted_butterfly_is_found_by_both() -> None:
    report = check_arbitrage(surface_of(d365=VOGT))
    assert not report.is_free
    (by_variance,) = report.by_variance
    by_price = next(each for each in report.by_price if each.kind == "butterfly")
    # It begins at k = 0.65 and is worst beyond the five deviations that are looked at, which end at 0.66.
    for found in (by_variance, by_price):
        assert (found.kind, found.years) == ("butterfly", 1.0)
        assert found.k == pytest.approx(0.655, abs=0.01)
    assert report.count("butterfly") == 1
    assert report.count("calendar") == 0
    # Where the density is negative so far out that nothing is left to make up for it, the call itself rises.
    assert report.count("vertical") == 1


def test_planted_calendars_are_found_by_both() -> None:
    lower = SVI(0.035, 0.1, -0.3, 0.0, 0.2)
    report = check_arbitrage(surface_of(d30=FREE, d60=lower))
    for found in (report.by_variance, report.by_price):
        # From 30 to 45 days, and on to 60: everywhere, so one run each.
        assert [each.kind for each in found] == ["calendar", "calendar"]
        assert [each.years for each in found] == pytest.approx([45 / 365, 60 / 365])
    assert report.by_variance[0].size == pytest.approx(0.0025, rel=1e-6)  # half of the way down
    # Smiles that cross: on one side only, at the side where the later one is lower.
    crossing = check_arbitrage(surface_of(d30=FREE, d60=SVI(0.045, 0.1, -0.6, 0.0, 0.2)))
    assert {each.kind for each in crossing.by_variance + crossing.by_price} == {"calendar"}
    assert all(each.k > 0.0 for each in crossing.by_variance + crossing.by_price)


def test_a_planted_vertical_is_found_by_price() -> None:
    report = check_arbitrage(surface_of(d365=TOO_STEEP))
    assert report.count("vertical") == 1
    # A call that rises again is not convex either: g sees it as a butterfly.
    assert report.count("butterfly") >= 1


def test_what_is_no_more_than_the_tolerance_is_none() -> None:
    for size, free in ((0.5 * TOLERANCE, True), (10 * TOLERANCE, False)):
        later = SVI(FREE.a - size, FREE.b, FREE.rho, FREE.m, FREE.s)
        assert check_arbitrage(surface_of(d30=FREE, d60=later)).is_free == free
    lower = SVI(FREE.a - 1e-5, FREE.b, FREE.rho, FREE.m, FREE.s)
    assert check_arbitrage(surface_of(d30=FREE, d60=lower), tolerance=1e-4).is_free


def test_where_it_looks_is_the_callers_choice() -> None:
    surface = surface_of(d30=FREE, d60=FREE, d365=VOGT)
    assert check_arbitrage(surface, np.array([30 / 365, 60 / 365])).is_free
    found = check_arbitrage(surface, np.array([1.0])).by_variance
    assert [(each.kind, each.years) for each in found] == [("butterfly", 1.0)]
    deviation = float(np.sqrt(VOGT.total_variance(0.0)))
    assert all(abs(each.k) <= WIDTH * deviation for each in found)


def test_essvi_is_checked_exactly() -> None:
    slices, years = np.array([[0.04, 0.2, 0.4], [0.05, 0.3, 0.45]]), np.array([0.1, 0.2])
    good = ESSVISurface(years, slices, report_of([0.1, 0.2]))
    assert check_arbitrage(good).exact
    for spoilt in (slices[::-1].copy(), slices * np.array([1.0, 4.0, 4.0])):
        report = check_arbitrage(ESSVISurface(years, spoilt, report_of([0.1, 0.2])))
        assert report.exact is False


def test_nothing_to_look_at() -> None:
    empty = check_arbitrage(surface_of())
    assert empty.is_free
    assert empty.exact is None


class _Dark:
    """A smile that knows its variance only about the money."""

    def __init__(self, reach: float) -> None:
        self.reach = reach

    def total_variance(self, k: Any) -> Any:
        return np.where(np.abs(k) <= self.reach, 0.04, np.nan)


def test_what_is_unknown_near_the_money_is_not_free() -> None:
    wide = check_arbitrage(surface_of(d30=_Dark(0.7)))
    assert wide.is_free
    assert 0 < wide.unknown < wide.points
    narrow = check_arbitrage(surface_of(d30=_Dark(0.1)))
    assert not narrow.is_free
    assert narrow.count("unknown") == 2  # on either side
    nothing = check_arbitrage(surface_of(d30=_Dark(-1.0)))
    assert [(each.kind, each.k) for each in nothing.by_variance] == [("unknown", 0.0)]


def test_a_variance_that_is_not_positive_is_arbitrage() -> None:
    assert check_arbitrage(surface_of(d30=SVI(-0.01, 0.1, 0.0, 0.0, 0.05))).count("unknown") == 1
    found = check_arbitrage(surface_of(d30=SVI(-0.004, 0.1, 0.0, 0.3, 0.02)))
    assert any(math.isinf(each.size) and each.k == pytest.approx(0.3, abs=0.05) for each in found.by_variance)


def test_a_butterfly_in_a_bend_that_is_narrower_than_the_grid_is_found() -> None:
    narrow = SVI(9.501654e-05, 0.007377271, -0.330668623, -0.010009287, 5.82594e-06)
    (found,) = check_arbitrage(surface_of(d30=narrow)).by_variance
    assert (found.kind, found.size) == ("butterfly", pytest.approx(7.8e-3, rel=0.2))


def test_the_rounding_of_a_large_variance_is_no_vertical() -> None:
    assert check_arbitrage(surface_of(d942=SVI(3.2968, 0.75109, 1.0, -6.702, 1.6755))).is_free


def test_a_grid_of_calls_is_checked_exactly() -> None:
    surface = fit_nonparametric(points_of(chain_of([7, 30], ssvi, noise=0.01)))
    assert check_arbitrage(surface).exact
    first, last = surface.smiles_E
    for spoilt in ((last, first), (replace(first, call_M=first.call_M**1.1), last)):
        assert check_arbitrage(replace(surface, smiles_E=spoilt)).exact is False


def test_heston_is_free_also_where_its_prices_lose_their_digits() -> None:
    surface = Heston(0.25, 1.0, 0.1, 0.2, 0.3, report_of([0.01, 0.1, 1.0]))
    report = check_arbitrage(surface)
    assert report.is_free
    g, error = surface.butterfly(np.linspace(-0.3, 0.3, 7), 0.1)
    differences = SurfaceOf.butterfly(surface, np.linspace(-0.3, 0.3, 7), 0.1)[0]
    np.testing.assert_allclose(g, differences, atol=1e-4)
    assert error.max() < 1e-9

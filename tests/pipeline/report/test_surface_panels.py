"""What the pictures of a surface place where, and which expiries they show."""

from __future__ import annotations

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi

from features.surface import fit_essvi
from pipeline.report.style import new_figure
from pipeline.report.surface_panels import days_of, expiry_name, place_of, residual_panel, smile_panel, spread_out

POINTS = points_of(chain_of((0.4, 1.4, 7.0, 9.0, 30.0, 90.0, 91.0, 365.0), ssvi, deviations=4.0))


def test_all_expiries_are_shown_where_there_is_room() -> None:
    assert spread_out(POINTS, 8) == list(range(8))


@pytest.mark.parametrize("most", range(2, 8))
def test_else_they_are_spread_from_the_first_to_the_last(most: int) -> None:
    shown = spread_out(POINTS, most)
    assert len(set(shown)) == most
    assert (shown[0], shown[-1], shown) == (0, 7, sorted(shown))


def test_names_have_a_digit_where_days_are_few() -> None:
    assert expiry_name(1_770_364_800_000_000_000, 4.9 / 365.0) == "6 Feb 26, 4.9 d"
    assert [days_of(days / 365.0) for days in (0.44, 9.94, 10.2, 364.6)] == ["0.4", "9.9", "10", "365"]


def test_places_rise_with_the_strike_through_zero_at_the_money() -> None:
    k = np.linspace(-3.0, 3.0, 101)
    places = place_of(POINTS, 4, k)
    assert np.all(np.diff(places) > 0.0)
    assert places[50] == 0.0


def test_deltas_are_named_in_order_without_touching() -> None:
    axes = new_figure(4, 3).add_subplot()
    smile_panel(axes, POINTS, 4, {"essvi": fit_essvi(POINTS)}, {"essvi": "#000000"})
    names = [label.get_text() for label in axes.get_xticklabels()]
    order = np.argsort(axes.get_xticks())
    assert [names[i] for i in order] == ["1P", "10P", "25P", "50", "25C", "10C", "1C", "0.1C"]
    low, high = axes.get_xlim()
    assert np.diff(np.sort(axes.get_xticks())).min() > 0.07 * (high - low)


@pytest.mark.parametrize(("noise", "scale"), [(0.0, "linear"), (0.1, "symlog")])
def test_large_residuals_get_a_logarithmic_axis(noise: float, scale: str) -> None:
    points = points_of(chain_of((30.0, 90.0), ssvi, noise=noise))
    axes = new_figure(4, 3).add_subplot()
    residual_panel(axes, points, 0, fit_essvi(points))
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low == -high

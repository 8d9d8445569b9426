"""Quotes set aside: which ones, that none is lost, and what a surface is judged by."""

from __future__ import annotations

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi

from features.surface import fit_svi
from features.surface.held_out import every_other, residuals, rmse_bp, some_of

DAYS = (7.0, 30.0, 90.0)


def test_every_other_quote_of_an_expiry_is_seen() -> None:
    points = points_of(chain_of(DAYS, ssvi, strikes=9))
    seen, unseen = every_other(points)
    assert (np.diff(seen.start_F).tolist(), np.diff(unseen.start_F).tolist()) == ([5] * 3, [4] * 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([seen.row_Q, unseen.row_Q])), np.sort(points.row_Q))
    for part in (seen, unseen):
        np.testing.assert_array_equal(part.expiry_E, points.expiry_E)
        np.testing.assert_array_equal(part.years_E, points.years_E)
    np.testing.assert_array_equal(seen.k_Q[:5], points.k_Q[:9:2])
    np.testing.assert_array_equal(unseen.mid_Q[4:8], points.mid_Q[10:18:2])


def test_an_expiry_without_a_quote_is_none() -> None:
    points = points_of(chain_of(DAYS, ssvi, strikes=1))
    seen, unseen = every_other(points)
    assert len(seen.expiry_E) == 3
    assert (len(unseen.expiry_E), unseen.start_F.tolist()) == (0, [0])
    part = some_of(points, np.array([True, False, True]))
    np.testing.assert_array_equal(part.expiry_E, points.expiry_E[[0, 2]])
    assert part.start_F.tolist() == [0, 1, 2]


def test_no_quotes_at_all_split_into_none() -> None:
    points = points_of(chain_of(DAYS, ssvi, strikes=1))
    none = some_of(points, np.zeros(3, np.bool_))
    assert [len(each.k_Q) for each in every_other(none)] == [0, 0]
    assert np.isnan(rmse_bp(fit_svi(points), none))


def test_a_surface_is_judged_by_its_distance_to_the_mids() -> None:
    """Quotes whose mids lie 1 % of volatility above those of the fit: 100 bp, and no noise from the fit."""
    surface = fit_svi(points_of(chain_of(DAYS, ssvi)))
    above = points_of(chain_of(DAYS, lambda k, years: ssvi(k, years) + 0.01))
    # The grid of strikes follows the level, so the judged are others than the fitted; SSVI slices are SVI slices.
    np.testing.assert_allclose(residuals(surface, above), -0.01, atol=1e-5)
    assert rmse_bp(surface, above) == pytest.approx(100.0, abs=0.1)

"""A surface by delta: against the definition of delta itself, and where a surface does not reach."""

from __future__ import annotations

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi

from features.surface import black_delta, fit_essvi, fit_nonparametric, fit_sabr
from features.surface.delta_smile import log_moneyness_at_deltas, volatility_at_deltas

DELTAS = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])


@pytest.mark.parametrize("fit", [fit_essvi, fit_sabr])
@pytest.mark.parametrize("days", [1.0, 7.0, 18.0, 90.0])
def test_the_strike_at_a_delta_has_that_delta_and_that_volatility(fit: object, days: float) -> None:
    surface = fit(points_of(chain_of((7.0, 30.0, 90.0), ssvi)))  # type: ignore[operator]
    years = days / 365.0
    k, volatility = (each(surface, years, DELTAS) for each in (log_moneyness_at_deltas, volatility_at_deltas))
    # Linear between nodes 0.015 deviations apart: curvature of the smile times 3e-5, below 0.1 bp.
    np.testing.assert_allclose(surface.implied_volatility(k, years), volatility, atol=1e-5)
    np.testing.assert_allclose(black_delta(1.0, np.exp(k), years, volatility, True), DELTAS, atol=1e-12)
    assert np.all(np.diff(k) < 0.0)


def test_a_flat_surface_has_one_volatility() -> None:
    surface = fit_sabr(points_of(chain_of((30.0,), lambda k, years: 0.6 + 0.0 * k)))
    np.testing.assert_allclose(volatility_at_deltas(surface, 30.0 / 365.0, DELTAS), 0.6, atol=1e-4)


def test_beyond_what_a_surface_knows_there_is_nothing() -> None:
    """Its grid ends at the fifth deviation; a time that is not positive has no smile."""
    surface = fit_nonparametric(points_of(chain_of((7.0, 30.0), ssvi)))
    found = volatility_at_deltas(surface, 30.0 / 365.0, [1e-30, 0.5, 1.0 - 1e-16])
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == pytest.approx(float(ssvi(np.zeros(1), np.array([30.0 / 365.0]))[0]), abs=0.01)
    assert np.isnan(volatility_at_deltas(surface, 0.0, [0.25, 0.5])).all()

"""Features of a surface of any model: the streamed ones, and what each model says of one chain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from option_chains import NOW_NS, chain_of, points_of, ssvi

from features.surface import ChainSurface, fit_essvi, fit_heston, fit_nonparametric, fit_svi, surface_features
from features.surface.chain_surface import VALUES
from features.surface.cleaning import CleaningRules, clean
from features.surface.model import FitReport, SliceSurface
from features.surface.streamed_features import DAYS, NAMES

QUOTED = ("surface_residual", "surface_inside_share", "option_spread", "option_quotes")


def streamed(days: list[float]) -> tuple[ChainSurface, dict[str, float], dict[str, float]]:
    """A streamed surface, what it said, and what its surface says."""
    chain, stream = chain_of(days, ssvi, noise=0.01, strikes=15), ChainSurface()
    quoted = np.full(len(chain["strike"]), NOW_NS)
    names = ("expiry_ns", "strike", "is_call", "bid", "ask", "forward")
    said = dict(zip(VALUES, stream.update(*(chain[name] for name in names), quoted, NOW_NS).tolist(), strict=True))
    return stream, said, surface_features(stream.surface, points_of(chain))


@pytest.mark.parametrize("days", [[7, 30, 90, 180], [3, 20, 45, 400], [30]])
def test_they_are_those_that_stream(days: list[float]) -> None:
    _, said, found = streamed(days)
    assert list(found) == [*NAMES, *QUOTED]
    for name, value in found.items():
        # Volatilities at a delta are read off a grid; the second difference has the rounding over a square of 1e-6.
        assert value == pytest.approx(said[name], abs=1e-5 if name != "smile_curvature_30d" else 1e-6, nan_ok=True), (
            name
        )


@pytest.mark.parametrize("fit", [fit_svi, fit_essvi, fit_nonparametric])
def test_models_that_meet_a_chain_say_the_same_of_it(fit: object) -> None:
    assert callable(fit)
    points = points_of(chain_of([7, 30, 60, 90, 180], ssvi, spread=0.004, deviations=3.5))
    found = surface_features(fit(points), points)
    for days in DAYS:
        assert found[f"atm_iv_{days}d"] == pytest.approx(float(ssvi(np.zeros(1), np.array([days / 365]))[0]), abs=1e-3)
    assert found["risk_reversal_25d"] < found["butterfly_25d"] < found["butterfly_10d"]
    assert found["variance_swap_30d"] > found["atm_iv_30d"]
    assert found["surface_residual"] < 1e-3
    assert (found["surface_inside_share"], found["option_quotes"]) == (1.0, len(points.k_Q))


def test_a_variance_swap_of_heston_is_its_expected_variance() -> None:
    """E[int v dt] / T = theta + (v0 - theta) (1 - e^(-kappa T)) / (kappa T): that of the law itself."""
    surface = fit_heston(points_of(chain_of([7, 30, 90, 365], ssvi)))
    v0, kappa, theta, _, _ = surface.parameters
    found = surface_features(surface)
    for days in (7, 30):
        t = days / 365
        expected = theta + (v0 - theta) * (1 - math.exp(-kappa * t)) / (kappa * t)
        assert found[f"variance_swap_{days}d"] == pytest.approx(math.sqrt(expected), rel=2e-4)


def test_without_any_expiry_and_without_quotes_all_is_unknown() -> None:
    nothing = SliceSurface(np.zeros(0), (), FitReport("svi", (), 0.0))
    found = surface_features(nothing)
    assert set(found) == set(NAMES)
    assert all(math.isnan(value) for value in found.values())
    none = np.zeros(0)
    no_quotes = clean(none.astype(int), none, none.astype(bool), none, none, none, none.astype(int), 0, CleaningRules())
    beside = surface_features(nothing, no_quotes)
    assert beside["option_quotes"] == 0.0
    assert math.isnan(beside["surface_residual"])

"""Thin slices: what they are beyond their quotes is sane, and what they are at their quotes is theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi

from features.surface import fit_essvi, fit_heston, fit_sabr, fit_svi
from features.surface.cleaning import Points
from features.surface.sparse import with_prior

Array = np.ndarray[Any, Any]
Keep = Callable[[Array], Array]

THIN: dict[str, Keep] = {
    "one far put": lambda k: k == k[np.argmin(np.abs(k + 0.35))],
    "two": lambda k: np.isin(k, k[[10, 12]]),
    "calls only": lambda k: k > 0.02,
    "far calls": lambda k: k > 0.25,
    "a cluster": lambda k: np.abs(k - 0.03) < 0.05,
}


def thinned(keep: Keep, noise: float = 0.0) -> Points:
    """Three expiries, of which the second keeps some of its quotes."""
    chain = chain_of([10, 30, 90], ssvi, strikes=41, noise=noise)
    k = np.log(chain["strike"] / chain["forward"])
    second = chain["expiry_ns"] == np.unique(chain["expiry_ns"])[1]
    kept = ~second
    kept[second] = keep(np.round(k[second], 12))
    return points_of({name: column[kept] for name, column in chain.items()})


@pytest.mark.parametrize("fit", [fit_svi, fit_sabr, fit_essvi], ids=lambda fit: str(fit.__name__))
@pytest.mark.parametrize("name", THIN)
def test_a_thin_slice_looks_like_its_neighbours(name: str, fit: Callable[[Points], Any]) -> None:
    points = thinned(THIN[name])
    surface = fit(points)
    years = float(points.years_E[1])
    second = surface.report.expiries[1]
    assert second.rmse_bp < 60 if fit is not fit_svi else second.rmse_bp < 5
    k = np.linspace(-0.35, 0.35, 15)
    # SABR's family is another one than the chain's.
    close = 0.25 if fit is fit_sabr else 0.1
    np.testing.assert_allclose(surface.implied_volatility(k, years), ssvi(k, np.full(15, years)), atol=close)


@pytest.mark.parametrize("name", THIN)
def test_noise_in_a_thin_slice_does_not_tilt_it(name: str) -> None:
    surface = fit_svi(thinned(THIN[name], noise=0.01))
    k = np.linspace(-0.3, 0.3, 13)
    np.testing.assert_allclose(surface.implied_volatility(k, 30 / 365), ssvi(k, np.full(13, 30 / 365)), atol=0.25)


def test_quotes_that_tell_a_smile_are_left_alone() -> None:
    points = points_of(chain_of([7, 30], ssvi))
    assert with_prior(points) is points
    nothing = points_of({name: column[:0] for name, column in chain_of([7], ssvi).items()})
    assert with_prior(nothing) is nothing


def test_added_quotes_stand_beyond_the_real_ones_and_are_marked() -> None:
    points = thinned(THIN["calls only"])
    told = with_prior(points)
    np.testing.assert_array_equal(told.expiry_E, points.expiry_E)
    added = told.row_Q < 0
    assert 2 <= added.sum() <= 7
    assert (np.diff(told.k_Q[told.start_F[1] : told.start_F[2]]) > 0.0).all()
    assert (told.k_Q[added] < points.k_Q[points.start_F[1]]).all()
    np.testing.assert_array_equal(told.mid_Q[~added], points.mid_Q)


def test_the_last_surface_is_the_prior_where_there_is_one() -> None:
    """Its shape stays, and its level follows the quotes."""
    last = fit_svi(points_of(chain_of([10, 30, 90], ssvi, strikes=41)))
    up = points_of(chain_of([10, 30, 90], lambda k, t: ssvi(k, t) + 0.1, strikes=3))
    again = fit_svi(up, last)
    k = np.linspace(-0.3, 0.3, 13)
    np.testing.assert_allclose(
        again.implied_volatility(k, 30 / 365) - last.implied_volatility(k, 30 / 365), 0.1, atol=0.02
    )


def test_heston_of_a_few_quotes_is_sane() -> None:
    for keep in THIN.values():
        surface = fit_heston(thinned(keep))
        money = surface.implied_volatility(0.0, 30 / 365)
        assert money == pytest.approx(float(ssvi(np.zeros(1), np.array([30 / 365]))[0]), abs=0.05)

"""The surface without a formula: free of arbitrage to the last digit whatever the quotes are, and as close as any."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi
from scipy.integrate import trapezoid

from features.surface.arbitrage import check_arbitrage
from features.surface.nonparametric import GridSurface, fit_nonparametric, grid_of
from features.surface.svi_fit import fit_svi

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "deribit_options"
NODES = 60


def broken_by(surface: GridSurface) -> float:
    """The most by which its calls break a bound, convexity or the order of time, at its nodes and between expiries."""
    x = surface.smiles_E[0].moneyness_M
    own = [smile.years for smile in surface.smiles_E]
    step, near = np.diff(x), np.minimum(np.diff(x)[1:], np.diff(x)[:-1])
    worst, before = 0.0, np.maximum(1.0 - x, 0.0)
    for years in np.sort([0.3 * own[0], *own, *(0.5 * (a + b) for a, b in pairwise(own)), 2 * own[-1]]).tolist():
        call = surface.call(np.log(x), years)
        fall, slope = np.diff(call), np.diff(call) / step
        # All in prices, whose last digit is 1e-16: a butterfly's is the change of slope times the nearer strike's step.
        butterfly = (slope[:-1] - slope[1:]) * near
        worst = max(worst, *(float(each.max()) for each in (before - call, fall, -step - fall, butterfly)))
        before = call
    return worst


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_no_noise_makes_it_have_arbitrage(noise: float, seed: int) -> None:
    days = np.sort(np.random.default_rng(seed).uniform(0.2, 400, 5))
    points = points_of(chain_of(days.tolist(), ssvi, noise=noise, seed=seed, strikes=13))
    surface = fit_nonparametric(points, nodes=NODES)
    assert broken_by(surface) < 1e-15
    report = check_arbitrage(surface)
    assert report.is_free, report


def test_it_meets_quotes_that_are_free_and_more_noisy_ones_than_svi() -> None:
    chain = [2, 7, 30, 90, 365]
    clean = fit_nonparametric(points_of(chain_of(chain, ssvi)))
    assert clean.report.inside_share == 1.0
    assert clean.report.rmse_bp < 10
    for seed in range(3):
        points = points_of(chain_of(chain, ssvi, noise=0.004, seed=seed))
        ours, theirs = fit_nonparametric(points).report, fit_svi(points).report
        assert ours.inside_share >= theirs.inside_share
        assert (
            ours.rmse_bp < 1.1 * theirs.rmse_bp
        )  # of mids, though it minimises the sum of misses and has no calendars


def test_its_density_is_a_law() -> None:
    surface = fit_nonparametric(points_of(chain_of([7, 30, 90], ssvi, noise=0.01)))
    k = np.linspace(-4, 4, 40_001)
    for years in (5 / 365, 7 / 365, 50 / 365, 90 / 365):
        density = surface.density(k, years)
        assert density.min() >= 0.0
        assert trapezoid(density, k) == pytest.approx(1.0, abs=0.01)
        assert trapezoid(np.exp(k) * density, k) == pytest.approx(1.0, abs=0.01)


def test_between_and_beyond_its_expiries() -> None:
    surface = fit_nonparametric(points_of(chain_of([7, 30], ssvi)), nodes=NODES)
    k = np.linspace(-0.2, 0.2, 5)
    first, last = (surface.call(k, smile.years) for smile in surface.smiles_E)
    for years in (1.0 / 365, 5 / 365, 12 / 365, 20 / 365):
        early = np.maximum(1 - np.exp(k), 0.0) if years < 7 / 365 else first
        late = first if years < 7 / 365 else last
        share = (surface.call(k, years) - early) / (late - early)
        np.testing.assert_allclose(share, share[2], rtol=1e-9)  # of two surfaces without arbitrage: so there is none
    # At the money total variance is linear in time.
    w = surface.total_variance(0.0, np.array([3.5, 7.0, 18.5, 30.0]) / 365)
    np.testing.assert_allclose(w[[0, 2]], [0.5 * w[1], 0.5 * (w[1] + w[3])], rtol=1e-9)
    np.testing.assert_array_equal(surface.call(k, 1.0), last)
    assert np.isnan(surface.call(k, 0.0)).all()
    assert np.isnan(surface.total_variance(np.array([-20.0, 20.0]), 30 / 365)).all()
    smile = surface.smiles_E[1]
    np.testing.assert_array_equal(smile.total_variance(k), surface.total_variance(k, smile.years))


def test_the_grid_reaches_all_quotes_and_is_dense_at_the_money() -> None:
    points = points_of(chain_of([1, 365], ssvi))
    x = grid_of(points)
    assert 1.0 in x
    assert x[0] <= np.exp(points.k_Q.min())
    assert x[-1] >= np.exp(points.k_Q.max())
    step, middle = np.diff(np.log(x)), int(np.searchsorted(x, 1.0))
    assert step[middle] < 0.02
    assert step[0] > 5 * step[middle]


@pytest.mark.parametrize("strikes", [1, 2])
def test_few_quotes_are_met(strikes: int) -> None:
    points = points_of(chain_of([7, 30], ssvi, strikes=strikes))
    surface = fit_nonparametric(points, nodes=NODES)
    assert surface.report.inside_share == 1.0
    assert check_arbitrage(surface).is_free


def test_no_quotes_no_surface() -> None:
    surface = fit_nonparametric(points_of({name: column[:0] for name, column in chain_of([7], ssvi).items()}))
    assert math.isnan(surface.report.rmse_bp)
    assert np.isnan(surface.call(np.zeros(2), 0.1)).all()
    assert np.isnan(surface.density(np.zeros(2), 0.1)).all()


@pytest.mark.data
def test_a_recorded_chain_is_met_inside_its_spread() -> None:
    if not RECORDED.exists():
        pytest.skip(f"the recorded chains are not here: {RECORDED}")
    from benchmarks.deribit_chains import chains

    chain = next(chains(RECORDED))
    surface = fit_nonparametric(chain.points())
    assert surface.report.quotes > 300
    assert surface.report.inside_share > 0.97
    assert surface.report.rmse_bp < 40
    assert broken_by(surface) < 1e-15
    assert check_arbitrage(surface).is_free

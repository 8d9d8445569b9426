"""SVI: clean smiles are met, noisy ones as well as a general optimiser meets them, and no smile has a butterfly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from option_chains import DAY_NS, NOW_NS, chain_of, points_of, ssvi
from scipy.optimize import least_squares

from features.surface.arbitrage import check_arbitrage
from features.surface.cleaning import Points, weighed
from features.surface.model import SliceSurface, durrleman
from features.surface.svi import (
    CHECKS,
    REACH,
    SVI,
    check_point,
    grid_ends,
    lowest_butterfly,
    svi_butterfly,
    svi_variance,
)
from features.surface.svi_fit import fit_svi

YEARS = 30 / 365


def a_smile(seed: int) -> tuple[SVI, float]:
    """Without butterflies (Gatheral and Jacquier 2014, theorem 4.2 and eq. 4.2), and its time to expiry."""
    rng = np.random.default_rng(seed)
    years = math.exp(rng.uniform(math.log(2 / 365), 0.0))
    theta, rho = rng.uniform(0.3, 1.0) ** 2 * years, rng.uniform(-0.7, 0.4)
    phi = rng.uniform(0.2, 0.9) * min(2.0 / math.sqrt(theta * (1 + abs(rho))), 4.0 / (theta * (1 + abs(rho))))
    root = math.sqrt(1 - rho * rho)
    return SVI(0.5 * theta * root * root, 0.5 * theta * phi, rho, -rho / phi, root / phi), years


def quoted(smile: SVI, years: float, **change: Any) -> Points:
    return points_of(chain_of([years * 365], lambda k, t: np.sqrt(smile.total_variance(k) / t), **change))


def points_at(k: Any, volatility: Any, half: float = 0.005) -> Points:
    """One expiry of 30 days."""
    x, s = np.asarray(k, float), np.asarray(volatility, float)
    start, rows = np.array([0, len(x)]), np.arange(len(x))
    expiry = np.array([NOW_NS + 30 * DAY_NS])
    return Points(expiry, np.array([YEARS]), start, x, s - half, s, s + half, rows, np.zeros(len(x), np.int8))


def only_smile(surface: SliceSurface) -> SVI:
    (smile,) = surface.smiles_E
    assert isinstance(smile, SVI)
    return smile


def least_of(smile: SVI, points: Points) -> float:
    """Durrleman's g, the least of where a fit is checked."""
    raw = np.array([smile.a, smile.b, smile.rho, smile.m, smile.s])
    return lowest_butterfly(raw, *grid_ends(points.k_Q, points.mid_Q**2 * points.years_E[0]))


def test_it_is_the_formula() -> None:
    smile = SVI(0.04, 0.4, -0.4, 0.1, 0.2)
    for k in (-0.7, 0.1, 0.5):
        expected = 0.04 + 0.4 * (-0.4 * (k - 0.1) + math.sqrt((k - 0.1) ** 2 + 0.04))
        assert svi_variance(0.04, 0.4, -0.4, 0.1, 0.2, k) == pytest.approx(expected, rel=1e-15)
        assert float(smile.total_variance(k)) == pytest.approx(expected, rel=1e-15)


def test_the_butterfly_is_durrlemans_function_of_the_differences() -> None:
    numbers, step = (0.04, 0.4, -0.4, 0.1, 0.2), 1e-4
    for k in (-1.5, -0.1, 0.1, 0.9):
        low, w, high = (np.array(svi_variance(*numbers, k + each)) for each in (-step, 0.0, step))
        by_differences = durrleman(np.array(k), w, (high - low) / (2 * step), (high - 2 * w + low) / step**2)
        assert svi_butterfly(*numbers, k) == pytest.approx(float(by_differences), abs=1e-6)
    assert svi_butterfly(-1.0, 0.1, 0.0, 0.0, 0.1, 0.0) == -math.inf


def test_a_fit_is_checked_at_its_quotes_far_beyond_and_about_its_bend() -> None:
    low, high = grid_ends(np.array([-0.1, 0.0, 5.0]), np.array([0.05, 0.04, 0.9]))
    assert (low, high) == (-REACH * 0.2, 5.0)
    raw = np.array([0.01, 0.1, 0.0, 0.3, 0.001])
    at = np.sort([check_point(raw, low, high, i) for i in range(CHECKS)])
    assert np.isin([low, high], at).all()
    assert at[0] < 8 * low
    assert at[-1] > 8 * high
    assert np.count_nonzero(np.abs(at - 0.3) < 0.04) == 20  # the grid's points are 0.145 apart
    assert lowest_butterfly(raw, low, high) == min(svi_butterfly(*raw, k) for k in at.tolist())


@pytest.mark.parametrize("seed", range(40))
def test_a_smile_of_the_family_is_met(seed: int) -> None:
    smile, years = a_smile(seed)
    report = fit_svi(quoted(smile, years)).report
    assert report.rmse_bp < 0.01  # of the mids, which are inversions of prices: right to 1e-10
    assert report.inside_share == 1.0


def _by_least_squares(points: Points, begin: SVI) -> tuple[float, SVI]:
    """The weighted sum of squares of scipy's best, from a few starts, bounded as SVI is but without its inner layer."""
    k, (w, weight) = points.k_Q, weighed(points)
    root = np.sqrt(weight)
    low, high = np.array([-5, 0, -0.9999, -10, 1e-6]), np.array([10, 4, 0.9999, 10, 30])

    def residuals(x: Any) -> Any:
        return root * (SVI(*x).total_variance(k) - w)

    true = [begin.a, begin.b, begin.rho, begin.m, begin.s]
    starts = [true, [begin.a, begin.b, 0.0, 0.0, 0.3 * begin.s], [begin.a, begin.b, 0.0, 0.0, 3.0 * begin.s]]
    found = [least_squares(residuals, each, bounds=(low, high), x_scale="jac", xtol=1e-13) for each in starts]
    best = min(found, key=lambda each: float(each.cost))
    return 2.0 * float(best.cost), SVI(*best.x.tolist())


@pytest.mark.parametrize("noise", [0.003, 0.01])
@pytest.mark.parametrize("seed", range(6))
def test_noisy_smiles_are_met_as_a_general_optimiser_meets_them(noise: float, seed: int) -> None:
    smile, years = a_smile(seed)
    points = quoted(smile, years, noise=noise, seed=seed)
    surface = fit_svi(points)
    _, weight = weighed(points)
    squares = float(weight @ (surface.total_variance(points.k_Q, points.years_E[0]) - points.mid_Q**2 * years) ** 2)
    best, theirs = _by_least_squares(points, smile)
    if least_of(theirs, points) > 0.002:
        assert math.sqrt(squares / best) < 1.0001  # of the root mean square
    else:
        assert squares > best  # what it has less it has by a butterfly


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
def test_no_noise_makes_it_have_a_butterfly(noise: float) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shape = {"strikes": int(rng.integers(7, 30)), "deviations": float(rng.uniform(1.0, 3.0))}
        points = points_of(chain_of([float(rng.uniform(1, 300))], ssvi, noise=noise, seed=seed, **shape))
        surface = fit_svi(points)
        assert least_of(only_smile(surface), points) >= 0.0, seed
        # The prices, too, by the check that knows nothing of SVI.
        assert check_arbitrage(surface).is_free, seed


FEW = {
    "one": ([0.0], [0.6]),
    "one far out": ([0.3], [0.6]),
    "two": ([-0.1, 0.1], [0.7, 0.6]),
    "three": ([-0.1, 0.0, 0.1], [0.7, 0.6, 0.65]),
    "five": ([-0.2, -0.1, 0.0, 0.1, 0.2], [0.7, 0.63, 0.6, 0.62, 0.66]),
}


@pytest.mark.parametrize("name", FEW)
def test_few_points_are_met(name: str) -> None:
    surface = fit_svi(points_at(*FEW[name]))
    assert surface.report.rmse_bp < 0.1
    assert check_arbitrage(surface).is_free
    about = surface.implied_volatility(np.array([-0.3, 0.0, 0.3]), YEARS)
    assert (about > 0.25).all()
    assert (about < 1.5).all()


ODD = {
    "concave": ([-0.1, 0.0, 0.1], [0.5, 0.6, 0.5]),
    "a cluster": (0.1 + 1e-4 * np.arange(8), 0.6 + 0.01 * np.sin(np.arange(8))),
    "a cluster and one": ([*(1e-5 * np.arange(8)), 0.3], [0.6] * 8 + [0.8]),
    "too steep for Lee": (np.linspace(-1, 1, 21), np.sqrt((0.05 + 3 * np.maximum(np.linspace(-1, 1, 21), 0)) / YEARS)),
}


@pytest.mark.parametrize("name", ODD)
def test_what_no_smile_meets_leaves_one_that_is_free(name: str) -> None:
    points = points_at(*ODD[name])
    surface = fit_svi(points)
    assert check_arbitrage(surface).is_free
    smile = only_smile(surface)
    assert smile.b * (1 + abs(smile.rho)) <= 2.0
    if name != "too steep for Lee":
        volatility = surface.implied_volatility(points.k_Q, YEARS)
        assert np.abs(volatility - np.mean(points.mid_Q)).max() < 0.2


def test_a_wing_near_lees_bound() -> None:
    """Slope 1.98 of at most 2, free by the condition on its wings: psi = 2.48, psi right = 9.82 < 4 theta = 16."""
    theta, right, left = 4.0, 3.96, 1.0
    rho, phi = (right - left) / (right + left), 0.5 * (right + left) / theta
    root = math.sqrt(1 - rho * rho)
    smile = SVI(0.5 * theta * root * root, 0.5 * theta * phi, rho, -rho / phi, root / phi)
    surface = fit_svi(quoted(smile, 4.0, spread=0.002, strikes=41))
    assert surface.report.rmse_bp < 0.01
    found = only_smile(surface)
    assert found.b * (1 + found.rho) == pytest.approx(1.98, abs=1e-4)
    assert check_arbitrage(surface).is_free


def test_the_last_smile_is_where_it_begins() -> None:
    points = points_of(chain_of([7, 30, 90], ssvi, noise=0.003))
    cold = fit_svi(points)
    warm = fit_svi(points, cold)
    for before, after in zip(cold.report.expiries, warm.report.expiries, strict=True):
        assert after.iterations < 0.5 * before.iterations
        assert after.rmse_bp == pytest.approx(before.rmse_bp, rel=1e-4)
    moved = points_of(chain_of([7, 30, 90], lambda k, t: 1.02 * ssvi(k, t), noise=0.003))
    again, alone = fit_svi(moved, cold), fit_svi(moved)
    assert again.report.rmse_bp == pytest.approx(alone.report.rmse_bp, rel=1e-3)


def test_no_quotes_no_surface() -> None:
    none = {"expiry_E": np.zeros(0, np.int64), "years_E": np.zeros(0), "start_F": np.zeros(1, np.int64)}
    surface = fit_svi(points_at([], [])._replace(**none))
    assert math.isnan(surface.report.rmse_bp)
    assert np.isnan(surface.total_variance(np.zeros(3), 0.1)).all()

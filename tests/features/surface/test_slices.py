"""Slices of two kinds: the closer one where it is free, the other where it is not, and never one across the next."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from option_chains import chain_of, points_of, ssvi

from features.surface.cleaning import Points, weighed
from features.surface.essvi import essvi_variance, no_butterfly
from features.surface.essvi_fit import fit_essvi_kernel
from features.surface.slices import fit_slices, slice_variance, variance_at
from features.surface.svi import svi_butterfly, svi_variance

Array = np.ndarray[Any, Any]

NONE = np.full(5, math.nan)
ESSVI = np.array([[0.01, 0.08, 0.1], [0.03, 0.15, 0.2]])
SVI = np.array([[0.005, 0.1, -0.1, 0.0, 0.08], [math.nan] * 5])
YEARS = np.array([0.1, 0.3])


def fitted(points: Points, warm: Array | None = None, weighed_as: Points | None = None) -> tuple[Array, Array, int]:
    w, weight = weighed(points if weighed_as is None else weighed_as)
    E = len(points.years_E)
    essvi, svi = np.empty((E, 3)), np.empty((E, 5))
    nothing = np.full((E, 3), math.nan)
    fit_essvi_kernel(points.years_E, points.start_F, points.k_Q, w, weight, nothing, np.zeros(E), essvi)
    before = np.full((E, 5), math.nan) if warm is None else warm
    bid_w = points.bid_Q**2 * points.years_Q
    lowered = fit_slices(points.start_F, points.k_Q, bid_w, w, weight, essvi, before, svi)
    return essvi, svi, lowered


def test_a_slice_is_svi_where_there_is_one() -> None:
    assert slice_variance(ESSVI[0], SVI[0], 0.05) == svi_variance(*SVI[0], 0.05)
    assert slice_variance(ESSVI[0], NONE, 0.05) == essvi_variance(*ESSVI[0], 0.05)


def test_between_and_beyond_slices() -> None:
    first, last = slice_variance(ESSVI[0], SVI[0], 0.1), slice_variance(ESSVI[1], SVI[1], 0.1)
    at = {0.1: first, 0.3: last, 0.15: 0.75 * first + 0.25 * last, 0.05: 0.5 * first, 0.6: 2.0 * last}
    for years, expected in at.items():
        assert variance_at(YEARS, ESSVI, SVI, 0.1, years) == pytest.approx(expected, rel=1e-14)
    assert math.isnan(variance_at(YEARS, ESSVI, SVI, 0.1, 0.0))
    assert math.isnan(variance_at(YEARS[:0], ESSVI[:0], SVI[:0], 0.1, 0.1))


def test_clean_quotes_have_svi_slices_throughout() -> None:
    points = points_of(chain_of([2, 7, 30, 90, 365], ssvi))
    essvi, svi, lowered = fitted(points)
    assert lowered == 0
    assert not np.isnan(svi).any()
    for e, years in enumerate(points.years_E.tolist()):
        part = slice(points.start_F[e], points.start_F[e + 1])
        found = [math.sqrt(slice_variance(essvi[e], svi[e], k) / years) for k in points.k_Q[part].tolist()]
        np.testing.assert_allclose(found, points.mid_Q[part], atol=2e-5)


@pytest.mark.parametrize("seed", range(12))
def test_noisy_quotes_leave_slices_that_are_free_and_in_order(seed: int) -> None:
    days = np.sort(np.random.default_rng(seed).uniform(1, 200, 6))
    points = points_of(chain_of(days.tolist(), ssvi, noise=0.02, seed=seed, strikes=13))
    essvi, svi, _ = fitted(points)
    for e in range(len(days)):
        k = np.linspace(-5, 5, 201) * math.sqrt(essvi[min(e + 1, len(days) - 1), 0])
        if not math.isnan(svi[e, 0]):
            assert min(svi_butterfly(*svi[e], each) for each in k.tolist()) > -1e-3
        if e + 1 < len(days):
            rises = [slice_variance(essvi[e + 1], svi[e + 1], x) - slice_variance(essvi[e], svi[e], x) for x in k]
            assert min(rises) > -1e-6


def test_what_is_quoted_far_out_early_lifts_a_later_wing_that_is_not_quoted() -> None:
    """Without it the later slice, whose few quotes bend down outside, would press the earlier one off its quotes."""
    chain = chain_of([14, 21], ssvi, strikes=81, deviations=5.0)
    later = chain["expiry_ns"] == chain["expiry_ns"].max()
    k = np.log(chain["strike"] / chain["forward"])
    points = points_of({name: column[~later | (np.abs(k) < 0.12)] for name, column in chain.items()})
    first, second = slice(0, points.start_F[1]), slice(points.start_F[1], points.start_F[2])
    points.mid_Q[second] -= 0.5 * points.k_Q[second] ** 2
    worst = {}
    for name, bid in (("told", points.bid_Q), ("untold", np.full_like(points.bid_Q, 1e-3))):
        essvi, svi, _ = fitted(points._replace(bid_Q=bid), weighed_as=points)
        found = [math.sqrt(slice_variance(essvi[0], svi[0], k) / points.years_E[0]) for k in points.k_Q[first].tolist()]
        worst[name] = float(np.abs(np.array(found) - points.mid_Q[first]).max())
    assert worst["told"] < 0.5 * worst["untold"]


def test_a_warm_start_in_another_valley_is_left() -> None:
    points = points_of(chain_of([7, 30, 90], ssvi, noise=0.005))
    _, cold, _ = fitted(points)
    astray = np.tile([0.001, 0.01, 0.9, 1.5, 2.0], (3, 1))
    essvi, svi, _ = fitted(points, warm=astray)
    for e, years in enumerate(points.years_E.tolist()):
        k = points.k_Q[points.start_F[e] : points.start_F[e + 1]]
        of = [[math.sqrt(slice_variance(essvi[e], each[e], x) / years) for x in k] for each in (cold, svi)]
        np.testing.assert_allclose(of[1], of[0], atol=1e-3)


def test_points_that_do_not_tell_a_smile_have_an_essvi_slice() -> None:
    told = points_of(chain_of([7, 30], ssvi, strikes=7))
    assert not np.isnan(fitted(told)[1]).any()
    for few in (
        chain_of([7, 30], ssvi, strikes=6),
        chain_of([7, 30], ssvi, deviations=0.45),
    ):
        assert np.isnan(fitted(points_of(few))[1]).all()


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_points_on_one_side_of_the_money_tell_that_side(side: float) -> None:
    chain = chain_of([7, 30], ssvi, strikes=41)
    kept = side * np.log(chain["strike"] / chain["forward"]) > 0.02
    points = points_of({name: column[kept] for name, column in chain.items()})
    essvi, svi, _ = fitted(points)
    assert not np.isnan(svi).any()
    for e, years in enumerate(points.years_E.tolist()):
        part = slice(points.start_F[e], points.start_F[e + 1])
        found = [math.sqrt(slice_variance(essvi[e], svi[e], k) / years) for k in points.k_Q[part].tolist()]
        np.testing.assert_allclose(found, points.mid_Q[part], atol=5e-4)
        other = -side * 1.5 * math.sqrt(essvi[e, 0])
        close = abs(math.sqrt(slice_variance(essvi[e], svi[e], other) / years) - ssvi(np.array([other]), years)[0])
        assert close < 0.25


def test_a_slice_without_points_stays_if_it_is_still_free() -> None:
    points = points_of(chain_of([7, 30, 90], ssvi))
    essvi, svi, _ = fitted(points)
    k, w, weight = points.k_Q, points.mid_Q**2 * points.years_Q, np.full(63, 1e4)
    gone = np.r_[0:21, 42:63]
    start, again = np.array([0, 21, 21, 42]), np.empty((3, 5))
    columns = start, k[gone], w[gone], w[gone], weight[gone]
    assert fit_slices(*columns, essvi, svi, again) == 0
    np.testing.assert_array_equal(again[1], svi[1])
    # Above the next one it does not.
    high = svi.copy()
    high[1, 0] += 0.2
    fit_slices(*columns, essvi, high, again)
    assert np.isnan(again[1]).all()


def test_slices_that_stand_in_across_the_next_are_lowered_and_counted() -> None:
    crossing = np.array([[0.03, 0.15, 0.2], [0.01, 0.08, 0.1]])
    nothing, start = np.full((2, 5), math.nan), np.zeros(3, np.int64)
    svi = np.empty((2, 5))
    empty = np.empty(0)
    in_order = crossing[::-1].copy()
    assert fit_slices(start, empty, empty, empty, empty, in_order, nothing, svi) == 0
    np.testing.assert_array_equal(in_order, crossing[::-1])
    assert fit_slices(start, empty, empty, empty, empty, crossing, nothing, svi) == 1
    assert np.isnan(svi).all()
    assert no_butterfly(*crossing[0])
    for k in np.linspace(-0.6, 0.6, 101).tolist():
        assert essvi_variance(*crossing[0], k) <= essvi_variance(*crossing[1], k)

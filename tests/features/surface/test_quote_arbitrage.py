"""What quotes break: planted arbitrages of each kind, and agreement with all triples of quotes and with a programme.

Whether quotes are free is decided here a second time by a linear programme that knows no chord: are there convex
falling calls for every expiry, in order of time, that go through all quotes?
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from option_chains import DAY_NS, NOW_NS, chain_of, points_of, ssvi
from scipy.optimize import linprog

from features.surface.cleaning import Points
from features.surface.inversion import implied_volatility
from features.surface.quote_arbitrage import KINDS, ORIGIN, calls_of, check_quotes, chords_of, kind_of

Array = np.ndarray[Any, Any]


def quotes_of(*expiries: dict[float, float], half: float = 0.0) -> Points:
    """Calls over the forward by moneyness, of expiries a month apart; bid and ask ``half`` to either side in price."""
    start = np.cumsum([0, *(len(each) for each in expiries)])
    days = [30 * (e + 1) for e in range(len(expiries))]
    years_E = np.array(days) / 365
    years, x = np.repeat(years_E, np.diff(start)), np.array([m for each in expiries for m in each])
    call = np.array([c for each in expiries for c in each.values()])
    low, mid, high = (implied_volatility(call + by, 1.0, x, years, True) for by in (-half, 0.0, half))
    expiry = NOW_NS + np.array(days) * DAY_NS
    rows = np.arange(len(x))
    return Points(expiry, years_E, start, np.log(x), low, mid, high, rows, np.zeros(len(x), np.int8))


def counts(found: dict[str, int]) -> tuple[int, ...]:
    return tuple(found[kind] for kind in KINDS)


FLAT = {0.9: 0.13, 1.0: 0.07, 1.1: 0.035}
PLANTED = {
    "none": ((0, 0, 0), (FLAT, {0.9: 0.15, 1.0: 0.1, 1.1: 0.06})),
    "a call dearer than that of a lower strike": ((1, 0, 0), ({0.9: 0.13, 1.0: 0.07, 1.1: 0.075},)),
    "a call above the chord of its neighbours": ((0, 1, 0), ({0.9: 0.13, 1.0: 0.1, 1.1: 0.035},)),
    "a call above the chord from strike zero": ((0, 1, 0), ({0.5: 0.511, 1.0: 0.01},)),
    "an earlier call dearer at the same strike": ((0, 0, 1), (FLAT, {0.9: 0.15, 1.0: 0.06, 1.1: 0.035})),
    "an earlier call above a later chord": ((0, 0, 1), ({1.0: 0.09}, {0.9: 0.13, 1.1: 0.035})),
    "an earlier call dearer than a later one of a lower strike": ((0, 0, 1), ({1.1: 0.08}, {1.0: 0.07})),
    "a chord of an earlier and a later call": ((0, 0, 1), ({0.9: 0.13, 1.0: 0.09}, {1.1: 0.035})),
    "a chord of two later expiries": ((0, 0, 1), ({1.0: 0.09}, {0.9: 0.13}, {1.1: 0.035})),
    "a chord of two later expiries, the other way round": ((0, 0, 1), ({1.0: 0.09}, {1.1: 0.035}, {0.9: 0.13})),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_arbitrage_is_found(name: str) -> None:
    expected, expiries = PLANTED[name]
    narrow, wide = check_quotes(quotes_of(*expiries, half=0.0005)), check_quotes(quotes_of(*expiries, half=0.009))
    assert counts(narrow.at_mid) == counts(wide.at_mid) == expected
    assert counts(narrow.tradable) == expected
    assert counts(wide.tradable) == (0, 0, 0)


def test_the_chord_is_what_to_buy() -> None:
    found = chords_of(points := quotes_of({0.9: 0.13, 1.0: 0.09}, {1.1: 0.035}), calls_of(points, points.mid_Q))
    assert [each.tolist() for each in found[:3]] == [[1], [0], [2]]
    assert found.share[0] == pytest.approx(0.5, rel=1e-12)
    found = chords_of(points := quotes_of({0.5: 0.511, 1.0: 0.01}), calls_of(points, points.mid_Q))
    assert [each.tolist() for each in found[:3]] == [[0], [ORIGIN], [1]]


def test_what_is_no_more_than_the_tolerance_is_none() -> None:
    for size, expected in ((0.5e-10, 0), (1e-9, 1)):
        points = quotes_of({0.9: 0.13, 1.0: 0.0825 + size, 1.1: 0.035})
        assert check_quotes(points).at_mid["butterfly"] == expected
    assert check_quotes(quotes_of({0.9: 0.13, 1.0: 0.0835, 1.1: 0.035}), 0.01).at_mid["butterfly"] == 0


def test_free_surfaces_are_free() -> None:
    for strikes in (1, 2, 21, 80):
        points = points_of(chain_of([1, 7, 30, 90, 365], ssvi, strikes=strikes))
        found = check_quotes(points)
        assert counts(found.at_mid) == counts(found.tradable) == (0, 0, 0)
    nothing = check_quotes(points_of({name: column[:0] for name, column in chain_of([7], ssvi).items()}))
    assert counts(nothing.at_mid) == (0, 0, 0)


def _lowest_chords(points: Points, call: Array) -> Array:
    """What each call may cost at most, by trying all pairs of calls that expire no earlier."""
    start = points.start_F
    expiry = np.repeat(np.arange(len(start) - 1), np.diff(start))
    x, c = np.append(np.exp(points.k_Q), 0.0), np.append(call, 1.0)
    most = np.full(len(call), np.inf)
    for i in range(len(call)):
        later = [j for j in range(len(call)) if j != i and expiry[j] >= expiry[i]]
        for a, b in product([*later, len(call)], later):
            if x[a] < x[i] <= x[b]:
                most[i] = min(most[i], c[a] + (c[b] - c[a]) * (x[i] - x[a]) / (x[b] - x[a]))
        most[i] = min(most[i], min((c[j] for j in later if x[j] <= x[i]), default=np.inf))
    return most


def _is_free(points: Points, call: Array) -> bool:
    """Whether there are calls on the grid of all strikes, convex, falling and in order of time, through the quotes."""
    x = np.unique(np.concatenate([[0.0], np.exp(points.k_Q)]))
    E, M = len(points.expiry_E), len(x)
    step = np.diff(x)
    convex = np.zeros((M - 2, M))
    for m in range(M - 2):
        convex[m, m : m + 3] = 1 / step[m], -1 / step[m] - 1 / step[m + 1], 1 / step[m + 1]
    last_falls = np.zeros((1, M))
    last_falls[0, -2:] = 1, -1
    within = np.kron(np.eye(E), -np.vstack([convex, last_falls]))
    later = np.kron(np.eye(E - 1, E) - np.eye(E - 1, E, 1), np.eye(M))
    expiry = np.repeat(np.arange(E), np.diff(points.start_F))
    through = np.zeros((len(call) + E, E * M))
    through[np.arange(len(call)), expiry * M + np.searchsorted(x, np.exp(points.k_Q))] = 1.0
    through[len(call) + np.arange(E), np.arange(E) * M] = 1.0  # a call at strike 0 is the forward
    upper = np.vstack([within, later])
    # Loosened by what all conditions may be broken, which is minimised.
    cost = np.append(np.zeros(E * M), 1.0)
    found = linprog(
        cost,
        A_ub=np.column_stack([upper, -np.ones(len(upper))]),
        b_ub=np.zeros(len(upper)),
        A_eq=np.column_stack([through, np.zeros(len(through))]),
        b_eq=np.concatenate([call, np.ones(E)]),
        bounds=[*zip(np.tile(np.maximum(1 - x, 0), E), np.ones(E * M), strict=True), (0, None)],
    )
    return bool(found.status == 0 and found.fun < 1e-8)


@pytest.mark.parametrize("seed", range(40))
def test_it_agrees_with_all_triples_and_with_a_programme(seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = np.sort(rng.uniform(5, 60, 3)).tolist()
    noise = float(rng.choice([0.0, 0.003, 0.01, 0.03]))
    chain = chain_of(days, ssvi, strikes=5, deviations=1.0, noise=noise, seed=seed)
    chain["forward"] = chain["forward"] * np.repeat(rng.choice([0.99, 1.0, 1.01], 3), 10)  # no strike is quoted twice
    points = points_of(chain)
    call = calls_of(points, points.mid_Q)
    over = call - _lowest_chords(points, call)
    assert np.abs(over).min() > 1e-9  # neither way is at a loss
    found = chords_of(points, call)
    assert set(found.point.tolist()) == set(np.flatnonzero(over > 0).tolist())
    for i, left, right, share in zip(*(column.tolist() for column in found), strict=True):
        low = 1.0 if left == ORIGIN else call[left]
        assert call[i] - low - share * (call[right] - low) == pytest.approx(over[i], rel=1e-9)
    assert (len(found.point) == 0) == _is_free(points, call)
    kinds = [kind_of(points.start_F, *each) for each in zip(*(column.tolist() for column in found), strict=True)]
    assert counts(check_quotes(points).at_mid) == tuple(np.bincount(kinds, minlength=3))


def test_tradable_is_the_hull_of_asks_against_bids() -> None:
    points = points_of(chain_of([7, 30, 60], ssvi, noise=0.03, spread=0.01, strikes=15, seed=1))
    bid, ask = calls_of(points, points.bid_Q), calls_of(points, points.ask_Q)
    expected = 0
    for i in range(len(bid)):
        mixed = ask.copy()
        mixed[i] = bid[i]
        expected += bool(bid[i] - _lowest_chords(points, mixed)[i] > 1e-10)
    assert expected > 0
    assert sum(check_quotes(points).tradable.values()) == expected

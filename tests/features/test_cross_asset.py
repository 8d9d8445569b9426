"""Cross-asset features against numpy and scipy on the whole window, and against what the definitions imply."""

from __future__ import annotations

import importlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from features import cross_asset as kernels
from features.cross_asset import Windows, close_bars, empty_history, windows_in_bars
from features.declared.cross_asset import FEATURES, INPUTS, LAGS
from features.errors import ConfigError
from features.feature import FLOAT, SECOND

NAMES = [feature.name for feature in FEATURES]
WINDOWS = Windows(np.array([7, 20]), 12, 16, 15, 3)
"""Short ones, so that they fill often and the ring goes round."""

SIZE = 20


def bars_of(seed: int, bars: int, underlyings: int, unknown: float = 0.0) -> np.ndarray:
    """``input_BUC`` of a market with a common factor; a share of the values is unknown."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((bars, 1))
    returns = 1e-4 * (common + 0.7 * rng.standard_normal((bars, underlyings)))
    atm = 0.6 + 0.01 * np.cumsum(0.3 * common + rng.standard_normal((bars, underlyings)), axis=0)
    spread = np.exp(rng.standard_normal((bars, underlyings)))
    out = np.stack([returns, returns**2 * 60, atm, spread], axis=2)
    out[rng.random(out.shape) < unknown] = np.nan
    return out


def closed(inputs: np.ndarray, missing: np.ndarray | None = None, windows: Windows = WINDOWS) -> np.ndarray:
    gaps = np.zeros(len(inputs), np.int64) if missing is None else missing
    return close_bars(empty_history(inputs.shape[1], SIZE), windows, gaps, inputs)


# -- the reference: whole windows, by libraries -----------------------------------------------------------------------


def slow(inputs: np.ndarray, b: int, u: int) -> dict[str, float]:
    """Every feature of an underlying at a bar, from nothing but the bars so far; NaN where unknown."""
    seen = inputs[: b + 1]
    others = [o for o in range(inputs.shape[1]) if o != u]
    if not others:
        return dict.fromkeys(NAMES, math.nan)
    returns, variance, atm, spread = (seen[:, :, c] for c in range(len(INPUTS)))
    own, peers = returns[:, u], returns[:, others].mean(axis=1)
    own_change, peer_change = np.diff(atm[:, u]), np.diff(atm[:, others].mean(axis=1))
    squares = own**2, (returns[:, others] ** 2).mean(axis=1)
    short, long = (int(n) for n in WINDOWS.returns)
    values = [
        peers[-1],
        variance[-1, others].mean(),
        atm[-1, others].mean(),
        pearson(peers[-short:], own[-short:], short),
        slope(peers[-short:], own[-short:], short),
        pearson(peers[-long:], own[-long:], long),
        slope(peers[-long:], own[-long:], long),
        pearson(peer_change[-WINDOWS.atm :], own_change[-WINDOWS.atm :], WINDOWS.atm),
        slope(peer_change[-WINDOWS.atm :], own_change[-WINDOWS.atm :], WINDOWS.atm),
        ahead(peers, own, WINDOWS.lead_lag, range(1, WINDOWS.lags + 1))
        - ahead(own, peers, WINDOWS.lead_lag, range(1, WINDOWS.lags + 1)),
        ahead(squares[1], squares[0], WINDOWS.spillover, range(1, 2)),
        returns[-1].std(ddof=1),
        np.log(spread[-1]).std(ddof=1),
    ]
    return dict(zip(NAMES, values, strict=True))


def pearson(x: np.ndarray, y: np.ndarray, bars: int) -> float:
    return float(stats.pearsonr(x, y).statistic) if whole(x, y, bars) else math.nan


def slope(x: np.ndarray, y: np.ndarray, bars: int) -> float:
    return float(stats.linregress(x, y).slope) if whole(x, y, bars) else math.nan


def ahead(x: np.ndarray, y: np.ndarray, bars: int, lags: range) -> float:
    """Sum of numpy's cross-correlation at the lags by which x is ahead."""
    x, y = x[-bars:], y[-bars:]
    if not whole(x, y, bars):
        return math.nan
    products = np.correlate(y - y.mean(), x - x.mean(), "full") / (bars * x.std() * y.std())
    return float(sum(products[bars - 1 + lag] for lag in lags))


def whole(x: np.ndarray, y: np.ndarray, bars: int) -> bool:
    return len(x) == len(y) == bars and not np.isnan([x, y]).any()


@pytest.mark.parametrize(("underlyings", "unknown"), [(1, 0.0), (2, 0.0), (2, 0.02), (3, 0.01), (5, 0.0)])
def test_every_feature_is_that_of_the_libraries(underlyings: int, unknown: float) -> None:
    inputs = bars_of(underlyings, 70, underlyings, unknown)
    out = closed(inputs)
    assert out.shape == (70, underlyings, len(FEATURES))
    known = dict.fromkeys(NAMES, 0)
    for b in range(len(inputs)):
        for u in range(underlyings):
            expected = slow(inputs, b, u)
            for f, name in enumerate(NAMES):
                assert out[b, u, f] == pytest.approx(expected[name], rel=1e-9, abs=1e-12, nan_ok=True), (name, b, u)
                known[name] += not math.isnan(expected[name])
    assert all(count > 5 for count in known.values()) == (underlyings > 1)


def test_a_gap_counts_as_unknown_bars() -> None:
    inputs = bars_of(3, 80, 2)
    missing = np.zeros(60, np.int64)
    missing[30] = 20
    gapped = np.delete(inputs, range(30, 50), axis=0)
    unknown = inputs.copy()
    unknown[30:50] = np.nan
    expected = np.delete(closed(unknown), range(30, 50), axis=0)
    assert closed(gapped, missing).tobytes() == expected.tobytes()
    assert np.isnan(expected[31, 0, NAMES.index("correlation_1m")])


# -- to the bit, and never ahead ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1_000), cuts=st.lists(st.integers(0, 60), max_size=6), underlyings=st.integers(1, 4))
def test_cutting_the_bars_changes_no_bit(seed: int, cuts: list[int], underlyings: int) -> None:
    inputs = bars_of(seed, 60, underlyings, 0.002)
    missing = np.random.default_rng(seed).integers(0, 2, 60) * np.random.default_rng(seed + 1).integers(0, 2, 60)
    history = empty_history(underlyings, SIZE)
    edges = [0, *sorted(cuts), 60]
    parts = [close_bars(history, WINDOWS, missing[a:b], inputs[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.concatenate(parts).tobytes() == closed(inputs, missing).tobytes()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1_000), at=st.integers(0, 59), column=st.integers(0, 3), value=st.floats())
def test_a_later_bar_changes_no_earlier_one(seed: int, at: int, column: int, value: float) -> None:
    inputs = bars_of(seed, 60, 3)
    other = inputs.copy()
    other[at, 1, column] = value
    assert closed(inputs)[:at].tobytes() == closed(other)[:at].tobytes()


def test_where_the_ring_stands_changes_no_bit() -> None:
    inputs = bars_of(8, 40, 2)
    history = empty_history(2, SIZE)
    history.place[0] = 13
    assert close_bars(history, WINDOWS, np.zeros(40, np.int64), inputs).tobytes() == closed(inputs).tobytes()


# -- null rules --------------------------------------------------------------------------------------------------------

SPANS = {
    "log_return": {
        "peer_return": 1,
        "correlation_1m": 7,
        "beta_1m": 7,
        "correlation_5m": 20,
        "beta_5m": 20,
        "lead_lag_5m": 16,
        "volatility_spillover_5m": 15,
        "return_dispersion": 1,
    },
    "realized_variance_1m": {"peer_realized_variance_1m": 1},
    "atm_iv_30d": {"peer_atm_iv_30d": 1, "atm_correlation_5m": 13, "atm_beta_5m": 13},
    "spread_bps": {"spread_dispersion": 1},
}
"""How many bars an unknown input of a peer makes a feature unknown; a change looks one bar further back."""


@pytest.mark.parametrize("column", INPUTS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_unknown_input_of_a_peer_is_null_as_long_as_it_is_looked_at(column: str, value: float) -> None:
    inputs = bars_of(4, 90, 3)
    inputs[40, 2, INPUTS.index(column)] = value
    unknown = ~np.isfinite(closed(inputs)[:, 0])
    for f, name in enumerate(NAMES):
        bars = set(np.flatnonzero(unknown[30:, f]) + 30)
        assert bars == set(range(40, 40 + SPANS[column].get(name, 0))), name


def test_a_single_underlying_knows_nothing_of_peers() -> None:
    assert np.isnan(closed(bars_of(1, 40, 1))).all()


@pytest.mark.parametrize("spread", [0.0, -1.0])
def test_a_locked_or_crossed_spread_has_no_logarithm(spread: float) -> None:
    inputs = bars_of(2, 1, 2)
    for both in (False, True):
        inputs[0, 1, 3] = spread
        inputs[0, 0, 3] = spread if both else 1.0
        assert np.isnan(closed(inputs)[0, :, NAMES.index("spread_dispersion")]).all()


@pytest.mark.parametrize("level", [0.0, 0.1, 1e-5, -3.3e7])
def test_a_side_that_rests_has_no_correlation(level: float) -> None:
    moving = np.random.default_rng(0).standard_normal(60)
    resting = np.full(60, level)  # its computed mean differs from 0.1 in the last bit
    peers_rest, own_rests = kernels.moments(resting, moving), kernels.moments(moving, resting)
    assert math.isnan(kernels.correlation(peers_rest))
    assert math.isnan(kernels.correlation(own_rests))
    assert math.isnan(kernels.beta(peers_rest))
    assert kernels.beta(own_rests) == 0.0
    assert math.isnan(kernels.lead_lag(resting, moving, 5))
    assert math.isnan(kernels.cross_correlation(moving, resting, own_rests, 1))


def test_the_windows_must_be_longer_than_the_lags() -> None:
    x, y = bars_of(0, 5, 2)[:, :, 0].T.copy()
    assert math.isnan(kernels.lead_lag(x, y, 5))
    assert not math.isnan(kernels.lead_lag(x, y, 4))


# -- what the definitions imply ----------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """x = 1, 2, 3 and y = 1, 3, 2: sums about the means 2, 2 and 1; the product one bar apart is (-1)(1) + 0 = -1."""
    x, y = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    about = kernels.moments(x, y)
    assert tuple(about) == (2.0, 2.0, 2.0, 2.0, 1.0)
    assert kernels.correlation(about) == pytest.approx(0.5)
    assert kernels.beta(about) == pytest.approx(0.5)
    assert kernels.cross_correlation(x, y, about, 1) == pytest.approx(-0.5)
    assert kernels.lead_lag(x, y, 1) == pytest.approx(-1.0)  # y ahead: (-1)(0) + (1)(1) = 1, so -1/2 - 1/2
    assert kernels.peer_mean(x, 0) == 2.5
    assert kernels.dispersion(x) == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6), st.floats(-10, 10).filter(lambda s: abs(s) > 1e-3))
def test_scale_moves_beta_alone(seed: int, scale: float, factor: float) -> None:
    x, y = np.random.default_rng(seed).standard_normal((2, 40))
    about, scaled = kernels.moments(x, y), kernels.moments(x * scale, y * factor)
    assert kernels.correlation(scaled) == pytest.approx(math.copysign(1, factor) * kernels.correlation(about))
    assert kernels.beta(scaled) == pytest.approx(kernels.beta(about) * factor / scale)
    assert kernels.lead_lag(y, x, 5) == pytest.approx(-kernels.lead_lag(x, y, 5), abs=1e-12)
    perfect = kernels.correlation(kernels.moments(x, factor * x))
    assert perfect == pytest.approx(math.copysign(1, factor))
    assert abs(perfect) <= 1.0


def test_the_leader_leads() -> None:
    rng = np.random.default_rng(5)
    leader = rng.standard_normal(4_000)
    follower = 0.6 * np.roll(leader, 3) + 0.8 * rng.standard_normal(4_000)
    assert kernels.lead_lag(leader, follower, 5) == pytest.approx(0.6, abs=0.15)
    assert kernels.lead_lag(leader, follower, 2) == pytest.approx(0.0, abs=0.15)  # three bars is further than it looks


def test_variance_spills_over_from_the_driver_to_the_driven() -> None:
    """BTC's squared return sets ETH's variance of the bar after, though their returns do not correlate."""
    rng = np.random.default_rng(6)
    bars = 2_000
    btc = 1e-4 * rng.standard_normal(bars) * np.where(rng.random(bars) < 0.1, 5.0, 1.0)
    eth = (1e-5 + np.abs(np.roll(btc, 1))) * rng.standard_normal(bars)
    inputs = bars_of(0, bars, 2)
    inputs[:, 0, 0], inputs[:, 1, 0] = btc, eth
    windows = WINDOWS._replace(spillover=1_500)
    out = close_bars(empty_history(2, 1_500), windows, np.zeros(bars, np.int64), inputs)
    to_btc, to_eth = out[-1, :, NAMES.index("volatility_spillover_5m")]
    assert to_eth > 0.3 > 0.1 > abs(to_btc)


# -- the declaration ---------------------------------------------------------------------------------------------------


def test_the_catalogue_names_what_is_computed() -> None:
    assert len(set(NAMES)) == len(NAMES) == closed(bars_of(0, 1, 2)).shape[2]
    for feature in FEATURES:
        module, function = feature.implementation.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), function))
        assert feature.null_when
        assert feature.dtype == FLOAT
        assert set(feature.inputs) <= set(INPUTS)


@pytest.mark.parametrize(("seconds", "expected"), [(1, (60, 300)), (5, (12, 60)), (10, (6, 30))])
def test_windows_are_lengths_of_time(seconds: int, expected: tuple[int, int]) -> None:
    windows, longest = windows_in_bars(seconds * SECOND)
    assert tuple(windows.returns) == expected
    assert (windows.atm, windows.lead_lag, windows.spillover, windows.lags) == (expected[1],) * 3 + (LAGS,)
    assert longest == expected[1]


@pytest.mark.parametrize("interval_ns", [0, -SECOND, 7 * SECOND, 120 * SECOND])
def test_an_interval_that_no_window_is_a_multiple_of_is_refused(interval_ns: int) -> None:
    with pytest.raises(ConfigError, match="does not divide the window"):
        windows_in_bars(interval_ns)


def test_garbage_stays_where_it_is() -> None:
    """Absurd values give absurd or unknown numbers in the windows that hold them, and nowhere else."""
    inputs = bars_of(1, 80, 2)
    absurd: list[Any] = [1e300, -1e300, 1e-300, math.inf, -math.inf]
    inputs[20:25, 0, 0] = absurd
    inputs[20:25, 1, 2] = absurd
    clean = bars_of(1, 80, 2)
    assert closed(inputs)[46:].tobytes() == closed(clean)[46:].tobytes()

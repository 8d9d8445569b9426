"""The market's law: dwell times, volatility by regime, correlation, jumps; and that blocks may be cut anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.sources.simulated_market import OPENING, YEAR_S, Market, MarketBlock
from pipeline.sources.simulated_regimes import CALM, ILLIQUID, STRESSED, occupancy

REGIMES = (CALM, STRESSED, ILLIQUID)
SECONDS = 60_000


def _market(seed: int, ticks_per_s: int = 2) -> Market:
    return Market(np.random.Generator(np.random.PCG64(seed)), REGIMES, [60_000.0, 2_600.0], ticks_per_s)


@pytest.fixture(scope="module")
def block() -> MarketBlock:
    return _market(seed=5).advance(SECONDS)


def test_blocks_may_be_cut_anywhere() -> None:
    whole, cut = _market(seed=1), _market(seed=1)
    expected = whole.advance(60)
    parts = [cut.advance(seconds) for seconds in (1, 13, 46)]
    for index, one in enumerate(expected):
        assert np.array_equal(one, np.concatenate([part[index] for part in parts]))


def test_shapes_and_start() -> None:
    first = _market(seed=1, ticks_per_s=10).advance(3)
    assert first.price.shape == first.volatility.shape == (30, 2)
    assert first.regime.shape == (3, 2)
    assert first.opening.shape == (3, 2, OPENING)
    assert first.opening[0, :, 0] == pytest.approx([60_000.0, 2_600.0], rel=1e-12)
    assert np.array_equal(first.opening[1:, :, 0], first.price[9:29:10]), "a second opens where the last one ended"


def test_regimes_last_about_as_long_as_they_should(block: MarketBlock) -> None:
    for u in range(2):
        regime = block.regime[:, u]
        switches = np.flatnonzero(np.diff(regime)) + 1
        dwell = np.diff(switches)
        for state, expected in enumerate(REGIMES):
            mean = dwell[regime[switches[:-1]] == state].mean()
            assert mean == pytest.approx(expected.mean_dwell_s, rel=0.3)
        share = np.bincount(regime, minlength=3) / SECONDS
        assert share == pytest.approx(occupancy(REGIMES), abs=0.08)


def test_underlyings_share_their_regimes_more_often_than_by_chance(block: MarketBlock) -> None:
    shares = [np.bincount(block.regime[:, u], minlength=3) / SECONDS for u in range(2)]
    by_chance = float(shares[0] @ shares[1])
    assert (block.regime[:, 0] == block.regime[:, 1]).mean() > by_chance + 0.15


def test_volatility_has_the_level_of_its_regime(block: MarketBlock) -> None:
    for u in range(2):
        regime = np.repeat(block.regime[:, u], 2)
        for state, expected in enumerate(REGIMES):
            mine = block.volatility[regime == state, u]
            assert np.sqrt(np.mean(mine**2)) == pytest.approx(expected.volatility, rel=0.05)
            assert 0.1 < np.std(np.log(mine)) < 0.3


def test_returns_have_the_variance_that_is_said_of_them(block: MarketBlock) -> None:
    """Within a regime: the diffusion's, and that of the jumps of both underlyings."""
    returns = np.diff(np.log(block.price), axis=0)
    both = np.repeat(block.regime, 2, axis=0)[1:]
    for state, expected in enumerate(REGIMES):
        inside = (both == state).all(axis=1)
        annual = (returns[inside, 0] ** 2).mean() * 2 * YEAR_S
        # Half of the other's jumps come over, at our size.
        jumps = 1.5 * (expected.variance() - expected.volatility**2)
        assert annual == pytest.approx(expected.volatility**2 + jumps, rel=0.2)


def test_diffusions_are_correlated(block: MarketBlock) -> None:
    returns = np.diff(np.log(block.price), axis=0)
    scaled = returns / (block.volatility[1:] * np.sqrt(0.5 / YEAR_S))
    quiet = (np.abs(scaled) < 4.5).all(axis=1)
    assert np.corrcoef(scaled[quiet].T)[0, 1] == pytest.approx(0.7, abs=0.02)
    assert scaled[quiet].std(axis=0) == pytest.approx([1.0, 1.0], abs=0.03)
    assert abs(scaled[quiet].mean()) < 0.02
    assert (np.abs(scaled) > 6).sum() > 50, "jumps are no tail of the diffusion"


def test_falling_prices_raise_volatility(block: MarketBlock) -> None:
    returns = np.diff(np.log(block.price[:, 0])) / block.volatility[1:, 0]
    same = np.diff(np.repeat(block.regime[:, 0], 2)) == 0
    turns = np.diff(np.log(block.volatility[:, 0]))
    # The deviation's step is taken after the price's, so it shows one tick later.
    linked = same[:-1] & same[1:]
    assert np.corrcoef(returns[:-1][linked], turns[1:][linked])[0, 1] < -0.15


def test_quotes_follow_the_variance_with_a_delay(block: MarketBlock) -> None:
    regime, variance = block.regime[:, 0], block.opening[:, 0, 1]
    settled = np.array([len(set(regime[i - 60 : i])) == 1 for i in range(60, SECONDS)])
    for state, expected in enumerate(REGIMES):
        mine = variance[60:][settled & (regime[59:-1] == state)]
        assert mine.mean() == pytest.approx(expected.volatility**2, rel=0.12)
    assert np.abs(np.diff(np.log(variance))).max() < 1.2

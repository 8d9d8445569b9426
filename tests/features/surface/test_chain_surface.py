"""The streaming surface: the same bits after a checkpoint and in any order of quotes, and sane when a chain is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from option_chains import DAY_NS, NOW_NS, chain_of, points_of, ssvi

from features.state import pack, unpack
from features.surface.arbitrage import check_arbitrage
from features.surface.black import YEAR_NS
from features.surface.chain_surface import MAX_AGE_NS, QUALITY, VALUES, ChainSurface, fit_streamed
from features.surface.cleaning import TOLD, CleaningRules
from features.surface.principal import NAMES as FACTORS
from features.surface.streamed_features import NAMES as SHAPE
from features.surface.svi import svi_butterfly

Array = np.ndarray[Any, Any]
Chain = dict[str, Array]

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "deribit_options"
DAYS = [2, 7, 30, 90, 365]
MINUTE_NS = 60 * 10**9


def update(surface: ChainSurface, chain: Chain, now_ns: int = NOW_NS) -> dict[str, float]:
    out = surface.update(**chain, quoted_ns=np.full(len(chain["strike"]), now_ns), now_ns=now_ns)
    return dict(zip(VALUES, out.tolist(), strict=True))


def ssvi_chain(**change: Any) -> Chain:
    return chain_of(change.pop("days", DAYS), ssvi, **change)


def at(i: int, **change: Any) -> Chain:
    """A noisy chain of step i, whose level moves."""
    level = 1.0 + 0.02 * math.sin(0.7 * i)
    return chain_of(DAYS, lambda k, t: level * ssvi(k, t), noise=0.003, seed=i, **change)


def without(chain: Chain, gone: Array) -> Chain:
    """The chain with no bid nor ask at ``gone``."""
    return chain | {side: np.where(gone, np.nan, chain[side]) for side in ("bid", "ask")}


def assert_sane(found: dict[str, float], *, low: float = 0.2, high: float = 1.5) -> None:
    """Every volatility between two levels and what is made of them finite."""
    for name in SHAPE:
        assert math.isfinite(found[name]), name
        if name.startswith(("atm_iv", "variance_swap", "forward_iv")):
            assert low < found[name] < high, name
        elif "risk_reversal" in name or "butterfly" in name:
            assert abs(found[name]) < 0.5, name


def test_a_known_surface() -> None:
    surface = ChainSurface()
    found = update(surface, ssvi_chain())
    assert tuple(found) == VALUES == (*SHAPE, *FACTORS, *QUALITY)
    for days in (7, 30, 90):
        exact = float(ssvi(np.zeros(1), np.full(1, days / 365))[0])
        assert found[f"atm_iv_{days}d"] == pytest.approx(exact, abs=1e-5)
    # Beyond quotes SVI's wing and the surface's differ, which a variance swap sees.
    assert found["variance_swap_30d"] > found["atm_iv_30d"]
    assert found["risk_reversal_25d"] < 0.0 < found["butterfly_25d"]
    assert found["surface_residual"] < 1e-5
    assert found["surface_inside_share"] == 1.0
    assert found["surface_arbitrage"] == 0.0
    assert found["option_spread"] == pytest.approx(0.01, rel=1e-3)
    assert found["option_quotes"] == 105.0
    assert all(math.isnan(found[name]) for name in FACTORS)
    assert surface.fitted_ns == NOW_NS
    assert surface.expiry_E.tolist() == [NOW_NS + days * DAY_NS for days in DAYS]


def test_a_flat_surface() -> None:
    found = update(ChainSurface(), chain_of(DAYS, lambda k, t: 0.6 + 0.0 * k))
    for name in SHAPE:
        level = name.startswith(("atm_iv", "forward_iv", "variance_swap"))
        close = 1e-3 if "curvature" in name else 1e-5
        assert found[name] == pytest.approx(0.6 if level else 0.0, abs=close), name


def test_factors_are_known_after_enough_surfaces() -> None:
    surface = ChainSurface()
    found = [update(surface, at(i), NOW_NS + i * MINUTE_NS) for i in range(70)]
    level = np.array([each["surface_level"] for each in found])
    assert np.isnan(level[:60]).all()
    assert np.isfinite(level[60:]).all()
    moves = [each["atm_iv_30d"] for each in found]
    assert np.corrcoef(level[60:], moves[60:])[0, 1] > 0.9


def test_a_restored_surface_goes_on_to_the_same_bits() -> None:
    surface = ChainSurface()
    for i in range(65):
        update(surface, at(i), NOW_NS + i * MINUTE_NS)
    saved = surface.state()
    packed = pack(saved)
    expected = [update(surface, at(i), NOW_NS + i * MINUTE_NS) for i in range(65, 75)]
    assert pack(saved) == packed  # what was saved does not move with the surface
    restored = ChainSurface()
    restored.load(unpack(packed))
    again = [update(restored, at(i), NOW_NS + i * MINUTE_NS) for i in range(65, 75)]
    assert pack(restored.state()) == pack(surface.state())
    assert np.array(list(map(list, map(dict.values, again)))).tobytes() == (
        np.array(list(map(list, map(dict.values, expected)))).tobytes()
    )
    # Two that were restored from one state do not share it.
    one, two = ChainSurface(), ChainSurface()
    state = unpack(packed)
    one.load(state)
    two.load(state)
    update(one, at(65), NOW_NS + 65 * MINUTE_NS)
    assert pack(two.state()) == packed


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_the_order_of_the_quotes_does_not_change_a_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    surfaces = ChainSurface(), ChainSurface()
    for i in range(3):
        chain = at(i + seed % 1_000)
        chain["forward"] = chain["forward"] * rng.choice([0.999, 1.0, 1.001], len(chain["forward"]))
        chain = without(chain, rng.random(len(chain["strike"])) < 0.2)
        order = rng.permutation(len(chain["strike"]))
        update(surfaces[0], chain, NOW_NS + i * MINUTE_NS)
        update(surfaces[1], {name: column[order] for name, column in chain.items()}, NOW_NS + i * MINUTE_NS)
        assert pack(surfaces[0].state()) == pack(surfaces[1].state())


# -- chains that are not as they should be -----------------------------------------------------------------------------


def test_nothing_is_known_without_any_quote() -> None:
    chain = ssvi_chain()
    n = len(chain["strike"])
    spoilt = {
        "empty": {name: column[:0] for name, column in chain.items()},
        "no quotes": without(chain, np.ones(n, bool)),
        "all crossed": chain | {"bid": chain["ask"], "ask": chain["bid"]},
        "zero bids": chain | {"bid": np.zeros(n)},
        "negative time value": chain | {"bid": -chain["bid"]},
        "no forward": chain | {"forward": np.full(n, np.nan)},
    }
    for name, each in spoilt.items():
        surface = ChainSurface()
        found = update(surface, each)
        assert found.pop("option_quotes") == 0.0
        assert all(math.isnan(value) for value in found.values()), name
        assert surface.fitted_ns == -1
        # And what comes later is as if nothing had been.
        assert update(surface, chain, NOW_NS + MINUTE_NS) == pytest.approx(
            update(ChainSurface(), chain, NOW_NS + MINUTE_NS), nan_ok=True, rel=1e-12
        )


@pytest.mark.parametrize("kind", ["all crossed", "zero bids", "all gone", "negative time value"])
def test_a_spell_without_quotes_keeps_the_last_surface_for_an_hour(kind: str) -> None:
    surface, chain = ChainSurface(), ssvi_chain()
    before = update(surface, chain)
    n = len(chain["strike"])
    spoilt = {
        "all crossed": chain | {"bid": chain["ask"], "ask": chain["bid"]},
        "zero bids": chain | {"bid": np.zeros(n)},
        "all gone": without(chain, np.ones(n, bool)),
        "negative time value": chain | {"ask": -chain["ask"], "bid": -chain["bid"]},
    }[kind]
    for minutes in (1, 10, 60):
        found = update(surface, spoilt, NOW_NS + minutes * MINUTE_NS)
        assert_sane(found)
        for name in SHAPE:
            # The smiles keep their volatilities, and the tenors move by an hour at most.
            assert found[name] == pytest.approx(before[name], rel=2e-3, abs=1e-3), name
        assert found["option_quotes"] == 0.0
        assert math.isnan(found["surface_residual"])
        assert math.isnan(found["surface_arbitrage"])
        assert surface.fitted_ns == NOW_NS
    gone = update(surface, spoilt, NOW_NS + 2 * 60 * MINUTE_NS)
    assert gone.pop("option_quotes") == 0.0
    assert all(math.isnan(value) for value in gone.values())
    assert surface.fitted_ns == NOW_NS  # two hours old
    assert len(surface.expiry_E) == 0
    back = update(surface, chain, NOW_NS + 2 * 60 * MINUTE_NS + MINUTE_NS)
    assert_sane(back)
    assert surface.fitted_ns == NOW_NS + 121 * MINUTE_NS


def test_one_quote_left_moves_its_expiry_a_little_and_the_others_not() -> None:
    surface, chain = ChainSurface(), ssvi_chain()
    before = update(surface, chain)
    middle = np.flatnonzero(chain["expiry_ns"] == NOW_NS + 30 * DAY_NS)[20]
    gone = np.ones(len(chain["strike"]), bool)
    gone[middle : middle + 2] = False
    found = update(surface, without(chain, gone), NOW_NS + MINUTE_NS)
    assert_sane(found)
    assert found["option_quotes"] == 1.0
    assert found["atm_iv_30d"] == pytest.approx(before["atm_iv_30d"], abs=0.01)
    for name in ("atm_iv_7d", "atm_iv_90d", "atm_iv_180d"):
        assert found[name] == pytest.approx(before[name], abs=0.001)
    assert surface.fitted_ns == NOW_NS + MINUTE_NS
    assert surface.fitted_E.tolist() == [NOW_NS, NOW_NS, NOW_NS + MINUTE_NS, NOW_NS, NOW_NS]
    # Also from nothing.
    alone = update(ChainSurface(), without(chain, gone))
    assert alone["atm_iv_30d"] == pytest.approx(before["atm_iv_30d"], abs=0.05)
    assert math.isnan(alone["term_slope"])


def test_strikes_in_a_cluster_give_a_sane_surface() -> None:
    surface = ChainSurface()
    assert_sane(update(surface, ssvi_chain(deviations=0.02)))
    # Noise of a third of the spread over a hundredth of the smile's width is a slope of its own, which stays bounded.
    assert_sane(update(surface, ssvi_chain(deviations=0.02, noise=0.003), NOW_NS + MINUTE_NS))
    # After a whole chain the cluster moves the level and the wings stay.
    surface = ChainSurface()
    whole = update(surface, ssvi_chain())
    narrow = update(surface, ssvi_chain(deviations=0.02, strikes=TOLD - 1), NOW_NS + MINUTE_NS)
    assert narrow["risk_reversal_25d"] == pytest.approx(whole["risk_reversal_25d"], abs=0.02)


def test_an_expiry_within_the_hour() -> None:
    surface, chain = ChainSurface(), ssvi_chain(days=[40 / (24 * 60), 7, 30, 90])
    assert_sane(update(surface, chain))
    assert surface.years_E[0] == pytest.approx(40 * 60 / (365 * 86_400), rel=1e-9)
    # It expires between two updates and is forgotten; the others go on.
    later = NOW_NS + 41 * MINUTE_NS
    found = update(surface, chain, later)
    assert_sane(found)
    assert surface.expiry_E.tolist() == [NOW_NS + days * DAY_NS for days in (7, 30, 90)]
    np.testing.assert_array_equal(surface.years_E, (surface.expiry_E - later) / YEAR_NS)


def test_the_forward_jumps_by_ten_per_cent() -> None:
    """The smile is one of log-moneyness: a chain whose quotes moved along has the same features at once."""
    surface = ChainSurface()
    before = update(surface, ssvi_chain())
    found = update(surface, ssvi_chain(forward=55_000.0), NOW_NS + MINUTE_NS)
    for name in SHAPE:
        assert found[name] == pytest.approx(before[name], abs=2e-3), name
    # Old quotes by the new forward are no smile at all; what comes out is bounded, and heals with the next chain.
    torn = ssvi_chain()
    torn["forward"] = torn["forward"] * 1.1
    assert np.isfinite(list(update(surface, torn, NOW_NS + 2 * MINUTE_NS).values())[: len(SHAPE)]).sum() > 8
    healed = update(surface, ssvi_chain(forward=55_000.0), NOW_NS + 3 * MINUTE_NS)
    assert_sane(healed)
    assert healed["atm_iv_30d"] == pytest.approx(before["atm_iv_30d"], abs=0.01)


def test_quotes_that_are_wide_or_old_are_not_used() -> None:
    chain = ssvi_chain()
    surface = ChainSurface(CleaningRules(stale_ns=MINUTE_NS))
    n = len(chain["strike"])
    quoted = np.where(np.arange(n) % 4 < 2, NOW_NS, NOW_NS - 2 * MINUTE_NS)
    out = surface.update(**chain, quoted_ns=quoted, now_ns=NOW_NS)
    assert dict(zip(VALUES, out.tolist(), strict=True))["option_quotes"] < 60
    assert update(ChainSurface(), ssvi_chain(spread=0.6))["option_quotes"] < 60


def test_what_could_be_traded_is_counted() -> None:
    chain = ssvi_chain(spread=0.002)
    at_30 = np.flatnonzero(chain["expiry_ns"] == NOW_NS + 30 * DAY_NS)
    for side in ("bid", "ask"):
        chain[side][at_30[16:18]] *= 1.1
    assert update(ChainSurface(), chain)["surface_arbitrage"] >= 1.0


@given(seed=st.integers(0, 2**32 - 1))
@example(seed=3292747)  # expiries that lose their quotes: their level once followed wings that others pressed
@settings(deadline=None, max_examples=25)
def test_whatever_comes_its_slices_are_free_and_what_it_says_is_bounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    surface, now = ChainSurface(), NOW_NS
    for i in range(6):
        days = np.sort(rng.choice([0.03, 0.5, 1, 2, 7, 14, 30, 60, 90, 200], rng.integers(1, 6), replace=False))
        noise, strikes = float(rng.choice([0.0, 0.01, 0.1])), int(rng.integers(1, 25))
        chain = chain_of(days.tolist(), ssvi, noise=noise, seed=seed + i, strikes=strikes)
        chain = without(chain, rng.random(len(chain["strike"])) < rng.choice([0.0, 0.5, 0.95]))
        found = update(surface, chain, now)
        known = [found[name] for name in SHAPE if math.isfinite(found[name])]
        assert len(known) == 0 or len(known) >= len(SHAPE) - 3
        assert all(0.05 < found[name] < 5.0 for name in SHAPE if name.startswith("atm_iv") and known)
        for slice_ in surface.svi_E5[~np.isnan(surface.svi_E5[:, 0])]:
            assert min(svi_butterfly(*slice_, k) for k in np.linspace(-0.3, 0.3, 13).tolist()) > -0.01
        now += int(rng.choice([1, 600, MAX_AGE_NS // 10**9 + 1])) * 10**9


# -- recorded ----------------------------------------------------------------------------------------------------------


def test_it_is_a_model_among_others() -> None:
    chain = chain_of(DAYS, ssvi, noise=0.01, strikes=15)
    points = points_of(chain)
    fitted, stream = fit_streamed(points), ChainSurface()
    update(stream, chain)
    k = np.linspace(-0.5, 0.5, 11)
    for years in (0.01, 0.1, 0.5, 2.0):
        np.testing.assert_array_equal(fitted.total_variance(k, years), stream.surface.total_variance(k, years))
    assert [fit.quotes for fit in fitted.report.expiries] == [15] * len(DAYS)
    assert fitted.report.rmse_bp < 120.0
    assert check_arbitrage(fitted).is_free
    again = fit_streamed(points, fitted)
    np.testing.assert_allclose(again.total_variance(k, 0.1), fitted.total_variance(k, 0.1), rtol=1e-3)
    nothing = fit_streamed(points_of({name: column[:0] for name, column in chain.items()}))
    assert np.isnan(nothing.total_variance(k, 0.1)).all()
    assert np.isnan(fit_streamed(points_of({n: c[:0] for n, c in chain.items()}), fitted).report.rmse_bp)


@pytest.mark.data
def test_the_surface_of_recorded_chains_has_no_arbitrage() -> None:
    if not RECORDED.exists():
        pytest.skip(f"the recorded chains are not here: {RECORDED}")
    from benchmarks.deribit_chains import chains

    streams = {coin: ChainSurface() for coin in ("BTC", "ETH")}
    for number, chain in enumerate(chains(RECORDED)):
        if number % 12 > 1:
            continue
        quoted = np.full(len(chain.strike), chain.now_ns)
        columns = chain.expiry_ns, chain.strike, chain.is_call, chain.bid, chain.ask, chain.forward
        streams[chain.coin].update(*columns, quoted, chain.now_ns)
        report = check_arbitrage(streams[chain.coin].surface)
        # Between two places where slices are compared one may cross the next by some 1e-7 of total variance.
        assert all(each.size < 1e-6 for each in (*report.by_variance, *report.by_price)), (number, report)


@pytest.mark.data
def test_recorded_chains_agree_with_the_venue() -> None:
    if not RECORDED.exists():
        pytest.skip(f"the recorded chains are not here: {RECORDED}")
    from benchmarks.deribit_chains import chains

    surfaces = {"BTC": ChainSurface(), "ETH": ChainSurface()}
    arbitrage = 0.0
    for _, chain in zip(range(24), chains(RECORDED), strict=False):
        quotes = {name: getattr(chain, name) for name in ("expiry_ns", "strike", "is_call", "bid", "ask", "forward")}
        found = update(surfaces[chain.coin], quotes, chain.now_ns)
        assert_sane(found)
        assert found["option_quotes"] > 250
        assert found["surface_inside_share"] > 0.9
        assert found["surface_residual"] < 0.015
        arbitrage += found["surface_arbitrage"]
        years, variance = [], []
        for expiry in np.unique(chain.expiry_ns).tolist():
            part = chain.expiry_ns == expiry
            k = np.log(chain.strike[part] / chain.forward[part])
            by_k = np.argsort(k)
            years.append((expiry - chain.now_ns) / YEAR_NS)
            variance.append(float(np.interp(0.0, k[by_k], chain.mark_volatility[part][by_k])) ** 2 * years[-1])
        venue = math.sqrt(float(np.interp(30 / 365, years, variance)) / (30 / 365))
        assert found["atm_iv_30d"] == pytest.approx(venue, abs=0.005)
    assert arbitrage <= 2.0  # of some 9,000 quotes: a bid a tick above what others ask for more

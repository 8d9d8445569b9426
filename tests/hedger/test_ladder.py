"""The ladder, one test a missing thing: it leads down, never up, and says why."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hedge_market import SPOT, T0, FixedBand, portfolio, signal
from numpy.typing import NDArray

from features.errors import BadInputError, ConfigError
from features.surface.black import YEAR_NS, black_delta, black_gamma
from hedger.decision import Rung
from hedger.ladder import LadderConfig, Stance, forecast_volatility, policy_rows, whalley_wilmott_half_width
from hedger.policy_inputs import policy_inputs
from hedger.portfolio import OptionPosition, Portfolio
from hedger.stances import Policy, stances

CONFIG = LadderConfig()
POLICY = Policy("fixed", FixedBand(0.02, 0.03))
YEARS = (30 * 86_400 - 1) / (365 * 86_400)  # the signals come a second after the sale


def stance(policy: Policy = POLICY, config: LadderConfig = CONFIG, **changes: Any) -> Stance:
    """BTC's, beside an ETH for which nothing is missing."""
    both = {"BTC": signal("BTC", **changes), "ETH": signal("ETH")}
    chosen = stances(portfolio(), both, policy, config)
    if policy is POLICY:
        assert chosen["ETH"].rung is Rung.DEEP_POLICY
    return chosen["BTC"]


def assert_steps_to(rung: Rung, reason: str, **changes: Any) -> None:
    found = stance(**changes)
    assert found.rung is rung
    assert reason in "; ".join(found.reasons)
    if rung is Rung.HOLD:
        assert found.target(-7.5) == -7.5


def test_the_deep_policy_keeps_a_band_around_the_black_delta() -> None:
    found = stance()
    delta = float(black_delta(SPOT["BTC"], 60_000.0, YEARS, 0.5, True))
    assert found.rung is Rung.DEEP_POLICY
    assert not found.reasons
    assert found.black_delta == pytest.approx(10.0 * delta, rel=1e-12)
    assert found.lower == pytest.approx(10.0 * (delta - 0.02), rel=1e-12)
    assert found.upper == pytest.approx(10.0 * (delta + 0.03), rel=1e-12)
    assert (found.volatility, found.volatility_source) == (0.5, "atm_iv_30d")
    assert [found.target(held) for held in (0.0, 5.3, 9.0)] == [found.lower, 5.3, found.upper]


def test_a_short_put_is_hedged_with_a_short_position() -> None:
    found = stances(portfolio(), {"ETH": signal("ETH")}, POLICY, CONFIG)["ETH"]
    delta = float(black_delta(SPOT["ETH"], 3_000.0, YEARS, 0.5, False))
    assert delta < 0.0
    assert found.lower == pytest.approx(100.0 * (delta - 0.02))
    assert found.upper == pytest.approx(100.0 * (delta + 0.03))


def test_a_long_option_has_the_mirrored_band() -> None:
    short = portfolio().options[0]
    long = OptionPosition(underlying="BTC", quantity=10.0, is_call=True, strike=short.strike, expiry_ns=short.expiry_ns)
    book = Portfolio(name="p", options=(long,), hedge_instruments={"BTC": "sim:BTC-PERP"})
    found, mirrored = stances(book, {"BTC": signal()}, POLICY, CONFIG)["BTC"], stance()
    assert mirrored.lower is not None
    assert mirrored.upper is not None
    assert (found.lower, found.upper) == (-mirrored.upper, -mirrored.lower)


def test_the_policy_sees_what_it_was_trained_on() -> None:
    options = portfolio().options_on("BTC")
    row = signal(posterior_0=0.5, posterior_1=0.3, posterior_2=0.2)
    expected = policy_inputs(60_000.0, [60_000.0], [YEARS], 0.5, [True], [[0.5, 0.3, 0.2]], 1.0)
    np.testing.assert_allclose(policy_rows(row, options), expected, rtol=1e-9)


# Without these no order can be made at all.
@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("book is invalid", {"book_valid": False}),
        ("no bid", {"best_bid": None}),
        ("no bid", {"best_ask": math.nan}),
        ("no bid", {"mid": None}),
        ("crossed", {"best_bid": 60_001.0, "best_ask": 60_000.0}),
        ("locked", {"best_bid": 60_000.0, "best_ask": 60_000.0}),
        ("expired", {"bar_ts": T0 + 30 * 86_400 * 10**9}),
    ],
)
def test_without_a_market_it_holds(reason: str, changes: dict[str, Any]) -> None:
    assert_steps_to(Rung.HOLD, reason, **changes)


def test_without_a_signal_it_holds() -> None:
    found = stances(portfolio(), {"ETH": signal("ETH")}, POLICY, CONFIG)["BTC"]
    assert (found.rung, found.reasons) == (Rung.HOLD, ("there is no signal",))


# Without these the deep policy cannot be asked.
@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("atm_iv_30d is unknown", {"atm_iv_30d": None}),
        ("atm_iv_30d is unknown", {"atm_iv_30d": 0.0}),
        ("atm_iv_30d is unknown", {"atm_iv_30d": math.nan}),
        ("of unknown age", {"surface_age_s": None}),
        ("120.001 s old", {"surface_age_s": 120.001}),
        ("-1 s old", {"surface_age_s": -1.0}),
        ("posterior is unknown", {"posterior_1": None}),
        ("posterior is unknown", {"posterior_2": 1.5}),
    ],
)
def test_without_its_inputs_the_policy_steps_down(reason: str, changes: dict[str, Any]) -> None:
    assert_steps_to(Rung.NO_TRADE_BAND, reason, **changes)


def test_a_surface_at_the_bound_of_its_age_is_fresh() -> None:
    assert stance(surface_age_s=120.0).rung is Rung.DEEP_POLICY


class BrokenBand:
    """A policy that raises."""

    version = "broken"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def band(self, inputs_ND: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        raise self._error


# Without a policy that answers with a band.
@pytest.mark.parametrize(
    ("reason", "policy"),
    [
        ("there is no policy", Policy()),
        ("policy v2 is in force but not loaded", Policy("v2")),
        ("band is [-nan", Policy("f", FixedBand(math.nan, 0.1))),
        ("+inf]", Policy("f", FixedBand(0.1, math.inf))),
        ("band is [--0.1", Policy("f", FixedBand(-0.1, 0.1))),
        ("failed: RuntimeError: device lost", Policy("b", BrokenBand(RuntimeError("device lost")))),
        ("failed: BadInputError", Policy("b", BrokenBand(BadInputError("shape", "columns")))),
    ],
)
def test_without_a_band_the_policy_steps_down(reason: str, policy: Policy) -> None:
    assert_steps_to(Rung.NO_TRADE_BAND, reason, policy=policy)


def test_a_programming_error_is_not_hidden_in_the_ladder() -> None:
    with pytest.raises(TypeError):
        stance(Policy("b", BrokenBand(TypeError("bug"))))


def test_the_second_rung_is_whalley_and_wilmotts_at_the_forecast_volatility() -> None:
    found = stance(atm_iv_30d=None, forecast_variance=4e-7, forecast_horizon_s=60.0)
    volatility = math.sqrt(4e-7 * 365 * 86_400 / 60.0)
    delta = 10.0 * float(black_delta(60_000.0, 60_000.0, YEARS, volatility, True))
    gamma = 10.0 * float(black_gamma(60_000.0, 60_000.0, YEARS, volatility))
    width = (3.0 * (1e-4 + 5e-4) * gamma**2 * 60_000.0 / (2.0 * 1e-4)) ** (1.0 / 3.0)
    assert found.volatility_source == "forecast_variance"
    assert found.volatility == pytest.approx(volatility)
    assert found.black_delta == pytest.approx(delta, rel=1e-9)
    assert found.lower == pytest.approx(delta - width, rel=1e-9)
    assert found.upper == pytest.approx(delta + width, rel=1e-9)


@pytest.mark.parametrize("missing", ["forecast_variance", "forecast_horizon_s"])
def test_without_a_forecast_the_second_rung_takes_the_implied_volatility(missing: str) -> None:
    found = stance(posterior_0=None, **{missing: None})
    assert (found.rung, found.volatility, found.volatility_source) == (Rung.NO_TRADE_BAND, 0.5, "atm_iv_30d")


def test_without_any_volatility_it_holds_and_names_both_steps() -> None:
    found = stance(atm_iv_30d=None, forecast_variance=None)
    assert found.rung is Rung.HOLD
    assert found.reasons == (
        "not deep_policy: atm_iv_30d is unknown",
        "not no_trade_band: neither a forecast nor an implied volatility is known",
    )


def test_a_veto_holds_everything() -> None:
    chosen = stances(portfolio(), {"BTC": signal(), "ETH": signal("ETH")}, POLICY, CONFIG, veto="killed")
    assert {each.rung for each in chosen.values()} == {Rung.HOLD}
    assert {each.reasons for each in chosen.values()} == {("killed",)}


def test_only_flatten_goes_to_zero_and_only_in_a_market() -> None:
    both = {"BTC": signal(), "ETH": signal("ETH", book_valid=False)}
    chosen = stances(portfolio(), both, POLICY, CONFIG, flatten="ordered by a person")
    assert (chosen["BTC"].rung, chosen["BTC"].target(4.0)) == (Rung.FLATTEN, 0.0)
    assert (chosen["ETH"].rung, chosen["ETH"].target(4.0)) == (Rung.HOLD, 4.0)


def test_the_band_is_wider_where_trading_costs_more_and_narrower_for_the_timid() -> None:
    width = whalley_wilmott_half_width(5e-4, 60_000.0, 5e-4, 1e-4)
    assert width == pytest.approx((1.5 * 5e-4 * 60_000.0 * 25e-8 / 1e-4) ** (1 / 3))
    assert whalley_wilmott_half_width(5e-4, 60_000.0, 40e-4, 1e-4) == pytest.approx(2.0 * width)
    assert whalley_wilmott_half_width(5e-4, 60_000.0, 5e-4, 8e-4) == pytest.approx(0.5 * width)
    # Twice the options on twice the gamma: a position's band grows with its size to the power 2/3.
    assert whalley_wilmott_half_width(8 * 5e-4, 60_000.0, 5e-4, 1e-4) == pytest.approx(4.0 * width)


def test_a_forecast_is_annualized_by_its_horizon() -> None:
    year_s = YEAR_NS / 1e9
    assert forecast_volatility(signal(forecast_variance=0.25, forecast_horizon_s=year_s)) == pytest.approx(0.5)
    assert forecast_volatility(signal(forecast_variance=0.0)) is None


@pytest.mark.parametrize("changes", [{"stale_after_s": -1.0}, {"risk_aversion_per_usd": 0.0}, {"fee_bps": math.nan}])
def test_settings_have_a_range(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LadderConfig(**changes)

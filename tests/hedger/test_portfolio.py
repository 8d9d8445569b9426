"""Portfolios: what may be one, its file, and the demo's."""

from __future__ import annotations

import pytest
from hedge_market import SPOT, T0

from features.errors import BadInputError, ConfigError
from hedger.portfolio import OptionPosition, Portfolio, decode_portfolio, demo_portfolio, encode_portfolio


def test_the_demo_is_short_at_the_money_for_thirty_days() -> None:
    demo = demo_portfolio({"BTC": 61_499.0, "ETH": 3_026.0}, T0)
    btc, eth = demo.options
    assert (btc.quantity, btc.is_call, btc.strike) == (-10.0, True, 61_000.0)
    assert (eth.quantity, eth.is_call, eth.strike) == (-100.0, False, 3_050.0)
    assert {option.expiry_ns - T0 for option in demo.options} == {30 * 86_400 * 10**9}
    assert demo.currency == "USD"
    assert "Black-76" in demo.settlement_price_source
    assert demo.underlyings == ("BTC", "ETH")


def test_hedge_instruments_of_the_demo_can_be_named() -> None:
    demo = demo_portfolio(SPOT, T0, {"BTC": "a:BTC", "ETH": "a:ETH"})
    assert demo.hedge_instruments == {"BTC": "a:BTC", "ETH": "a:ETH"}


@pytest.mark.parametrize("spot", [{"BTC": 60_000.0}, {"BTC": 60_000.0, "ETH": float("nan")}, {"BTC": -1.0, "ETH": 1.0}])
def test_the_demo_needs_both_prices(spot: dict[str, float]) -> None:
    with pytest.raises(BadInputError, match="price"):
        demo_portfolio(spot, T0)


def test_a_portfolio_comes_back_from_its_file() -> None:
    demo = demo_portfolio(SPOT, T0)
    assert decode_portfolio(encode_portfolio(demo)) == demo


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"name": "x"}', b'{"surprise": 1}', b"\xff"])
def test_a_damaged_file_says_so(document: bytes) -> None:
    with pytest.raises(BadInputError, match="portfolio cannot be read"):
        decode_portfolio(document)


def test_every_underlying_has_one_hedge() -> None:
    option = OptionPosition(underlying="BTC", quantity=-1.0, is_call=True, strike=1.0, expiry_ns=T0)
    with pytest.raises(ConfigError, match="hedges for"):
        Portfolio(name="p", options=(option,), hedge_instruments={"ETH": "sim:ETH-PERP"})
    with pytest.raises(ConfigError, match="EUR"):
        Portfolio(name="p", options=(option,), hedge_instruments={"BTC": "sim:BTC-PERP"}, currency="EUR")
    with pytest.raises(ConfigError, match="0 options"):
        Portfolio(name="p", options=(), hedge_instruments={})


@pytest.mark.parametrize(("quantity", "strike"), [(float("nan"), 1.0), (1.0, 0.0), (1.0, float("inf"))])
def test_an_option_has_a_size_and_a_strike(quantity: float, strike: float) -> None:
    with pytest.raises(ConfigError, match="finite"):
        OptionPosition(underlying="BTC", quantity=quantity, is_call=True, strike=strike, expiry_ns=T0)

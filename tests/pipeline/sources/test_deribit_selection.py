"""What a symbol on the command line means."""

from __future__ import annotations

import pytest

from features.errors import ConfigError
from pipeline.sources.deribit_selection import DeribitSelection


@pytest.mark.parametrize(
    ("wanted", "symbol", "held"),
    [
        ("BTC-PERPETUAL", "BTC-PERPETUAL", True),
        ("BTC-PERPETUAL", "BTC-29DEC23", False),
        ("BTC-options", "BTC-29DEC23-40000-P", True),
        ("btc-OPTIONS", "BTC-29DEC23-40000-C", True),
        ("BTC-options", "BTC-29DEC23", False),
        ("BTC-options", "BTC_USDC-29DEC23-40000-C", False),
        ("BTC_USDC-options", "BTC_USDC-29DEC23-40000-C", True),
        ("BTC-futures", "BTC-PERPETUAL", True),
        ("BTC-futures", "BTC-29DEC23", True),
        ("BTC-futures", "ETH-PERPETUAL", False),
    ],
)
def test_what_a_symbol_holds(wanted: str, symbol: str, held: bool) -> None:
    assert (symbol in DeribitSelection([wanted])) is held
    assert 7 not in DeribitSelection([wanted])


def test_lists_are_asked_for_by_currency_of_settlement() -> None:
    selection = DeribitSelection(["BTC-PERPETUAL", "BTC-options", "SOL_USDC-options", "ETH_USDC-PERPETUAL", "BTC_USDC"])
    assert selection.currencies == ["BTC", "USDC", "any"]


@pytest.mark.parametrize("symbols", [[], [""], ["-options"], ["BTC-"], ["BTC-PERPETUÄL"]])
def test_other_forms_are_refused(symbols: list[str]) -> None:
    with pytest.raises(ConfigError):
        DeribitSelection(symbols)

"""What is hedged: options on several underlyings, and the instrument that hedges each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from features.errors import BadInputError, ConfigError

USD: Final = "USD"

SETTLEMENT_PRICE_SOURCE: Final = "undiscounted Black-76 at atm_iv_30d with the perpetual's mid as forward"
"""What options are marked at, unless the portfolio names something else; hedges are marked at their mid."""

DEMO_EXPIRY_NS: Final = 30 * 24 * 3_600 * 1_000_000_000
DEMO_STRIKE_STEP_USD: Final[Mapping[str, float]] = {"BTC": 1_000.0, "ETH": 50.0}
"""The venue's grid of strikes a month out."""


class OptionPosition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """European options of one series.

    Attributes:
        underlying: whose price they depend on.
        quantity: in units (coins) of the underlying; negative when sold.
        is_call: a call, else a put.
        strike: in USD.
        expiry_ns: ns since the Unix epoch, UTC.
    """

    underlying: str
    quantity: float
    is_call: bool
    strike: float
    expiry_ns: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.quantity) and math.isfinite(self.strike) and self.strike > 0.0):
            raise ConfigError(
                f"An option on {self.underlying} has quantity {self.quantity} and strike {self.strike}.",
                "Both are finite numbers, the strike a positive one.",
            )


class Portfolio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options, and for each of their underlyings the linear perpetual that hedges it.

    Attributes:
        name: key of everything that is decided for it.
        options: at least one.
        hedge_instruments: underlying -> instrument; positions and orders in it are in coins.
        currency: of every value and P&L; only USD.
        settlement_price_source: what the options are marked at, in words.
    """

    name: str
    options: tuple[OptionPosition, ...]
    hedge_instruments: dict[str, str]
    currency: str = USD
    settlement_price_source: str = SETTLEMENT_PRICE_SOURCE

    def __post_init__(self) -> None:
        if not self.name or not self.options:
            raise ConfigError(f"Portfolio {self.name!r} holds {len(self.options)} options.", "Name it, and fill it.")
        if self.currency != USD:
            raise ConfigError(f"Portfolio {self.name!r} counts in {self.currency}.", f"Only {USD} is known.")
        held = {option.underlying for option in self.options}
        if held != set(self.hedge_instruments):
            raise ConfigError(
                f"Portfolio {self.name!r} has options on {sorted(held)}, hedges for {sorted(self.hedge_instruments)}.",
                "Name one hedge instrument for each underlying, and no other.",
            )

    @property
    def underlyings(self) -> tuple[str, ...]:
        """In alphabetical order: the order of the legs of a decision."""
        return tuple(sorted(self.hedge_instruments))

    def options_on(self, underlying: str) -> tuple[OptionPosition, ...]:
        """Those whose price depends on ``underlying``."""
        return tuple(option for option in self.options if option.underlying == underlying)


def encode_portfolio(portfolio: Portfolio) -> bytes:
    """As JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(portfolio), indent=2)


def decode_portfolio(document: bytes | str) -> Portfolio:
    """The inverse of :func:`encode_portfolio`.

    Raises:
        BadInputError: it is no such document.
        ConfigError: it is one, but hedges and options do not fit together.
    """
    try:
        return msgspec.json.decode(document, type=Portfolio)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"A portfolio cannot be read: {error}.", "docs/configuration.md shows one.") from error


def demo_portfolio(
    spot: Mapping[str, float], at_ns: int, hedge_instruments: Mapping[str, str] | None = None, *, name: str = "demo"
) -> Portfolio:
    """Short 10 BTC of 30-day at-the-money calls and short 100 ETH of puts, hedged with perpetuals.

    Args:
        spot: USD price of ``BTC`` and of ``ETH``; strikes are the nearest on :data:`DEMO_STRIKE_STEP_USD`.
        at_ns: now, ns UTC; the options expire 30 days later.
        hedge_instruments: of both underlyings; those of the simulated exchange unless given.
        name: of the portfolio.

    Raises:
        BadInputError: a price is missing or not positive.
    """

    def short(underlying: str, quantity: float, is_call: bool) -> OptionPosition:
        price, step = spot.get(underlying, math.nan), DEMO_STRIKE_STEP_USD[underlying]
        if not 0.0 < price < math.inf:
            raise BadInputError(f"The price of {underlying} is {price}.", "Start where both books are valid.")
        strike = max(1, round(price / step)) * step
        return OptionPosition(
            underlying=underlying, quantity=-quantity, is_call=is_call, strike=strike, expiry_ns=at_ns + DEMO_EXPIRY_NS
        )

    instruments = hedge_instruments or {"BTC": "sim:BTC-PERP", "ETH": "sim:ETH-PERP"}
    return Portfolio(
        name=name,
        options=(short("BTC", 10.0, True), short("ETH", 100.0, False)),
        hedge_instruments={underlying: instruments[underlying] for underlying in ("BTC", "ETH")},
    )

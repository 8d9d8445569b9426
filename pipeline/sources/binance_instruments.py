"""What Binance lists: names, increments and currencies, from a file's name and a small table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from features.errors import BadInputError
from features.events import NANO
from pipeline.sources.decimals import Increment

Market = Literal["spot", "usdm"]

_QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "EUR", "TRY", "BTC", "ETH", "BNB")

_INCREMENTS: Final[dict[tuple[Market, str], tuple[str, str]]] = {
    ("spot", "BTCUSDT"): ("0.01", "0.000001"),
    ("usdm", "BTCUSDT"): ("0.1", "0.001"),
    ("usdm", "ETHUSDT"): ("0.01", "0.001"),
}
"""Price and size increment, as ``exchangeInfo`` gave them in August 2024; but spot BTCUSDT orders of the time before
its lot became 0.00001 still rest in the book, in lots of 0.000001."""

_FILE: Final = re.compile(r"(spot|usdm)_([a-z0-9]+)_")


@dataclass(frozen=True, slots=True)
class BinanceInstrument:
    """One symbol of one market."""

    market: Market
    symbol: str
    underlying: str
    quote_currency: str

    @classmethod
    def of(cls, market: str, symbol: str) -> BinanceInstrument:
        """Split the symbol into underlying and quote currency.

        Raises:
            BadInputError: the market is unknown, or the symbol ends in no known quote currency.
        """
        symbol = symbol.upper()
        if market not in get_args(Market):
            raise BadInputError(
                f"Binance has no market {market!r} here.", f"Choose from {', '.join(get_args(Market))}."
            )
        for quote in _QUOTES:
            if symbol.endswith(quote) and symbol != quote:
                return cls(cast(Market, market), symbol, symbol.removesuffix(quote), quote)
        raise BadInputError(f"{symbol} ends in no known quote currency.", f"Known are {', '.join(_QUOTES)}.")

    @classmethod
    def of_file(cls, path: Path) -> BinanceInstrument:
        """From a name such as ``usdm_btcusdt_20240808.gz``.

        Raises:
            BadInputError: the name does not tell.
        """
        match = _FILE.match(path.name)
        if match is None:
            raise BadInputError(
                f"The name {path.name} does not tell market and symbol.",
                "Name it spot_SYMBOL_DATE or usdm_SYMBOL_DATE, such as usdm_btcusdt_20240808.gz.",
            )
        return cls.of(match[1], match[2])

    @property
    def name(self) -> str:
        """As in the log, ``binance-usdm:BTCUSDT``."""
        return f"binance-{self.market}:{self.symbol}"

    def increments(self) -> tuple[Increment, Increment] | None:
        """Price and size increment if the symbol is in the table; otherwise the stream's decimals must tell."""
        known = _INCREMENTS.get((self.market, self.symbol))
        if known is None:
            return None
        price, size = (Increment.from_e9(Increment(9, 1).count(text)) for text in known)
        return price, size

    def columns(self, ts_event: int, price: Increment, size: Increment) -> dict[str, Any]:
        """The instrument event's row."""
        row = {
            "ts_event": ts_event,
            "instrument_type": "spot" if self.market == "spot" else "perpetual",
            "quote_currency": self.quote_currency,
            "settlement_currency": self.quote_currency,
            "price_increment_e9": price.e9,
            "size_increment_e9": size.e9,
            "contract_size_e9": NANO,
            "is_inverse": False,
            "expiry_ns": None,
            "strike_e9": None,
            "is_call": None,
        }
        return {"instrument": self.name} | {column: [value] for column, value in row.items()}

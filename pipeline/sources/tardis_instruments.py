"""What Tardis' exchange and symbol say of an instrument: names, underlying, currencies, kind of contract."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from features.events import NANO
from pipeline.sources.base import UnusableError
from pipeline.sources.decimals import Increment

_STABLE: Final = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD")
_SUFFIXES: Final = ("USDT", "USDC", "USD", "EUR", "GBP", "JPY", "TRY", "BTC", "ETH", "BNB")
_BINANCE_ONLY: Final = ("FDUSD", "BUSD", "TUSD")
"""Elsewhere such an ending is a coin's last letter before USD, as in DOTUSD."""

_LINEAR: Final = ("hyperliquid", "dydx", "dydx-v4", "ftx", "binance-options", "bybit-options", "woo-x")
"""Venues whose derivatives all settle in dollars or a stable coin."""

_SPOT: Final = ("binance", "binance-us", "bybit-spot", "coinbase", "kraken", "bitstamp", "huobi", "okex", "gemini",
    "kucoin", "gate-io", "crypto-com", "upbit", "bitfinex", "ascendex", "bitflyer", "poloniex", "hitbtc")  # fmt: skip
_SEPARATOR: Final = re.compile(r"[-_/:]")
_OPTION: Final = re.compile(r"-(\d{1,2}[A-Z]{3}\d\d|\d{6})-(\d[\dD.]*)-([CP])(?:-USDT)?$")
_DATED: Final = re.compile(r"(?:^[A-Z]{3,}[FGHJKMNQUVXZ]\d\d$)|(?:[-_]\d{6}$)|(?:-\d{1,2}[A-Z]{3}\d\d$)|(?:-\d{4}$)")
_VENUE_PREFIX: Final = re.compile(r"^(?:PI|PF|FI|FF|PV)_")
_MONTH_CODE: Final = re.compile(r"[FGHJKMNQUVXZ]\d\d$")

_CONTRACT_100_10: Final = ("binance-delivery", "huobi-dm", "huobi-dm-swap", "okex-swap", "okex-futures")
"""Venues whose inverse contract is 100 USD of BTC and 10 USD of every other coin; elsewhere amounts are in USD."""

INCREMENTS: Final = {
    "deribit:BTC-PERPETUAL": ("0.5", "10"),
    "deribit:ETH-PERPETUAL": ("0.05", "1"),
}
"""Price and size increments of instruments whose tick is no power of ten and never changed in what Tardis recorded."""


@dataclass(frozen=True, slots=True)
class TardisInstrument:
    """An instrument of the vendor's files; ``name`` is as in the log, ``deribit:BTC-PERPETUAL``."""

    exchange: str
    symbol: str
    underlying: str
    quote_currency: str
    instrument_type: str  # spot | perpetual | future | option
    is_inverse: bool

    @classmethod
    def of(cls, exchange: str, symbol: str, *, is_option: bool = False) -> TardisInstrument:
        """Told by the names alone, by these rules.

        The underlying is the part before the first ``-``, ``_`` or ``/``, less the quote currency that it ends in;
        ``XBT`` is BTC. A symbol that fits no rule is its own underlying. A derivative quoted in USD, and an option
        whose symbol names no stable coin, is inverse: it settles in the underlying; not so on venues that settle
        everything in dollars. BitMEX's quanto contracts (ETHUSD, settled in XBT) are not told apart from inverse ones.

        Args:
            exchange: as the file has it.
            symbol: as the file has it.
            is_option: the file says so; otherwise the symbol tells.

        >>> TardisInstrument.of("deribit", "BTC-9JUN20-9875-P").underlying
        'BTC'
        >>> TardisInstrument.of("bitmex", "XBTUSD").underlying
        'BTC'
        """
        upper = symbol.upper()
        base, quote = _split(exchange, _VENUE_PREFIX.sub("", upper).replace("XBT", "BTC", 1))
        terms = option_terms(upper)
        if is_option or terms is not None:
            kind = "option"
        elif exchange in _SPOT:
            kind = "spot"
        else:
            kind = "future" if _DATED.search(upper) else "perpetual"
        linear = kind == "spot" or exchange in _LINEAR or upper.startswith(("PF_", "FF_")) or quote not in ("", "USD")
        currency = (quote or "USD") if linear else (base if kind == "option" else "USD")
        return cls(exchange, symbol, base, currency, kind, not linear)

    @property
    def name(self) -> str:
        """As in the log."""
        return f"{self.exchange}:{self.symbol}"

    @property
    def family(self) -> str:
        """Instruments of one family share their increments: all options on an underlying, else only itself."""
        return f"{self.exchange}:{self.underlying} options" if self.instrument_type == "option" else self.name

    @property
    def contract_size_e9(self) -> int:
        """Units of the underlying in a contract, or of the quote currency if it is inverse; 1 where not known."""
        if self.is_inverse and self.exchange in _CONTRACT_100_10:
            return (100 if self.underlying == "BTC" else 10) * NANO
        return NANO

    def columns(
        self,
        ts_event: int,
        price: Increment,
        size: Increment,
        option: tuple[int, int, bool] | None = None,
    ) -> dict[str, Any]:
        """The instrument event's row.

        Args:
            ts_event: when it is first heard of.
            price: the increment.
            size: the increment.
            option: expiry (ns), strike (e9) and whether it is a call.
        """
        expiry_ns, strike_e9, is_call = option or (None, None, None)
        row = {
            "ts_event": ts_event,
            "instrument_type": self.instrument_type,
            "quote_currency": self.quote_currency,
            "settlement_currency": self.underlying if self.is_inverse else self.quote_currency,
            "price_increment_e9": price.e9,
            "size_increment_e9": size.e9,
            "contract_size_e9": self.contract_size_e9,
            "is_inverse": self.is_inverse,
            "expiry_ns": expiry_ns,
            "strike_e9": strike_e9,
            "is_call": is_call,
        }
        return {"instrument": [self.name]} | {column: [value] for column, value in row.items()}


def option_terms(symbol: str) -> tuple[int, int, bool] | None:
    """Expiry (ns, 08:00 UTC of its day), strike (e9) and whether it is a call; None if the symbol is no option's.

    >>> option_terms("BTC-9JUN20-9875-P")
    (1591689600000000000, 9875000000000, False)
    """
    match = _OPTION.search(symbol)
    if match is None:
        return None
    day, strike, right = match[1], match[2].replace("D", "."), match[3]
    try:
        expiry = datetime.strptime(day, "%d%b%y" if not day.isdigit() else "%y%m%d")
        strike_e9 = Increment(9, 1).count(strike)
    except (ValueError, UnusableError):
        return None
    return (int(expiry.replace(tzinfo=UTC, hour=8).timestamp()) * NANO, strike_e9, right == "C")


def _split(exchange: str, symbol: str) -> tuple[str, str]:
    """Base and quote currency; the quote is empty where the symbol names none."""
    parts = _SEPARATOR.split(symbol)
    first = parts[0]
    known = (*_BINANCE_ONLY, *_SUFFIXES) if exchange in ("binance", "binance-futures") else _SUFFIXES
    if len(parts) > 1 and parts[1] in (*_STABLE, *_SUFFIXES):
        return first, parts[1]
    undated = _MONTH_CODE.sub("", first)
    for quote in known:
        if undated.endswith(quote) and undated != quote:
            return undated.removesuffix(quote), quote
    return undated if len(undated) >= 3 else first, ""

"""What Deribit lists: names, increments and currencies, from ``public/get_instruments``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from math import gcd
from typing import Any, Final

from features.events import NANO
from pipeline.sources.base import UnusableError
from pipeline.sources.deribit_messages import Listing

MAX_INT64: Final = 2**63 - 1
NANOS_PER_MILLI: Final = 1_000_000

KINDS: Final = ("option", "future", "spot")
"""What is followed. Combos (``option_combo``, ``future_combo``) are strategies on instruments that are listed too."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class DeribitInstrument:
    """One instrument. Sizes are Deribit's *amounts*: coins of an option or a linear future, USD of an inverse future.

    So the unit of size is one coin or one USD, and the contract size of its instrument event is 1, whatever multiple
    of that unit the venue calls a contract.
    """

    symbol: str
    underlying: str
    instrument_type: str  # spot | perpetual | future | option
    quote_currency: str
    settlement_currency: str
    price_increment_e9: int
    size_increment_e9: int
    is_inverse: bool
    expiry_ns: int | None = None
    strike_e9: int | None = None
    is_call: bool | None = None

    @classmethod
    def of(cls, listing: Listing) -> DeribitInstrument:
        """From the venue's list.

        The price increment is the greatest common divisor of all ticks (they may grow with the price), the size
        increment that of smallest amount and contract. Older lists name no settlement currency: it is USDC where the
        name says so, else the coin.

        Raises:
            UnusableError: a field is missing or impossible.
        """
        settlement = listing.settlement_currency or _settlement(listing)
        option = listing.kind == "option"
        perpetual = listing.settlement_period == "perpetual"
        if listing.kind not in KINDS or not _NAME.fullmatch(listing.instrument_name) or not listing.base_currency:
            raise UnusableError("bad_listing", f"{listing.instrument_name!r} of kind {listing.kind!r}")
        if option and (listing.strike is None or listing.option_type not in ("call", "put")):
            raise UnusableError("bad_listing", f"option {listing.instrument_name} needs strike and option_type")
        dated = listing.kind != "spot" and not perpetual
        sizes = [size for size in (listing.min_trade_amount, listing.contract_size) if size is not None]
        return cls(
            symbol=listing.instrument_name,
            underlying=listing.base_currency,
            instrument_type="perpetual" if listing.kind == "future" and perpetual else listing.kind,
            quote_currency=listing.quote_currency,
            settlement_currency=settlement,
            price_increment_e9=_divisor([listing.tick_size, *(step.tick_size for step in listing.tick_size_steps)]),
            size_increment_e9=_divisor(sizes),
            is_inverse=listing.kind != "spot" and settlement == listing.base_currency,
            expiry_ns=_expiry_ns(listing) if dated else None,
            strike_e9=None if listing.strike is None or not option else _positive_e9(listing.strike),
            is_call=listing.option_type == "call" if option else None,
        )

    @property
    def name(self) -> str:
        """As in the log, ``deribit:BTC-PERPETUAL``."""
        return f"deribit:{self.symbol}"

    def price(self, value: Decimal) -> int:
        """In counts of the price increment.

        Raises:
            UnusableError: it is no whole number of them, or beyond int64.
        """
        return count(value, self.price_increment_e9)

    def size(self, value: Decimal) -> int:
        """In counts of the size increment.

        Raises:
            UnusableError: it is no whole number of them, or beyond int64.
        """
        return count(value, self.size_increment_e9)

    def columns(self, ts_event: int) -> dict[str, Any]:
        """The instrument event's row."""
        return {
            "ts_event": ts_event,
            "instrument_type": self.instrument_type,
            "quote_currency": self.quote_currency,
            "settlement_currency": self.settlement_currency,
            "price_increment_e9": self.price_increment_e9,
            "size_increment_e9": self.size_increment_e9,
            "contract_size_e9": NANO,
            "is_inverse": self.is_inverse,
            "expiry_ns": self.expiry_ns,
            "strike_e9": self.strike_e9,
            "is_call": self.is_call,
        }


def e9(value: Decimal) -> int:
    """In units of 1e-9, rounded half to even.

    Raises:
        UnusableError: it is no number, or beyond int64.

    >>> e9(Decimal("0.0000123456"))
    12346
    """
    if not value.is_finite():
        raise UnusableError("bad_decimal", f"{value} is no number")
    if value and value.adjusted() > 9:
        raise UnusableError("number_overflow", f"{value:.6e} does not fit into an int64 of 1e-9")
    units = int((value * NANO).to_integral_value())
    if abs(units) > MAX_INT64:
        raise UnusableError("number_overflow", f"{value:.6e} does not fit into an int64 of 1e-9")
    return units


def count(value: Decimal, increment_e9: int) -> int:
    """How many increments ``value`` is, exactly.

    Raises:
        UnusableError: it is no number, no whole number of increments, or beyond int64.

    >>> count(Decimal("0.0015"), 500_000)
    3
    """
    if not value.is_finite():
        raise UnusableError("bad_decimal", f"{value} is no number")
    if value and value.adjusted() > 18:
        raise UnusableError("number_overflow", f"{value:.6e} is more increments than an int64 holds")
    numerator, denominator = (value if value.adjusted() > -30 else Decimal(0)).as_integer_ratio()
    counts, rest = divmod(numerator * NANO, denominator * increment_e9)
    if rest or (value and not numerator):
        raise UnusableError("off_increment", f"{value} is no whole number of {increment_e9} e-9")
    if abs(counts) > MAX_INT64:
        raise UnusableError("number_overflow", f"{value:.6e} is more increments than an int64 holds")
    return counts


def _divisor(increments: list[Decimal]) -> int:
    """The greatest common divisor, e-9."""
    return gcd(*(_positive_e9(increment) for increment in increments))


def _positive_e9(value: Decimal) -> int:
    units = e9(value)
    if units <= 0:
        raise UnusableError("bad_listing", f"{value} is not positive")
    return units


def _settlement(listing: Listing) -> str:
    return "USDC" if "_USDC" in listing.instrument_name else listing.base_currency


def _expiry_ns(listing: Listing) -> int:
    expiry_ns = listing.expiration_timestamp * NANOS_PER_MILLI
    if not 0 < expiry_ns <= MAX_INT64:
        raise UnusableError("bad_listing", f"{listing.instrument_name} expires at {listing.expiration_timestamp} ms")
    return expiry_ns

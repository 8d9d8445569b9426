"""What trades on the simulated exchange: a perpetual and an option chain per underlying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa

from features.events import NANO, EventBatch, Kind, record_batch
from pipeline.sources.simulated_options import PRICE_INCREMENT_E9, Chain


@dataclass(frozen=True, slots=True)
class Underlying:
    """An underlying and the terms of its instruments.

    Args:
        name: e.g. ``BTC``.
        price_usd: at the start.
        price_increment_e9, size_increment_e9: of the perpetual, in USD and coin, times 1e9.
        level_size, trade_size: means in calm, in coin.
        strike_step_usd: strikes are multiples of it.
        option_size_increment_e9: in coin, times 1e9.
        open_interest: of the perpetual at the start, in coin.
    """

    name: str
    price_usd: float
    price_increment_e9: int
    size_increment_e9: int
    level_size: float
    trade_size: float
    strike_step_usd: int
    option_size_increment_e9: int
    open_interest: float

    @property
    def perpetual(self) -> str:
        """Name of the perpetual."""
        return f"sim:{self.name}-PERP"

    def fair_increments(self, price_usd: np.ndarray) -> np.ndarray:
        """Prices in USD as (fractional) counts of the perpetual's price increment."""
        return price_usd / (self.price_increment_e9 / NANO)


LISTED: Final[Mapping[str, Underlying]] = MappingProxyType(
    {
        "BTC": Underlying(
            name="BTC",
            price_usd=60_000.0,
            price_increment_e9=NANO // 10,
            size_increment_e9=NANO // 1_000,
            level_size=2.0,
            trade_size=0.08,
            strike_step_usd=500,
            option_size_increment_e9=NANO // 10,
            open_interest=80_000.0,
        ),
        "ETH": Underlying(
            name="ETH",
            price_usd=2_600.0,
            price_increment_e9=NANO // 100,
            size_increment_e9=NANO // 100,
            level_size=40.0,
            trade_size=1.5,
            strike_step_usd=25,
            option_size_increment_e9=NANO,
            open_interest=1_500_000.0,
        ),
    }
)


def instrument_event(underlying: Underlying, chain: Chain, ts_event: int, ts_recv: int) -> EventBatch:
    """Reference data of the perpetual and of every option, in one batch."""
    options = len(chain.names)
    rows = options + 1
    optional = np.arange(rows) == 0  # the perpetual has no expiry, strike or side

    def terms(perpetual: object, option: object) -> pa.Array:
        return pa.array([perpetual] + [option] * options)

    columns = {
        "instrument": np.arange(rows),
        "ts_event": np.full(rows, ts_event),
        "ts_recv": np.full(rows, ts_recv),
        "instrument_type": terms("perpetual", "option"),
        "quote_currency": terms("USD", underlying.name),
        "settlement_currency": terms("USD", underlying.name),
        "price_increment_e9": terms(underlying.price_increment_e9, PRICE_INCREMENT_E9),
        "size_increment_e9": terms(underlying.size_increment_e9, underlying.option_size_increment_e9),
        "contract_size_e9": terms(NANO, NANO),
        "is_inverse": terms(False, True),
        "expiry_ns": pa.array(np.append(0, chain.expiry_ns), mask=optional),
        "strike_e9": pa.array(np.append(0, np.rint(chain.strike * NANO).astype(np.int64)), mask=optional),
        "is_call": pa.array(np.append(False, chain.is_call), mask=optional),
    }
    names = [underlying.perpetual, *chain.names]
    return EventBatch(Kind.INSTRUMENT, underlying.name, record_batch(Kind.INSTRUMENT, names, columns))

"""The numbers that a desk sets for the brake; :mod:`hedger.limits` says what each does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from features.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds, by default for the demo portfolio; an underlying that a mapping does not name has the bound 0.

    Attributes:
        max_position: absolute position in the hedge instrument, coins by underlying.
        max_order_quantity: coins by underlying.
        min_trade_quantity: coins by underlying; what is smaller does not trade.
        max_gross_notional_usd: sum of the absolute hedge positions.
        max_net_delta_usd: absolute delta of options and hedge, of each underlying.
        max_gamma_usd: absolute change of the options' USD delta when the underlying moves by 1 %, of each underlying.
        max_vega_usd: absolute change of the options' value when the volatility moves by 0.01, of each underlying.
        max_loss_usd: loss of options and hedges since the first mark.
        max_orders_per_minute: of the portfolio, by stream time.
        price_collar_bps: distance from the mid at which an order may trade; also gives its limit price.
        kill_switch: no order at all.
    """

    max_position: Mapping[str, float] = field(default_factory=lambda: {"BTC": 15.0, "ETH": 150.0})
    max_order_quantity: Mapping[str, float] = field(default_factory=lambda: {"BTC": 2.5, "ETH": 25.0})
    min_trade_quantity: Mapping[str, float] = field(default_factory=lambda: {"BTC": 0.001, "ETH": 0.01})
    max_gross_notional_usd: float = 3_000_000.0
    max_net_delta_usd: float = 1_500_000.0
    max_gamma_usd: float = 250_000.0
    max_vega_usd: float = 25_000.0
    max_loss_usd: float = 200_000.0
    max_orders_per_minute: int = 240
    price_collar_bps: float = 100.0
    kill_switch: bool = False

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            for bound in value.values() if isinstance(value, Mapping) else (value,):
                if not bound >= 0.0:
                    raise ConfigError(f"Limit {name} is {bound}.", "A limit is a number, at least 0.")

    @property
    def digest(self) -> str:
        """Names these bounds in decisions."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:12]

"""What ``limits`` must know of a portfolio to judge an order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LegExposure:
    """Of one underlying; ``None`` is unknown, and what is unknown is not traded on.

    Attributes:
        position: in the hedge instrument, coins.
        outstanding_buys: sum of the outstanding buy orders, coins.
        outstanding_sells: the same of sell orders, at most 0.
        reference_price: USD, last known mid.
        options_delta: coins.
        gamma_usd: change of the options' USD delta when the underlying moves by 1 %.
        vega_usd: change of the options' value when the volatility moves by 0.01.
    """

    position: float
    outstanding_buys: float = 0.0
    outstanding_sells: float = 0.0
    reference_price: float | None = None
    options_delta: float | None = None
    gamma_usd: float | None = None
    vega_usd: float | None = None

    def base(self, quantity: float) -> float:
        """The position that an order of this sign adds to at worst: everything outstanding on its side is filled."""
        return self.position + (self.outstanding_buys if quantity > 0.0 else self.outstanding_sells)

    @property
    def notional_usd(self) -> float | None:
        """Largest that the outstanding orders can make it."""
        largest = max(abs(self.position + self.outstanding_buys), abs(self.position + self.outstanding_sells))
        if largest == 0.0:
            return 0.0
        return None if self.reference_price is None else largest * self.reference_price


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Of a portfolio at one decision.

    Attributes:
        portfolio: its name.
        decision_id: the decision that asks.
        bar_ts: of that decision, ns UTC.
        legs: by underlying.
        pnl_usd: since the first mark.
        recent_orders: approved in the minute up to ``bar_ts``, by stream time.
        killed: the kill switch is on.
    """

    portfolio: str
    decision_id: str
    bar_ts: int
    legs: Mapping[str, LegExposure]
    pnl_usd: float | None
    recent_orders: int
    killed: bool

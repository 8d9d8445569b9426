"""The account of one underlying: hedge position, cash, last known marks, and the P&L of options and hedge in USD.

The decider's loss limit, the backtest and the judgement of a live run all read this one account. A perpetual's funding
payments are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from features.surface.black import black_price_kernel
from hedger.portfolio import OptionPosition
from hedger.valuation import expiry_years


class Ledger(msgspec.Struct, kw_only=True):
    """Attributes:
    position: in the hedge instrument, coins.
    cash_usd: ``-sum(quantity price) - fees`` of all fills.
    cost_usd: ``sum(quantity (price - mid) + fee)``, with the mid that was last known at the fill.
    turnover_usd: ``sum |quantity| price``.
    mid, mid_ts: last known mark of the hedge, USD, and its bar (ns UTC).
    iv, iv_ts: the same of ``atm_iv_30d``, 1 / sqrt(year).
    base_usd: the options' value at their first mark, from which P&L counts.
    settlements: expiry (ns UTC) -> mid at the first bar not before it, USD.
    """

    position: float = 0.0
    cash_usd: float = 0.0
    cost_usd: float = 0.0
    turnover_usd: float = 0.0
    mid: float | None = None
    mid_ts: int = 0
    iv: float | None = None
    iv_ts: int = 0
    base_usd: float | None = None
    settlements: dict[int, float] = {}

    def fill(self, quantity: float, price: float, fee_usd: float) -> None:
        """Book a trade; ``quantity`` in coins, positive bought."""
        self.position += quantity
        self.cash_usd -= quantity * price + fee_usd
        self.cost_usd += quantity * (price - (price if self.mid is None else self.mid)) + fee_usd
        self.turnover_usd += abs(quantity) * price

    def mark(self, mid: float | None, iv: float | None, bar_ts: int, options: Sequence[OptionPosition]) -> None:
        """Take the marks of a bar; an unknown one leaves the last known in place, with its bar."""
        if mid is not None:
            self.mid, self.mid_ts = mid, bar_ts
            for option in options:
                if option.expiry_ns <= bar_ts:
                    self.settlements.setdefault(option.expiry_ns, mid)
        if iv is not None:
            self.iv, self.iv_ts = iv, bar_ts
        if self.base_usd is None:
            self.base_usd = self.options_usd(options, bar_ts)

    def options_usd(self, options: Sequence[OptionPosition], at_ns: int) -> float | None:
        """Their undiscounted Black-76 value at the last known marks; an expired option's is its settlement."""
        if self.mid is None or self.iv is None:
            return None
        value = 0.0
        for option in options:
            years = expiry_years(option.expiry_ns, at_ns)
            forward = self.settlements.get(option.expiry_ns, self.mid)
            value += option.quantity * black_price_kernel(forward, option.strike, years, self.iv, option.is_call)
        return value

    def hedge_pnl_usd(self) -> float | None:
        """``cash + position mid``: of the hedge alone, costs included."""
        return None if self.mid is None else self.cash_usd + self.position * self.mid

    def options_pnl_usd(self, options: Sequence[OptionPosition], at_ns: int) -> float | None:
        """Change of the options' value since their first mark."""
        value = self.options_usd(options, at_ns)
        return None if value is None or self.base_usd is None else value - self.base_usd

    def exchange(self, old: Sequence[OptionPosition], new: Sequence[OptionPosition], at_ns: int) -> None:
        """Hold ``new`` instead of ``old`` options, exchanged at their value: the P&L goes on from where it was."""
        before, after = self.options_usd(old, at_ns), self.options_usd(new, at_ns)
        if self.base_usd is None or before is None or after is None:
            self.base_usd = None
        else:
            self.base_usd += after - before

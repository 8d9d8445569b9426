"""P&L of a hedged portfolio, bar by bar, from the fills that happened: of a backtest, or of a live run's log.

The options' value is undiscounted Black-76 at ``atm_iv_30d`` with the perpetual's mid as forward, the hedge's is its
mid; all amounts are USD, cumulated from the first bar. Funding payments of the perpetual are not in the signals, and
not in the P&L.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import polars as pl

from hedger.inputs import FillInput, SignalInput, signal_input
from hedger.ledger import Ledger
from hedger.portfolio import Portfolio

LEG_SCHEMA: Final[dict[str, Any]] = {
    "bar_ts": pl.Int64,
    "underlying": pl.String,
    "position": pl.Float64,
    "mid": pl.Float64,
    "options_usd_at_atm_iv_30d": pl.Float64,
    "pnl_usd": pl.Float64,
    "cost_usd": pl.Float64,
    "turnover_usd": pl.Float64,
    "mark_age_s": pl.Float64,
}
"""``mid`` is the last known one; ``mark_age_s`` is the age of the older of the two marks, 0 when both are this bar's.
``cost_usd`` is ``sum quantity (price - mid) + fees``: half the spread, impact and fee."""

BAR_SCHEMA: Final[dict[str, Any]] = {
    "bar_ts": pl.Int64,
    "pnl_usd": pl.Float64,
    "cost_usd": pl.Float64,
    "turnover_usd": pl.Float64,
    "stale_marks": pl.Int64,
}
"""Sums over the legs; null while one is null. ``stale_marks`` is the number of legs whose marks are not this bar's."""

_COLUMN: Final = {name: column for column, name in enumerate(LEG_SCHEMA)}


@dataclass(frozen=True, slots=True)
class ProfitAndLoss:
    """``legs`` has :data:`LEG_SCHEMA`, a row an underlying and bar; ``bars`` has :data:`BAR_SCHEMA`."""

    legs: pl.DataFrame
    bars: pl.DataFrame


def signal_inputs(signals: pl.DataFrame) -> list[SignalInput]:
    """The rows of a signals frame in the order of time; null and NaN become ``None``.

    Raises:
        BadInputError: a row does not fit ``features.signals.SCHEMA``.
    """
    return [signal_input(row) for row in signals.sort("bar_ts", "underlying").iter_rows(named=True)]


def fill_inputs(fills: pl.DataFrame) -> list[FillInput]:
    """The rows of the fills table; columns are those of ``FillInput``, without ``input_id``."""
    names = [name for name in FillInput.__struct_fields__ if name != "input_id"]
    rows = fills.select(names).iter_rows(named=True)
    return [FillInput(input_id=f"fill:{number}", **row) for number, row in enumerate(rows)]


def profit_and_loss(signals: Sequence[SignalInput], fills: Iterable[FillInput], portfolio: Portfolio) -> ProfitAndLoss:
    """Account for ``fills`` in the market of ``signals``.

    A mark that a bar does not have is taken from the last bar that had it, and its age is told; before the first one
    the P&L is null.

    Args:
        signals: in the order of time.
        fills: each is booked at the first bar not before its ``bar_ts``.
        portfolio: held from the first bar to the last.
    """
    ledgers = {underlying: Ledger() for underlying in portfolio.underlyings}
    waiting = sorted(fills, key=lambda fill: fill.bar_ts)
    legs: list[tuple[Any, ...]] = []
    bars: list[tuple[Any, ...]] = []
    for bar_ts, group in groupby(signals, key=lambda signal: signal.bar_ts):
        rows = {signal.underlying: signal for signal in group}
        due = [fill for fill in waiting if fill.bar_ts <= bar_ts]
        waiting = waiting[len(due) :]
        for underlying, ledger in ledgers.items():
            row = rows.get(underlying)
            options = portfolio.options_on(underlying)
            ledger.mark(None if row is None else row.mid, None if row is None else row.atm_iv_30d, bar_ts, options)
            for fill in due:
                if fill.underlying == underlying:
                    ledger.fill(fill.quantity, fill.price, fill.fee_usd)
        mine = [_leg_row(bar_ts, name, ledger, portfolio) for name, ledger in ledgers.items()]
        legs += mine
        bars.append(_bar_row(bar_ts, mine))
    return ProfitAndLoss(
        pl.DataFrame(legs, schema=LEG_SCHEMA, orient="row"), pl.DataFrame(bars, schema=BAR_SCHEMA, orient="row")
    )


def _leg_row(bar_ts: int, underlying: str, ledger: Ledger, portfolio: Portfolio) -> tuple[Any, ...]:
    options = portfolio.options_on(underlying)
    hedge, changed = ledger.hedge_pnl_usd(), ledger.options_pnl_usd(options, bar_ts)
    return (
        bar_ts,
        underlying,
        ledger.position,
        ledger.mid,
        ledger.options_usd(options, bar_ts),
        None if hedge is None or changed is None else hedge + changed,
        ledger.cost_usd,
        ledger.turnover_usd,
        None if ledger.mid is None or ledger.iv is None else (bar_ts - min(ledger.mid_ts, ledger.iv_ts)) * 1e-9,
    )


def _bar_row(bar_ts: int, legs: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    sums: dict[str, float | None] = {}
    for name in ("pnl_usd", "cost_usd", "turnover_usd"):
        values = [leg[_COLUMN[name]] for leg in legs]
        sums[name] = None if None in values else sum(values)
    stale = sum(leg[_COLUMN["mark_age_s"]] != 0.0 for leg in legs)
    return (bar_ts, sums["pnl_usd"], sums["cost_usd"], sums["turnover_usd"], stale)

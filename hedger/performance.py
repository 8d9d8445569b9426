"""What a hedge came to: P&L, cost, turnover, and the risk that was left, from its P&L minute by minute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import polars as pl

from features.errors import BadInputError
from hedger.portfolio import Portfolio
from hedger.profit import ProfitAndLoss

MINUTE_NS: Final = 60_000_000_000


def summarize(strategy: str, result: ProfitAndLoss, portfolio: Portfolio, *, tail: float = 0.05) -> pl.DataFrame:
    """One row: totals at the last bar, and the risk per minute; null where there are too few minutes, or no marks.

    Args:
        strategy: name of the row.
        result: of :func:`hedger.profit.profit_and_loss`.
        portfolio: names currency and settlement price source.
        tail: share of the worst minutes in the expected shortfall.
    """
    minutes = minute_pnl(result.bars)
    last = result.bars.tail(1).to_dicts()[0] if result.bars.height else dict.fromkeys(result.bars.columns)
    row = {
        "strategy": strategy,
        "pnl_usd": last["pnl_usd"],
        "cost_usd": last["cost_usd"],
        "turnover_usd": last["turnover_usd"],
        "pnl_sd_per_minute_usd": standard_deviation(minutes),
        "expected_shortfall_per_minute_usd": expected_shortfall(minutes, tail) if minutes else None,
        "minutes": len(minutes),
        "bars": result.bars.height,
        "stale_marks": int(result.bars["stale_marks"].sum()),
        "currency": portfolio.currency,
        "settlement_price_source": portfolio.settlement_price_source,
    }
    floats = {name: pl.Float64 for name in row if name.endswith("_usd")}
    return pl.DataFrame([row], schema_overrides=floats)


def minute_pnl(bars: pl.DataFrame) -> list[float]:
    """The P&L of each full minute from the first known P&L on, USD.

    A minute ends with the last bar in it; the last one counts if it is full.
    """
    known = bars.drop_nulls("pnl_usd").sort("bar_ts")
    if known.is_empty():
        return []
    times, values = known["bar_ts"].to_list(), known["pnl_usd"].to_list()
    closes: dict[int, float] = {}
    for ts, value in zip(times, values, strict=True):
        closes[-((times[0] - ts) // MINUTE_NS)] = value  # rounds up: the first bar alone is minute 0
    if times[-1] != times[0] + max(closes) * MINUTE_NS:
        del closes[max(closes)]
    return [closes[end] - closes[start] for start, end in pairwise(sorted(closes)) if end == start + 1]


def standard_deviation(values: Sequence[float]) -> float | None:
    """With n - 1; ``None`` of fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def expected_shortfall(pnl: Sequence[float], tail: float) -> float:
    """Mean loss of the worst ``tail`` of the outcomes, a loss being positive.

    With the losses in falling order and m = tail n, this is ``(sum of the first floor(m) + (m - floor(m)) next) / m``
    (Acerbi and Tasche 2002, "On the coherence of expected shortfall", eq. 4.8).

    Args:
        pnl: outcomes, at least one.
        tail: in (0, 1].

    Raises:
        BadInputError: there is no outcome, or ``tail`` is out of range.

    >>> expected_shortfall([3.0, -1.0, -5.0, 2.0], 0.5)
    3.0
    """
    if not pnl or not 0.0 < tail <= 1.0:
        raise BadInputError(f"Expected shortfall of {len(pnl)} outcomes at {tail}.", "Give some, and 0 < tail <= 1.")
    losses = sorted((-value for value in pnl), reverse=True)
    mass = tail * len(losses)
    whole = min(int(mass), len(losses))
    rest = (mass - whole) * losses[whole] if whole < len(losses) else 0.0
    return (math.fsum(losses[:whole]) + rest) / mass

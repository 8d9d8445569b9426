"""Tardis ``derivative_ticker``: funding, index, mark and open interest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from features.events import Kind
from pipeline.sources.csv_kernels import MISSING
from pipeline.sources.listing import RunNumbers
from pipeline.sources.runs import Run
from pipeline.sources.tardis_decoder import TardisContext
from pipeline.sources.tardis_rows import NANOS_PER_MICRO, TardisRows

Array = np.ndarray[Any, Any]

HOURLY: Final = ("dydx", "dydx-v4", "hyperliquid")
"""Venues whose rate is for one hour: eight times it stands in the log. All others are taken as for eight hours."""

MAX_RATE_E9: Final = 10**9
"""A funding rate of 100 % is absurd."""

_NUMBERS: Final = {"index_price": "index_e9", "mark_price": "mark_e9", "open_interest": "open_interest_e9"}


class DerivativeTicker:
    """Each row is one funding row; the rate is ``funding_rate``, per eight hours.

    A row without a rate (dated futures have none, and the vendor prints rows before the first) is left out and counted
    as ``no_funding_rate``. Bad input: numbers that are none, negative prices or open interest, and a rate of 100 % or
    more (``bad_funding``) refuse the row. Decimals are rounded to 1e-9. A row that comes twice is passed on twice: it
    says the same.
    """

    def __init__(self, context: TardisContext, source: int) -> None:
        self._context = context
        self._numbers = RunNumbers(source)

    def runs(self, rows: TardisRows) -> Iterator[Run]:
        """One run a row."""
        at, block = rows.layout.columns, rows.block
        rate, rate_fault = block.e9(at["funding_rate"])
        rows.accept_missing(rate_fault, "funding_rate")
        rows.refuse(np.abs(rate) >= MAX_RATE_E9, "bad_funding", "a rate of 100 % or more")
        others: dict[str, tuple[Array, Array]] = {}
        for name, column in _NUMBERS.items():
            value, fault = block.e9(at[name])
            rows.accept_missing(fault, name)
            rows.refuse(value < 0, "bad_funding", f"{name} is negative")
            others[column] = value, fault != MISSING
        unknown = rows.good & (rate_fault == MISSING)
        if unknown.any():
            self._context.skipped["no_funding_rate"] += int(unknown.sum())
        for row in np.flatnonzero(rows.good & ~unknown).tolist():
            instrument = rows.instruments[int(rows.code[row])]
            columns: dict[str, list[Any]] = {
                "instrument": [instrument.name],
                "ts_event": [int(rows.event_us[row]) * NANOS_PER_MICRO],
                "rate_e9": [int(rate[row]) * (8 if instrument.exchange in HOURLY else 1)],
            }
            for column, (value, known) in others.items():
                columns[column] = [int(value[row]) if known[row] else None]
            ts_recv = int(rows.recv_us[row]) * NANOS_PER_MICRO
            yield self._numbers.run(Kind.FUNDING, ts_recv, instrument.underlying, 1, columns)

    def finish(self) -> Iterator[Run]:
        """Nothing waits."""
        return iter(())

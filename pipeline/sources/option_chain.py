"""Option chains: all options on one underlying at one time, and how they become rows of the log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

import polars as pl

from features.events import NANO, Kind
from pipeline.sources.runs import MERGE_ORDER, Run

PRICE_INCREMENT_E9: Final = 100_000
"""Deribit's finest tick of inverse options: 0.0001 coin."""

SIZE_INCREMENT_E9: Final = 100_000_000
"""Deribit's smallest lot, 0.1 contracts of one coin."""


@dataclass(frozen=True, slots=True)
class Chain:
    """All options on one underlying at one time.

    ``quotes`` has the columns ``instrument, expiry_ns, strike_e9, is_call, bid, ask`` (counts of increments, null where
    there is none), ``mark_e9, forward_e9, open_interest_e9, volume_e9``. ``index_e9`` is the median index price, USD.
    """

    underlying: str
    taken_ns: int
    index_e9: int
    quotes: pl.DataFrame

    def retimed(self, to_ns: int, index_e9: int) -> Chain:
        """The same chain as if taken at ``to_ns`` with the index at ``index_e9``.

        Expiries move with the time, so times to expiry stay; strikes and forwards scale with the index, so moneyness
        stays. Then coin prices stay too: an inverse option costs V(F, K, T) / F, and Black-76 is homogeneous of
        degree one in (F, K) (Merton 1973, theorem 9).
        """
        ratio = index_e9 / self.index_e9
        scaled = [(pl.col(name) * ratio).round().cast(pl.Int64) for name in ("strike_e9", "forward_e9")]
        quotes = self.quotes.with_columns(pl.col("expiry_ns") + (to_ns - self.taken_ns), *scaled)
        return replace(self, taken_ns=to_ns, index_e9=index_e9, quotes=quotes)


class ChainListing:
    """Turns the chains of one underlying into rows: what is new about an option first, then its quote.

    An option that a chain no longer has, before its expiry, gets a quote without bid and ask, so that nobody uses its
    last one for ever.
    """

    def __init__(self, source: int) -> None:
        self._source = source
        self._number = count()
        self._listed: dict[str, tuple[int, int, bool]] = {}

    def runs(self, chain: Chain, ts_recv: int) -> list[Run]:
        """Rows of the next chain, received at ``ts_recv``."""
        quotes = chain.quotes
        facts = dict(
            zip(quotes["instrument"], quotes.select("expiry_ns", "strike_e9", "is_call").iter_rows(), strict=True)
        )
        changed = {name: fact for name, fact in facts.items() if self._listed.get(name) != fact}
        gone = {n: fact for n, fact in self._listed.items() if n not in facts and fact[0] > chain.taken_ns}
        self._listed = facts
        runs = [self._run(chain, ts_recv, Kind.INSTRUMENT, _reference(chain, changed))] if changed else []
        columns = {name: quotes[name].to_list() for name in quotes.columns}
        for name, (expiry_ns, strike_e9, is_call) in gone.items():
            row = {"instrument": name, "expiry_ns": expiry_ns, "strike_e9": strike_e9, "is_call": is_call}
            for column, values in columns.items():
                values.append(row.get(column))
        columns["ts_event"] = [chain.taken_ns] * len(columns["instrument"])
        return [*runs, self._run(chain, ts_recv, Kind.OPTION_QUOTE, columns)]

    def _run(self, chain: Chain, ts_recv: int, kind: Kind, columns: dict[str, list[Any]]) -> Run:
        rows = len(columns["instrument"])
        return Run(ts_recv, MERGE_ORDER[kind], self._source, next(self._number), kind, chain.underlying, rows, columns)


def _reference(chain: Chain, facts: dict[str, tuple[int, int, bool]]) -> dict[str, list[Any]]:
    rows = len(facts)
    expiry_ns, strike_e9, is_call = zip(*facts.values(), strict=True)
    same = {
        "ts_event": chain.taken_ns,
        "instrument_type": "option",
        "quote_currency": chain.underlying,
        "settlement_currency": chain.underlying,
        "price_increment_e9": PRICE_INCREMENT_E9,
        "size_increment_e9": SIZE_INCREMENT_E9,
        "contract_size_e9": NANO,
        "is_inverse": True,
    }
    own = {"expiry_ns": list(expiry_ns), "strike_e9": list(strike_e9), "is_call": list(is_call)}
    return {"instrument": list(facts)} | {name: [value] * rows for name, value in same.items()} | own

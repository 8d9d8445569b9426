"""The recorded Deribit option chains, snapshot by snapshot, as the surface takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from features.surface.cleaning import Points, clean

Array = np.ndarray[Any, Any]

RECORDED: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "deribit_options"


class Chain(NamedTuple):
    """One snapshot. Prices in USD: coin prices times the forward of their expiry.

    Args:
        coin: BTC or ETH.
        now_ns: of the snapshot.
        expiry_ns, strike, is_call, bid, ask, forward: of every option.
        mark_volatility: what the venue says; a check, and no input.
    """

    coin: str
    now_ns: int
    expiry_ns: Array
    strike: Array
    is_call: Array
    bid: Array
    ask: Array
    forward: Array
    mark_volatility: Array

    def points(self) -> Points:
        """The quotes that are used, all fresh."""
        columns = [getattr(self, name) for name in ("expiry_ns", "strike", "is_call", "bid", "ask", "forward")]
        return clean(*columns, np.full(len(self.strike), self.now_ns), self.now_ns)


def chains(folder: Path = RECORDED, coins: tuple[str, ...] = ("BTC", "ETH")) -> Iterator[Chain]:
    """Every snapshot of both coins, in order of time."""
    for path in sorted(folder.glob("deribit_options_*.parquet")):
        frame = pl.read_parquet(path).with_columns(
            now=pl.col("timestamp").dt.timestamp("ns"),
            expiry=pl.col("expiry_datetime").dt.timestamp("ns"),
            call=pl.col("option_type").cast(pl.String) == "call",
            coin=pl.col("currency").cast(pl.String),
        )
        for (_, coin), rows in frame.group_by("now", "coin", maintain_order=True):
            if coin not in coins:
                continue
            forward = rows["underlying"].to_numpy()
            yield Chain(
                str(coin),
                int(rows["now"][0]),
                rows["expiry"].to_numpy(),
                rows["strike"].to_numpy(),
                rows["call"].to_numpy(),
                rows["bid_price"].fill_null(np.nan).to_numpy() * forward,
                rows["ask_price"].fill_null(np.nan).to_numpy() * forward,
                forward,
                rows["implied_volatility"].to_numpy(),
            )

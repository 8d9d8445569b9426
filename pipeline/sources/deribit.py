"""Recorded Deribit option chains: snapshots of all inverse options on one coin.

Prices are in coin. The recordings' ``time_to_maturity`` counts in years of 365.25 days and is not used: with expiry -
timestamp in years of 365 days, Black-76 at the recorded volatility meets the mark price three times closer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from features.errors import BadInputError
from features.events import NANO, EventBatch
from pipeline.sources.base import OnReject, Reject, ignore_reject
from pipeline.sources.option_chain import PRICE_INCREMENT_E9, Chain, ChainListing
from pipeline.sources.recording_lines import require_file
from pipeline.sources.runs import Run, batches_of

_RECORDED: Final = (
    "timestamp", "instrument_name", "option_type", "strike", "expiry_datetime", "bid_price", "ask_price", "mark_price",
    "underlying", "open_interest", "volume", "currency", "index_price",
)  # fmt: skip


class DeribitChains:
    """The chains of Parquet files, in order of time.

    Args:
        paths: the files, in order.
        underlyings: coins to read.
        on_reject: receives, per chain and reason, the options that could not be used.

    Raises:
        BadInputError: a file is missing or empty.
    """

    name = "deribit"

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        underlyings: Sequence[str] = ("BTC", "ETH"),
        on_reject: OnReject = ignore_reject,
    ) -> None:
        self.paths = [Path(path) for path in paths]
        if not self.paths:
            raise BadInputError("No file of option chains was named.", "Name at least one.")
        for path in self.paths:
            require_file(path)
        self.underlyings = tuple(underlyings)
        self.rejected: Counter[str] = Counter()
        self._on_reject = on_reject

    def batches(self) -> Iterator[EventBatch]:
        """All chains at their own times; the recordings have no time of receipt, so it is the venue's."""
        return batches_of(self.runs())

    def runs(self, source: int = 0) -> Iterator[Run]:
        """The same as runs of rows, to be merged with other sources.

        Args:
            source: position of the first underlying among them; each further one takes the next.
        """
        listings = {underlying: ChainListing(source + i) for i, underlying in enumerate(self.underlyings)}
        for chain in self.chains():
            yield from listings[chain.underlying].runs(chain, chain.taken_ns)

    def chains(self) -> Iterator[Chain]:
        """Every chain, by time and underlying.

        Raises:
            BadInputError: a file is no Parquet file or lacks a column.
        """
        for path in self.paths:
            recorded = _read(path)
            for (taken, currency), rows in recorded.group_by("timestamp", "currency", maintain_order=True):
                if currency not in self.underlyings:
                    continue
                good = self._usable(path, taken, rows)
                if not good.is_empty():
                    index_e9 = round(float(np.median(good["index_price"].to_numpy())) * NANO)
                    quotes = good.select(_quote_columns())
                    yield Chain(str(currency), int(good["taken_ns"][0]), index_e9, quotes)

    def _usable(self, path: Path, taken: Any, rows: pl.DataFrame) -> pl.DataFrame:
        judged = rows.with_columns(fault=_fault())
        for (fault,), options in judged.drop_nulls("fault").group_by("fault", maintain_order=True):
            self.rejected[str(fault)] += options.height
            names = ", ".join(options["instrument"].head(5))
            detail = f"{options.height} option(s) at {taken}: {names}"
            self._on_reject(Reject(str(fault), detail, names.encode(), str(path)))
        return judged.filter(pl.col("fault").is_null())


def _read(path: Path) -> pl.DataFrame:
    try:
        recorded = pl.read_parquet(path, columns=list(_RECORDED))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInputError(
            f"{path} does not hold option chains: {str(error).splitlines()[0][:200]}.",
            f"Expected Parquet with the columns {', '.join(_RECORDED)}.",
        ) from error
    return recorded.with_columns(
        pl.col("currency", "option_type").cast(pl.String),
        pl.format("deribit:{}", pl.col("instrument_name").cast(pl.String)).alias("instrument"),
        pl.col("timestamp").dt.epoch("ns").alias("taken_ns"),
        pl.col("expiry_datetime").dt.epoch("ns").alias("expiry_ns"),
    ).sort("taken_ns", "currency", maintain_order=True)


def _counts(name: str) -> pl.Expr:
    return pl.col(name) * (NANO / PRICE_INCREMENT_E9)


def _fault() -> pl.Expr:
    """Why an option cannot be used, null if it can. Floats that mean a multiple of the tick lie within 1e-6 of it."""
    prices = [_counts(name) for name in ("bid_price", "ask_price")]
    numbers = ("strike", "underlying", "mark_price", "open_interest", "volume", "index_price")
    return (
        pl.when(pl.any_horizontal((~pl.col(name).is_finite()).fill_null(True) for name in numbers))
        .then(pl.lit("bad_quote"))
        .when(pl.any_horizontal(pl.col(name) <= 0 for name in ("strike", "underlying", "index_price")))
        .then(pl.lit("bad_quote"))
        .when(pl.any_horizontal(((price < 0) | ~price.is_finite()).fill_null(False) for price in prices))
        .then(pl.lit("bad_quote"))
        .when(pl.any_horizontal(((price - price.round()).abs() > 1e-6).fill_null(False) for price in prices))
        .then(pl.lit("off_increment"))
        .when(pl.col("expiry_ns").is_null() | (pl.col("expiry_ns") <= pl.col("taken_ns")))
        .then(pl.lit("expired"))
        .when(~pl.col("option_type").is_in(["call", "put"]))
        .then(pl.lit("unexpected_form"))
    )


def _quote_columns() -> list[pl.Expr]:
    def e9(name: str) -> pl.Expr:
        return (pl.col(name) * NANO).round().cast(pl.Int64)

    return [
        pl.col("instrument"),
        pl.col("expiry_ns"),
        e9("strike").alias("strike_e9"),
        (pl.col("option_type") == "call").alias("is_call"),
        _counts("bid_price").round().cast(pl.Int64).alias("bid"),
        _counts("ask_price").round().cast(pl.Int64).alias("ask"),
        e9("mark_price").alias("mark_e9"),
        e9("underlying").alias("forward_e9"),
        e9("open_interest").alias("open_interest_e9"),
        e9("volume").alias("volume_e9"),
    ]

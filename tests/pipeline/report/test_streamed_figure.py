"""The report's picture of the surface: a row an underlying, and words that count what is in it."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
from chain_files import TICK, recorded_rows, small_chain, write_chains

from pipeline.option_chains import read_chain
from pipeline.report.streamed_figure import described, fitted_chain, streamed_figure


def test_every_underlying_has_its_row_and_its_sentence(tmp_path: Path) -> None:
    rows = [recorded_rows(small_chain(), coin=coin, tick=TICK) for coin in ("BTC", "ETH")]
    path = write_chains(tmp_path / "chains.parquet", *rows)
    fitted = [fitted_chain(read_chain(path, coin)) for coin in ("BTC", "ETH")]
    known = [each for each in fitted if each is not None]
    assert len(known) == 2
    titles = [axes.get_title(loc="left") for axes in streamed_figure(known).axes]
    assert [title.split(",")[0] for title in titles] == [*["BTC"] * 3, "At the money", *["ETH"] * 3, "At the money"]
    assert described(known[0]).startswith("BTC: 45 of 90 quotes used, ")
    assert described(known[0]).endswith("static arbitrage found: none.")


def test_a_chain_without_usable_quotes_has_no_row(tmp_path: Path) -> None:
    rows = recorded_rows(small_chain()).with_columns(bid_price=pl.lit(math.nan))
    assert fitted_chain(read_chain(write_chains(tmp_path / "chains.parquet", rows))) is None

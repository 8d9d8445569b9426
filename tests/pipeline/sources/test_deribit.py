from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_chains import TAKEN, chain_rows, write_chains

from features.errors import BadInputError
from features.events import Kind
from features.surface.black import YEAR_NS, black_price
from pipeline.sources.base import Reject
from pipeline.sources.deribit import DeribitChains


def rows_of(source: DeribitChains, kind: Kind) -> list[dict[str, Any]]:
    return [row for batch in source.batches() if batch.kind is kind for row in batch.data.to_pylist()]


def test_quotes_in_counts_and_references_before_them(tmp_path: Path) -> None:
    source = DeribitChains([write_chains(tmp_path, chain_rows(TAKEN))])
    first, second = list(source.batches())[:2]
    assert (first.kind, second.kind, first.underlying) == (Kind.INSTRUMENT, Kind.OPTION_QUOTE, "BTC")
    option = first.data.to_pylist()[0]
    assert option["instrument"] == "deribit:BTC-6FEB26-80000-C"
    assert (option["is_inverse"], option["quote_currency"], option["settlement_currency"]) == (True, "BTC", "BTC")
    quote = second.data.to_pylist()[0]
    assert (quote["bid"], quote["ask"], quote["mark_e9"]) == (1_150, 1_180, 116_427_930)
    assert (quote["strike_e9"], quote["forward_e9"]) == (80_000 * 10**9, 78_919_800_000_000)
    assert (quote["open_interest_e9"], quote["volume_e9"]) == (430_200_000_000, 3_500_000_000)
    assert quote["is_call"] is option["is_call"] is True
    assert quote["ts_event"] == quote["ts_recv"] == int(TAKEN.timestamp()) * 10**9
    assert quote["expiry_ns"] == option["expiry_ns"] == int((TAKEN + timedelta(days=5)).timestamp()) * 10**9


def test_a_missing_bid_is_null_and_no_zero(tmp_path: Path) -> None:
    quotes = rows_of(DeribitChains([write_chains(tmp_path, chain_rows(TAKEN, bid_price=None))]), Kind.OPTION_QUOTE)
    assert {quote["bid"] for quote in quotes} == {None}
    assert None not in {quote["ask"] for quote in quotes}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bid_price": 0.11505}, "off_increment"),
        ({"bid_price": -0.1}, "bad_quote"),
        ({"ask_price": float("nan")}, "bad_quote"),
        ({"strike": 0.0}, "bad_quote"),
        ({"underlying": None}, "bad_quote"),
        ({"option_type": "straddle"}, "unexpected_form"),
        ({"expiry_datetime": TAKEN}, "expired"),
    ],
)
def test_an_unusable_option_is_a_dead_letter_and_the_rest_of_its_chain_flows(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    rows = chain_rows(TAKEN)
    rows[1] |= change
    rejects: list[Reject] = []
    source = DeribitChains([write_chains(tmp_path, rows)], on_reject=rejects.append)
    assert len(rows_of(source, Kind.OPTION_QUOTE)) == len(rows) - 1
    assert [reject.reason for reject in rejects] == [reason]
    assert rows[1]["instrument_name"] in rejects[0].detail
    assert source.rejected == {reason: 1}


def test_what_is_known_is_not_introduced_again_and_what_is_gone_has_no_quote(tmp_path: Path) -> None:
    later = chain_rows(TAKEN + timedelta(hours=6))[1:]
    source = DeribitChains([write_chains(tmp_path, chain_rows(TAKEN) + later)], underlyings=["BTC"])
    introduced = [row["instrument"] for row in rows_of(source, Kind.INSTRUMENT)]
    assert len(introduced) == len(set(introduced)) == 4
    quotes = [row for row in rows_of(source, Kind.OPTION_QUOTE) if row["instrument"] == introduced[0]]
    assert [quote["bid"] is None for quote in quotes] == [False, True]
    assert quotes[1]["expiry_ns"] == quotes[0]["expiry_ns"]
    assert quotes[1]["ask"] is quotes[1]["forward_e9"] is None


def test_retiming_keeps_times_to_expiry_moneyness_and_coin_prices(tmp_path: Path) -> None:
    chain = next(DeribitChains([write_chains(tmp_path, chain_rows(TAKEN))]).chains())
    to_ns = int(datetime(2024, 8, 8, 23, 55, tzinfo=UTC).timestamp()) * 10**9 + 123_456_789
    placed = chain.retimed(to_ns, 61_800_100_000_000)
    assert placed.quotes.drop("expiry_ns", "strike_e9", "forward_e9").equals(
        chain.quotes.drop("expiry_ns", "strike_e9", "forward_e9")
    )
    coin = []
    for each in (chain, placed):
        strike, forward = (each.quotes[name].to_numpy() / 1e9 for name in ("strike_e9", "forward_e9"))
        years = (each.quotes["expiry_ns"].to_numpy() - each.taken_ns) / YEAR_NS
        coin.append(black_price(forward, strike, years, 0.5, each.quotes["is_call"].to_numpy()) / forward)
    np.testing.assert_allclose(coin[1], coin[0], rtol=1e-11)
    assert placed.quotes["forward_e9"][0] == round(78_919_800_000_000 * 61_800.1 / 78_933.64)


def test_bad_files_say_what_to_do(tmp_path: Path) -> None:
    text = tmp_path / "chains.parquet"
    text.write_text("no parquet")
    other = tmp_path / "other.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(other)
    for path in (text, other):
        with pytest.raises(BadInputError, match="does not hold option chains"):
            list(DeribitChains([path]).batches())
    with pytest.raises(BadInputError, match="does not exist"):
        DeribitChains([tmp_path / "no" / "chains.parquet"])
    with pytest.raises(BadInputError, match="No file"):
        DeribitChains([])


@pytest.mark.data
def test_every_real_option_is_usable_and_marks_fit_the_times_to_expiry(recorded_data: Path) -> None:
    path = recorded_data / "deribit_options" / "deribit_options_202602.parquet"
    rejects: list[Reject] = []
    chains = list(DeribitChains([path], on_reject=rejects.append).chains())
    assert rejects == []
    assert len(chains) == 220
    assert [chain.taken_ns for chain in chains] == sorted(chain.taken_ns for chain in chains)
    assert sum(len(chain.quotes) for chain in chains) == 180_516
    recorded = pl.read_parquet(path, columns=["implied_volatility", "timestamp", "currency"])
    volatility = recorded.filter((pl.col("timestamp") == pl.col("timestamp").first()) & (pl.col("currency") == "BTC"))[
        "implied_volatility"
    ].to_numpy()
    quotes = chains[0].quotes
    forward, strike = (quotes[name].to_numpy() / 1e9 for name in ("forward_e9", "strike_e9"))
    years = (quotes["expiry_ns"].to_numpy() - chains[0].taken_ns) / YEAR_NS
    model = black_price(forward, strike, years, volatility, quotes["is_call"].to_numpy()) / forward
    assert np.median(np.abs(model - quotes["mark_e9"].to_numpy() / 1e9)) < 1.2e-5

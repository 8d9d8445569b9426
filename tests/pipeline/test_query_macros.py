"""The macros see what was known and nothing more, and count in prices, not increments."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from tiny_lake import NAME, SECOND, START, append_rows, bar, instrument, trade

from pipeline.query import open_lake

OPTION = "test:BTC-OPTION"


def at(second: float) -> int:
    return START + round(second * SECOND)


def quote(second: float, ask: int, received_after: float) -> dict[str, Any]:
    when = at(second)
    row = {
        "underlying": "BTC",
        "instrument": OPTION,
        "ts_event": when,
        "ts_recv": when + round(received_after * SECOND),
    }
    terms = {"ref_version": 1, "expiry_ns": START + 10 * 86_400 * SECOND, "strike_e9": 100 * SECOND, "is_call": True}
    return {**row, **terms, "bid": None, "ask": ask, "forward_e9": 110 * SECOND}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Bars of ten seconds, one mid a second; the bar of second 4 was known only 3.5 s after it ended."""
    path = tmp_path_factory.mktemp("lake")
    late = {4: 3.5}
    bars = [bar(second, 100.0 + second, late.get(second, 0.01)) for second in range(10) if second != 8]
    append_rows(path, "features", bars)
    append_rows(path, "instruments", [instrument(), instrument(OPTION, instrument_type="option")])
    append_rows(path, "instruments", [instrument()])  # a source that was started again tells it again
    prints = [trade(0.2, 1_000, seq=0), trade(0.4, 1_010, 3_000, seq=1), trade(1.5, 990, seq=2)]
    # It happened in the first second and came in the third; the numbers 3 and 4 never came.
    append_rows(path, "trades", [*prints, trade(0.9, 2_000, received_after=2.0, seq=5)])
    append_rows(path, "options", [quote(1, 50, 0.1), quote(2, 60, 5.0)])
    signal = {"underlying": "BTC", "instrument": NAME, "version": "m", "book_valid": True}
    append_rows(path, "signals", [{**signal, "bar_ts": at(5), "ts_known": at(5.02), "regime": 1}])
    decision = {"portfolio": "p", "underlying": "BTC", "instrument": NAME, "rung": "hold", "document": "{}"}
    decisions = [
        {**decision, "bar_ts": at(5), "decision_id": "a"},
        {**decision, "bar_ts": at(6), "decision_id": "tick"},
    ]
    append_rows(path, "decisions", decisions)
    fill = {"portfolio": "p", "underlying": "BTC", "instrument": NAME, "decision_id": "a", "fee_usd": 0.0}
    fills = [
        {**fill, "bar_ts": at(2), "order_id": "b", "quantity": 1.0, "price": 100.0},
        {**fill, "bar_ts": at(2), "order_id": "s", "quantity": -1.0, "price": 100.0},
    ]
    append_rows(path, "fills", fills)
    with open_lake(path) as connection:
        yield connection


def ask(lake: duckdb.DuckDBPyConnection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    return list(lake.execute(query, list(values)).fetchall())


@pytest.mark.parametrize(
    "text",
    [
        "'2026-01-05T00:00:01Z'",
        "'2026-01-05 00:00:01'",
        "'2026-01-05T02:00:01+02:00'",
        "'2026-01-04 19:00:01-05'",
        "TIMESTAMP '2026-01-05 00:00:01'",
        "TIMESTAMPTZ '2026-01-05 01:00:01+01'",
        str(START + SECOND),
        f"'{START + SECOND}'",
    ],
)
def test_times_are_written_in_many_ways(lake: duckdb.DuckDBPyConnection, text: str) -> None:
    assert ask(lake, f"SELECT ns({text})") == [(START + SECOND,)]
    assert ask(lake, "SELECT ns('2026-01-05'), ns(utc(?))", START + 7) == [(START, START + 7)]


def test_a_row_is_seen_once_it_was_known(lake: duckdb.DuckDBPyConnection) -> None:
    def newest(second: float) -> float | None:
        rows = ask(lake, "SELECT mid FROM features_at(?)", at(second))
        assert ask(lake, "SELECT mid FROM quote_at(?, ?)", NAME, at(second)) == rows
        return rows[0][0] if rows else None

    assert newest(0.0) is None, "the bar that ends now is not known yet"
    assert newest(3.0) == 102.0
    assert newest(3.01) == 103.0
    assert newest(4.9) == 103.0, "the bar of second 4 came late"
    assert newest(5.02) == 105.0
    assert newest(7.6) == 107.0, "a late row is not newer for having come later"


def test_points_of_ones_own_see_what_was_known(lake: duckdb.DuckDBPyConnection) -> None:
    moments = [0.0, 3.0, 3.01, 4.9, 5.02, 7.505, 9.5]
    points = pl.DataFrame({"instrument": NAME, "ts": [at(each) for each in moments], "tag": moments})
    lake.register("moments", points)
    found = lake.sql("SELECT tag, mid, ts_known <= ts FROM features_known('moments') ORDER BY tag").fetchall()
    assert [row[1] for row in found] == [None, 102.0, 103.0, 103.0, 105.0, 107.0, 109.0]
    assert all(known in (None, True) for *_, known in found)
    for tag, mid, _ in found:
        assert ask(lake, "SELECT max(mid) FROM features_at(?)", at(tag)) == [(mid,)]


def test_what_a_decision_knew(lake: duckdb.DuckDBPyConnection) -> None:
    query = (
        "SELECT decision_id, decided_ts, mid, feature_ts_known <= decided_ts FROM decisions_with_features() ORDER BY 2"
    )
    # The signal of its bar was known at 5.02 s; a tick of the clock saw no signal, and decided at its own time.
    assert ask(lake, query) == [("a", at(5.02), 105.0, True), ("tick", at(6), 105.0, True)]


def test_a_forward_return_begins_after_the_row_was_known(lake: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT bar_ts, entry_ts, forward_return FROM forward_returns(1) ORDER BY bar_ts"
    found = {(bar_ts - START) // SECOND: (entry, value) for bar_ts, entry, value in ask(lake, query)}
    assert found[0] == (at(1), pytest.approx(log(102 / 101)))
    assert found[4] == (at(9), None), "known at 7.5 s, and the bar of second 8 is missing: the first one after is 9"
    assert found[6] == (at(7), None), "its last bar is missing: unknown, and not that of another time"
    assert found[9] == (None, None)


def test_bars_between_take_the_end_and_not_the_beginning(lake: duckdb.DuckDBPyConnection) -> None:
    assert ask(lake, "SELECT mid FROM bars_between(?, ?, '2026-01-05 00:00:04')", NAME, at(2)) == [(103.0,), (104.0,)]


def test_trades_in_prices_and_sizes(lake: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT price, size FROM trade_prints(?, ?, ?)"
    assert ask(lake, query, NAME, START, at(1)) == [(100.0, 1.0), (101.0, 3.0), (200.0, 1.0)]


def test_bars_of_trades(lake: duckdb.DuckDBPyConnection) -> None:
    columns = "epoch_ns(time), open, high, low, close, volume, trades, vwap, ts_known"
    whole = ask(lake, f"SELECT {columns} FROM ohlcv(?, '1 second')", NAME)
    assert whole[0] == (START, 100.0, 200.0, 100.0, 200.0, 5.0, 3, pytest.approx(120.6), at(2.9))
    assert [row[0] for row in whole] == [START, at(1)]
    known = ask(lake, f"SELECT {columns} FROM ohlcv(?, '1 second', known_at := ?)", NAME, at(1))
    assert known == [(START, 100.0, 101.0, 100.0, 101.0, 4.0, 2, pytest.approx(100.75), at(0.401))]


def test_a_surface_of_quotes_that_had_come(lake: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT ask, bid, strike, log_moneyness, round(age_s, 6) FROM surface_at('BTC', ?)"
    assert ask(lake, query, at(1)) == []
    assert ask(lake, query, at(3)) == [(5.0, None, 100.0, pytest.approx(log(100 / 110)), 2.0)]
    assert ask(lake, query, at(7)) == [(6.0, None, 100.0, pytest.approx(log(100 / 110)), 5.0)]
    assert ask(lake, query, START + 11 * 86_400 * SECOND) == [], "expired"


def test_markouts_are_in_our_favour(lake: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT order_id, seconds, markout_bps FROM markouts([1, 6, 60]) ORDER BY 1, 2"
    bought, sold = [pytest.approx(300.0), None, None], [pytest.approx(-300.0), None, None]
    assert [row[2] for row in ask(lake, query)] == [*bought, *sold]


def test_gaps_are_counted_within_a_session(lake: duckdb.DuckDBPyConnection) -> None:
    query = "SELECT instrument, missing, after_seq FROM sequence_gaps('trades')"
    assert ask(lake, query) == [(NAME, 2, 2)]
    assert ask(lake, "SELECT * FROM sequence_gaps('book')") == []


def test_macros_stand_on_a_lake_of_one_table(tmp_path: Path) -> None:
    append_rows(tmp_path, "features", [bar(0, 100.0)])
    with open_lake(tmp_path) as lake:
        assert ask(lake, "SELECT count(*) FROM markouts([1])") == [(0,)]
        assert ask(lake, "SELECT count(*) FROM decisions_with_features()") == [(0,)]
        assert ask(lake, "SELECT count(*) FROM ohlcv('x', '1 minute')") == [(0,)]


def test_a_lake_of_another_version_fails_only_where_a_column_is_missing(tmp_path: Path) -> None:
    fills = pa.table({"instrument": [NAME], "bar_ts": [START], "date": ["2026-01-05"]})
    decisions = pa.table({"instrument": [NAME], "date": ["2026-01-05"]})
    write_deltalake(tmp_path / "fills", fills, partition_by=["date"])
    write_deltalake(tmp_path / "decisions", decisions, partition_by=["date"])
    with open_lake(tmp_path) as lake:
        assert ask(lake, "SELECT instrument FROM fills JOIN decisions USING (instrument)") == [(NAME,)]
        for missing in ("markouts([1])", "decisions_with_features()"):
            with pytest.raises(duckdb.Error):
                ask(lake, f"SELECT * FROM {missing}")

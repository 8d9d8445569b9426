"""Bars of frames are the bars of the stage, to the bit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from small_market import small_market

from features.bars import FeatureStage, compute_bars
from features.catalog import STANDARD
from features.errors import BadInputError, ConfigError
from features.events import NANO, EventBatch, Kind
from pipeline.edge import Edge
from pipeline.log import MemoryLog

EDGE = ["seq", "late_ns", "ref_version"]


def market() -> list[EventBatch]:
    """Without options and funding: what frames of books and trades hold."""
    return [b for b in small_market(20, seed=5) if b.kind in (Kind.BOOK, Kind.TRADE, Kind.INSTRUMENT)]


def frame(kind: Kind, edge: bool = False) -> pl.DataFrame:
    parts = []
    for batch in market():
        if batch.kind is kind:
            rows = pl.DataFrame(pl.from_arrow(batch.data)).with_columns(
                pl.col("instrument").cast(pl.String), underlying=pl.lit(batch.underlying)
            )
            parts.append(rows if edge else rows.drop(EDGE))
    return pl.concat(parts)


BOOK, TRADES, INSTRUMENTS = frame(Kind.BOOK), frame(Kind.TRADE), frame(Kind.INSTRUMENT)
BARS = compute_bars(BOOK, TRADES, INSTRUMENTS)


def streamed(interval_ns: int = NANO) -> pl.DataFrame:
    """The same events through edge and stage, in the order of receipt."""
    stage = FeatureStage(interval_ns)
    rows: list[pa.RecordBatch] = []
    edge = Edge(MemoryLog(lambda batch: rows.extend(each.data for each in stage.process(batch).rows)), "test")
    order = {Kind.INSTRUMENT: 0, Kind.BOOK: 1, Kind.TRADE: 2}
    for batch in sorted(market(), key=lambda b: (b.data.column(2)[-1].as_py(), order[b.kind])):
        edge.send(batch)
    found = pl.from_arrow(pa.Table.from_batches(rows))
    assert isinstance(found, pl.DataFrame)
    return found.sort("bar_ts", "instrument")


@pytest.mark.parametrize("interval_ns", [NANO, 2 * NANO, 5 * NANO])
def test_bars_of_frames_are_those_of_the_stream(interval_ns: int) -> None:
    bars = compute_bars(BOOK, TRADES, INSTRUMENTS, interval_ns)
    assert bars.height > 20 * NANO // interval_ns
    assert bars.equals(streamed(interval_ns))
    assert bars.columns == STANDARD.schema.names


def test_the_interval_may_be_a_timedelta() -> None:
    assert compute_bars(BOOK, TRADES, INSTRUMENTS, timedelta(seconds=2)).equals(
        compute_bars(BOOK, TRADES, INSTRUMENTS, 2 * NANO)
    )


def test_the_order_of_instruments_within_a_frame_does_not_matter() -> None:
    apart = BOOK.sort("instrument", maintain_order=True)
    assert compute_bars(apart, TRADES.sort("instrument", maintain_order=True), INSTRUMENTS).equals(BARS)


def test_without_underlyings_every_instrument_closes_its_own_bars() -> None:
    alone = compute_bars(BOOK, TRADES, INSTRUMENTS.drop("underlying"))
    joined = alone.join(BARS, on=["instrument", "bar_ts"], suffix="_shared", nulls_equal=True)
    assert joined.height > 0.9 * alone.height
    same = [name for name in ("mid", "volume", "order_flow_imbalance", "vwap") if name in joined.columns]
    for name in same:
        assert joined[name].equals(joined[f"{name}_shared"], null_equal=True)


def test_reference_data_needs_no_times() -> None:
    timeless = INSTRUMENTS.drop("ts_event", "ts_recv")
    bars = compute_bars(BOOK, TRADES, timeless)
    late = BARS["bar_ts"].min()
    assert bars.filter(pl.col("bar_ts") > late).equals(BARS.filter(pl.col("bar_ts") > late))


@pytest.mark.parametrize("unit", ["ns", "us"])
def test_times_may_be_datetimes_of_any_unit(unit: Any) -> None:
    def whole(rows: pl.DataFrame) -> pl.DataFrame:  # microseconds, so that no unit loses any
        return rows.with_columns(pl.col("ts_event", "ts_recv") // 1_000 * 1_000)

    def dated(rows: pl.DataFrame) -> pl.DataFrame:
        times = (pl.from_epoch(each, "ns").dt.cast_time_unit(unit) for each in ("ts_event", "ts_recv"))
        return whole(rows).with_columns(times)

    def bars_of(as_given: Any) -> pl.DataFrame:
        return compute_bars(as_given(BOOK), as_given(TRADES), as_given(INSTRUMENTS))

    assert bars_of(dated).equals(bars_of(whole))
    timeless = INSTRUMENTS.drop("ts_event", "ts_recv")
    assert compute_bars(dated(BOOK), dated(TRADES), timeless).equals(compute_bars(whole(BOOK), whole(TRADES), timeless))


def test_frames_without_rows_give_no_bars() -> None:
    assert compute_bars(BOOK.clear(), TRADES.clear(), INSTRUMENTS.clear()).height == 0
    only_trades = compute_bars(BOOK.clear(), TRADES, INSTRUMENTS)
    assert only_trades["mid"].null_count() == only_trades.height > 0
    assert only_trades["volume"].sum() == pytest.approx(BARS["volume"].sum(), rel=0.2)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"book": BOOK.drop("side")}, BadInputError, "lack the column 'side'"),
        ({"trades": TRADES.drop("instrument")}, BadInputError, "lack the column 'instrument'"),
        ({"instruments": INSTRUMENTS.head(0)}, BadInputError, "No reference data"),
        ({"book": BOOK.lazy()}, BadInputError, "`book` is a LazyFrame. Give a polars DataFrame"),
        ({"trades": TRADES.to_arrow()}, BadInputError, "`trades` is a Table"),
        ({"instruments": None}, BadInputError, "`instruments` is a NoneType"),
        ({"trades": TRADES.with_columns(ts_event=pl.lit(-1))}, BadInputError, "ts_event of 0 or less"),
        (
            {"instruments": INSTRUMENTS.with_columns(ts_event=pl.lit(0), ts_recv=pl.lit(0))},
            BadInputError,
            "`instruments` has a ts_event of 0 or less. Times are nanoseconds since 1970.",
        ),
        (
            {"instruments": INSTRUMENTS.with_columns(price_increment_e9=pl.lit(0))},
            BadInputError,
            "has an increment that is not positive. Correct `instruments`.",
        ),
        ({"interval": "1s"}, ConfigError, "The interval is '1s'. Give nanoseconds as int, or a timedelta."),
        ({"interval": 1.0}, ConfigError, "The interval is 1.0."),
        ({"interval": 3 * NANO}, ConfigError, "does not divide ten seconds"),
        ({"interval": 1}, ConfigError, "Use 1, 2, 5 or 10 seconds"),
    ],
)
def test_what_does_not_fit_says_why(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error) as found:
        compute_bars(**{"book": BOOK, "trades": TRADES, "instruments": INSTRUMENTS, **arguments})
    assert said in str(found.value)


def test_earlier_bars_do_not_depend_on_later_events() -> None:
    cut = int(BARS["bar_ts"].median())  # type: ignore[arg-type]
    head = compute_bars(BOOK.filter(pl.col("ts_recv") <= cut), TRADES.filter(pl.col("ts_recv") <= cut), INSTRUMENTS)
    assert head.height > 10
    assert head.equals(BARS.filter(pl.col("bar_ts") <= head["bar_ts"].max()).head(head.height))

"""The simulated exchange as a stream: deterministic, in log order, exactly reconstructible, lazy."""

from __future__ import annotations

import inspect
import itertools
import tracemalloc
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from small_market import edged

from features.bars import FeatureStage
from features.book import replay_l2
from features.events import ASK, BID, EDGE_COLUMNS, LAST, NANO, SCHEMAS, SNAPSHOT, EventBatch, Kind
from pipeline.codec import MAX_ROWS
from pipeline.edge import plausible
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig

CONFIG = SimulationConfig(minutes=1.5, seed=11)
MILLI = 1_000_000


@pytest.fixture(scope="module")
def events() -> list[EventBatch]:
    return list(SimulatedExchange(CONFIG).batches())


@pytest.fixture(scope="module")
def long_run() -> tuple[pl.DataFrame, pl.DataFrame, SimulationConfig]:
    """Twenty minutes: the book and the number of trades of every bar, beside the truth; the truth; the settings."""
    config = SimulationConfig(minutes=20, seed=3)
    exchange = SimulatedExchange(config)
    events = list(exchange.batches())
    truth = exchange.truth()
    bars = truth
    for kind in (Kind.BOOK, Kind.TRADE):
        found = [_per_bar(kind, events, underlying) for underlying in exchange.underlyings]
        bars = bars.join(pl.concat(found), on=["underlying", "bar_ts"], how="left")
    return bars.sort("underlying", "bar_ts"), truth, config


def _per_bar(kind: Kind, events: list[EventBatch], underlying: str) -> pl.DataFrame:
    """Ten levels of the book at the end of every bar, or the number of trades in it."""
    rows = pa.Table.from_batches([each.data for each in events if each.kind is kind and each.underlying == underlying])
    if kind is Kind.TRADE:
        bars = pl.DataFrame({"ts_event": rows["ts_event"].to_numpy()}).group_by(_bar_end(pl.col("ts_event")))
        counts = bars.len("trades")
    else:
        merged = EventBatch(kind, underlying, rows.combine_chunks().to_batches()[0])
        after = replay_l2([merged], levels=10).with_columns(_bar_end(pl.col("ts_event")))
        counts = after.group_by("bar_ts", maintain_order=True).last()
    return counts.with_columns(pl.lit(underlying).alias("underlying"))


def _bar_end(ts: pl.Expr) -> pl.Expr:
    return ((ts + (NANO - 1)) // NANO * NANO).alias("bar_ts")


def _columns(events: list[EventBatch], kind: Kind, underlying: str) -> dict[str, np.ndarray]:
    batches = [batch.data for batch in events if batch.kind is kind and batch.underlying == underlying]
    table = pa.Table.from_batches(batches).combine_chunks()
    return {name: table.column(name).to_numpy() for name in table.column_names if name != "instrument"}


def _same(left: list[EventBatch], right: list[EventBatch]) -> bool:
    return len(left) == len(right) and all(
        a.kind is b.kind and a.underlying == b.underlying and a.data.equals(b.data)
        for a, b in zip(left, right, strict=True)
    )


# -- determinism --------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(events: list[EventBatch]) -> None:
    exchange = SimulatedExchange(CONFIG)
    assert _same(list(exchange.batches()), events)
    first = exchange.truth()
    assert _same(list(exchange.batches()), events), "a second pass starts anew"
    assert first.equals(exchange.truth())


def test_another_seed_gives_another_market(events: list[EventBatch]) -> None:
    other = list(SimulatedExchange(SimulationConfig(minutes=1.5, seed=12)).batches())
    assert not _same(other, events)
    for underlying in ("BTC", "ETH"):
        ours, theirs = (_columns(each, Kind.BOOK, underlying)["price"][1_000:2_000] for each in (events, other))
        assert (ours != theirs).mean() > 0.9


@pytest.mark.parametrize("block_s", [1, 7, 90])
def test_how_much_is_simulated_at_once_does_not_show(events: list[EventBatch], block_s: int) -> None:
    cut = SimulatedExchange(SimulationConfig(minutes=1.5, seed=11, block_s=block_s))
    assert _same(list(cut.batches()), events)


def test_a_longer_run_begins_like_a_shorter_one(events: list[EventBatch]) -> None:
    longer = SimulatedExchange(SimulationConfig(minutes=3, seed=11)).batches()
    closing = len(CONFIG.underlyings)
    assert _same(list(itertools.islice(longer, len(events) - closing)), events[:-closing])


def test_one_underlying_can_stand_alone() -> None:
    exchange = SimulatedExchange(SimulationConfig(minutes=0.1, underlyings=("ETH",)))
    assert {batch.underlying for batch in exchange.batches()} == {"ETH"} == set(exchange.underlyings)


# -- the log ------------------------------------------------------------------------------------------------------


def test_batches_have_their_schema_and_fit_into_a_message(events: list[EventBatch]) -> None:
    for batch in events:
        assert batch.data.schema.equals(SCHEMAS[batch.kind])
        batch.data.validate(full=True)
        assert 0 < batch.data.num_rows <= MAX_ROWS
        for field, column in zip(batch.data.schema, batch.data.columns, strict=True):
            assert field.nullable or column.null_count == 0
        for name in EDGE_COLUMNS:
            assert not batch.data.column(name).to_numpy().any()
        keep, reasons = plausible(batch.kind, batch.data)
        assert keep.all()
        assert not reasons


def test_an_underlying_is_in_order_of_both_its_times(events: list[EventBatch]) -> None:
    for underlying in ("BTC", "ETH"):
        mine = [batch.data for batch in events if batch.underlying == underlying]
        event = np.concatenate([data.column("ts_event").to_numpy() for data in mine])
        recv = np.concatenate([data.column("ts_recv").to_numpy() for data in mine])
        assert (np.diff(event) >= 0).all()
        assert (np.diff(recv) >= 0).all()
        assert (recv - event >= 2 * MILLI).all()
        assert (recv - event).max() < 50 * MILLI


def test_nothing_is_late_and_every_bar_has_a_truth(events: list[EventBatch]) -> None:
    stage, rows = FeatureStage(), []
    for batch in edged(events):
        assert not batch.data.column("late_ns").to_numpy().any()
        output = stage.process(batch)
        assert not output.rejects
        rows.extend(pl.from_arrow(keyed.data) for keyed in output.rows)
    bars = pl.concat(rows).select("underlying", "bar_ts", "book_valid").sort("underlying", "bar_ts")
    exchange = SimulatedExchange(CONFIG)
    for _ in exchange.batches():
        pass
    assert bars["book_valid"].all()
    assert bars.select("underlying", "bar_ts").equals(exchange.truth().select("underlying", "bar_ts"))


def test_what_comes_when(events: list[EventBatch]) -> None:
    for underlying in ("BTC", "ETH"):
        mine = [batch for batch in events if batch.underlying == underlying]
        assert [batch.kind for batch in mine[:5]] == [
            Kind.INSTRUMENT, Kind.BOOK, Kind.OPTION_QUOTE, Kind.FUNDING, Kind.HEARTBEAT,
        ]  # fmt: skip
        count = Counter(batch.kind for batch in mine)
        assert count[Kind.INSTRUMENT] == 1
        assert count[Kind.BOOK] == 1 + 900
        assert count[Kind.OPTION_QUOTE] == 90
        assert count[Kind.FUNDING] == 9
        assert count[Kind.HEARTBEAT] == 91
        assert 90 < count[Kind.TRADE] <= 900
        heartbeats = _columns(events, Kind.HEARTBEAT, underlying)["ts_event"]
        assert (np.diff(heartbeats) == NANO).all()
        assert heartbeats[-1] > CONFIG.start_ns + 90 * NANO, "the last bar closes"
        quotes = [batch for batch in mine if batch.kind is Kind.OPTION_QUOTE]
        assert {batch.data.num_rows for batch in quotes} == {180}


def test_instruments_describe_what_is_traded(events: list[EventBatch]) -> None:
    for batch, price_increment, size_increment in zip(
        events[:3:2], (NANO // 10, NANO // 100), (NANO // 1_000, NANO // 100), strict=True
    ):
        assert batch.kind is Kind.INSTRUMENT
        perpetual, *options = batch.data.to_pylist()
        assert perpetual["instrument"] == f"sim:{batch.underlying}-PERP"
        assert (perpetual["price_increment_e9"], perpetual["size_increment_e9"]) == (price_increment, size_increment)
        assert perpetual["instrument_type"] == "perpetual"
        assert not perpetual["is_inverse"]
        assert (perpetual["quote_currency"], perpetual["settlement_currency"]) == ("USD", "USD")
        assert perpetual["expiry_ns"] is perpetual["strike_e9"] is perpetual["is_call"] is None
        assert len({row["instrument"] for row in options}) == len(options) == 180
        assert all(row["is_inverse"] and row["quote_currency"] == batch.underlying for row in options)
        named = {row["instrument"]: row for row in options}
        quotes = next(b for b in events if b.kind is Kind.OPTION_QUOTE and b.underlying == batch.underlying)
        for row in quotes.data.to_pylist():
            terms = named[row["instrument"]]
            assert all(row[key] == terms[key] for key in ("expiry_ns", "strike_e9", "is_call"))


# -- the book -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [CONFIG, SimulationConfig(minutes=0.75, seed=2, tick_ms=20, depth_levels=7, snapshot_interval_s=4)],
    ids=["default", "narrow"],
)
def test_a_plain_dict_rebuilds_the_book(config: SimulationConfig) -> None:
    books: dict[str, dict[int, dict[int, int]]] = defaultdict(lambda: {BID: {}, ASK: {}})
    last_id: dict[str, int] = {}
    last_trade: Counter[str] = Counter()
    snapshots: Counter[str] = Counter()
    for batch in SimulatedExchange(config).batches():
        book = books[batch.underlying]
        if batch.kind is Kind.TRADE:
            for row in batch.data.to_pylist():
                _check_trade(row, book)
                last_trade[batch.underlying] += 1
                assert row["trade_id"] == last_trade[batch.underlying]
        if batch.kind is not Kind.BOOK:
            continue
        for rows in _book_events(batch):
            _chain(rows, batch.underlying, last_id)
            before = {side: dict(levels) for side, levels in book.items()}
            if rows[0]["flags"] & SNAPSHOT:
                book[BID].clear()
                book[ASK].clear()
                snapshots[batch.underlying] += 1
            for row in rows:
                _apply(row, book)
            if rows[0]["flags"] & SNAPSHOT and snapshots[batch.underlying] > 1:
                assert book == before, "a snapshot repeats what the deltas gave"
            assert max(book[BID]) < min(book[ASK])
            assert len(book[BID]) == len(book[ASK]) == config.depth_levels
    expected = 1 + config.seconds // config.snapshot_interval_s
    assert snapshots == dict.fromkeys(config.underlyings, expected)


def _book_events(batch: EventBatch) -> list[list[dict[str, int]]]:
    found: list[list[dict[str, int]]] = [[]]
    for row in batch.data.to_pylist():
        found[-1].append(row)
        if row["flags"] & LAST:
            found.append([])
    assert not found.pop(), "a batch ends with LAST"
    return found


def _chain(rows: list[dict[str, int]], underlying: str, last_id: dict[str, int]) -> None:
    snapshot = bool(rows[0]["flags"] & SNAPSHOT)
    for name in ("prev_id", "update_id", "ts_event", "ts_recv"):
        assert len({row[name] for row in rows}) == 1
    assert len({row["flags"] & SNAPSHOT for row in rows}) == 1
    if underlying in last_id:
        assert rows[0]["prev_id"] == last_id[underlying]
        assert (rows[0]["update_id"] > last_id[underlying]) != snapshot
    last_id[underlying] = rows[0]["update_id"]


def _apply(row: dict[str, int], book: dict[int, dict[int, int]]) -> None:
    levels = book[row["side"]]
    if row["size"]:
        assert levels.get(row["price"]) != row["size"], "a delta says only what changed"
        levels[row["price"]] = row["size"]
    else:
        del levels[row["price"]]


def _check_trade(row: dict[str, int], book: dict[int, dict[int, int]]) -> None:
    hit = book[ASK if row["aggressor"] > 0 else BID]
    best = min(hit) if row["aggressor"] > 0 else max(hit)
    assert (row["price"] - best) * row["aggressor"] >= 0, "at or through the best quote"
    assert 0 < row["size"] <= hit[row["price"]], "against a level that stands"


def test_trades_lie_inside_their_tick(events: list[EventBatch]) -> None:
    for underlying in ("BTC", "ETH"):
        trades = _columns(events, Kind.TRADE, underlying)
        assert (np.diff(trades["ts_event"]) > 0).all()
        ends = {
            int(end)
            for batch in events
            if batch.kind is Kind.TRADE and batch.underlying == underlying
            for end in np.unique(-(-batch.data.column("ts_event").to_numpy() // (100 * MILLI)))[[0, -1]]
        }
        assert len(ends) == sum(b.kind is Kind.TRADE and b.underlying == underlying for b in events)
        depth = np.unique(_columns(events, Kind.BOOK, underlying)["ts_event"][100:])
        assert (np.diff(depth) == 100 * MILLI).all()
        assert (depth % (100 * MILLI) == 0).all()


# -- regimes ------------------------------------------------------------------------------------------------------


def test_regimes_are_ordered_by_realized_volatility(
    long_run: tuple[pl.DataFrame, pl.DataFrame, SimulationConfig],
) -> None:
    bars, truth, config = long_run
    assert bars.height == truth.height == 2 * config.seconds
    assert bars["valid"].all()
    mid = (pl.col("bid_price_0") + pl.col("ask_price_0")).log()
    returns = bars.with_columns(mid.diff().over("underlying").alias("log_return"))
    for _, mine in returns.group_by("underlying"):
        by_regime = mine.group_by("regime").agg(pl.col("log_return").std(), pl.col("volatility").mean()).sort("regime")
        realized = (by_regime["log_return"] * np.sqrt(365 * 86_400)).to_numpy()
        assert by_regime["regime"].to_list() == [0, 1, 2]
        assert (np.diff(realized) > 0.15).all()
        # Jumps come on top of the diffusion.
        assert realized == pytest.approx(by_regime["volatility"].to_numpy(), rel=0.3)


def test_illiquid_is_wide_and_thin(long_run: tuple[pl.DataFrame, pl.DataFrame, SimulationConfig]) -> None:
    bars, _, _ = long_run
    spread = 2e4 * (pl.col("ask_price_0") - pl.col("bid_price_0")) / (pl.col("ask_price_0") + pl.col("bid_price_0"))
    depth = pl.sum_horizontal(f"{side}_size_{level}" for side in ("bid", "ask") for level in range(10))
    for _, mine in bars.with_columns(spread.alias("spread"), depth.alias("depth")).group_by("underlying"):
        means = mine.group_by("regime").agg(pl.col("spread", "depth", "trades").mean()).sort("regime")
        assert means["spread"].to_numpy() == pytest.approx([0.3, 0.9, 5.0], rel=0.25)
        assert (np.diff(means["depth"].to_numpy()) < 0).all()
        assert means["depth"][2] < 0.35 * means["depth"][0]
        assert means["trades"][1] > 2 * means["trades"][0] > 2 * means["trades"][2]


def test_truth_is_known_as_far_as_events_are() -> None:
    exchange = SimulatedExchange(CONFIG)
    assert exchange.truth().height == 0
    stream = exchange.batches()
    for batch in stream:
        if batch.kind is Kind.TRADE:
            break
    truth = exchange.truth()
    assert truth.height == 2 * CONFIG.block_s
    assert truth.schema == {"underlying": pl.String, "bar_ts": pl.Int64, "regime": pl.Int8, "volatility": pl.Float64}
    for _ in stream:
        pass
    whole = exchange.truth()
    assert whole.height == 2 * CONFIG.seconds
    assert truth.equals(whole.filter(pl.col("bar_ts") <= CONFIG.start_ns + CONFIG.block_s * NANO))


# -- laziness -----------------------------------------------------------------------------------------------------


def test_batches_are_made_when_they_are_asked_for() -> None:
    exchange = SimulatedExchange(SimulationConfig(minutes=10_000))
    stream = exchange.batches()
    assert inspect.isgenerator(stream)
    assert next(stream).kind is Kind.INSTRUMENT
    assert exchange.truth().height == 0, "nothing has been simulated for it"


def test_memory_does_not_grow_with_the_length() -> None:
    def peaks(minutes: int) -> tuple[int, int]:
        """Of numpy and Python, and of Arrow."""
        arrow = 0
        tracemalloc.start()
        for batch in SimulatedExchange(SimulationConfig(minutes=minutes)).batches():
            if batch.kind is Kind.HEARTBEAT:
                arrow = max(arrow, pa.total_allocated_bytes())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak, arrow

    peaks(1)
    (short, short_arrow), (long, long_arrow) = peaks(1), peaks(4)
    assert long < 1.1 * short
    assert long_arrow < 1.1 * short_arrow + 1_000_000

"""The ``own`` stage over decision logs that decider and gateway wrote: its rows against what they knew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hedge_market import SECOND, T0, FixedBand, bar_signals, portfolio, random_walk, signal, timer
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declared.own_activity import SCHEMA
from features.errors import BadInputError, ConfigError
from hedger.backtest import Run, run
from hedger.decide import Decider
from hedger.inputs import (
    CancelInput,
    FillInput,
    Input,
    KillInput,
    PortfolioInput,
    SignalInput,
    encode_input,
)
from hedger.limits import Limits
from hedger.orders import decision_id, order_id
from hedger.paper import PaperGateway
from hedger.portfolio import OptionPosition, encode_portfolio
from hedger.profit import profit_and_loss, signal_inputs
from hedger.valuation import options_greeks
from pipeline.arrival_mids import REMEMBERED_BARS
from pipeline.backfill_own_activity import backfill_own_activity
from pipeline.codec import UndecodableError, decode_rows, encode
from pipeline.lake import Lake, LakeError, positioned
from pipeline.own_activity import LoggedInput, OwnActivityStage, decode_logged_input
from pipeline.settings import Settings
from pipeline.tables import TABLES
from pipeline.worker_specs import stage_spec

Row = dict[str, Any]
DESK = Limits(
    max_position={"BTC": 8.0, "ETH": 60.0},
    max_order_quantity={"BTC": 10.0, "ETH": 100.0},
    min_trade_quantity={},
    max_orders_per_minute=120,
)
BARS = 150


@cache
def recorded() -> Run:
    """Two and a half minutes of hedging, with spells of an invalid book in which orders wait."""
    market = signal_inputs(random_walk(BARS, seed=5))
    holes = {"BTC": range(40, 47), "ETH": range(90, 93)}
    market = [
        msgspec.structs.replace(each, book_valid=False, best_bid=None, best_ask=None, mid=None)
        if (each.bar_ts - T0) // SECOND in holes[each.underlying]
        else each
        for each in market
    ]
    return run(market, Decider(portfolio(), DESK, FixedBand(0.0, 0.0)), PaperGateway())


def stage(bounds: Limits = DESK) -> OwnActivityStage:
    return OwnActivityStage(portfolio(), bounds)


def rows_of(subject: OwnActivityStage, items: Iterable[Input], name: str = "demo") -> list[Row]:
    rows: list[Row] = []
    for item in items:
        output = subject.process(LoggedInput(name, item))
        assert output.rejects == []
        for keyed in output.rows:
            assert keyed.data.schema == SCHEMA
            mine = keyed.data.to_pylist()
            assert [row["underlying"] for row in mine] == [keyed.key]
            rows += mine
    return rows


def of(rows: Sequence[Row], underlying: str) -> list[Row]:
    return [row for row in rows if row["underlying"] == underlying]


def fill(bar: int, quantity: float, price: float, **changes: Any) -> FillInput:
    """Of the BTC order that was decided at ``bar``, told a bar later."""
    decision = decision_id("demo", T0 + bar * SECOND)
    values = {
        "order_id": order_id("demo", decision, "BTC"), "decision_id": decision, "underlying": "BTC",
        "instrument": "sim:BTC-PERP", "fee_usd": 0.0, "bar_ts": T0 + (bar + 1) * SECOND,
        "input_id": f"fill:{bar}:{quantity}",
    }  # fmt: skip
    return FillInput(quantity=quantity, price=price, **(values | changes))


# -- against what decider, gateway and ledger knew -------------------------------------------------------------------


def test_a_row_an_instrument_and_bar_in_their_order() -> None:
    rows = rows_of(stage(), recorded().inputs)
    assert [(row["bar_ts"], row["underlying"]) for row in rows] == [
        (T0 + bar * SECOND, name) for bar in range(BARS) for name in ("BTC", "ETH")
    ]
    assert {row["portfolio"] for row in rows} == {"demo"}
    assert {row["version"].split("+")[1] for row in rows} == {DESK.digest}


def test_inventory_and_loss_are_those_that_the_decider_saw() -> None:
    rows = rows_of(stage(), recorded().inputs)
    decisions = {each.bar_ts: each for each in recorded().decisions}
    losses = 0
    for row in rows:
        decision = decisions[row["bar_ts"]]
        (leg,) = [leg for leg in decision.legs if leg.underlying == row["underlying"]]
        assert row["inventory"] == pytest.approx(leg.position, abs=1e-9 * BARS)
        assert row["position_limit_free"] == pytest.approx(
            1.0 - abs(leg.position) / DESK.max_position[leg.underlying], abs=1e-9
        )
        assert row["settlement_price"] == leg.mid
        if row["loss_limit_free"] is not None:
            assert decision.pnl_usd is not None
            expected = 1.0 - max(0.0, -decision.pnl_usd) / DESK.max_loss_usd
            assert row["loss_limit_free"] == pytest.approx(expected, abs=1e-8)
            losses += decision.pnl_usd < -1.0
    assert losses > 50


def test_profit_and_turnover_are_those_of_the_ledger() -> None:
    rows = rows_of(stage(), recorded().inputs)
    signals = [each for each in recorded().inputs if isinstance(each, SignalInput)]
    flat = replace_options(quantity=0.0)
    legs = profit_and_loss(signals, recorded().fills, flat).legs
    known = 0
    for row, leg in zip(rows, legs.iter_rows(named=True), strict=True):
        assert (row["bar_ts"], row["underlying"]) == (leg["bar_ts"], leg["underlying"])
        assert row["turnover_1h"] == pytest.approx(leg["turnover_usd"], rel=1e-9)
        if row["total_pnl"] is not None:
            assert row["total_pnl"] == pytest.approx(leg["pnl_usd"], abs=1e-3)
            known += 1
    assert known == 2 * BARS - 10
    for name in ("BTC", "ETH"):
        mine = of(rows, name)
        assert sum(row["fills"] for row in mine) == sum(each.underlying == name for each in recorded().fills) > 100
        assert mine[-1]["fees"] == pytest.approx(sum(f.fee_usd for f in recorded().fills if f.underlying == name))


def replace_options(**changes: Any) -> Any:
    """The demo portfolio, its options changed."""
    mine = portfolio()
    options = tuple(msgspec.structs.replace(option, **changes) for option in mine.options)
    return msgspec.structs.replace(mine, options=options)


def test_execution_cost_is_against_the_mid_of_the_decision() -> None:
    """Also of the orders that waited seven bars for a valid book."""
    rows = rows_of(stage(), recorded().inputs)
    seen = {(each.decision_id, leg.underlying): leg.mid for each in recorded().decisions for leg in each.legs}
    decided = {each.decision_id: each.bar_ts for each in recorded().decisions}
    waited = {(f.bar_ts - decided[f.decision_id]) // SECOND for f in recorded().fills}
    assert {1, 4, 8} <= waited
    for name in ("BTC", "ETH"):
        last, cost, notional = None, 0.0, 0.0
        for row in of(rows, name):
            for each in recorded().fills:
                if (each.underlying, each.bar_ts) == (name, row["bar_ts"]):
                    mid = seen[each.decision_id, name]
                    assert mid is not None
                    last = 1e4 * (each.price / mid - 1.0) * np.sign(each.quantity)
                    cost += each.quantity * (each.price - mid)
                    notional += abs(each.quantity) * mid
            assert row["execution_cost_bps"] == (None if last is None else pytest.approx(last, abs=1e-6))
            average = pytest.approx(1e4 * cost / notional, rel=1e-6) if notional else None
            assert row["average_execution_cost_bps"] == row["average_execution_cost_bps_1h"] == average


def test_order_rate_is_that_of_the_limit_but_for_orders_that_wait() -> None:
    rows = rows_of(stage(), recorded().inputs)
    orders = [order for each in recorded().decisions for order in each.orders]
    reported = {each.order_id: each.bar_ts for each in recorded().fills}
    full = 0
    for btc, eth in zip(of(rows, "BTC"), of(rows, "ETH"), strict=True):
        now = btc["bar_ts"]
        recent = [each for each in orders if now - 60 * SECOND < each.bar_ts < now]
        told = [each for each in recent if reported.get(each.order_id, now + 1) <= now]
        assert btc["order_rate_1m"] + eth["order_rate_1m"] == len(told)
        assert btc["order_rate_1m"] == sum(each.underlying == "BTC" for each in told)
        assert btc["order_rate_limit_free"] == pytest.approx(1.0 - len(told) / 120.0, abs=1e-15)
        full += len(told) == len(recent)
    assert full >= BARS - 10
    assert min(row["order_rate_limit_free"] for row in rows) < 0.1


def test_greeks_are_those_of_the_options_at_the_bars_marks() -> None:
    rows = rows_of(stage(), recorded().inputs)
    for row in rows:
        mid = row["settlement_price"]
        names = ("net_delta_limit_free", "gamma_limit_free", "vega_limit_free")
        if mid is None:
            assert {row[name] for name in names} == {None}
            continue
        greeks = options_greeks(portfolio().options_on(row["underlying"]), mid, 0.5, row["bar_ts"])
        net = (greeks.delta + row["inventory"]) * mid
        assert row["net_delta_limit_free"] == 1.0 - abs(net) / DESK.max_net_delta_usd
        assert row["gamma_limit_free"] == 1.0 - abs(greeks.gamma_usd) / DESK.max_gamma_usd
        assert row["vega_limit_free"] == 1.0 - abs(greeks.vega_usd) / DESK.max_vega_usd


# -- to the bit ------------------------------------------------------------------------------------------------------


@cache
def bits() -> list[bytes]:
    """The rows of the recorded log, encoded."""
    subject = stage()
    outputs = [subject.process(LoggedInput("demo", item)) for item in recorded().inputs]
    return [encode(rows.data) for output in outputs for rows in output.rows]


@given(st.sets(st.integers(0, 5 * BARS), max_size=4))
@settings(max_examples=10, deadline=None)
def test_a_restart_anywhere_gives_the_same_bits(cuts: set[int]) -> None:
    subject, found = stage(), []
    for i, item in enumerate(recorded().inputs):
        if i in cuts:
            subject, old = stage(), subject
            subject.restore(old.snapshot())
        found += [encode(rows.data) for rows in subject.process(LoggedInput("demo", item)).rows]
    assert found == bits()


@given(st.integers(0, 5 * BARS), st.integers(1, 60))
@settings(max_examples=10, deadline=None)
def test_inputs_that_come_again_after_a_crash_change_nothing(at: int, back: int) -> None:
    items = recorded().inputs
    again = [*items[:at], *items[max(0, at - back) : at], *items[at:]]
    subject = stage()
    outputs = [subject.process(LoggedInput("demo", item)) for item in again]
    assert [encode(rows.data) for output in outputs for rows in output.rows] == bits()


def test_what_comes_later_changes_no_row_that_was_told() -> None:
    half = recorded().inputs[: len(recorded().inputs) // 2]
    subject = stage()
    outputs = [subject.process(LoggedInput("demo", item)) for item in half]
    found = [encode(rows.data) for output in outputs for rows in output.rows]
    assert 0 < len(found) < len(bits())
    assert found == bits()[: len(found)]


def test_the_wire_and_the_lake_know_the_rows() -> None:
    assert decode_rows("own.activity", bits()[0]).schema == SCHEMA
    assert TABLES["own_activity"].columns == SCHEMA
    assert (TABLES["own_activity"].topic, TABLES["own_activity"].kind) == ("own.activity", "own.activity")


# -- what is dropped, and what changes -------------------------------------------------------------------------------


def test_a_late_fill_is_in_the_next_row() -> None:
    subject = stage()
    rows = rows_of(
        subject, [*bar_signals(1), *bar_signals(2), fill(1, 2.0, 60_006.0), fill(1, 2.0, 60_006.0), *bar_signals(3)]
    )
    assert [row["inventory"] for row in of(rows, "BTC")] == [0.0, 0.0, 2.0]
    assert [row["fills"] for row in of(rows, "BTC")] == [0, 0, 1]
    assert of(rows, "BTC")[2]["execution_cost_bps"] == 1.0
    assert of(rows, "BTC")[2]["last_fill_age_s"] == 1.0
    assert subject.counts["repeated"] == 1


def test_partial_fills_are_one_order_and_several_fills() -> None:
    rows = rows_of(
        stage(), [*bar_signals(1), fill(1, 0.25, 60_000.0), fill(1, 0.5, 60_000.0), *bar_signals(2)]
    )  # fmt: skip
    assert (of(rows, "BTC")[1]["fills"], of(rows, "BTC")[1]["order_rate_1m"]) == (2, 1)


def test_a_cancelled_order_counts_as_an_order() -> None:
    order = order_id("demo", decision_id("demo", T0 + SECOND), "ETH")
    cancel = CancelInput(input_id="cancel:1", order_id=order, bar_ts=T0 + 2 * SECOND, reason="too dear")
    foreign = CancelInput(input_id="cancel:2", order_id="foreign", bar_ts=T0 + 2 * SECOND, reason="?")
    rows = rows_of(stage(), [*bar_signals(1), cancel, foreign, *bar_signals(2)])
    assert [row["order_rate_1m"] for row in rows[2:]] == [0, 1]


def test_a_decision_that_is_forgotten_or_foreign_has_no_arrival_mid() -> None:
    subject = stage()
    rows_of(subject, [*bar_signals(0), *bar_signals(1)])
    known = rows_of(subject, [fill(0, 1.0, 60_006.0), *bar_signals(2)])
    foreign = rows_of(subject, [fill(0, 1.5, 60_006.0, decision_id="foreign"), *bar_signals(3)])
    rows_of(subject, [item for bar in range(4, REMEMBERED_BARS + 1) for item in bar_signals(bar)])
    late = rows_of(subject, [fill(0, -2.5, 60_006.0), *bar_signals(REMEMBERED_BARS + 1)])
    assert [of(each, "BTC")[0]["execution_cost_bps"] for each in (known, foreign, late)] == [1.0, None, None]
    assert of(late, "BTC")[0]["average_execution_cost_bps"] == 1.0


def test_torn_bars_give_no_row_and_other_instruments_are_not_ours() -> None:
    subject = stage()
    items = [
        signal("BTC", 1), *bar_signals(2), signal("ETH", 1), signal("BTC", 3, instrument="sim:BTC-SPOT"),
        signal("SOL", 3), signal("BTC", 2), *bar_signals(4),
    ]  # fmt: skip
    rows = rows_of(subject, items)
    assert [(row["bar_ts"] - T0) // SECOND for row in rows] == [2, 2, 4, 4]
    counts = dict(subject.counts)
    assert counts.pop("applied") == 5
    assert counts == {"incomplete_bars": 1, "old_bar": 2, "other_instrument": 1, "unknown_underlying": 1}


def test_another_portfolios_log_in_the_same_topic_is_passed_over() -> None:
    subject = stage()
    assert rows_of(subject, bar_signals(1), name="other") == []
    assert subject.counts == {"other_portfolio": 2}


def test_kills_and_ticks_change_no_row() -> None:
    kill = KillInput(input_id="k", reason="test", by="ann")
    with_them = [*bar_signals(1), timer(1.5), kill, timer(1.7), *bar_signals(2), timer(99.0), *bar_signals(3)]
    subject = stage()
    assert rows_of(subject, with_them) == rows_of(stage(), [item for bar in (1, 2, 3) for item in bar_signals(bar)])
    assert subject.counts == {"applied": 7}


@pytest.mark.parametrize("changes", [{"price": -1.0}, {"price": 0.0}, {"quantity": float("nan")}])
def test_an_impossible_fill_is_rejected_and_the_rest_flows(changes: dict[str, float]) -> None:
    subject, untouched = stage(), stage()
    rows_of(subject, bar_signals(1))
    output = subject.process(LoggedInput("demo", fill(1, **({"quantity": 1.0, "price": 60_000.0} | changes))))
    assert [reject.reason for reject in output.rejects] == ["bad_fill"]
    assert rows_of(subject, bar_signals(2)) == rows_of(untouched, [*bar_signals(1), *bar_signals(2)])[2:]


def test_a_fill_of_an_unknown_underlying_is_counted() -> None:
    subject = stage()
    rows_of(subject, [fill(1, 1.0, 9.0, underlying="SOL", instrument="sim:SOL-PERP")])
    assert subject.counts == {"fill_of_unknown_underlying": 1}


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b'{"type":"gossip"}', b'{"type":"fill","input_id":1}'])
def test_what_is_no_input_is_a_dead_letter(payload: bytes) -> None:
    with pytest.raises(UndecodableError) as caught:
        decode_logged_input("input", "demo", payload)
    assert caught.value.reason == "bad_input"


def test_other_options_go_on_from_the_same_profit() -> None:
    """The portfolio is exchanged at its value; greeks are of the new options from the next bar on."""
    doubled = replace_options(quantity=-20.0)
    edit = PortfolioInput(input_id="p", portfolio=doubled)
    tight = replace(DESK, max_loss_usd=1e4)
    moved = {"BTC": {"mid": 61_000.0}}
    rows = of(rows_of(stage(tight), [*bar_signals(1), *bar_signals(2, moved), edit, *bar_signals(3, moved)]), "BTC")
    assert rows[0]["loss_limit_free"] == 1.0
    assert rows[1]["loss_limit_free"] < 0.6
    assert rows[2]["loss_limit_free"] == pytest.approx(rows[1]["loss_limit_free"], abs=1e-3)  # a second of theta
    assert 1.0 - rows[2]["gamma_limit_free"] == pytest.approx(2.0 * (1.0 - rows[1]["gamma_limit_free"]), rel=1e-3)


def test_an_edit_that_abandons_what_is_held_is_dropped_as_the_decider_drops_it() -> None:
    moved = msgspec.structs.replace(
        portfolio(), hedge_instruments={**portfolio().hedge_instruments, "BTC": "other:BTC-PERP"}
    )
    subject = stage()
    held = [*bar_signals(1), fill(1, 1.0, 60_000.0), PortfolioInput(input_id="p", portfolio=moved), *bar_signals(2)]
    assert [row["inventory"] for row in of(rows_of(subject, held), "BTC")] == [0.0, 1.0]
    assert subject.counts == {"applied": 5, "edit_abandons_a_hedge": 1}


def test_a_new_underlying_brings_its_limits_also_after_a_restart() -> None:
    btc = portfolio().options_on("BTC")
    alone = msgspec.structs.replace(portfolio(), options=btc, hedge_instruments={"BTC": "sim:BTC-PERP"})
    subject = OwnActivityStage(alone, DESK)
    rows = rows_of(subject, [signal("BTC", 1), PortfolioInput(input_id="p", portfolio=portfolio()), *bar_signals(2)])
    assert [(row["underlying"], row["position_limit_free"]) for row in rows] == [
        ("BTC", 1.0),
        ("BTC", 1.0),
        ("ETH", 1.0),
    ]
    again = OwnActivityStage(alone, DESK)
    again.restore(subject.snapshot())
    assert [row["position_limit_free"] for row in rows_of(again, bar_signals(3))] == [1.0, 1.0]


def test_a_row_is_known_when_the_last_signal_of_its_bar_is() -> None:
    late = {"BTC": {"ts_known": T0 + 9 * SECOND}, "ETH": {"ts_known": T0 + 8 * SECOND}}
    assert {row["ts_known"] for row in rows_of(stage(), bar_signals(1, late))} == {T0 + 9 * SECOND}


def test_an_expired_option_has_its_settlement_and_no_greeks() -> None:
    expiring = OptionPosition(
        underlying="BTC", quantity=-10.0, is_call=True, strike=60_000.0, expiry_ns=T0 + 2 * SECOND
    )
    (other,) = portfolio().options_on("ETH")
    mine = msgspec.structs.replace(portfolio(), options=(expiring, other))
    subject = OwnActivityStage(mine, DESK)
    prices = (60_000.0, 60_500.0, 65_000.0)
    items = [item for bar, mid in enumerate(prices, 1) for item in bar_signals(bar, {"BTC": {"mid": mid}})]
    rows = of(rows_of(subject, items), "BTC")
    assert [row["gamma_limit_free"] for row in rows[1:]] == [1.0, 1.0]
    assert [row["net_delta_limit_free"] for row in rows[1:]] == [1.0, 1.0]
    # Settled 500 in the money: later prices move it no more (the put loses its theta alone).
    assert rows[1]["loss_limit_free"] == pytest.approx(1.0 - 5_000.0 / DESK.max_loss_usd, abs=1e-3)
    assert rows[2]["loss_limit_free"] == pytest.approx(rows[1]["loss_limit_free"], abs=1e-5)


def test_a_stale_volatility_hides_what_hangs_on_it() -> None:
    subject = stage()
    rows_of(subject, bar_signals(1))
    btc, eth = rows_of(subject, bar_signals(2, {"BTC": {"atm_iv_30d": None}}))
    unknown = ("net_delta_limit_free", "gamma_limit_free", "vega_limit_free", "loss_limit_free")
    assert [btc[name] for name in unknown] == [None] * 4
    assert [eth[name] is None for name in unknown] == [False, False, False, True]
    assert (btc["total_pnl"], btc["settlement_price"]) == (0.0, 60_000.0)


def test_an_underlying_without_a_position_limit_may_hold_nothing() -> None:
    subject = stage(replace(DESK, max_position={"ETH": 1.0}))
    rows_of(subject, bar_signals(1))
    rows = rows_of(subject, [*bar_signals(2), fill(1, 0.5, 60_000.0), *bar_signals(3)])
    assert [row["position_limit_free"] for row in of(rows, "BTC")] == [0.0, None]
    assert [row["position_limit_free"] for row in of(rows, "ETH")] == [1.0, 1.0]


def test_a_snapshot_of_another_portfolio_is_refused() -> None:
    renamed = OwnActivityStage(msgspec.structs.replace(portfolio(), name="other"), DESK)
    with pytest.raises(ConfigError, match=r"'demo'.*not 'other'"):
        renamed.restore(stage().snapshot())
    with pytest.raises(BadInputError):
        stage().restore({"demo": b"garbage"})


# -- backfill --------------------------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path) -> Settings:
    (tmp_path / "portfolio.json").write_bytes(encode_portfolio(portfolio()))
    (tmp_path / "limits.json").write_bytes(msgspec.json.encode(DESK))
    return Settings(portfolio=tmp_path / "portfolio.json", limits=tmp_path / "limits.json")


def lake_of(folder: Path, documents: Sequence[bytes]) -> Lake:
    """A lake whose decision log holds these, appended in another order than the log's."""
    table, lake = TABLES["decision_inputs"], Lake(folder)
    order = sorted(range(len(documents)), key=lambda i: (i % 3, i))
    values: dict[str, list[Any]] = {
        "bar_ts": [1] * len(order),
        "portfolio": ["demo"] * len(order),
        "input_id": [""] * len(order),
        "type": [""] * len(order),
        "document": [documents[i].decode() for i in order],
    }
    columns = {field.name: pa.array(values[field.name], field.type) for field in table.columns}
    rows = positioned(table, columns, 0, 0, [0] * len(order))
    offsets = pa.array(order, pa.int64())
    lake.append(table, rows.set_column(rows.schema.get_field_index("topic_offset"), "topic_offset", offsets), {})
    return lake


def test_backfill_gives_the_bits_of_the_stream(desk: Settings, tmp_path: Path) -> None:
    documents = [encode_input(item) for item in recorded().inputs]
    documents.insert(100, b'{"type":"gossip"}')
    source, target = lake_of(tmp_path / "live", documents), Lake(tmp_path / "again")
    result = backfill_own_activity(source, target, desk)
    assert (result.events, dict(result.rejects)) == (len(documents), {"bad_input": 1})
    assert dict(result.rows) == {"own_activity": len(bits())}
    files = target.files(TABLES["own_activity"])
    stored = pl.read_parquet(files, hive_partitioning=True).sort("topic_row").select(SCHEMA.names).to_arrow()
    live = pa.Table.from_batches([decode_rows("own.activity", each) for each in bits()])
    for name in SCHEMA.names:
        mine, theirs = (each.column(name).cast(SCHEMA.field(name).type).combine_chunks() for each in (stored, live))
        if pa.types.is_floating(mine.type):
            assert mine.is_null().equals(theirs.is_null())
            left, right = (each.fill_null(0.0).to_numpy().view(np.int64) for each in (mine, theirs))
            assert (left == right).all()
        else:
            assert mine.equals(theirs)
    with pytest.raises(LakeError, match="has rows already"):
        backfill_own_activity(source, target, desk)


def test_backfill_of_nothing(desk: Settings, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake"):
        backfill_own_activity(Lake(tmp_path / "none"), Lake(tmp_path / "again"), desk)


def test_the_worker_runs_the_stage_with_the_desks_files(desk: Settings, tmp_path: Path) -> None:
    spec = stage_spec("own", desk)
    assert (spec.source, spec.sink, spec.whole) == ("decisions.inputs", "own.activity", False)
    subject = spec.make()
    found = [
        encode(rows.data)
        for item in recorded().inputs
        for rows in subject.process(spec.decode("input", "demo", encode_input(item))).rows
    ]
    assert found == bits()
    with pytest.raises(ConfigError, match="no portfolio"):
        stage_spec("own", desk.model_copy(update={"portfolio": tmp_path / "gone.json"})).make()

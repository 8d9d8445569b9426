"""The decider: when it decides, what it drops, and that its inputs alone decide."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hedge_market import (
    SECOND,
    SPOT,
    T0,
    FixedBand,
    bar_signals,
    feed,
    limits,
    portfolio,
    random_walk,
    signal,
    timer,
)

from features.errors import BadInputError
from hedger.backtest import ZeroBand, run
from hedger.decide import MAX_PENDING_BARS, REMEMBERED_INPUTS, Decider
from hedger.decision import Decision, Rung, decode_decision, encode_decision, explain
from hedger.inputs import (
    ActivateInput,
    CancelInput,
    FillInput,
    FlattenInput,
    KillInput,
    ModelInput,
    PortfolioInput,
    ReleaseInput,
)
from hedger.limits import Limits
from hedger.orders import decision_id, order_id
from hedger.paper import PaperGateway
from hedger.portfolio import OptionPosition, Portfolio
from hedger.profit import signal_inputs

KILL = KillInput(input_id="k1", reason="test", by="ann")
FLATTEN = FlattenInput(input_id="f1", reason="test", by="ann")


SMALLEST = {"BTC": 0.001, "ETH": 0.01}
"""More than a band moves in a second by the passing of time."""


def decider(bounds: Limits | None = None, **band: Any) -> Decider:
    return Decider(
        portfolio(),
        bounds or limits(min_trade_quantity=SMALLEST),
        FixedBand(band.get("lower", 0.02), band.get("upper", 0.02)),
    )


def fill(decision: Decision, underlying: str = "BTC", **changes: Any) -> FillInput:
    """All of the decision's order, at its limit."""
    (order,) = [order for order in decision.orders if order.underlying == underlying]
    values: dict[str, Any] = {
        "input_id": f"fill:{order.order_id}",
        "order_id": order.order_id,
        "decision_id": order.decision_id,
        "underlying": underlying,
        "instrument": order.instrument,
        "quantity": order.quantity,
        "price": SPOT[underlying],
        "fee_usd": 1.0,
        "bar_ts": decision.bar_ts + SECOND,
    }
    return FillInput(**{**values, **changes})


def test_it_decides_when_all_underlyings_have_the_bar() -> None:
    subject = decider()
    btc, eth = bar_signals(1)
    assert subject.apply(eth) is None
    decision = subject.apply(btc)
    assert decision is not None
    assert decision.bar_ts == btc.bar_ts
    assert decision.underlyings == ("BTC", "ETH")
    assert decision.trigger == btc.input_id
    assert [leg.signal_id for leg in decision.legs] == [btc.input_id, eth.input_id]


def test_a_decision_trades_to_the_edge_and_then_holds() -> None:
    subject = decider()
    (first,) = feed(subject, bar_signals(1))
    btc = first.legs[0]
    assert (btc.position, btc.target) == (0.0, btc.lower)
    assert btc.order_quantity == btc.lower
    assert first.legs[1].order_quantity == first.legs[1].upper  # the put's hedge is a short position
    # While the orders are outstanding they count, and are not sent twice.
    (second,) = feed(subject, bar_signals(2))
    assert second.legs[0].outstanding == btc.order_quantity
    assert second.orders == ()
    feed(subject, [fill(first), fill(first, "ETH")])
    (third,) = feed(subject, bar_signals(3))
    assert (third.legs[0].position, third.legs[0].outstanding) == (btc.order_quantity, 0.0)
    assert third.orders == ()
    assert third.legs[0].reason == "inside the band"


def test_partial_fills_leave_the_rest_outstanding() -> None:
    subject = decider()
    (first,) = feed(subject, bar_signals(1))
    whole = first.orders[0].quantity
    feed(subject, [fill(first, quantity=0.25 * whole, input_id="a")])
    (second,) = feed(subject, bar_signals(2))
    assert second.legs[0].position == 0.25 * whole
    assert second.legs[0].outstanding == 0.75 * whole
    feed(subject, [fill(first, quantity=0.75 * whole, input_id="b")])
    assert first.orders[0].order_id not in subject.outstanding


@pytest.mark.parametrize("parts", [[0.1] * 10, [0.7, 0.2, 0.1], [1 / 7] * 7, [1.5]])
def test_dust_and_overfills_leave_nothing_outstanding(parts: list[float]) -> None:
    subject = decider()
    (first,) = feed(subject, bar_signals(1))
    whole = first.orders[0].quantity
    feed(subject, [fill(first, quantity=part * whole, input_id=f"{i}") for i, part in enumerate(parts)])
    assert subject.outstanding == (first.orders[1].order_id,)


def test_ids_are_hashes_of_portfolio_decision_and_leg() -> None:
    (first,), (again,) = feed(decider(), bar_signals(1)), feed(decider(), bar_signals(1))
    assert encode_decision(first) == encode_decision(again)
    assert first.decision_id == decision_id("demo", T0 + SECOND)
    assert [order.order_id for order in first.orders] == [
        order_id("demo", first.decision_id, leg) for leg in ("BTC", "ETH")
    ]
    # A literal: ids must be the same in the next release too, or what was sent is sent again.
    assert order_id("demo", "d", "BTC") == "9db92f7ba377aea74643b2ace020182b"


def test_repeats_change_nothing() -> None:
    subject, once = decider(), decider()
    (first,) = feed(subject, bar_signals(1))
    feed(once, bar_signals(1))
    for item in (fill(first), KILL, ReleaseInput(input_id="r", reason="", by="ann")):
        assert len(feed(subject, [item, item])) == len(feed(once, [item]))
    feed(subject, [*bar_signals(1), signal("BTC", 2), signal("BTC", 2)])
    feed(once, [signal("BTC", 2)])
    repeats = subject.counts
    assert (repeats["repeated"], repeats["old_bar"]) == (4, 2)
    # But for what was counted, the state is the same: the next decision has the same bytes.
    (a,), (b,) = feed(subject, [signal("ETH", 2)]), feed(once, [signal("ETH", 2)])
    assert encode_decision(a) == encode_decision(b)


def test_bars_not_beyond_the_decided_one_are_dropped() -> None:
    subject = decider()
    assert len(feed(subject, [*bar_signals(5), *bar_signals(5), *bar_signals(4), *bar_signals(6)])) == 2
    assert subject.counts["old_bar"] == 4


def test_one_underlying_may_run_ahead() -> None:
    ahead = [signal("BTC", bar) for bar in range(1, 4)]
    behind = [signal("ETH", bar) for bar in range(1, 4)]
    together = [item for pair in zip(ahead, behind, strict=True) for item in pair]
    a, b = feed(decider(), together), feed(decider(), ahead + behind)
    assert [each.legs for each in a] == [each.legs for each in b]
    torn = decider()
    assert len(feed(torn, [signal("BTC", 1), *bar_signals(2)])) == 1
    assert torn.counts["incomplete_bars"] == 1


def test_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    subject = decider()
    feed(subject, [signal("BTC", bar) for bar in range(1, MAX_PENDING_BARS + 11)])
    assert subject.counts["incomplete_bars"] == 10
    assert feed(subject, [signal("ETH", 10)]) == []
    assert len(feed(subject, [signal("ETH", MAX_PENDING_BARS + 10)])) == 1
    releases = [ReleaseInput(input_id=str(i), reason="", by="") for i in range(REMEMBERED_INPUTS + 1)]
    feed(subject, releases)
    feed(subject, [releases[0]])
    assert subject.counts.get("repeated", 0) == 0
    feed(subject, releases[2:])
    assert subject.counts["repeated"] == REMEMBERED_INPUTS - 1


def test_the_rate_is_that_of_the_last_minute() -> None:
    subject = Decider(portfolio(), limits(max_orders_per_minute=2), ZeroBand())
    (first,) = feed(subject, bar_signals(1))
    feed(subject, [fill(first), fill(first, "ETH")])
    moved = {"BTC": {"mid": 60_500.0}}
    (within,) = feed(subject, bar_signals(60, moved))
    assert {refusal.limit for refusal in within.refusals} == {"max_orders_per_minute"}
    (after,) = feed(subject, bar_signals(61, moved))
    assert len(after.orders) == 2


def test_a_torn_bar_is_not_completed_after_a_later_one() -> None:
    subject = decider()
    assert len(feed(subject, [signal("BTC", 1), *bar_signals(3), signal("ETH", 1), *bar_signals(4)])) == 2
    assert (subject.counts["incomplete_bars"], subject.counts["old_bar"]) == (1, 1)


def test_what_is_not_ours_is_dropped_and_noticed() -> None:
    subject = decider()
    feed(subject, [signal("SOL"), signal("BTC", instrument="other:BTC")])
    stray = FillInput(
        input_id="s", order_id="o", decision_id="d", underlying="SOL", instrument="i", quantity=1.0, price=1.0,
        fee_usd=0.0, bar_ts=T0,
    )  # fmt: skip
    feed(subject, [stray, PortfolioInput(input_id="p", portfolio=other_portfolio("another"))])
    (decision,) = feed(subject, bar_signals(1))
    assert subject.counts["unknown_underlying"] == subject.counts["other_instrument"] == 1
    assert subject.counts["fill_of_unknown_underlying"] == subject.counts["other_portfolio"] == 1
    assert len(decision.notices) == 4
    assert feed(subject, bar_signals(2))[0].notices == ()


def test_a_fill_of_an_unknown_order_still_moves_the_position() -> None:
    subject = decider()
    (first,) = feed(subject, bar_signals(1))
    feed(subject, [fill(first, order_id="?", input_id="x", quantity=2.0)])
    (second,) = feed(subject, bar_signals(2))
    assert second.legs[0].position == 2.0
    assert "not outstanding" in second.notices[0]


def test_a_cancelled_order_is_ordered_anew() -> None:
    subject = decider()
    (first,) = feed(subject, bar_signals(1))
    order = first.orders[0]
    feed(subject, [CancelInput(input_id="c", order_id=order.order_id, bar_ts=first.bar_ts, reason="collar")])
    (second,) = feed(subject, bar_signals(2))
    assert [each.underlying for each in second.orders] == ["BTC"]
    assert second.orders[0].order_id != order.order_id


def test_a_kill_decides_at_once_and_holds_until_released() -> None:
    subject = decider()
    (first,) = feed(subject, bar_signals(1))
    (killed,) = feed(subject, [KILL])
    assert killed.bar_ts == first.bar_ts + 1
    assert set(killed.cancels) == {order.order_id for order in first.orders}
    cancelled = [
        CancelInput(input_id=f"c{i}", order_id=name, bar_ts=killed.bar_ts, reason="kill")
        for i, name in enumerate(killed.cancels)
    ]
    decisions = feed(subject, [*cancelled, *bar_signals(2), timer(2.5), *bar_signals(3)])
    for decision in (killed, *decisions):
        assert decision.orders == ()
        assert {leg.rung for leg in decision.legs} == {Rung.HOLD}
        assert "killed by ann: test" in decision.legs[0].reason
    (released,) = feed(subject, [ReleaseInput(input_id="r", reason="fixed", by="bob"), *bar_signals(4)])
    assert len(released.orders) == 2
    assert "kill released by bob: fixed" in released.notices


def test_after_a_kill_ticks_ask_again_for_what_is_still_outstanding() -> None:
    subject = decider()
    (first,) = feed(subject, bar_signals(1))
    feed(subject, [KILL])
    (tick,) = feed(subject, [timer(1.5)])
    assert set(tick.cancels) == {order.order_id for order in first.orders}
    # That the data are stale is a decision of its own.
    feed(subject, [fill(first), fill(first, "ETH")])
    assert len(feed(subject, [timer(3.0), timer(20.0), timer(21.0)])) == 1


def test_a_kill_before_any_bar() -> None:
    subject = decider()
    (killed,) = feed(subject, [KILL])
    assert {leg.rung for leg in killed.legs} == {Rung.HOLD}
    assert feed(subject, bar_signals(1))[0].orders == ()


def test_stale_data_hold_once_and_bars_go_on() -> None:
    subject = decider()
    feed(subject, bar_signals(1))
    assert feed(subject, [timer(11.0)]) == []  # 10 s: not yet
    (stale,) = feed(subject, [timer(11.001), timer(12.0), timer(13.0)])
    assert {leg.rung for leg in stale.legs} == {Rung.HOLD}
    assert "stale" in stale.legs[0].reason
    assert stale.bar_ts == T0 + SECOND + 1
    # A bar that comes late is no market to trade on; one in time is.
    (late,) = feed(subject, bar_signals(2))
    assert late.orders == ()
    assert "stale: the bar is 11 s old" in late.legs[0].reason
    assert {leg.rung for leg in feed(subject, bar_signals(4))[0].legs} == {Rung.DEEP_POLICY}


def test_timers_do_not_run_backwards() -> None:
    subject = decider()
    feed(subject, [*bar_signals(1), timer(5.0), timer(5.0), timer(4.0)])
    assert subject.counts["old_timer"] == 2


def test_flatten_closes_within_the_size_limit_and_stays_flat() -> None:
    subject = decider(limits(max_order_quantity={"BTC": 3.0, "ETH": 30.0}, max_net_delta_usd=10.0**9))
    gateway = PaperGateway()
    items = signal_inputs(random_walk(12, seed=1))
    opened = run(items[:8], subject, gateway)
    assert opened.decisions[-1].legs[0].position > 4.0
    subject.apply(FLATTEN)
    closed = run(items[8:], subject, gateway)
    assert {leg.rung for decision in closed.decisions for leg in decision.legs} == {Rung.FLATTEN}
    assert closed.decisions[0].refusals[0].limit == "max_order_quantity"
    feed(subject, [ReleaseInput(input_id="r", reason="", by="ann", releases="kill")])
    final = run(signal_inputs(random_walk(20, seed=1))[24:], subject, gateway).decisions[-1]
    assert [leg.position for leg in final.legs] == [pytest.approx(0.0, abs=1e-9)] * 2
    released = ReleaseInput(input_id="r2", reason="", by="ann", releases="flatten")
    (again,) = feed(subject, [released, *bar_signals(30)])
    assert len(again.orders) == 2


def test_before_it_is_activated_it_watches() -> None:
    subject = decider()
    feed(subject, [ActivateInput(input_id="a", active_from_bar_ts=T0 + 3 * SECOND)])
    decisions = feed(subject, [item for bar in range(1, 5) for item in bar_signals(bar)])
    assert [decision.bar_ts for decision in decisions] == [T0 + 3 * SECOND, T0 + 4 * SECOND]


def test_a_model_takes_effect_at_its_bar_and_must_be_at_hand() -> None:
    subject = decider()
    feed(subject, bar_signals(1))
    feed(subject, [ModelInput(input_id="late", version="v2", active_from_bar_ts=T0 + SECOND)])
    feed(subject, [ModelInput(input_id="m2", version="v2", active_from_bar_ts=T0 + 3 * SECOND)])
    feed(subject, [ModelInput(input_id="m3", version=None, active_from_bar_ts=T0 + 5 * SECOND)])
    two, three = feed(subject, [*bar_signals(2), *bar_signals(3)])
    assert (two.versions["policy"], two.legs[0].rung) == ("fixed", Rung.DEEP_POLICY)
    assert "late was dropped: model_not_beyond_decided_bar" in two.notices
    assert (three.versions["policy"], three.legs[0].rung) == ("v2", Rung.NO_TRADE_BAND)
    subject.add_model(FixedBand(0.5, 0.5, "v2"))
    four, five = feed(subject, [*bar_signals(4), *bar_signals(5)])
    assert four.legs[0].rung is Rung.DEEP_POLICY
    assert (five.versions["policy"], five.legs[0].rung) == ("none", Rung.NO_TRADE_BAND)


def other_portfolio(name: str = "demo", quantity: float = -20.0) -> Portfolio:
    option = OptionPosition(underlying="BTC", quantity=quantity, is_call=False, strike=50_000.0, expiry_ns=T0 + 10**16)
    return Portfolio(name=name, options=(option,), hedge_instruments={"BTC": "sim:BTC-PERP"})


def test_a_portfolio_edit_must_not_abandon_a_hedge() -> None:
    subject = decider()
    (first,) = feed(subject, bar_signals(1))
    edit = PortfolioInput(input_id="e", portfolio=other_portfolio())
    assert feed(subject, [edit]) == []
    assert subject.counts["edit_abandons_a_hedge"] == 1
    # Once ETH is neither held nor ordered, it may go; what it earned is kept.
    out = fill(first, "ETH")
    back = {"input_id": "b", "order_id": "?", "quantity": -out.quantity, "price": 2_990.0}
    feed(subject, [fill(first), out, fill(first, "ETH", **back)])
    before = feed(subject, bar_signals(2))[0].pnl_usd
    for order in subject.outstanding:
        feed(subject, [CancelInput(input_id=order, order_id=order, bar_ts=T0, reason="")])
    feed(subject, [PortfolioInput(input_id="e2", portfolio=other_portfolio())])
    (after,) = feed(subject, [signal("BTC", 3)])
    assert after.underlyings == ("BTC",)
    assert after.pnl_usd == pytest.approx(before, abs=1.0)  # but for a second of time value
    assert before is not None
    assert abs(before) > 100.0


def test_the_loss_limit_sees_options_hedge_and_fees() -> None:
    subject = decider(limits(max_loss_usd=50_000.0), lower=10.0, upper=10.0)
    fall = {"ETH": {"mid": 2_000.0}}
    assert feed(subject, bar_signals(1))[0].orders == ()
    (decision,) = feed(subject, bar_signals(2, fall))
    # 100 puts struck at 3,000 gained about 1,000 each, and the holder is not us.
    assert decision.pnl_usd is not None
    assert -90_000.0 < decision.pnl_usd < -75_000.0
    narrow = Decider(portfolio(), limits(max_loss_usd=50_000.0), ZeroBand())
    first, second = feed(narrow, [*bar_signals(1), *bar_signals(2, fall)])
    assert len(first.orders) == 2
    assert {refusal.limit for refusal in second.refusals} == {"max_loss_usd"}


def test_no_order_is_made_on_a_mark_that_nobody_ever_saw() -> None:
    nothing = {name: {"book_valid": False, "mid": None, "best_bid": None, "best_ask": None} for name in SPOT}
    (decision,) = feed(decider(), bar_signals(1, nothing))
    assert (decision.orders, decision.pnl_usd) == ((), None)


def test_a_leg_without_a_market_does_not_stop_the_other() -> None:
    first, second = feed(decider(), [*bar_signals(1), *bar_signals(2, {"ETH": {"book_valid": False, "mid": None}})])
    assert len(first.orders) == 2
    assert [leg.rung for leg in second.legs] == [Rung.DEEP_POLICY, Rung.HOLD]


def test_a_decision_explains_itself_and_comes_back_from_the_log() -> None:
    subject = decider(limits(max_order_quantity={"BTC": 3.0, "ETH": 1e6}))
    (decision,) = feed(subject, bar_signals(1, {"ETH": {"atm_iv_30d": None}}))
    assert decode_decision(encode_decision(decision)) == decision
    text = explain(decision)
    for part in (
        decision.decision_id,
        "rung deep_policy: to the band's nearest edge",
        "rung no_trade_band: not deep_policy: atm_iv_30d is unknown",
        "cut to 3 by max_order_quantity",
        f"Order {decision.orders[1].order_id}: sell",
        "catalogue+models",
        "policy fixed",
        "P&L 0.00 USD",
        "Black-76",
        decision.inputs_digest,
    ):
        assert part in text
    with pytest.raises(BadInputError):
        decode_decision(b"{}")


def test_the_digest_names_the_inputs() -> None:
    a, b = feed(decider(), bar_signals(1)), feed(decider(), bar_signals(1, {"BTC": {"regime": 2}}))
    assert a[0].inputs_digest != b[0].inputs_digest
    assert a[0].versions == b[0].versions


def test_a_decision_takes_less_than_a_millisecond(capsys: pytest.CaptureFixture[str]) -> None:
    rows = signal_inputs(random_walk(1_000, seed=0))
    best = 0.0
    for _ in range(3):
        subject = Decider(portfolio(), limits(), FixedBand(0.0, 0.0))
        started = time.process_time()
        decisions = feed(subject, rows)
        best = max(best, len(decisions) / (time.process_time() - started))
    with capsys.disabled():
        print(f" {best:,.0f} decisions/s ", end="")  # noqa: T201 (a measured number)
    assert best > 1_000  # 4,000 where nothing else runs; a test run shares its cores

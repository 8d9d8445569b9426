"""The paper gateway: what it takes, when and at what price it fills, and what it remembers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hedge_market import SECOND, T0, limits, signal
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadInputError, ConfigError
from hedger.exposure import Exposure, LegExposure
from hedger.inputs import CancelInput, FillInput
from hedger.limits import ApprovedOrder, approve
from hedger.orders import OrderIntent
from hedger.paper import PaperConfig, PaperGateway

MID = 60_000.0


def order(
    quantity: float = 2.0, decision: str = "d", underlying: str = "BTC", collar_bps: float = 100.0
) -> ApprovedOrder:
    mid = signal(underlying).mid
    assert mid is not None
    leg = LegExposure(position=0.0, reference_price=mid, options_delta=-quantity, gamma_usd=0.0, vega_usd=0.0)
    state = Exposure(
        portfolio="p", decision_id=decision, bar_ts=T0 + SECOND, legs={underlying: leg}, pnl_usd=0.0, recent_orders=0,
        killed=False,
    )  # fmt: skip
    wish = OrderIntent(underlying=underlying, instrument=f"sim:{underlying}-PERP", quantity=quantity, price=mid)
    return approve([wish], limits(price_collar_bps=collar_bps), state)[0][0]


def filled(gateway: PaperGateway, bar: int, **changes: Any) -> FillInput:
    (report,) = gateway.on_market(signal(bar=bar, **changes))
    assert isinstance(report, FillInput)
    return report


def test_it_takes_approved_orders_only() -> None:
    gateway, good = PaperGateway(), order()
    fields = msgspec.structs.asdict(good)
    wish = OrderIntent(underlying="BTC", instrument="sim:BTC-PERP", quantity=1.0, price=MID)
    for other in (fields, wish, msgspec.json.encode(good), None, good.order_id):
        with pytest.raises(TypeError, match="ApprovedOrder"):
            gateway.submit([good, other])  # type: ignore[list-item]
    assert gateway.reconcile([good.order_id]).unknown == (good.order_id,)


@pytest.mark.parametrize(("quantity", "side"), [(2.0, 1.0), (-2.0, -1.0)])
def test_it_takes_the_touch_and_walks_the_book(quantity: float, side: float) -> None:
    gateway = PaperGateway(PaperConfig(taker_fee_bps=4.0))
    gateway.submit([order(quantity)])
    fill = filled(gateway, 2, bid_depth_10bps=20.0, ask_depth_10bps=20.0)
    # Half a spread of 1 bp, and 2 of 20 coins within 10 bps: on average half a bp.
    assert fill.price == pytest.approx(MID * (1.0 + side * 1e-4) * (1.0 + side * 0.5e-4), rel=1e-12)
    assert fill.fee_usd == pytest.approx(2.0 * fill.price * 4e-4)
    assert (fill.quantity, fill.bar_ts) == (quantity, T0 + 2 * SECOND)
    assert fill.input_id == f"fill:{fill.order_id}"


def test_it_fills_at_the_next_bar_and_once() -> None:
    gateway, mine = PaperGateway(), order()
    gateway.submit([mine])
    assert gateway.on_market(signal(bar=1)) == []  # the bar that was decided on
    assert gateway.on_market(signal("ETH", bar=2)) == []
    fill = filled(gateway, 2, mid=60_100.0, best_bid=60_090.0, best_ask=60_110.0, ask_depth_10bps=1e12)
    assert fill.price == pytest.approx(60_110.0)
    assert gateway.on_market(signal(bar=3)) == []
    assert gateway.reconcile([mine.order_id]).finished == (mine.order_id,)


def test_a_price_beyond_the_limit_cancels() -> None:
    gateway, mine = PaperGateway(), order(collar_bps=5.0)
    gateway.submit([mine])
    (report,) = gateway.on_market(signal(bar=2, mid=MID * 1.001))
    assert isinstance(report, CancelInput)
    assert report.order_id == mine.order_id
    assert "limit price" in report.reason
    assert gateway.on_market(signal(bar=3)) == []
    assert gateway.reconcile([mine.order_id]).finished == (mine.order_id,)


@pytest.mark.parametrize(
    "changes",
    [
        {"book_valid": False},
        {"best_ask": None},
        {"ask_depth_10bps": None},
        {"ask_depth_10bps": 0.0},
        {"best_bid": 60_010.0, "best_ask": 60_009.0},
    ],
)
def test_without_a_book_the_order_stays_outstanding(changes: dict[str, Any]) -> None:
    gateway, mine = PaperGateway(), order()
    gateway.submit([mine])
    assert gateway.on_market(signal(bar=2, **changes)) == []
    assert gateway.reconcile([mine.order_id]).outstanding == (mine.order_id,)
    assert filled(gateway, 3).bar_ts == T0 + 3 * SECOND


def test_what_is_sent_again_is_taken_once() -> None:
    gateway, mine = PaperGateway(), order()
    gateway.submit([mine, mine])
    gateway.submit([mine])
    filled(gateway, 2)
    gateway.submit([mine])
    assert gateway.on_market(signal(bar=3)) == []
    assert gateway.on_market(signal(bar=2)) == []  # a row that comes again


def test_cancel_and_reconcile() -> None:
    gateway, a, b = PaperGateway(), order(decision="a"), order(decision="b")
    gateway.submit([a, b])
    (report,) = gateway.cancel([a.order_id, "never seen"], T0, "killed")
    assert (report.order_id, report.reason) == (a.order_id, "killed")
    assert gateway.cancel([a.order_id], T0, "killed") == []
    known = gateway.reconcile([a.order_id, b.order_id, "never seen"])
    assert (known.finished, known.outstanding, known.unknown) == ((a.order_id,), (b.order_id,), ("never seen",))


def test_a_snapshot_goes_on_with_the_same_fills() -> None:
    gateway = PaperGateway()
    gateway.submit([order(decision="a")])
    filled(gateway, 2)
    gateway.submit([order(decision="b")])
    other = PaperGateway()
    other.restore(gateway.snapshot())
    assert other.snapshot() == gateway.snapshot()
    for bar in (2, 3, 4):
        assert other.on_market(signal(bar=bar)) == gateway.on_market(signal(bar=bar))
    with pytest.raises(BadInputError):
        other.restore(b"?")


@given(
    quantity=st.floats(0.001, 50.0) | st.floats(-50.0, -0.001),
    spread=st.floats(1e-6, 50.0),
    depth=st.floats(1.0, 1e6),
    fee=st.floats(0.0, 20.0),
)
def test_trading_never_earns(quantity: float, spread: float, depth: float, fee: float) -> None:
    gateway = PaperGateway(PaperConfig(taker_fee_bps=fee))
    gateway.submit([order(quantity, collar_bps=5_000.0)])
    half = spread * 1e-4 * MID / 2.0
    fill = filled(gateway, 2, best_bid=MID - half, best_ask=MID + half, bid_depth_10bps=depth, ask_depth_10bps=depth)
    assert quantity * (fill.price - MID) >= abs(quantity) * half * (1.0 - 1e-9) >= 0.0
    assert fill.fee_usd >= 0.0


def test_a_fee_is_no_rebate() -> None:
    with pytest.raises(ConfigError):
        PaperConfig(taker_fee_bps=-0.1)

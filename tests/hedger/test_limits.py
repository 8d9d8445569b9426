"""The brake: each limit trips beyond its bound and passes at it; nothing gets round it."""

from __future__ import annotations

import ast
import copy
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hedge_market import T0, limits
from hypothesis import given
from hypothesis import strategies as st

import hedger
from features.errors import BadInputError, ConfigError
from hedger.exposure import Exposure, LegExposure
from hedger.limits import ApprovedOrder, Limits, UnapprovedOrderError, approve, approved_from_log
from hedger.orders import OrderIntent, order_id

PRICE = 60_000.0
BTC = LegExposure(position=2.0, reference_price=PRICE, options_delta=-5.0, gamma_usd=-9_000.0, vega_usd=-700.0)
ETH = LegExposure(position=-10.0, reference_price=3_000.0, options_delta=40.0, gamma_usd=-5_000.0, vega_usd=-300.0)


def exposure(btc: LegExposure = BTC, **changes: Any) -> Exposure:
    values = {"pnl_usd": -500.0, "recent_orders": 3, "killed": False} | changes
    return Exposure(portfolio="p", decision_id="d", bar_ts=T0, legs={"BTC": btc, "ETH": ETH}, **values)


def intent(quantity: float = 1.0, price: float = PRICE * 1.0001, **changes: Any) -> OrderIntent:
    return OrderIntent(underlying="BTC", instrument="sim:BTC-PERP", quantity=quantity, price=price, **changes)


def judged(bounds: Limits, quantity: float = 1.0, state: Exposure | None = None) -> tuple[float, list[str]]:
    """The quantity that passes, and the limits that were broken."""
    orders, refusals = approve([intent(quantity)], bounds, state or exposure())
    return sum(order.quantity for order in orders), [refusal.limit for refusal in refusals]


def beyond(bound: float) -> float:
    """A bound that the value ``bound`` just breaks."""
    return math.nextafter(bound, 0.0)


def test_an_order_within_all_limits_passes_whole() -> None:
    orders, refusals = approve([intent(1.0)], limits(), exposure())
    (order,) = orders
    assert not refusals
    assert (order.underlying, order.instrument, order.quantity) == ("BTC", "sim:BTC-PERP", 1.0)
    assert order.limit_price == pytest.approx(PRICE * 1.01)
    assert order.order_id == order_id("p", "d", "BTC")


# Each size limit at the value that an order of +1 makes: it passes there, and is cut to nothing or less beyond.
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_order_quantity", {"BTC": 1.0}),
        ("max_position", {"BTC": 3.0}),
        ("max_gross_notional_usd", 3.0 * PRICE + 10.0 * 3_000.0),
        ("max_net_delta_usd", 2.0 * PRICE),
    ],
)
def test_sizes_pass_at_the_bound_and_are_cut_beyond(name: str, value: Any) -> None:
    # A position of 2 against options of -4, so that buying 1 lowers, but does not end, the net delta... and for the
    # net delta itself an order that raises it.
    leg = replace(BTC, options_delta=-1.0) if name == "max_net_delta_usd" else BTC
    assert judged(limits(**{name: value}), 1.0, exposure(leg)) == (1.0, [])
    half = {"BTC": value["BTC"] - 0.5} if isinstance(value, dict) else value - 0.5 * PRICE
    quantity, broken = judged(limits(**{name: half}), 1.0, exposure(leg))
    assert quantity == pytest.approx(0.5)
    assert broken == [name]


def test_a_cut_says_what_it_cut() -> None:
    _, (refusal,) = approve([intent(2.0)], limits(max_position={"BTC": 3.0}), exposure())
    assert (refusal.limit, refusal.value, refusal.bound) == ("max_position", 4.0, 3.0)
    assert (refusal.requested, refusal.approved) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "quantity"),
    [
        ("max_loss_usd", 500.0, 1.0),
        ("max_orders_per_minute", 4, 1.0),
        ("price_collar_bps", 1.0, 1.0),
        ("max_gamma_usd", 9_000.0, -1.0),
        ("max_vega_usd", 700.0, -1.0),
    ],
)
def test_states_pass_at_the_bound_and_refuse_beyond(name: str, value: float, quantity: float) -> None:
    at = value * (1.0 + 1e-9) if name == "price_collar_bps" else value  # the distance is rounded
    assert judged(limits(**{name: at}), quantity) == (quantity, [])
    tighter = value - 1 if name == "max_orders_per_minute" else beyond(value) * (1.0 - 1e-9)
    assert judged(limits(**{name: tighter}), quantity) == (0.0, [name])


def test_the_smallest_trade() -> None:
    assert judged(limits(min_trade_quantity={"BTC": 1.0})) == (1.0, [])
    assert judged(limits(min_trade_quantity={"BTC": math.nextafter(1.0, 2.0)})) == (0.0, ["min_trade_quantity"])
    # What a cut leaves over must be worth trading too.
    bounds = limits(max_position={"BTC": 2.2}, min_trade_quantity={"BTC": 0.5})
    assert judged(bounds) == (0.0, ["max_position", "min_trade_quantity"])


@pytest.mark.parametrize("flatten", [False, True])
def test_killed_means_no_order_at_all(flatten: bool) -> None:
    for bounds, state in ((limits(kill_switch=True), exposure()), (limits(), exposure(killed=True))):
        orders, (refusal,) = approve([intent(-1.0, flatten=flatten)], bounds, state)
        assert not orders
        assert refusal.limit == "kill_switch"


def test_beyond_gamma_and_vega_an_order_that_lowers_the_net_delta_passes() -> None:
    bounds = limits(max_gamma_usd=1.0, max_vega_usd=1.0)
    assert judged(bounds, 1.0) == (1.0, [])  # net delta -3 -> -2
    assert judged(bounds, 7.0) == (0.0, ["max_gamma_usd"])  # -3 -> +4


@pytest.mark.parametrize("position", [12.0, -12.0])
def test_an_order_that_only_reduces_passes_position_and_notional(position: float) -> None:
    bounds = limits(max_position={"BTC": 10.0}, max_gross_notional_usd=1.0)
    state = exposure(replace(BTC, position=position))
    towards_zero = -math.copysign(1.0, position)
    assert judged(bounds, towards_zero, state) == (towards_zero, [])
    assert judged(bounds, -towards_zero, state)[0] == 0.0
    # Across zero it is cut where the bound on the other side is.
    through, broken = judged(limits(max_position={"BTC": 10.0}), 30.0 * towards_zero, state)
    assert through == pytest.approx(22.0 * towards_zero)
    assert broken == ["max_position"]


def test_a_person_may_close_a_position_whatever_delta_and_loss_say() -> None:
    bounds = limits(max_loss_usd=0.0, max_net_delta_usd=0.0, max_gamma_usd=0.0, max_vega_usd=0.0)
    state = exposure(replace(BTC, options_delta=None, gamma_usd=None, vega_usd=None), pnl_usd=None)
    orders, refusals = approve([intent(-2.0, flatten=True)], bounds, state)
    assert [order.quantity for order in orders] == [-2.0]
    assert not refusals
    # But not open one by that name, nor turn it round.
    for quantity in (1.0, -2.1):
        assert approve([intent(quantity, flatten=True)], bounds, state)[0] == []
    cut, _ = approve([intent(-2.0, flatten=True)], limits(max_order_quantity={"BTC": 0.5}), state)
    assert cut[0].quantity == -0.5


def test_outstanding_orders_count_at_their_worst() -> None:
    state = exposure(replace(BTC, outstanding_buys=4.0, outstanding_sells=-5.0))
    bounds = limits(max_position={"BTC": 7.0})
    assert judged(bounds, 2.0, state) == (1.0, ["max_position"])  # 2 + 4 + 1 = 7, were the sells cancelled
    assert judged(bounds, -5.0, state) == (-4.0, ["max_position"])  # 2 - 5 - 4 = -7, were the buys cancelled


def test_outstanding_orders_of_the_other_leg_count_in_the_notional() -> None:
    eth = replace(ETH, outstanding_sells=-10.0, outstanding_buys=5.0)
    legs = {"BTC": BTC, "ETH": eth}
    state = Exposure(portfolio="p", decision_id="d", bar_ts=T0, legs=legs, pnl_usd=0.0, recent_orders=0, killed=False)
    needed = 3.0 * PRICE + 20.0 * 3_000.0
    assert judged(limits(max_gross_notional_usd=needed), 1.0, state) == (1.0, [])
    assert judged(limits(max_gross_notional_usd=needed - PRICE), 1.0, state) == (0.0, ["max_gross_notional_usd"])


def test_legs_share_the_notional_and_the_rate_in_order() -> None:
    eth = OrderIntent(underlying="ETH", instrument="sim:ETH-PERP", quantity=-10.0, price=2_999.7)
    bounds = limits(max_gross_notional_usd=240_000.0, price_collar_bps=1.1)
    orders, refusals = approve([intent(1.0), eth], bounds, exposure())
    # 3 BTC are 180,000, and 10 ETH 30,000: 30,000 are left for ETH, less what the collar adds to BTC's price.
    assert orders[1].quantity == pytest.approx(-10.0, abs=0.01)
    assert [refusal.limit for refusal in refusals] == ["max_gross_notional_usd"]
    orders, refusals = approve([intent(1.0), eth], limits(max_orders_per_minute=4), exposure())
    assert len(orders) == 1
    assert refusals[0].limit == "max_orders_per_minute"
    _, refusals = approve([intent(1.0), intent(1.0)], limits(), exposure())
    assert refusals[0].limit == "one_order_a_leg"


@pytest.mark.parametrize(
    ("leg", "changes", "limit"),
    [
        ({"reference_price": None}, {}, "price_collar_bps"),
        ({"reference_price": math.nan}, {}, "price_collar_bps"),
        ({"options_delta": None}, {}, "max_net_delta_usd"),
        ({"options_delta": math.nan}, {}, "max_net_delta_usd"),
        ({"gamma_usd": None}, {}, "max_gamma_usd"),
        ({"vega_usd": math.nan}, {}, "max_vega_usd"),
        ({}, {"pnl_usd": None}, "max_loss_usd"),
        ({}, {"pnl_usd": math.nan}, "max_loss_usd"),
    ],
)
def test_what_is_unknown_is_refused(leg: dict[str, Any], changes: dict[str, Any], limit: str) -> None:
    _, refusals = approve([intent(-1.0)], limits(), exposure(replace(BTC, **leg), **changes))
    assert [(refusal.limit, refusal.value, refusal.approved) for refusal in refusals] == [(limit, None, 0.0)]
    msgspec.json.decode(msgspec.json.encode(refusals[0]), type=type(refusals[0]))


def test_an_unknown_price_of_another_leg_stops_the_notional() -> None:
    legs = {"BTC": BTC, "ETH": replace(ETH, reference_price=None)}
    state = Exposure(portfolio="p", decision_id="d", bar_ts=T0, legs=legs, pnl_usd=0.0, recent_orders=0, killed=False)
    assert judged(limits(), 1.0, state) == (0.0, ["max_gross_notional_usd"])


@pytest.mark.parametrize("quantity", [math.nan, math.inf, -math.inf])
def test_no_finite_quantity_no_order(quantity: float) -> None:
    assert judged(limits(), quantity) == (0.0, ["finite_quantity"])


@pytest.mark.parametrize("price", [math.nan, 0.0, -1.0, math.inf])
def test_a_price_that_is_none_is_outside_the_collar(price: float) -> None:
    orders, (refusal,) = approve([intent(1.0, price)], limits(), exposure())
    assert not orders
    assert refusal.limit == "price_collar_bps"


def test_an_underlying_without_bounds_does_not_trade() -> None:
    assert judged(replace(limits(), max_position={})) == (0.0, ["max_position"])
    stranger = OrderIntent(underlying="SOL", instrument="sim:SOL-PERP", quantity=1.0, price=100.0)
    assert approve([stranger], limits(), exposure())[1][0].limit == "known_underlying"


@pytest.mark.parametrize("changes", [{"max_loss_usd": -1.0}, {"max_position": {"BTC": math.nan}}])
def test_a_bound_is_a_number(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least 0"):
        limits(**changes)


def test_other_bounds_have_another_name() -> None:
    assert limits().digest == limits().digest != limits(max_loss_usd=1.0).digest


finite = st.floats(-50.0, 50.0)
bound = st.floats(0.0, 40.0)


@given(position=finite, delta=finite, quantity=finite, most=bound, step=bound, net=bound)
def test_whatever_is_asked_nothing_leaves_the_bounds(
    position: float, delta: float, quantity: float, most: float, step: float, net: float
) -> None:
    bounds = limits(max_position={"BTC": most}, max_order_quantity={"BTC": step}, max_net_delta_usd=net * PRICE)
    state = exposure(replace(BTC, position=position, options_delta=delta))
    quantity_out, _ = judged(bounds, quantity, state)
    assert quantity_out * quantity >= 0.0
    assert abs(quantity_out) <= min(abs(quantity), step)
    assert abs(position + quantity_out) <= max(most, abs(position)) + 1e-9
    assert abs(delta + position + quantity_out) <= max(net, abs(delta + position)) + 1e-9


def approved() -> ApprovedOrder:
    return approve([intent(1.0)], limits(), exposure())[0][0]


def test_an_approved_order_cannot_be_made_or_changed() -> None:
    order = approved()
    fields = msgspec.structs.asdict(order)
    with pytest.raises(UnapprovedOrderError):
        ApprovedOrder(**(fields | {"approval": ""}))
    for name, value in (("quantity", 1.5), ("limit_price", 1e9), ("instrument", "x"), ("bar_ts", 0), ("order_id", "0")):
        with pytest.raises(UnapprovedOrderError):
            ApprovedOrder(**(fields | {name: value}))
        with pytest.raises(UnapprovedOrderError):
            msgspec.structs.replace(order, **{name: value})
        with pytest.raises(UnapprovedOrderError):
            msgspec.convert(fields | {name: value}, ApprovedOrder)
    with pytest.raises(AttributeError):
        order.quantity = 2.0  # type: ignore[misc]
    assert copy.copy(order) == order


def test_an_approved_order_comes_back_from_the_log() -> None:
    order = approved()
    document = msgspec.json.encode(order)
    assert approved_from_log(document) == order
    with pytest.raises(UnapprovedOrderError):
        approved_from_log(document.replace(b'"quantity":1.0', b'"quantity":9.0'))
    with pytest.raises(BadInputError, match="order cannot be read"):
        approved_from_log(b"{}")


def test_only_limits_knows_the_seal() -> None:
    folder = Path(hedger.__file__).parent
    for path in folder.glob("*.py"):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert ("_seal" in names) == (path.name == "limits.py")


def test_the_brake_and_the_decider_work_without_torch() -> None:
    modules = "hedger.limits, hedger.decide, hedger.paper, hedger.backtest, hedger.profit"
    code = f"import sys; sys.modules['torch'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(hedger.__file__).parent.parent)
    code = "import sys, hedger.limits; assert not {'torch', 'numba', 'polars', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(hedger.__file__).parent.parent)

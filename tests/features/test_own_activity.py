"""Own activity: the account against fractions, execution cost by hand, room in the limits, and time that only grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.average_cost import PRODUCT_UNITS, UNITS, AverageCost, units
from features.declared.own_activity import FEATURES, KEYS, SCHEMA
from features.errors import BadInputError
from features.own_activity import REMEMBERED_FILLS, Mark, OwnActivity, Row
from features.risk_limits import OptionsExposure, RiskLimits, limit_free

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
NOTHING: dict[str, OptionsExposure] = {}
LIMITS = RiskLimits(
    max_position={"BTC": 10.0, "ETH": 100.0},
    max_gross_notional_usd=10_000.0,
    max_net_delta_usd=5_000.0,
    max_gamma_usd=50.0,
    max_vega_usd=40.0,
    max_loss_usd=100.0,
    max_orders_per_minute=4.0,
)


def mark(price: float | None, underlying: str = "BTC", bar: int = 1) -> Mark:
    return Mark(underlying=underlying, instrument=f"x:{underlying}", price=price, ts_known=T0 + bar * SECOND + 7)


def activity() -> OwnActivity:
    return OwnActivity("desk", "v1")


def trade(subject: OwnActivity, quantity: float, price: float, **changes: Any) -> bool:
    values: dict[str, Any] = {
        "fill_id": f"{quantity}@{price}", "instrument": "x:BTC", "fee": 0.0, "arrival_mid": None, "at_ns": T0,
    } | changes  # fmt: skip
    return subject.fill(quantity=quantity, price=price, **values)


def close(subject: OwnActivity, bar: int, *prices: float | None, limits: RiskLimits = LIMITS) -> list[Row]:
    """A bar of BTC, and of ETH if there are two prices."""
    marks = [mark(price, name, bar) for price, name in zip(prices, ("BTC", "ETH"), strict=False)]
    return subject.bar(T0 + bar * SECOND, marks, NOTHING, limits)


# -- the account -----------------------------------------------------------------------------------------------------


@dataclass
class Reference:
    """The textbook's account in fractions: average cost per coin, realized on every coin closed."""

    inventory: Fraction = Fraction(0)
    average: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    fees: Fraction = Fraction(0)
    cash: Fraction = Fraction(0)

    def fill(self, quantity: Fraction, price: Fraction, fee: Fraction) -> None:
        self.fees += fee
        self.cash -= quantity * price + fee
        closing = min(abs(quantity), abs(self.inventory)) if quantity * self.inventory < 0 else Fraction(0)
        side = 1 if self.inventory > 0 else -1
        self.realized += side * closing * (price - self.average)
        opened = abs(quantity) - closing
        left = abs(self.inventory) - closing
        if opened and left + opened:
            self.average = (left * self.average + opened * price) / (left + opened)
        self.inventory += quantity


AMOUNTS = st.one_of(
    st.floats(-50.0, 50.0),
    st.integers(-5, 5).map(float),
    st.sampled_from([1e-9, -1e-9, 3e-9, -0.1, 0.1, 0.3, 1e7, -1e7]),
)
PRICES = st.one_of(st.floats(1e-3, 1e6), st.sampled_from([1e-9, 60_000.1, 1e9]))
FEES = st.floats(-10.0, 10.0)
FILLS = st.lists(st.tuples(AMOUNTS, PRICES, FEES), max_size=25)


def exactly(value: float) -> Fraction:
    """On the grid of 1e-9."""
    return Fraction(units(value), UNITS)


@given(fills=FILLS, price=PRICES)
@settings(max_examples=300, deadline=None)
def test_the_account_is_that_of_exact_fractions(fills: list[tuple[float, float, float]], price: float) -> None:
    account, reference = AverageCost(), Reference()
    for quantity, at, fee in fills:
        account.fill(units(quantity), units(at), units(fee))
        reference.fill(exactly(quantity), exactly(at), exactly(fee))
    level = exactly(price)
    # The only rounding: half of 1e-18 USD a reducing fill, scaled down by every later one.
    tolerance = Fraction(len(fills), PRODUCT_UNITS)
    assert Fraction(account.inventory, UNITS) == reference.inventory
    assert abs(Fraction(account.cash + account.basis, PRODUCT_UNITS) - reference.realized) <= tolerance
    assert abs(Fraction(account.basis, PRODUCT_UNITS) - reference.inventory * reference.average) <= tolerance
    total = reference.cash + reference.inventory * level
    assert account.total_units(units(price)) == total * PRODUCT_UNITS
    assert account.total_pnl(units(price)) == float(total)
    if account.inventory == 0:
        assert account.basis == 0
        assert account.average_cost is None
        assert account.realized_pnl == float(reference.realized)
    else:
        assert account.average_cost is not None
        # A reduced basis may be off by its rounding, which a coin's worth of dust makes visible.
        slack = float(tolerance / abs(reference.inventory))
        assert account.average_cost == pytest.approx(float(reference.average), rel=1e-15, abs=slack)
    assert AverageCost.restored(account.saved()) == account


@given(fills=FILLS, price=PRICES)
@settings(max_examples=100, deadline=None)
def test_the_parts_add_up_and_the_sign_mirrors(fills: list[tuple[float, float, float]], price: float) -> None:
    long, short = AverageCost(), AverageCost()
    for quantity, at, fee in fills:
        long.fill(units(quantity), units(at), units(fee))
        short.fill(-units(quantity), units(at), units(fee))
    level = units(price)
    parts = [long.realized_pnl, long.unrealized_pnl(level), -long.fees_paid]
    size = abs(long.cash) + abs(long.basis) + abs(long.inventory * level) + abs(long.fees) * UNITS
    assert long.total_pnl(level) == pytest.approx(math.fsum(p or 0.0 for p in parts), abs=1e-15 * size / PRODUCT_UNITS)
    assert (short.inventory, short.basis, short.cash) == (-long.inventory, -long.basis, -long.cash)


def test_a_flip_through_zero_realizes_all_that_was_held_and_opens_at_the_price() -> None:
    account = AverageCost()
    for quantity, at in ((3.0, 100.0), (-5.0, 107.5)):
        account.fill(units(quantity), units(at), 0)
    assert (account.inventory_coins, account.average_cost, account.realized_pnl) == (-2.0, 107.5, 22.5)
    account.fill(units(2.0), units(100.0), 0)
    assert (account.inventory_coins, account.average_cost, account.realized_pnl) == (0.0, None, 37.5)
    assert account.unrealized_pnl(None) == 0.0
    assert account.total_pnl(None) == 37.5


def test_tenths_close_to_exactly_nothing() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floats; here it is, and so is what is held."""
    account = AverageCost()
    for quantity in (0.1, 0.2, -0.3):
        account.fill(units(quantity), units(60_000.1), units(0.1))
    assert (account.inventory, account.basis, account.realized_pnl, account.fees_paid) == (0, 0, 0.0, 0.3)


# -- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_by_hand() -> None:
    """Buy 2 at 101 and 2 at 103 (arrival mid 100), sell 1 at 110 (arrival 112), fees 1 each; the mid is 105."""
    subject = activity()
    trade(subject, 2.0, 101.0, fee=1.0, arrival_mid=100.0, at_ns=T0 + SECOND)
    trade(subject, 2.0, 103.0, fee=1.0, arrival_mid=100.0, at_ns=T0 + SECOND)
    (first,) = close(subject, 1, 105.0)
    trade(subject, -1.0, 110.0, fee=1.0, arrival_mid=112.0, at_ns=T0 + 2 * SECOND)
    (row,) = close(subject, 3, 105.0)
    assert (first["fills"], first["turnover"], first["average_cost"]) == (2, 408.0, 102.0)
    assert first["execution_cost_bps"] == 300.0
    assert first["average_execution_cost_bps"] == 200.0  # (2 + 6) / 400
    assert row | {"version": ""} == {
        "portfolio": "desk",
        "underlying": "BTC",
        "instrument": "x:BTC",
        "bar_ts": T0 + 3 * SECOND,
        "ts_known": T0 + 3 * SECOND + 7,
        "version": "",
        "inventory": 3.0,
        "settlement_price": 105.0,
        "average_cost": 102.0,
        "realized_pnl": 8.0,
        "unrealized_pnl": 9.0,
        "total_pnl": 14.0,
        "fees": 3.0,
        "fills": 1,
        "turnover": 110.0,
        "turnover_1h": 518.0,
        "execution_cost_bps": pytest.approx(2e4 / 112.0, rel=1e-15),
        "last_fill_age_s": 1.0,
        "average_execution_cost_bps": pytest.approx(1e4 * 10 / 512, rel=1e-15),
        "average_execution_cost_bps_1h": pytest.approx(1e4 * 10 / 512, rel=1e-15),
        "order_rate_1m": 0,
        "position_limit_free": 0.7,
        "gross_notional_limit_free": 1.0 - 315.0 / 10_000.0,
        "net_delta_limit_free": 1.0 - 315.0 / 5_000.0,
        "gamma_limit_free": 1.0,
        "vega_limit_free": 1.0,
        "loss_limit_free": 1.0,
        "order_rate_limit_free": 1.0,
    }


def test_before_the_first_fill_all_is_zero_or_unknown() -> None:
    (row,) = close(activity(), 1, 105.0)
    zero = {"inventory", "realized_pnl", "unrealized_pnl", "total_pnl", "fees", "fills", "turnover", "turnover_1h"}
    assert {name: row[name] for name in zero} == dict.fromkeys(zero, 0.0)
    unknown = {"average_cost", "last_fill_age_s"} | {name for name in row if "execution_cost" in name}
    assert {row[name] for name in unknown} == {None}
    assert len(unknown) == 5


def test_rows_have_the_declared_columns_and_no_other() -> None:
    rows = close(activity(), 1, 105.0, 3.0)
    assert [set(row) for row in rows] == [set(SCHEMA.names)] * 2
    assert SCHEMA.names == [field.name for field in KEYS] + [each.name for each in FEATURES]
    money = [each for each in FEATURES if "pnl" in each.name or each.name in ("fees", "turnover", "average_cost")]
    assert len(money) == 6
    assert all("USD" in each.unit and "currency" in each.unit for each in money)
    marked = [each.unit for each in FEATURES if each.name in ("unrealized_pnl", "total_pnl")]
    assert all("mid of the reference instrument" in unit for unit in marked)


@pytest.mark.parametrize("price", [None, 0.0, -5.0, math.nan, math.inf, 1e-12])
def test_without_a_mid_what_is_held_has_no_value(price: float | None) -> None:
    subject = activity()
    trade(subject, 2.0, 100.0)
    btc, eth = close(subject, 1, price, 50.0)
    unknown = {"settlement_price", "unrealized_pnl", "total_pnl", "net_delta_limit_free"}
    assert {btc[name] for name in unknown} == {None}
    # What is the whole portfolio's is unknown in all rows; what needs no mark is known in all.
    for row in (btc, eth):
        assert (row["gross_notional_limit_free"], row["loss_limit_free"]) == (None, None)
    assert (btc["realized_pnl"], btc["average_cost"], btc["position_limit_free"]) == (0.0, 100.0, 0.8)
    assert (eth["total_pnl"], eth["settlement_price"]) == (0.0, 50.0)


def test_an_unknown_arrival_mid_is_left_out_of_the_average() -> None:
    subject = activity()
    trade(subject, 1.0, 101.0, arrival_mid=100.0)
    trade(subject, 1.0, 150.0, arrival_mid=None)
    (row,) = close(subject, 1, 100.0)
    assert row["execution_cost_bps"] is None
    assert row["average_execution_cost_bps"] == 100.0
    assert row["turnover"] == 251.0


def test_the_hour_forgets_exactly() -> None:
    subject = activity()
    trade(subject, 1.0, 101.0, arrival_mid=100.0)
    close(subject, 1, 100.0)
    trade(subject, -0.5, 98.0, arrival_mid=100.0)
    close(subject, 2, 100.0)
    (before,) = close(subject, 3_600, 100.0)
    (after,) = close(subject, 3_601, 100.0)
    (empty,) = close(subject, 3_602, 100.0)
    assert [row["turnover_1h"] for row in (before, after, empty)] == [150.0, 49.0, 0.0]
    assert before["average_execution_cost_bps_1h"] == pytest.approx(1e4 * 2 / 150, rel=1e-15)
    assert after["average_execution_cost_bps_1h"] == 200.0
    assert empty["average_execution_cost_bps_1h"] is None
    assert empty["average_execution_cost_bps"] == before["average_execution_cost_bps"]


def test_orders_count_once_for_a_minute_from_their_decision() -> None:
    subject = activity()
    for order, second in (("a", 0), ("b", 1), ("a", 0), ("c", 1)):
        subject.order(order, "x:BTC", T0 + second * SECOND)
    subject.order("d", "x:ETH", T0 + 2 * SECOND)
    rates = [[row["order_rate_1m"] for row in close(subject, bar, 100.0, 10.0)] for bar in (2, 60, 61, 62)]
    assert rates == [[3, 1], [2, 1], [0, 1], [0, 0]]
    subject.order("late", "x:BTC", T0)
    assert close(subject, 63, 100.0)[0]["order_rate_1m"] == 0


# -- limits ----------------------------------------------------------------------------------------------------------


def test_the_room_in_each_limit_by_hand() -> None:
    """Long 2 BTC at 100 (mid 90), short 10 ETH at 20 (mid 25): loss 20 + 50, options made 10 and -5."""
    subject = activity()
    trade(subject, 2.0, 100.0)
    trade(subject, -10.0, 20.0, instrument="x:ETH")
    subject.order("a", "x:BTC", T0)
    subject.order("b", "x:ETH", T0)
    options = {
        "BTC": OptionsExposure(delta=-1.0, gamma_usd=-10.0, vega_usd=-20.0, pnl_usd=10.0),
        "ETH": OptionsExposure(delta=30.0, gamma_usd=75.0, vega_usd=None, pnl_usd=-5.0),
    }
    btc, eth = subject.bar(T0 + SECOND, [mark(90.0), mark(25.0, "ETH")], options, LIMITS)
    for row in (btc, eth):
        assert row["gross_notional_limit_free"] == 1.0 - (180.0 + 250.0) / 10_000.0
        assert row["loss_limit_free"] == pytest.approx(1.0 - 65.0 / 100.0, rel=1e-15)
        assert row["order_rate_limit_free"] == 0.5
    assert (btc["position_limit_free"], eth["position_limit_free"]) == (0.8, 0.9)
    assert (btc["net_delta_limit_free"], eth["net_delta_limit_free"]) == (1.0 - 90.0 / 5e3, 1.0 - 500.0 / 5e3)
    assert (btc["gamma_limit_free"], eth["gamma_limit_free"]) == (0.8, -0.5)
    assert (btc["vega_limit_free"], eth["vega_limit_free"]) == (0.5, None)


def test_where_no_limit_is_set_nothing_is_told() -> None:
    subject = activity()
    trade(subject, 2.0, 100.0)
    infinite = RiskLimits(max_position={"BTC": math.inf}, max_loss_usd=math.inf)
    for bar, limits in ((1, RiskLimits()), (2, infinite)):
        (row,) = close(subject, bar, 100.0, limits=limits)
        assert {value for name, value in row.items() if name.endswith("limit_free")} == {None}


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(0.0, 1e12))
def test_room_is_one_unused_zero_at_the_limit_and_never_nan(used: float, limit: float) -> None:
    free = limit_free(used, limit)
    assert limit_free(0.0, limit) == (1.0 if limit else 0.0)
    assert limit_free(limit, limit) == 0.0
    assert free is None or (free == limit_free(-used, limit) and free <= 1.0)
    if limit and math.isfinite(used):
        assert free is not None
        assert (free < 0.0) <= (abs(used) > limit)


def test_an_instrument_that_left_the_portfolio_still_counts() -> None:
    subject = activity()
    trade(subject, -1.0, 20.0, instrument="x:ETH")
    close(subject, 1, 100.0, 60.0)
    (held,) = close(subject, 2, 100.0)
    assert (held["gross_notional_limit_free"], held["loss_limit_free"]) == (None, None)
    trade(subject, 1.0, 60.0, instrument="x:ETH")
    (flat,) = close(subject, 3, 100.0)
    assert (flat["gross_notional_limit_free"], flat["loss_limit_free"]) == (1.0, 0.6)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": math.nan}, {"quantity": math.inf}, {"price": math.nan}, {"price": 0.0}, {"price": -1.0},
        {"price": 1e-12}, {"fee": math.inf},
    ],
)  # fmt: skip
def test_a_fill_with_impossible_numbers_books_nothing(changes: dict[str, float]) -> None:
    subject, untouched = activity(), activity()
    with pytest.raises(BadInputError):
        trade(subject, **({"quantity": 1.0, "price": 100.0} | changes), fill_id="f")
    assert subject.snapshot() == untouched.snapshot()


def test_dust_below_the_grid_costs_only_its_fee() -> None:
    subject = activity()
    assert trade(subject, 4e-10, 100.0, fee=0.25)
    (row,) = close(subject, 1, 100.0)
    assert (row["inventory"], row["fills"], row["turnover"], row["last_fill_age_s"]) == (0.0, 0, 0.0, None)
    assert (row["fees"], row["total_pnl"]) == (0.25, -0.25)


def test_a_fill_from_the_future_has_no_age() -> None:
    subject = activity()
    trade(subject, 1.0, 100.0, at_ns=T0 + 5 * SECOND)
    assert [close(subject, bar, 100.0)[0]["last_fill_age_s"] for bar in (1, 6)] == [0.0, 1.0]


def test_repeats_are_known_by_their_id_until_it_is_forgotten() -> None:
    subject = activity()
    assert trade(subject, 1.0, 100.0, fill_id="same")
    assert not trade(subject, 1.0, 100.0, fill_id="same")
    for i in range(REMEMBERED_FILLS - 1):
        trade(subject, 1e-9, 100.0, fill_id=str(i))
    assert not trade(subject, 1.0, 100.0, fill_id="same")
    trade(subject, 1e-9, 100.0, fill_id="one more")
    assert trade(subject, 1.0, 100.0, fill_id="same")


def test_a_bar_that_is_not_beyond_the_last_gives_no_rows_and_changes_nothing() -> None:
    subject = activity()
    trade(subject, 1.0, 100.0)
    close(subject, 2, 100.0)
    trade(subject, 1.0, 100.0, fill_id="next")
    before = subject.snapshot()
    assert close(subject, 2, 100.0) == close(subject, 1, 100.0) == []
    assert subject.snapshot() == before


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc1", b"\x81\xa1a\x01"])
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(BadInputError):
        activity().restore(data)


# -- time ------------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(0, 6), st.sampled_from(["x:BTC", "x:ETH"]), AMOUNTS, PRICES, FEES),
        st.tuples(st.just("order"), st.integers(0, 6), st.sampled_from(["x:BTC", "x:ETH"])),
        st.tuples(st.just("bar"), st.integers(1, 1_900), st.one_of(st.none(), PRICES)),
    ),
    max_size=30,
)
Step = tuple[Any, ...]


def run(steps: Sequence[Step], restart_at: frozenset[int] = frozenset()) -> list[list[Row]]:
    """The rows of each step; at some of them a new instance takes over from a snapshot."""
    subject, now, rows = activity(), T0, []
    for i, step in enumerate(steps):
        if i in restart_at:
            subject, old = activity(), subject
            subject.restore(old.snapshot())
        mine: list[Row] = []
        match step:
            case ("fill", number, instrument, quantity, price, fee):
                subject.fill(f"f{number}", instrument, quantity, price, fee, price * 0.999, now)
            case ("order", number, instrument):
                subject.order(f"o{number}", instrument, now)
            case ("bar", seconds, price):
                now += seconds * SECOND
                marks = [mark(price), mark(100.0, "ETH")]
                mine = subject.bar(now, marks, {"BTC": OptionsExposure(pnl_usd=1.0)}, LIMITS)
        rows.append(mine)
    return rows


def bits(rows: list[list[Row]]) -> list[list[Any]]:
    return [
        [(name, value.hex() if isinstance(value, float) else value) for name, value in row.items()]
        for step in rows
        for row in step
    ]


@given(steps=STEPS, restart_at=st.frozensets(st.integers(0, 29)))
@settings(max_examples=150, deadline=None)
def test_a_restart_anywhere_gives_the_same_bits(steps: list[Step], restart_at: frozenset[int]) -> None:
    assert bits(run(steps, restart_at)) == bits(run(steps))


@given(steps=STEPS, cut=st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_what_comes_later_changes_no_row_that_was_told(steps: list[Step], cut: int) -> None:
    assert bits(run(steps)[:cut]) == bits(run(steps[:cut]))


@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_repeated_fills_and_orders_change_nothing(steps: list[Step]) -> None:
    doubled = [each for step in steps for each in ((step,) if step[0] == "bar" else (step, step))]
    assert bits(run(doubled)) == bits(run(steps))


@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_windows_are_sums_of_the_bars(steps: list[Step]) -> None:
    """Turnover of the hour, from the rows of the bars alone; fees and inventory never leave the account."""
    rows = [row for step in run(steps) for row in step]
    for name in ("BTC", "ETH"):
        mine = [row for row in rows if row["underlying"] == name]
        for row in mine:
            hour = [r for r in mine if row["bar_ts"] - 3_600 * SECOND < r["bar_ts"] <= row["bar_ts"]]
            total = math.fsum(r["turnover"] for r in hour)
            assert row["turnover_1h"] == pytest.approx(total, rel=1e-14)

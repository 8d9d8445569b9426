"""Tiny markets whose features are computed by hand, and windows held to numpy and to published identities.

One tick is 0.5, one lot 0.001, so a price of 2,000 counts is 1,000 and a size of 40 counts is 0.04 contracts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from event_batches import event_batch
from random_feed import START, Row
from random_market import random_market

from features.bars import FeatureStage
from features.events import ASK, BID, LAST, NANO, SNAPSHOT, EventBatch, Kind
from features.surface.black import YEAR_NS, black_price

NAME = "test:BTC-perpetual"
REFERENCE: Row = {
    "instrument_type": "perpetual",
    "quote_currency": "USD",
    "settlement_currency": "USD",
    "price_increment_e9": NANO // 2,
    "size_increment_e9": NANO // 1_000,
    "contract_size_e9": 2 * NANO,
    "is_inverse": False,
    "expiry_ns": None,
    "strike_e9": None,
    "is_call": None,
}


@dataclass
class Log:
    """A log of one instrument, written row by row; times in seconds from the start."""

    reference: Row = field(default_factory=dict)
    interval_s: int = 1
    events: list[EventBatch] = field(default_factory=list)
    seq: int = 0
    update_id: int = 0

    def __post_init__(self) -> None:
        self.row(Kind.INSTRUMENT, 0.001, REFERENCE | self.reference)

    def row(self, kind: Kind, at_s: float, row: Row, name: str = NAME) -> None:
        now = START + round(at_s * NANO)
        common = {"instrument": name, "ts_event": now, "ts_recv": now, "late_ns": 0, "ref_version": 0}
        self.events.append(event_batch("BTC", kind, [row | common | {"seq": len(self.events)}]))

    def book(self, at_s: float, *levels: tuple[int, int, int], flags: int = 0) -> None:
        """One event of levels (side, price, size)."""
        now = START + round(at_s * NANO)
        ids = {"prev_id": self.update_id, "update_id": self.update_id + 1, "late_ns": 0, "ref_version": 0}
        rows = [
            {"instrument": NAME, "ts_event": now, "ts_recv": now, "seq": self.seq + i, "flags": flags}
            | {"side": side, "price": price, "size": size}
            | ids
            for i, (side, price, size) in enumerate(levels)
        ]
        rows[-1]["flags"] = flags | LAST
        self.update_id += 1
        self.seq += len(rows)
        self.events.append(event_batch("BTC", Kind.BOOK, rows))

    def snapshot(self, at_s: float, *levels: tuple[int, int, int]) -> None:
        self.book(at_s, *levels, flags=SNAPSHOT)

    def trade(self, at_s: float, price: int, size: int, aggressor: int, seq: int) -> None:
        now = START + round(at_s * NANO)
        row = {"instrument": NAME, "ts_event": now, "ts_recv": now, "seq": seq, "late_ns": 0, "ref_version": 0}
        row |= {"trade_id": seq, "price": price, "size": size, "aggressor": aggressor}
        self.events.append(event_batch("BTC", Kind.TRADE, [row]))

    def rows(self, until_s: float) -> list[Row]:
        """The bars up to a heartbeat at ``until_s``."""
        self.row(Kind.HEARTBEAT, until_s, {})
        stage = FeatureStage(self.interval_s * NANO)
        return [row for event in self.events for keyed in stage.process(event).rows for row in keyed.data.to_pylist()]


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-12, abs=1e-15)


# -- book shape --------------------------------------------------------------------------------------------------------

LEVELS = ((BID, 1_999, 30), (BID, 1_998, 10), (ASK, 2_001, 10), (ASK, 2_003, 40))
"""m = 2,000 counts = 1,000: one tick is 5 bps. Distances: 5 and 10 bps, 5 and 15 bps."""


def shape_row() -> Row:
    log = Log()
    log.snapshot(0.5, *LEVELS)
    return log.rows(1.5)[-1]


def test_touch() -> None:
    row = shape_row()
    assert (row["best_bid"], row["best_ask"], row["mid"]) == (999.5, 1_000.5, 1_000.0)
    assert row["spread_ticks"] == 2.0
    assert row["spread_bps"] == close(1e4 * 1.0 / 1_000.0)
    assert row["microprice"] == close((999.5 * 0.010 + 1_000.5 * 0.030) / 0.040)
    assert row["book_age_s"] == close(0.5)
    assert row["book_valid"]
    assert not row["book_crossed"]


def test_several_levels() -> None:
    row = shape_row()
    bid, bid_price = 0.040, (999.5 * 0.030 + 999.0 * 0.010) / 0.040
    ask, ask_price = 0.050, (1_000.5 * 0.010 + 1_001.5 * 0.040) / 0.050
    assert row["weighted_mid"] == close((bid_price * ask + ask_price * bid) / (ask + bid))
    assert row["imbalance_1"] == close((30 - 10) / 40)
    assert row["imbalance_5"] == row["imbalance_20"] == close((40 - 50) / 90)
    near = 30 * math.exp(-0.5) + 10 * math.exp(-1.0)
    far = 10 * math.exp(-0.5) + 40 * math.exp(-1.5)
    assert row["imbalance_weighted"] == close((near - far) / (near + far))


def test_depth_has_its_edges() -> None:
    """A level at exactly 5 or 10 bps lies within."""
    row = shape_row()
    assert [row[f"bid_depth_{x}bps"] for x in (5, 10, 25, 50)] == close_all(0.030, 0.040, 0.040, 0.040)
    assert [row[f"ask_depth_{x}bps"] for x in (5, 10, 25, 50)] == close_all(0.010, 0.010, 0.050, 0.050)
    assert [row[f"depth_share_{x}bps"] for x in (5, 10, 25, 50)] == close_all(40 / 90, 10 / 90, 40 / 90, 0.0)


def close_all(*values: float) -> Any:
    return pytest.approx(list(values), rel=1e-12, abs=1e-15)


def test_slope_and_curvature_are_those_of_lstsq() -> None:
    row = shape_row()
    x = np.array([5.0, 10.0, 5.0, 15.0])
    cumulated = np.array([0.030, 0.040, 0.010, 0.050])
    (slope, curvature), *_ = np.linalg.lstsq(np.column_stack([x, x * x]), cumulated, rcond=None)
    assert row["book_slope"] == pytest.approx(slope, rel=1e-10)
    assert row["book_curvature"] == pytest.approx(curvature, rel=1e-10)


def test_levels_at_one_distance_have_no_slope() -> None:
    log = Log()
    log.snapshot(0.5, (BID, 1_999, 30), (ASK, 2_001, 10))
    row = log.rows(1.5)[-1]
    assert row["book_slope"] is row["book_curvature"] is None
    assert row["mid"] == 1_000.0


def test_a_quiet_market_far_from_its_mid_has_no_depth_share() -> None:
    log = Log()
    log.snapshot(0.5, (BID, 1_980, 30), (ASK, 2_020, 10))
    row = log.rows(1.5)[-1]
    assert row["bid_depth_50bps"] == 0.0
    assert row["depth_share_5bps"] is row["depth_share_50bps"] is None


# -- order flow --------------------------------------------------------------------------------------------------------


def test_order_flow() -> None:
    log = Log()
    log.snapshot(0.5, *LEVELS)
    log.book(1.1, (BID, 1_999, 24))  # 6 lots of 30 go: 24 - 30 = -6
    log.book(1.2, (BID, 2_000, 7))  # a better bid: +7
    log.book(1.3, (ASK, 2_001, 0))  # the best ask goes, its 10 lots: +10
    log.book(1.4, (ASK, 2_003, 45))  # 45 for 40: -(45 - 40) = -5
    log.book(1.5, (BID, 2_000, 0))  # the best bid goes: -7
    rows = log.rows(3.5)
    row = rows[1]
    assert row["order_flow_imbalance"] == close((-6 + 7 + 10 - 5 - 7) / 1_000)
    assert row["bid_depletion"] == close((6 + 7) / 1_000)
    assert row["ask_depletion"] == close(10 / 1_000)
    assert row["quote_intensity"] == 5.0
    assert rows[0]["order_flow_imbalance"] is None  # the book was not known at the first bar's opening
    assert rows[2]["order_flow_imbalance"] == rows[2]["quote_intensity"] == 0.0


def test_order_flow_of_several_levels() -> None:
    """Bids 1,999: 24, 1,998: 10 become 2,000: 7, 1,999: 24, 1,998: 10; level by level from the best."""
    log = Log()
    log.snapshot(0.5, (BID, 1_999, 24), (BID, 1_998, 10), (ASK, 2_001, 10))
    log.book(1.2, (BID, 2_000, 7))
    row = log.rows(2.5)[1]
    # 2,000 > 1,999: +7; 1,999 > 1,998: +24; 1,998 > nothing: +10
    assert row["order_flow_imbalance_5"] == close((7 + 24 + 10) / 1_000)
    assert row["order_flow_imbalance"] == close(7 / 1_000)


def test_a_book_that_was_crossed_for_a_moment_hides_the_flow_of_its_bar() -> None:
    log = Log()
    log.snapshot(0.5, *LEVELS)
    log.book(1.1, (BID, 2_002, 1))
    log.book(1.2, (BID, 2_002, 0))
    row = log.rows(2.5)[1]
    assert row["mid"] == 1_000.0
    assert row["order_flow_imbalance"] is row["bid_depletion"] is row["quote_intensity"] is None


# -- trades ------------------------------------------------------------------------------------------------------------


def traded() -> Log:
    log = Log()
    log.snapshot(0.2, *LEVELS)  # mid 1,000
    log.trade(0.4, 2_001, 20, 1, 0)  # bought 0.020 at 1,000.5
    log.trade(0.5, 1_998, 30, -1, 1)  # sold 0.030 at 999
    log.trade(0.6, 2_002, 50, 0, 2)  # 0.050 at 1,001, by whom is unknown
    return log


def test_trades_of_a_bar() -> None:
    row = traded().rows(1.5)[0]
    turnover = 1_000.5 * 0.020 + 999.0 * 0.030 + 1_001.0 * 0.050
    assert row["volume"] == close(0.1)
    assert row["vwap"] == close(turnover / 0.1)
    assert row["notional"] == close(2.0 * turnover)  # a contract is of two units
    assert row["trade_count"] == 3
    assert row["signed_volume"] == close(-0.010)
    assert row["buy_share"] == close(0.020 / 0.050)
    paid = 0.020 * 0.5 + 0.030 * 1.0
    assert row["effective_spread_bps"] == close(2e4 * paid / (0.050 * 1_000.0))
    assert row["trade_intensity_10s"] == close(sum(math.exp(-age / 10) for age in (0.6, 0.5, 0.4)) / 10)
    assert row["trade_intensity_1m"] == close(sum(math.exp(-age / 60) for age in (0.6, 0.5, 0.4)) / 60)


def test_intensity_decays_over_quiet_bars() -> None:
    rows = traded().rows(3.5)
    assert rows[2]["trade_intensity_10s"] == close(rows[0]["trade_intensity_10s"] * math.exp(-0.2))
    assert rows[2]["volume"] == rows[2]["notional"] == rows[2]["signed_volume"] == 0.0
    assert rows[2]["vwap"] is rows[2]["buy_share"] is rows[2]["effective_spread_bps"] is None


def test_an_inverse_contract_trades_amounts_of_quote_currency() -> None:
    log = Log({"is_inverse": True, "contract_size_e9": 10 * NANO})
    log.trade(0.4, 2_001, 20, 1, 0)
    assert log.rows(1.5)[0]["notional"] == close(0.020 * 10)


def test_a_lost_trade() -> None:
    log = traded()
    log.trade(0.7, 2_000, 5, 1, 4)  # 3 never came
    log.trade(1.4, 2_000, 5, 1, 5)
    first, second = log.rows(2.5)
    assert first["lost_rows"] == 1
    assert first["volume"] is first["trade_count"] is first["trade_intensity_10s"] is None
    assert second["volume"] == close(0.005)
    assert second["trade_intensity_10s"] == close(sum(math.exp(-a / 10) for a in (1.6, 1.5, 1.4, 1.3, 0.6)) / 10)


def test_a_large_trade_has_ten_times_the_mean_size() -> None:
    log = Log(interval_s=10)
    for i in range(30):
        log.trade(10 * i + 5, 2_000, 4, 1, i)
    log.trade(301, 2_000, 39, 1, 30)
    log.trade(302, 2_000, 40, 1, 31)
    row = log.rows(320)[30]
    assert row["large_trade_share"] == close(40 / 79)


def test_vpin() -> None:
    """200 lots in the five minutes before: buckets of 200 / 50 = 4 lots, and one trade fills several of them."""
    log = Log(interval_s=10)
    for i in range(30):
        log.trade(10 * i + 5, 2_000, 7 if i < 20 else 6, 1, i)  # 20 * 7 + 10 * 6 = 200
    log.trade(301, 2_000, 3 + 4 * 40, 1, 30)  # 40 buckets bought, 3 lots of the next one
    log.trade(302, 2_000, 1 + 4 * 8 + 2, -1, 31)  # 1 sold of it, 8 buckets sold, 2 of the next
    log.trade(303, 2_000, 2, 0, 32)  # unknown: it fills the bucket
    row, later = log.rows(330)[30:32]
    # |imbalances|: 40 * 4, 3 - 1, 8 * 4, 2
    assert row["vpin"] == close((160 + 2 + 32 + 2) / 200)
    assert later["vpin"] == row["vpin"]


# -- impact ------------------------------------------------------------------------------------------------------------


@cache
def calm_rows() -> list[Row]:
    """Bars of ten seconds of a market that loses nothing: a five-minute window is 30 of them."""
    stage = FeatureStage(10 * NANO)
    log = random_market(11, 450, 2 * NANO, 0.0, listed=1)
    return [row for event in log for keyed in stage.process(event).rows for row in keyed.data.to_pylist()]


def windows() -> list[list[Row]]:
    """Of 30 bars, all returns of which are known."""
    rows = calm_rows()
    found = [rows[i - 29 : i + 1] for i in range(29, len(rows))]
    return [window for window in found if all(row["log_return"] is not None for row in window)]


def column(window: list[Row], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([row[name] for row in window], dtype=np.float64)


def test_there_are_windows() -> None:
    assert len(windows()) > 40
    assert len({window[-1]["kyle_lambda_5m"] for window in windows()}) > 40


def test_kyle_lambda_is_the_slope_of_polyfit() -> None:
    for window in windows():
        slope, _ = np.polyfit(column(window, "signed_volume"), 1e4 * column(window, "log_return"), 1)
        assert window[-1]["kyle_lambda_5m"] == pytest.approx(slope, rel=1e-8, abs=1e-9)


def test_kyle_lambda_is_correlation_times_ratio_of_deviations() -> None:
    for window in windows():
        moved, volume = 1e4 * column(window, "log_return"), column(window, "signed_volume")
        expected = np.corrcoef(moved, volume)[0, 1] * moved.std() / volume.std()
        assert window[-1]["kyle_lambda_5m"] == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_amihud_is_the_mean_ratio_over_bars_with_trades() -> None:
    for window in windows():
        traded_bars = [row for row in window if row["trade_count"]]
        ratios = [abs(row["log_return"]) / row["notional"] for row in traded_bars]
        assert window[-1]["amihud_5m"] == pytest.approx(1e6 * np.mean(ratios), rel=1e-10)


def test_roll_spread_of_a_bid_ask_bounce() -> None:
    """Prices 999.5, 1000.5, 999.5 ...: sides that alternate give cov = -s^2, four times that of random ones."""
    log = Log(interval_s=10)
    for i in range(31):
        log.snapshot(10 * i + 1, *LEVELS)
        log.trade(10 * i + 5, 1_999 + 2 * (i % 2), 5, 1 if i % 2 else -1, i)
    row = log.rows(305)[29]  # 30 trades: 29 changes, 28 pairs, of opposite signs, with means 0
    assert row["roll_spread_5m"] == close(2e4 * math.sqrt(1.0) / 1_000.0)
    assert row["roll_spread_5m"] == close(2 * row["effective_spread_bps"])


def test_roll_spread_of_random_sides_is_the_spread() -> None:
    """Roll 1984: cov = -s^2 / 4. All 16 runs of four sides, one after the other, make a sequence of even mixture."""
    log = Log(interval_s=10)
    log.snapshot(1, *LEVELS)
    bits = "0000100110101111"  # de Bruijn: each run of four sides once
    sides = [bits[i % 16] == "1" for i in range(16 * 40 + 3)]
    for i, bought in enumerate(sides):
        log.trade(2 + 0.4 * i, 2_001 if bought else 1_999, 5, 1 if bought else -1, i)
    row = log.rows(301)[29]
    assert row["roll_spread_5m"] == pytest.approx(10.0, rel=0.01)
    assert row["effective_spread_bps"] is None or row["effective_spread_bps"] == close(10.0)


# -- price -------------------------------------------------------------------------------------------------------------


def priced(mids: list[int]) -> Log:
    """One mid (counts) a bar of ten seconds."""
    log = Log(interval_s=10)
    for i, mid in enumerate(mids):
        log.snapshot(10 * i + 5, (BID, mid - 1, 5), (ASK, mid + 1, 5))
    return log


def test_log_return() -> None:
    rows = priced([2_000, 2_010, 2_010]).rows(31)
    assert [row["log_return"] for row in rows] == [None, close(math.log(2_010 / 2_000)), 0.0]
    assert rows[1]["realized_variance_10s"] == close(math.log(2_010 / 2_000) ** 2)


def test_new_increments_forget_the_mid() -> None:
    """The mid is 1,000 before and after, but a return across the change says nothing."""
    log = priced([2_000, 2_000])
    log.row(Kind.INSTRUMENT, 22, REFERENCE | {"price_increment_e9": NANO // 4})
    log.snapshot(25, (BID, 3_999, 5), (ASK, 4_001, 5))
    log.snapshot(35, (BID, 4_009, 5), (ASK, 4_011, 5))
    rows = log.rows(45)
    assert [row["mid"] for row in rows] == [1_000.0, 1_000.0, 1_000.0, 1_002.5]
    assert [row["log_return"] for row in rows] == [None, 0.0, None, close(math.log(4_010 / 4_000))]
    assert rows[2]["volume"] is None
    assert rows[3]["volume"] == 0.0


def test_one_jump() -> None:
    """A single move is all jump: no two neighbours move, so the bipower variance is 0."""
    row = priced([2_000] * 15 + [2_020] * 17).rows(316)[30]
    jump = math.log(2_020 / 2_000)
    assert row["realized_variance_5m"] == row["upside_semivariance_5m"] == close(jump**2)
    assert row["bipower_variance_5m"] == row["downside_semivariance_5m"] == 0.0
    assert row["jump_share_5m"] == 1.0
    assert row["drawdown_5m"] == 0.0


def test_a_zigzag() -> None:
    """r = +d, -d, ...: BV = (pi / 2) 30 d^2, no jump; all five-bar sums are +-d, so only noise is left."""
    row = priced([2_000 + 20 * (i % 2) for i in range(31)]).rows(311)[30]
    d = math.log(2_020 / 2_000)
    assert row["realized_variance_5m"] == close(30 * d**2)
    assert row["bipower_variance_5m"] == close(math.pi / 2 * 30 * d**2)
    assert row["jump_share_5m"] == 0.0
    assert row["upside_semivariance_5m"] == row["downside_semivariance_5m"] == close(15 * d**2)
    assert row["return_autocorrelation_5m"] == close(-29 / 30)
    # A = 26 d^2 / 5, k = 26 / 5
    assert row["two_scale_variance_5m"] == close((26 / 5 - 26 / 5 / 30 * 30) * d**2 / (1 - 26 / 150))
    assert row["drawdown_5m"] == close(1 - 2_000 / 2_020)


def test_a_trend() -> None:
    """Nearly equal returns r: A = 26 (5 r)^2 / 5 and the five-bar scale sees five times the variance."""
    row = priced([100_000 + 10 * i for i in range(31)]).rows(311)[30]
    r = row["log_return"]
    expected = (26 * 25 / 5 - 26 / 150 * 30) * r**2 / (1 - 26 / 150)
    assert row["two_scale_variance_5m"] == pytest.approx(expected, rel=0.01)
    assert row["realized_variance_1m"] == pytest.approx(6 * r**2, rel=0.01)


def test_ranges() -> None:
    """In each bar the mid goes from 1000 up to 1010, down to 990 and back: H / L = 1010 / 990, C = O."""
    log = Log(interval_s=10)
    for i in range(31):
        for at_s, mid in ((1, 2_000), (3, 2_020), (5, 1_980), (7, 2_000)):
            log.snapshot(10 * i + at_s, (BID, mid - 1, 5), (ASK, mid + 1, 5))
    rows = log.rows(311)
    span = math.log(1_010 / 990)
    assert rows[29]["parkinson_variance_5m"] is None  # in the first bar the book was not known from the opening on
    assert rows[30]["parkinson_variance_5m"] == close(30 * span**2 / (4 * math.log(2)))
    assert rows[30]["garman_klass_variance_5m"] == close(30 * span**2 / 2)
    assert rows[30]["realized_variance_5m"] == 0.0


def test_a_range_includes_its_ends() -> None:
    """The mid opens at 1000 and moves once a bar: H / L = C / O, so Garman and Klass give (1.5 - 2 log 2) r^2 a bar."""
    row = priced([2_000 + 20 * (i % 2) for i in range(31)]).rows(311)[30]
    d = math.log(2_020 / 2_000)
    assert row["parkinson_variance_5m"] == close(30 * d**2 / (4 * math.log(2)))
    assert row["garman_klass_variance_5m"] == close(30 * (1.5 - 2 * math.log(2)) * d**2)


def test_windows_of_returns_are_those_of_numpy() -> None:
    for window in windows():
        r, row = column(window, "log_return"), window[-1]
        apart = r - r.mean()
        assert row["realized_variance_5m"] == pytest.approx(r @ r, rel=1e-12)
        assert row["realized_variance_1m"] == pytest.approx(r[-6:] @ r[-6:], rel=1e-12, abs=1e-300)
        bipower = math.pi / 2 * 30 / 29 * (np.abs(r[1:]) @ np.abs(r[:-1]))
        assert row["bipower_variance_5m"] == pytest.approx(bipower, rel=1e-12)
        assert row["upside_semivariance_5m"] + row["downside_semivariance_5m"] == pytest.approx(r @ r, rel=1e-12)
        assert row["return_autocorrelation_5m"] == pytest.approx(apart[1:] @ apart[:-1] / (apart @ apart), abs=1e-12)
        sums = np.convolve(r, np.ones(5), "valid")
        assert len(sums) == 26
        two_scale = (sums @ sums / 5 - 26 / 150 * (r @ r)) / (1 - 26 / 150)
        assert row["two_scale_variance_5m"] == pytest.approx(two_scale, rel=1e-9, abs=1e-20)
        assert row["drawdown_5m"] == pytest.approx(1 - row["mid"] / column(window, "mid").max(), abs=1e-15)


# -- derivatives -------------------------------------------------------------------------------------------------------


def funding(log: Log, at_s: float, rate: float, index: float, interest: float) -> None:
    values = {"rate_e9": rate, "index_e9": index, "open_interest_e9": interest}
    log.row(Kind.FUNDING, at_s, {"mark_e9": None} | {name: round(value * NANO) for name, value in values.items()})


def test_funding_and_basis_of_a_perpetual() -> None:
    log = priced([2_002])
    assert log.interval_s == 10
    funding(log, 6.0, 0.0001, 1_000.0, 50.0)
    row = log.rows(15)[0]
    assert row["funding_rate"] == 0.0001
    assert row["funding_age_s"] == 4.0
    assert row["basis_annualised"] == close(3 * 365 * 0.001)  # three fundings a day
    assert row["open_interest_change_5m"] is None


def test_basis_of_a_future() -> None:
    """Half a year to go, to the nanosecond at the bar's end: log(1001 / 1000) / 0.5."""
    log = Log({"instrument_type": "future", "expiry_ns": START + 10 * NANO + YEAR_NS // 2}, interval_s=10)
    log.snapshot(5, (BID, 2_001, 5), (ASK, 2_003, 5))
    funding(log, 6.0, 0.0, 1_000.0, 50.0)
    assert log.rows(15)[0]["basis_annualised"] == close(math.log(1.001) / 0.5)


def test_spot_has_no_basis() -> None:
    log = Log({"instrument_type": "spot"}, interval_s=10)
    log.snapshot(5, *LEVELS)
    funding(log, 6.0, 0.0, 1_000.0, 50.0)
    assert log.rows(15)[0]["basis_annualised"] is None


def test_open_interest_change() -> None:
    """Against the bar's end 30 bars before."""
    log = Log(interval_s=10)
    funding(log, 5.0, 0.0, 1_000.0, 50.0)
    funding(log, 305.0, 0.0, 1_000.0, 60.0)
    rows = log.rows(331)
    assert [row["open_interest_change_5m"] for row in rows[29:33]] == [None, *close_all(*[math.log(1.2)] * 3).expected]


def quoted(smile: dict[int, float], skew: float = 0.0, bid_only: bool = False) -> Log:
    """A chain at ``smile`` (volatility by days to expiry), steeper by ``skew`` in log-moneyness; coin prices."""
    log = priced([2_000])
    for days, level in smile.items():
        for strike in range(700, 1_401, 25):
            for is_call in (True, False):
                name = f"test:BTC-{days}D-{strike}-{'C' if is_call else 'P'}"
                expiry = START + 10 * NANO + days * 86_400 * NANO
                fixed = {"expiry_ns": expiry, "strike_e9": strike * NANO, "is_call": is_call}
                increments = {"price_increment_e9": 10, "is_inverse": True, "instrument_type": "option"}
                log.row(Kind.INSTRUMENT, 5.0, REFERENCE | increments | fixed, name)
                volatility = level + skew * math.log(strike / 1_000)
                coin = float(black_price(1_000.0, strike, days / 365, volatility, is_call)) / 1_000.0
                # A tick wide: a quote without a spread, at its intrinsic value, has no volatility.
                quote = {"bid": round(coin * 1e8) - 50, "ask": None if bid_only else round(coin * 1e8) + 50}
                empty = {"mark_e9": None, "open_interest_e9": None, "volume_e9": None}
                log.row(Kind.OPTION_QUOTE, 6.0, fixed | quote | empty | {"forward_e9": 1_000 * NANO}, name)
    return log


def test_a_chain_of_two_expiries() -> None:
    """Total variance is linear between the expiries and the volatility flat beyond them."""
    row = quoted({20: 0.5, 60: 0.8}).rows(15)[0]
    assert row["surface_age_s"] == 4.0
    assert row["atm_iv_7d"] == pytest.approx(0.5, abs=1e-4)
    assert row["atm_iv_90d"] == pytest.approx(0.8, abs=1e-4)
    # w(20) = 0.25 * 20 = 5, w(60) = 0.64 * 60 = 38.4 (times 1 / 365): w(30) = 5 + 33.4 / 4
    assert row["atm_iv_30d"] == pytest.approx(math.sqrt((5 + 33.4 / 4) / 30), abs=1e-4)
    assert row["term_slope"] == pytest.approx(0.3, abs=2e-4)
    # Its term structure is as steep, but each smile is flat.
    assert row["variance_swap_7d"] == pytest.approx(0.5, abs=1e-3)
    assert row["risk_reversal_25d"] == pytest.approx(0.0, abs=1e-3)
    assert row["butterfly_25d"] == pytest.approx(0.0, abs=1e-3)
    assert row["surface_arbitrage"] == 0
    assert row["surface_inside_share"] > 0.9


def test_a_skewed_chain() -> None:
    """iv = 0.6 + 0.1 k: the 25-delta strikes solve N(d1) = 0.25 and 0.75, the risk reversal is 0.1 (k_call - k_put)."""
    row = quoted({30: 0.6}, skew=0.1).rows(15)[0]
    years, quantile = 30 / 365, 0.6744897501960817

    def strike(sign: float) -> float:
        """d1 = -k / (v sqrt(T)) + v sqrt(T) / 2 = -sign quantile, by iteration in k."""
        k = 0.0
        for _ in range(60):
            s = (0.6 + 0.1 * k) * math.sqrt(years)
            k = s * (sign * quantile + s / 2)
        return k

    call, put = strike(1.0), strike(-1.0)
    assert row["risk_reversal_25d"] == pytest.approx(0.1 * (call - put), abs=1e-3)
    assert row["butterfly_25d"] == pytest.approx(0.05 * (call + put), abs=1e-3)
    assert row["skew_slope_30d"] == pytest.approx(0.1, abs=0.01)
    assert row["term_slope"] is None  # one expiry


def test_quotes_without_an_ask_are_none() -> None:
    row = quoted({30: 0.6}, bid_only=True).rows(15)[0]
    assert row["atm_iv_30d"] is None
    assert row["option_quotes"] == 0
    assert row["surface_age_s"] is None, "no quote was ever usable"


def test_variance_risk_premium_is_annualised() -> None:
    """A zigzag of d = log(1010 / 1000) each ten seconds: 30 d^2 in five minutes, 105,120 of which make a year."""
    log = quoted({30: 0.6})
    for i in range(1, 32):
        mid = 2_000 + 20 * (i % 2)
        log.snapshot(10 * i + 5, (BID, mid - 1, 5), (ASK, mid + 1, 5))
    row = log.rows(316)[30]
    d = math.log(1_010 / 1_000)
    assert 365 * 24 * 12 == 105_120
    assert row["variance_risk_premium"] == pytest.approx(row["atm_iv_30d"] ** 2 - 105_120 * 30 * d**2, rel=1e-12)

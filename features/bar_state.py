"""What the bars of an underlying remember: the open bar's integer sums, and rings of closed bars for the windows."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from features.declared.book import FLOW_LEVELS
from features.declared.trade import INTENSITY_NS, VPIN_BUCKETS
from features.long_variance import HORIZONS_D, HOURS
from features.surface.chain_surface import VALUES

Array = np.ndarray[Any, Any]

# clock: end of the open bar (0: no row yet), length of a bar, largest ts_recv so far.
END, INTERVAL, RECV = range(3)

# flow: sums over the book events of the open bar.
OFI, OFI_DEEP, BID_DEPLETED, ASK_DEPLETED, EVENTS = range(5)
FLOWS: Final = 5

# trades: sums over the trades of the open bar. KNOWN counts sizes with a known aggressor; the spread's two sums are in
# increments of price times increments of size.
COUNT, VOLUME, SIGNED, KNOWN, NOTIONAL, SPREAD, SPREAD_BASE, LARGE = range(8)
TRADE_SUMS: Final = 8

# roll: the last price and change of price, and whether there are such; then the bar's sums over pairs of changes.
PRICE, CHANGE, HAS_PRICE, HAS_CHANGE, PAIRS, PRODUCT, LATER, EARLIER = range(8)
ROLL_SUMS: Final = 8

# bucket: the open volume bucket's size (0: none is open), what fills it, its imbalance; how many were filled.
SIZE, FILLED, IMBALANCE, BUCKETS_FILLED = range(4)

# Float rings, a value a closed bar; NaN is unknown.
R_RETURN, R_MID, R_RANGE, R_SIGNED, R_NOTIONAL, R_INTEREST = range(6)
FLOAT_RINGS: Final = 6

# Integer rings. TRADES_OK is 0 for a bar that lost a trade.
R_TRADES_OK, R_VOLUME, R_COUNT, R_PAIRS, R_PRODUCT, R_LATER, R_EARLIER = range(7)
INTEGER_RINGS: Final = 7

# carry: what the last funding row said.
RATE, INDEX, INTEREST = range(3)

# chain: what the option chain says.
CHAIN_VALUES: Final = len(VALUES)

# kind of instrument, as far as its basis differs
NO_CARRY, PERPETUAL, FUTURE = range(3)

MAX_SUM: Final = 2**62
"""Of one bar, in price increments times size increments; beyond it an int64 sum would wrap, so the value is null."""


class Bars(NamedTuple):
    """The open bar of an underlying and what its windows remember.

    Shapes: S instruments, R closed bars kept; a ring stores them twice, one copy behind the other, so that every window
    lies in one piece. ``clock`` (3,), ``chain`` (CHAIN_VALUES,) and ``chain_ts`` (1,) belong to the
    underlying; all others have a row an instrument.
    """

    clock: Array
    chain: Array
    chain_ts: Array  # ts_event of the newest option quote that the surface was fitted to, -1 for none
    tick_e9: Array
    lot_e9: Array
    contract_e9: Array
    inverse: Array
    carry_kind: Array
    expiry_ns: Array  # 0 for none
    touch: Array  # (S, 2, FLOW_LEVELS, 2): key and size of the best levels a side after the last book event
    known: Array  # whether the book was known after the last event
    flow: Array  # (S, FLOWS)
    known_all: Array  # whether the book was known at the bar's opening and after all its events
    book_ts: Array  # largest ts_event of the applied events, -1 for none
    mid2: Array  # twice the mid of the last bar, in increments; 0 when it was unknown
    range2: Array  # (S, 2): lowest and highest mid2 of the bar
    trade_seq: Array
    trade_ok: Array  # 0 once the bar lost a trade
    trades: Array  # (S, TRADE_SUMS)
    too_large: Array  # 1 once a sum of the bar would not fit
    typical: Array  # (S, 2): volume and number of the trades of the window before the bar; 0: unknown
    intensity: Array  # (S, time constants): sum of exp(-(t - t_i) / tau)
    intensity_ts: Array  # the t of that sum, -1 before the first trade
    roll: Array  # (S, ROLL_SUMS)
    bucket: Array  # (S, 4)
    bucket_size: Array  # of the buckets that open now; 0: unknown
    buckets: Array  # (S, VPIN_BUCKETS, 2): |imbalance| and size of the last full buckets
    late: Array
    lost: Array
    corrected: Array
    correction_seq: Array
    carry: Array  # (S, 3)
    carry_ts: Array  # ts_event of the last funding row, -1 for none
    rings: Array  # (S, FLOAT_RINGS, 2 R)
    counts: Array  # (S, INTEGER_RINGS, 2 R)
    bars: Array  # bars closed so far
    hour: Array  # (S, 2): number of the open hour, bars with a return in it
    hour_sum: Array  # (S, 1): of their squared returns
    hours: Array  # (S, HOURS): variances of the last hours
    long_variance: Array  # (S, horizons): annualised, of days


SHARED: Final = ("clock", "chain", "chain_ts")


def empty_bars(instruments: int, interval_ns: int, ring: int) -> Bars:
    """Bars of ``instruments`` instruments before the first row.

    Args:
        instruments: how many, S.
        interval_ns: length of a bar.
        ring: how many closed bars to keep, R.
    """

    def zeros(*shape: int) -> Array:
        return np.zeros((instruments, *shape), dtype=np.int64)

    return Bars(
        clock=np.array([0, interval_ns, 0], dtype=np.int64),
        chain=np.full(CHAIN_VALUES, np.nan),
        chain_ts=np.full(1, -1, dtype=np.int64),
        tick_e9=zeros(),
        lot_e9=zeros(),
        contract_e9=zeros(),
        inverse=zeros(),
        carry_kind=zeros(),
        expiry_ns=zeros(),
        touch=zeros(2, FLOW_LEVELS, 2),
        known=zeros(),
        flow=zeros(FLOWS),
        known_all=zeros(),
        book_ts=zeros() - 1,
        mid2=zeros(),
        range2=zeros(2),
        trade_seq=zeros() - 1,
        trade_ok=zeros() + 1,
        trades=zeros(TRADE_SUMS),
        too_large=zeros(),
        typical=zeros(2),
        intensity=np.zeros((instruments, len(INTENSITY_NS))),
        intensity_ts=zeros() - 1,
        roll=zeros(ROLL_SUMS),
        bucket=zeros(4),
        bucket_size=zeros(),
        buckets=zeros(VPIN_BUCKETS, 2),
        late=zeros(),
        lost=zeros(),
        corrected=zeros(),
        correction_seq=zeros() - 1,
        carry=np.full((instruments, 3), np.nan),
        carry_ts=zeros() - 1,
        rings=np.full((instruments, FLOAT_RINGS, 2 * ring), np.nan),
        counts=zeros(INTEGER_RINGS, 2 * ring),
        bars=zeros(),
        hour=zeros(2),
        hour_sum=np.zeros((instruments, 1)),
        hours=np.full((instruments, HOURS), np.nan),
        long_variance=np.full((instruments, len(HORIZONS_D)), np.nan),
    )


def with_instruments(bars: Bars, keep: Array, added: int) -> Bars:
    """The instruments at the positions ``keep``, in that order, and ``added`` new ones behind them."""
    ring = bars.rings.shape[2] // 2
    fresh = empty_bars(len(keep) + added, int(bars.clock[INTERVAL]), ring)
    for name, old, new in zip(bars._fields, bars, fresh, strict=True):
        if name in SHARED:
            new[:] = old
        else:
            new[: len(keep)] = old[keep]
    return fresh

"""Features of one instrument's order book.

Notation: b_i and B_i are price and size of the i-th best bid, a_i and A_i of the i-th best ask; m = (b_1 + a_1) / 2;
x is the distance of a price from m in basis points of m. A primed letter is the value before a book event.

A book is valid from a complete snapshot on, until a row is lost, the venue's chain of ids breaks, an impossible level
comes (a price that is not positive, a negative size, a count beyond 2^46 increments), or the increments change. An
event is seen whole or not at all; a late one counts when it comes.
"""

from __future__ import annotations

from typing import Final

from features.feature import Feature

UNKNOWN: Final = "the book is invalid, one-sided, locked or crossed"
UNKNOWN_IN_BAR: Final = "the book was invalid, one-sided, locked or crossed at any time in the bar"

IMBALANCE_LEVELS: Final = (1, 5, 10, 20)
DEPTH_BPS: Final = (5, 10, 25, 50)

WEIGHTED_MID_LEVELS: Final = 5
FLOW_LEVELS: Final = 5
SHAPE_LEVELS: Final = 20
DECAY_BPS: Final = 10.0

_SHAPE: Final = "features.book_shape.book_shape"
_FLOW: Final = "features.book_flow.flow_features"


def _shape(name: str, unit: str, formula: str, reference: str = "", null_when: str = UNKNOWN) -> Feature:
    return Feature(name, unit, formula, null_when, ("book",), _SHAPE, reference)


def _flow(name: str, unit: str, formula: str, reference: str = "", null_when: str = UNKNOWN_IN_BAR) -> Feature:
    return Feature(name, unit, formula, null_when, ("book",), _FLOW, reference)


FEATURES: Final[tuple[Feature, ...]] = (
    _shape("best_bid", "quote currency", "b_1"),
    _shape("best_ask", "quote currency", "a_1"),
    _shape("mid", "quote currency", "m = (b_1 + a_1) / 2"),
    _shape("spread_ticks", "price increments", "(a_1 - b_1) / increment"),
    _shape("spread_bps", "basis points of mid", "1e4 (a_1 - b_1) / m"),
    _shape(
        "microprice",
        "quote currency",
        "(b_1 A_1 + a_1 B_1) / (A_1 + B_1)",
        "Gatheral and Oomen 2010, Zero-intelligence realized variance estimation",
    ),
    _shape(
        "weighted_mid",
        "quote currency",
        f"(b A + a B) / (A + B) with B = sum B_i and b = sum b_i B_i / B over the best {WEIGHTED_MID_LEVELS} levels, "
        "likewise A and a",
        "Cartea, Jaimungal and Penalva 2015, Algorithmic and High-Frequency Trading, for several levels",
    ),
    *(
        _shape(
            f"imbalance_{levels}",
            "1",
            f"(B - A) / (B + A), sums of the sizes of the best {levels} level(s)",
            "Cartea, Donnelly and Jaimungal 2018, Enhancing trading strategies with order book signals",
        )
        for levels in IMBALANCE_LEVELS
    ),
    _shape(
        "imbalance_weighted",
        "1",
        f"(B - A) / (B + A) with B = sum exp(-x_i / {DECAY_BPS:g}) B_i over the best {SHAPE_LEVELS} levels, likewise A",
        "Cartea, Donnelly and Jaimungal 2018, with weights that decay in distance",
    ),
    *(
        _shape(f"{side}_depth_{bps}bps", "contracts", f"sum of the {side} sizes with x <= {bps}")
        for bps in DEPTH_BPS
        for side in ("bid", "ask")
    ),
    *(
        _shape(
            f"depth_share_{far}bps",
            "1",
            f"share of both sides' sizes with x <= {DEPTH_BPS[-1]} that lies in {near} < x <= {far}",
            null_when=f"{UNKNOWN}; or there is no depth within {DEPTH_BPS[-1]} bps",
        )
        for near, far in zip((0, *DEPTH_BPS), DEPTH_BPS, strict=False)
    ),
    _shape(
        "book_slope",
        "contracts per basis point",
        f"s of the least-squares fit D = s x + c x^2 of cumulated sizes D at the distances x of the best "
        f"{SHAPE_LEVELS} levels of both sides",
        "after Naes and Skjeltorp 2006, Order book characteristics and the volume-volatility relation",
        f"{UNKNOWN}; or the levels lie at fewer than two distances",
    ),
    _shape(
        "book_curvature",
        "contracts per squared basis point",
        "c of the fit that gives book_slope",
        "as book_slope",
        f"{UNKNOWN}; or the levels lie at fewer than two distances",
    ),
    _flow(
        "order_flow_imbalance",
        "contracts",
        "sum over book events of 1{b >= b'} B - 1{b <= b'} B' - 1{a <= a'} A + 1{a >= a'} A' at the best level",
        "Cont, Kukanov and Stoikov 2014, The price impact of order book events, eq. 2",
    ),
    _flow(
        f"order_flow_imbalance_{FLOW_LEVELS}",
        "contracts",
        f"sum of the same over the levels 1..{FLOW_LEVELS}; a level that is not there has size 0 and lies beyond all "
        "others",
        "Xu, Gould and Howison 2018, Multi-level order-flow imbalance in a limit order book",
    ),
    _flow(
        "bid_depletion",
        "contracts",
        "sum over book events of max(B_1' - B_1, 0) where b_1 = b_1', and of B_1' where b_1 < b_1'",
        "Cont and de Larrard 2013, Price dynamics in a Markovian limit order market",
    ),
    _flow(
        "ask_depletion",
        "contracts",
        "sum over book events of max(A_1' - A_1, 0) where a_1 = a_1', and of A_1' where a_1 > a_1'",
        "Cont and de Larrard 2013",
    ),
    _flow("quote_intensity", "1 / second", "book events applied in the bar / length of the bar"),
    _flow(
        "book_age_s",
        "seconds",
        "bar end - largest ts_event of the book events applied so far",
        null_when="no book event was applied yet",
    ),
)

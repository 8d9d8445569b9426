"""What every column of the lake means and in which unit: comments of the views.

Features say it themselves (``features/declared``); what stands here is the rest: events, positions, signals, records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from features.catalog import UNIVERSE_FEATURES, Catalogue
from features.declared import own_activity
from features.feature import Feature

_NS: Final = "ns since 1970, UTC"
_INCREMENTS: Final = "price increments of the instrument"
_SIZES: Final = "size increments of the instrument"
_E9: Final = "1e-9"
_QUOTE: Final = "quote currency"
_PROBABILITY: Final = "1"

Comment = tuple[str, str]
"""Unit (empty where there is none to name) and meaning."""

_EVERYWHERE: Final[Mapping[str, Comment]] = {
    "underlying": ("", "what the instrument is about, such as BTC; the key of the log"),
    "instrument": ("", "venue and symbol, such as binance-usdm:BTCUSDT"),
    "portfolio": ("", "name of the portfolio"),
    "topic_partition": ("", "partition of the log that held the row"),
    "topic_offset": ("", "offset of the row's message in its partition"),
    "topic_row": ("", "number of the row in its message; partition, offset and row identify it"),
    "date": ("", "UTC date of the row; a condition on it leaves the files of other days unread"),
    "ts_event": (_NS, "when it happened, by the venue's clock"),
    "ts_recv": (_NS, "when we had it, by our clock: an as-of join sees the row from here on"),
    "seq": ("", "0, 1, 2 ... per instrument and kind: a repeat is a duplicate, a jump is a loss"),
    "late_ns": ("ns", "how far ts_event lies behind the newest of the underlying; ts_event + late_ns is stream time"),
    "ref_version": ("", "version of the instrument's reference data that the increments refer to"),
    "bar_ts": (_NS, "end of the bar (t - interval, t]"),
    "ts_known": (_NS, "when all of the row was known: the largest ts_recv in it. As-of joins compare this, not bar_ts"),
    "version": ("", "catalogue, and models if there are any, that computed the row"),
    "book_valid": ("", "the book can be computed from: whole, two-sided, neither locked nor crossed"),
    "book_crossed": ("", "the book is whole, but its best bid is not below its best ask"),
    "late_rows": ("rows", "trades of a bar that had closed already; they are in no bar"),
    "lost_rows": ("rows", "sequence numbers of books and trades that never came"),
    "corrected_rows": ("rows", "corrections and busts of trades that came in the bar"),
    "decision_id": ("", "hash of portfolio and bar"),
    "order_id": ("", "hash of portfolio, decision and leg"),
}

_TRADE: Final[Mapping[str, Comment]] = {
    "trade_id": ("", "the venue's number of the trade"),
    "price": (_INCREMENTS, "price; times instruments.price_increment_e9 / 1e9 in quote currency"),
    "size": (_SIZES, "size; times instruments.size_increment_e9 / 1e9 in contracts"),
    "aggressor": ("", "+1 the buyer took, -1 the seller took, 0 unknown"),
}

_OPTION_TERMS: Final[Mapping[str, Comment]] = {
    "expiry_ns": (_NS, "expiry"),
    "strike_e9": (f"{_E9} {_QUOTE}", "strike"),
    "is_call": ("", "call; else put"),
}

_OF_TABLE: Final[Mapping[str, Mapping[str, Comment]]] = {
    "book": {
        "prev_id": ("", "the event applies to a book whose last update_id lies in [prev_id, update_id)"),
        "update_id": ("", "the venue's number of the event"),
        "side": ("", "+1 bid, -1 ask"),
        "price": (_INCREMENTS, "price of the level"),
        "size": (_SIZES, "size of the level now; 0 deletes it"),
        "flags": ("bits", "1 part of a snapshot, whose first row clears the book; 2 last row of its event"),
    },
    "trades": _TRADE,
    "trade_corrections": {**_TRADE, "size": (_SIZES, "what the size should have been; 0: the trade is busted")},
    "options": {
        **_OPTION_TERMS,
        "bid": (f"{_INCREMENTS}; coin for inverse options", "best bid; null: none"),
        "ask": (f"{_INCREMENTS}; coin for inverse options", "best ask; null: none"),
        "mark_e9": (f"{_E9} of the option's quote currency", "the venue's mark price"),
        "forward_e9": (f"{_E9} USD", "the venue's forward of that expiry"),
        "open_interest_e9": (f"{_E9} contracts", "open interest"),
        "volume_e9": (f"{_E9} contracts", "volume of the last 24 hours"),
    },
    "funding": {
        "rate_e9": (f"{_E9} of notional per 8 hours", "funding rate"),
        "index_e9": (f"{_E9} {_QUOTE}", "index price"),
        "mark_e9": (f"{_E9} {_QUOTE}", "mark price"),
        "open_interest_e9": (f"{_E9} contracts", "open interest"),
    },
    "alt": {
        "source": ("", "where it came from"),
        "name": ("", "what it is, such as headline or sentiment"),
        "text": ("", "text, if it is one"),
        "value": ("the feed's own", "number, if it is one"),
        "ts_available": (_NS, "when it could be had; ts_event is when it happened"),
    },
    "instruments": {
        **_OPTION_TERMS,
        "instrument_type": ("", "spot, perpetual, future or option"),
        "quote_currency": ("", "currency of prices"),
        "settlement_currency": ("", "currency of profit and loss"),
        "price_increment_e9": (f"{_E9} {_QUOTE}", "tick: what a price counts"),
        "size_increment_e9": (f"{_E9} contracts", "lot: what a size counts"),
        "contract_size_e9": (f"{_E9} of the underlying; of an inverse contract, of quote currency", "size of one"),
        "is_inverse": ("", "quoted in USD and settled in coin"),
    },
    "signals": {
        "best_bid": (_QUOTE, "best bid that a decision at this bar meets"),
        "best_ask": (_QUOTE, "best ask that a decision at this bar meets"),
        "mid": (_QUOTE, "(best_bid + best_ask) / 2"),
        "posterior_0": (_PROBABILITY, "filtered probability of regime 0 (calm), given rows up to this bar only"),
        "posterior_1": (_PROBABILITY, "filtered probability of regime 1 (stressed)"),
        "posterior_2": (_PROBABILITY, "filtered probability of regime 2 (illiquid)"),
        "regime": ("", "the likeliest of the three; 0 is the calmest"),
        "kmeans_regime": ("", "regime by K-Means on the same inputs, for comparison"),
        "forecast_variance": ("1", "forecast of realized variance over the next forecast_horizon_s, not annualized"),
        "har_variance": ("1", "the linear (HAR) forecast that the trees correct"),
        "forecast_horizon_s": ("seconds", "how far the forecast reaches"),
    },
    "decision_inputs": {
        "bar_ts": (_NS, "bar of a signal or fill; of a person's command, when the log took it"),
        "input_id": ("", "identifies the input; a repeat is dropped"),
        "type": ("", "signal, fill, timer, kill ..."),
        "document": ("JSON", "the whole input"),
    },
    "decisions": {
        "rung": ("", "step of the ladder that decided: deep policy, band, hold ..."),
        "black_delta": ("coins", "position that makes the net delta zero"),
        "lower": ("coins", "lower edge of the band of positions that are kept"),
        "upper": ("coins", "upper edge of the band"),
        "position": ("coins", "held before the decision"),
        "target": ("coins", "what position and outstanding orders should become"),
        "order_quantity": ("coins, positive buys", "what was ordered, after the limits; null: nothing"),
        "reason": ("", "why, in one line"),
        "document": ("JSON", "the whole decision; `hedgeflow hedge explain` tells it in prose"),
    },
    "fills": {
        "bar_ts": (_NS, "stream time of the fill; of a bar if the gateway fills bar by bar"),
        "quantity": ("coins, positive bought", "quantity"),
        "price": ("USD per coin", "price"),
        "fee_usd": ("USD", "fee paid"),
    },
    "dead_letters": {
        "ts_event": (_NS, "when the broker took the letter"),
        "reason": ("", "why it could not be used, in one word"),
        "detail": ("", "why, in full"),
        "rows": ("rows", "how many rows were lost"),
        "origin": ("", "source that sent it, if the edge refused it"),
        "stage": ("", "worker that refused it"),
        "source_topic": ("", "where it had been"),
        "source_partition": ("", "where it had been"),
        "source_offset": ("", "where it had been"),
        "source_kind": ("", "kind of the message, to send it again"),
        "source_key": ("", "key of the message, to send it again"),
        "payload": ("bytes", "the message as it came"),
    },
}


def column_comments(table: str, catalogue: Catalogue) -> Mapping[str, str]:
    """What each column of a view means, by name: ``[unit] meaning``.

    Args:
        table: name of the view.
        catalogue: names the features, a user's own among them.
    """
    comments = {name: _worded(*comment) for name, comment in _EVERYWHERE.items()}
    comments |= {feature.name: _feature(feature) for feature in _features_of(table, catalogue)}
    return comments | {name: _worded(*comment) for name, comment in _OF_TABLE.get(table, {}).items()}


def _features_of(table: str, catalogue: Catalogue) -> tuple[Feature, ...]:
    if table == "own_activity":
        return own_activity.FEATURES
    if table in ("features", "signals"):
        return catalogue.features
    return (*catalogue.features, *UNIVERSE_FEATURES) if table == "universe" else ()


def _feature(feature: Feature) -> str:
    return f"{_worded(feature.unit, feature.formula)}; null when {feature.null_when}"


def _worded(unit: str, meaning: str) -> str:
    return f"[{unit}] {meaning}" if unit else meaning

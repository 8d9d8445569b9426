"""Binance's JSON, typed. Decimal fields stay raw bytes: they are parsed once, exactly, by :mod:`.decimals`.

Combined-stream messages: ``{"stream": ..., "data": {...}}``. Spot ``bookTicker`` names no event and no time; a REST
snapshot is no stream message and is told by ``lastUpdateId``.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw

NO_TEXT: Final = Raw()
MISSING: Final = -1

Id = Annotated[int, Meta(ge=0, le=2**62)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**62 // 1_000_000)]


class Data(msgspec.Struct, gc=False):
    """The union of ``depthUpdate``, ``bookTicker``, ``trade``, ``markPriceUpdate``; what one lacks has its default."""

    e: str = ""  # event
    E: Milliseconds = 0  # event time
    T: Milliseconds = 0  # transaction or trade time; of a mark price, when funding is next paid
    s: str = ""  # symbol
    U: Id = MISSING  # first update id
    u: Id = MISSING  # final update id
    pu: Id = MISSING  # final update id of the diff before (futures)
    b: Raw = NO_TEXT  # bid levels, or best bid price
    B: Raw = NO_TEXT  # best bid size
    a: Raw = NO_TEXT
    A: Raw = NO_TEXT
    t: Id = MISSING  # trade id
    p: Raw = NO_TEXT  # price, or mark price
    q: Raw = NO_TEXT  # size
    X: str = "MARKET"  # futures: insurance fund and auto-deleveraging are no market trades
    m: bool | None = None  # the buyer is the maker
    i: Raw = NO_TEXT  # index price
    r: Raw = NO_TEXT  # funding rate; "" where there is none


class Message(msgspec.Struct, gc=False):
    """A line: either a stream message or a REST snapshot."""

    stream: str = ""
    data: Data | None = None
    lastUpdateId: Id = MISSING  # the venue's name
    E: Milliseconds = 0
    T: Milliseconds = 0
    bids: Raw = NO_TEXT
    asks: Raw = NO_TEXT


DECODER: Final = msgspec.json.Decoder(Message)

_LEVELS: Final = msgspec.json.Decoder(list[tuple[str, str]])
_TEXT: Final = msgspec.json.Decoder(str)


def printed_levels(prices: Raw, sizes: Raw) -> list[tuple[str, str]]:
    """Prices and sizes as text: of a list of levels, or of a best quote or trade; empty where the message has none.

    Raises:
        msgspec.ValidationError: they are neither.
    """
    text = bytes(prices)
    if not text:
        return []
    if text.startswith(b"["):
        return _LEVELS.decode(text)
    return [(_TEXT.decode(text), _TEXT.decode(bytes(sizes)))]

"""What a decision wants to trade, what a limit did to it, and how both are named."""

from __future__ import annotations

import hashlib

import msgspec

_SEPARATOR = "\x1f"
"""No name contains it, so two different lists of names never hash alike."""


class OrderIntent(msgspec.Struct, frozen=True, kw_only=True):
    """A wish: nothing that a gateway takes.

    Attributes:
        underlying: the leg of the decision; one intent a leg.
        instrument: what to trade.
        quantity: coins; positive buys.
        price: USD at which it should trade, the touch; held against the price collar.
        flatten: a person ordered the position closed.
    """

    underlying: str
    instrument: str
    quantity: float
    price: float
    flatten: bool = False


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that stopped an order or cut it.

    Attributes:
        underlying: the leg.
        limit: name of the limit, as in ``Limits``.
        value: what the order would have made of the limited quantity; ``None`` when that is unknown.
        bound: the limit; ``None`` when there is none, and the value is unknown.
        requested: coins that were to trade; ``None`` if that was no finite number.
        approved: coins that this limit let pass: 0 if it refused the order, else the order was cut to them.
    """

    underlying: str
    limit: str
    value: float | None
    bound: float | None
    requested: float | None
    approved: float


def hash_id(*parts: str) -> str:
    """32 hex digits of the SHA-256 of ``parts``: the same in every process and after every restart."""
    return hashlib.sha256(_SEPARATOR.join(parts).encode()).hexdigest()[:32]


def decision_id(portfolio: str, bar_ts: int) -> str:
    """Of the decision of ``portfolio`` at ``bar_ts`` (ns UTC)."""
    return hash_id(portfolio, str(bar_ts))


def order_id(portfolio: str, decision: str, leg: str) -> str:
    """Of the one order of a leg, so that sending it again is recognized."""
    return hash_id(portfolio, decision, leg)

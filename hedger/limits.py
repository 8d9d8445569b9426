"""The brake: hard limits between every decision and every gateway. No torch, no I/O, no clock.

What a limit does to an order that breaks it:

- **Sizes cut.** ``max_order_quantity``, ``max_position``, ``max_gross_notional_usd`` and ``max_net_delta_usd`` let the
  part up to the bound pass and report the rest. An order that moves towards zero breaks neither position nor
  notional, however far beyond the bound they are.
- **States refuse.** The kill switch, ``max_loss_usd``, ``max_orders_per_minute``, ``price_collar_bps``,
  ``max_gamma_usd``, ``max_vega_usd`` and ``min_trade_quantity`` refuse the whole order.
- Gamma and vega are the options', and trading the underlying does not change them; so beyond these two bounds only
  orders pass that lower the absolute net delta.
- An order by which a person closes a position (``flatten``) is held to the kill switch, rate, collar and size alone.
- Outstanding orders count at their worst: filled if that hurts, cancelled if that hurts.
- Unknown is refused: a value that is ``None`` or NaN breaks every bound.

A value equal to its bound passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from features.errors import BadInputError, HedgeflowError
from hedger.bounds import Limits
from hedger.exposure import Exposure
from hedger.limit_checks import breaches
from hedger.orders import OrderIntent, Refusal, hash_id, order_id

__all__ = ["ApprovedOrder", "Limits", "UnapprovedOrderError", "approve", "approved_from_log"]

_SEALED_BY: Final = "hedger.limits"


class UnapprovedOrderError(HedgeflowError):
    """An order that did not pass ``limits``, or was changed since."""


class ApprovedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that passed: the only type that a gateway takes, and only :func:`approve` makes it.

    ``approval`` seals the other fields. It is checked whenever one comes into being: made, read from the log, or
    copied with a change. It guards against mistakes, not against somebody who reads this file.

    Attributes:
        bar_ts: of the decision, ns UTC.
        underlying: the leg.
        quantity: coins; positive buys.
        limit_price: USD; the worst price at which it may trade.

    Raises:
        UnapprovedOrderError: the seal is not that of these fields.
    """

    order_id: str
    portfolio: str
    decision_id: str
    bar_ts: int
    underlying: str
    instrument: str
    quantity: float
    limit_price: float
    approval: str = ""

    def __post_init__(self) -> None:
        if self.approval != _seal(msgspec.structs.astuple(self)[:-1]):
            raise UnapprovedOrderError(
                f"Order {self.order_id} of {self.quantity} {self.instrument} was not approved.",
                "Orders are made by hedger.limits.approve alone.",
            )


def _seal(fields: Sequence[Any]) -> str:
    return hash_id(_SEALED_BY, *(value.hex() if isinstance(value, float) else str(value) for value in fields))


def approved_from_log(document: bytes | str) -> ApprovedOrder:
    """Read an approved order that was logged as JSON.

    Raises:
        BadInputError: it is no order.
        UnapprovedOrderError: it was never approved, or was changed.
    """
    try:
        return msgspec.json.decode(document, type=ApprovedOrder)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"An order cannot be read: {error}.", "Was it written by another version?") from error


def approve(
    intents: Sequence[OrderIntent], limits: Limits, exposure: Exposure
) -> tuple[list[ApprovedOrder], list[Refusal]]:
    """Judge ``intents`` in order; each counts what was approved before it.

    Returns:
        The orders, and a refusal for each limit that was broken. An order that was cut has both.
    """
    approved: dict[str, ApprovedOrder] = {}
    notional_usd: dict[str, float] = {}
    refusals: list[Refusal] = []
    for intent in intents:
        quantity = float(intent.quantity)
        for refusal in breaches(intent, limits, exposure, notional_usd):
            refusals.append(refusal)
            quantity = refusal.approved
        if quantity != 0.0:
            order = _approved(intent, quantity, limits, exposure)
            approved[intent.underlying] = order
            notional_usd[intent.underlying] = abs(quantity) * order.limit_price
    return list(approved.values()), refusals


def _approved(intent: OrderIntent, quantity: float, limits: Limits, exposure: Exposure) -> ApprovedOrder:
    mid = exposure.legs[intent.underlying].reference_price
    assert mid is not None, "the price collar refuses an order without a reference price"
    fields: dict[str, Any] = {
        "order_id": order_id(exposure.portfolio, exposure.decision_id, intent.underlying),
        "portfolio": exposure.portfolio,
        "decision_id": exposure.decision_id,
        "bar_ts": exposure.bar_ts,
        "underlying": intent.underlying,
        "instrument": intent.instrument,
        "quantity": quantity,
        "limit_price": mid * (1.0 + math.copysign(limits.price_collar_bps * 1e-4, quantity)),
    }
    return ApprovedOrder(**fields, approval=_seal(tuple(fields.values())))

"""A decision: what was to be held, why, and everything needed to explain it later without the code that made it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from features.errors import BadInputError
from hedger.limits import ApprovedOrder
from hedger.orders import Refusal


class Rung(StrEnum):
    """The ladder of DESIGN 7, safest last but one: whatever is missing leads down, only a person leads to flatten."""

    DEEP_POLICY = "deep_policy"
    NO_TRADE_BAND = "no_trade_band"
    HOLD = "hold"
    FLATTEN = "flatten"


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """The decision about one underlying. Quantities are coins of the hedge instrument, prices USD; null is unknown.

    Attributes:
        rung: of the ladder.
        reasons: why it is not a higher rung, one a step down.
        signal_id: the signals row that was seen; ``None`` if none was, as at a timer tick.
        signal_version: catalogue and models of that row.
        volatility: 1 / sqrt(year), that of ``black_delta``; ``volatility_source`` is its column.
        black_delta: the position that makes the net delta zero: minus the options' Black delta.
        lower, upper: the band of positions that are kept.
        position: before this decision.
        outstanding: sum of the orders that have not traded yet.
        target: what ``position + outstanding`` should become.
        order_id, order_quantity: what was ordered, after the limits.
    """

    underlying: str
    instrument: str
    rung: Rung
    reasons: tuple[str, ...]
    position: float
    outstanding: float
    target: float
    signal_id: str | None = None
    signal_version: str | None = None
    mid: float | None = None
    best_bid: float | None = None
    best_ask: float | None = None
    regime: int | None = None
    volatility: float | None = None
    volatility_source: str | None = None
    black_delta: float | None = None
    lower: float | None = None
    upper: float | None = None
    order_id: str | None = None
    order_quantity: float | None = None

    @property
    def reason(self) -> str:
        """In one line."""
        if self.reasons:
            return "; ".join(self.reasons)
        return "inside the band" if self.target == self.position + self.outstanding else "to the band's nearest edge"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Of one portfolio at one bar.

    Attributes:
        decision_id: hash of portfolio and ``bar_ts``.
        bar_ts: ns UTC; grows from decision to decision: one without a bar (timer, kill) comes 1 ns after the last.
        trigger: id of the input that led to it.
        inputs_digest: names all inputs that were applied before, in their order, the trigger included.
        legs: one an underlying, in alphabetical order.
        orders: approved, to be sent once this decision is acknowledged.
        refusals: what the limits stopped or cut.
        cancels: ids of outstanding orders that the gateway must cancel.
        notices: inputs that were dropped or rejected since the decision before, and why.
        versions: of the policy, the limits and the ladder's settings.
        pnl_usd: since the first mark, at the last known marks; null before the first.
        currency, settlement_price_source: of ``pnl_usd`` and every USD value.
    """

    decision_id: str
    portfolio: str
    bar_ts: int
    trigger: str
    inputs_digest: str
    legs: tuple[Leg, ...]
    orders: tuple[ApprovedOrder, ...]
    refusals: tuple[Refusal, ...]
    cancels: tuple[str, ...]
    notices: tuple[str, ...]
    versions: dict[str, str]
    pnl_usd: float | None
    currency: str
    settlement_price_source: str

    @property
    def underlyings(self) -> tuple[str, ...]:
        """One a leg."""
        return tuple(leg.underlying for leg in self.legs)


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Decision)


def encode_decision(decision: Decision) -> bytes:
    """As JSON, floats in full precision: equal decisions give equal bytes."""
    return _encoder.encode(decision)


def decode_decision(document: bytes | str) -> Decision:
    """The inverse of :func:`encode_decision`; its orders may be sent again, once the gateway is reconciled.

    Raises:
        BadInputError: it is no decision.
        UnapprovedOrderError: an order in it was changed.
    """
    try:
        return _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"A decision cannot be read: {error}.", "Was it written by another version?") from error


def explain(decision: Decision) -> str:
    """In prose, a few lines a leg."""
    when = datetime.fromtimestamp(decision.bar_ts // 10**9, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    name, portfolio = decision.decision_id, decision.portfolio
    lines = [f"Decision {name} of portfolio {portfolio!r} at {when} UTC, upon {decision.trigger}."]
    for leg in decision.legs:
        lines += _leg_lines(leg, decision)
    lines += [_refusal_line(refusal) for refusal in decision.refusals]
    lines += [f"To cancel: order {order_id}." for order_id in decision.cancels]
    lines += [f"Since the decision before: {notice}." for notice in decision.notices]
    pnl = "unknown" if decision.pnl_usd is None else f"{decision.pnl_usd:,.2f} {decision.currency}"
    lines.append(f"P&L {pnl}; options marked at {decision.settlement_price_source}.")
    versions = ", ".join(f"{name} {version}" for name, version in decision.versions.items())
    lines.append(f"Versions: {versions}. Inputs up to here: {decision.inputs_digest}.")
    return "\n".join(lines)


def _leg_lines(leg: Leg, decision: Decision) -> list[str]:
    lines = [f"{leg.underlying} ({leg.instrument}), rung {leg.rung}: {leg.reason}."]
    if leg.signal_id is not None:
        regime = "unknown regime" if leg.regime is None else f"regime {leg.regime}"
        lines.append(
            f"  Seen: bid {_number(leg.best_bid)}, ask {_number(leg.best_ask)}, {regime}; "
            f"row {leg.signal_id}, version {leg.signal_version}."
        )
    if leg.black_delta is not None:
        lines.append(
            f"  Zero net delta at {_number(leg.black_delta)} with volatility {_number(leg.volatility)} "
            f"({leg.volatility_source}); positions from {_number(leg.lower)} to {_number(leg.upper)} are kept."
        )
    lines.append(
        f"  Held {_number(leg.position)} with {_number(leg.outstanding)} outstanding; target {_number(leg.target)}."
    )
    for order in decision.orders:
        if order.order_id == leg.order_id:
            side = "buy" if order.quantity > 0.0 else "sell"
            lines.append(
                f"  Order {order.order_id}: {side} {_number(abs(order.quantity))}, "
                f"no worse than {_number(order.limit_price)}."
            )
    return lines


def _refusal_line(refusal: Refusal) -> str:
    what = "refused" if refusal.approved == 0.0 else f"cut to {_number(refusal.approved)}"
    return (
        f"{refusal.underlying}: an order of {_number(refusal.requested)} was {what} by {refusal.limit}: "
        f"{_number(refusal.value)} against a bound of {_number(refusal.bound)}."
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.10g}"

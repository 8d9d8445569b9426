"""The legs of a decision: from stances and accounts to orders within the limits, and rows that explain them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hedger.decider_state import DeciderState, OutstandingOrder
from hedger.decision import Leg, Rung
from hedger.exposure import Exposure, LegExposure
from hedger.inputs import SignalInput
from hedger.ladder import Stance
from hedger.limits import ApprovedOrder, Limits, approve
from hedger.orders import OrderIntent, Refusal

MINUTE_NS: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class OrderedLegs:
    """What a decision did to its legs."""

    legs: tuple[Leg, ...]
    orders: tuple[ApprovedOrder, ...]
    refusals: tuple[Refusal, ...]
    pnl_usd: float | None


def order_legs(
    state: DeciderState,
    decision: str,
    bar_ts: int,
    chosen: Mapping[str, Stance],
    signals: Mapping[str, SignalInput],
    limits: Limits,
) -> OrderedLegs:
    """Ask the limits for the orders that the stances call for; ``state`` then has them outstanding.

    Args:
        state: of the decider.
        decision: id of the decision.
        bar_ts: of the decision, ns UTC.
        chosen: the stance of each underlying.
        signals: of this bar, where there is one.
        limits: the brake.
    """
    state.order_ts = [ts for ts in state.order_ts if ts > bar_ts - MINUTE_NS]
    exposure = Exposure(
        portfolio=state.portfolio.name,
        decision_id=decision,
        bar_ts=bar_ts,
        legs={name: _exposure(state, name, stance) for name, stance in chosen.items()},
        pnl_usd=state.pnl_usd(),
        recent_orders=len(state.order_ts),
        killed=state.kill is not None,
    )
    wishes = [_intent(exposure.legs[name], stance, signals[name]) for name, stance in chosen.items() if name in signals]
    orders, refusals = approve([wish for wish in wishes if wish is not None], limits, exposure)
    for order in orders:
        state.outstanding[order.order_id] = OutstandingOrder(order.underlying, order.quantity)
        state.order_ts.append(bar_ts)
    instruments, ordered = state.portfolio.hedge_instruments, {order.underlying: order for order in orders}
    legs = (
        _leg(name, instruments[name], exposure.legs[name], stance, signals.get(name), ordered.get(name))
        for name, stance in chosen.items()
    )
    return OrderedLegs(tuple(legs), tuple(orders), tuple(refusals), exposure.pnl_usd)


def _exposure(state: DeciderState, underlying: str, stance: Stance) -> LegExposure:
    ledger, greeks = state.ledgers[underlying], stance.greeks
    buys, sells = state.outstanding_of(underlying)
    return LegExposure(
        position=ledger.position,
        outstanding_buys=buys,
        outstanding_sells=sells,
        reference_price=ledger.mid,
        options_delta=None if greeks is None else greeks.delta,
        gamma_usd=None if greeks is None else greeks.gamma_usd,
        vega_usd=None if greeks is None else greeks.vega_usd,
    )


def _intent(exposure: LegExposure, stance: Stance, signal: SignalInput) -> OrderIntent | None:
    """The order that takes what is held and outstanding to the target, at the touch; ``None`` if there is nothing."""
    held = _held(exposure)
    quantity = stance.target(held) - held
    if quantity == 0.0:
        return None
    touch = signal.best_ask if quantity > 0.0 else signal.best_bid
    assert touch is not None, "without a touch the stance is to hold"
    return OrderIntent(
        underlying=signal.underlying,
        instrument=signal.instrument,
        quantity=quantity,
        price=touch,
        flatten=stance.rung is Rung.FLATTEN,
    )


def _leg(
    underlying: str,
    instrument: str,
    exposure: LegExposure,
    stance: Stance,
    signal: SignalInput | None,
    order: ApprovedOrder | None,
) -> Leg:
    return Leg(
        underlying=underlying,
        instrument=instrument,
        rung=stance.rung,
        reasons=stance.reasons,
        position=exposure.position,
        outstanding=exposure.outstanding_buys + exposure.outstanding_sells,
        target=stance.target(_held(exposure)),
        signal_id=None if signal is None else signal.input_id,
        signal_version=None if signal is None else signal.version,
        mid=None if signal is None else signal.mid,
        best_bid=None if signal is None else signal.best_bid,
        best_ask=None if signal is None else signal.best_ask,
        regime=None if signal is None else signal.regime,
        volatility=stance.volatility,
        volatility_source=stance.volatility_source,
        black_delta=stance.black_delta,
        lower=stance.lower,
        upper=stance.upper,
        order_id=None if order is None else order.order_id,
        order_quantity=None if order is None else order.quantity,
    )


def _held(exposure: LegExposure) -> float:
    return exposure.position + (exposure.outstanding_buys + exposure.outstanding_sells)

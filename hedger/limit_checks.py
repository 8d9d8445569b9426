"""The limits one by one: what each makes of an order. What they mean stands in :mod:`hedger.limits`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from hedger.bounds import Limits
from hedger.exposure import Exposure, LegExposure
from hedger.orders import OrderIntent, Refusal


def breaches(
    intent: OrderIntent, limits: Limits, exposure: Exposure, approved_usd: Mapping[str, float]
) -> Iterator[Refusal]:
    """The limits that ``intent`` breaks: the first state that refuses it, or else every size that cuts it.

    Args:
        approved_usd: notional of the orders that this decision approved already, by underlying.
    """
    for limit, value, bound in _states(intent, limits, exposure, approved_usd):
        if value is None or not value <= bound:
            yield _refusal(intent, limit, value, bound, intent.quantity, 0.0)
            return
    quantity = float(intent.quantity)
    for limit, base, unit_usd, others, bound in _sizes(intent, limits, exposure, approved_usd):
        allowed = _room(quantity, base, max(0.0, bound - others) / unit_usd)
        if allowed != quantity:
            yield _refusal(intent, limit, others + abs(base + quantity) * unit_usd, bound, quantity, allowed)
            quantity = allowed
    smallest = limits.min_trade_quantity.get(intent.underlying, 0.0)
    if 0.0 < abs(quantity) < smallest:
        yield _refusal(intent, "min_trade_quantity", abs(quantity), smallest, quantity, 0.0)


def _refusal(
    intent: OrderIntent, limit: str, value: float | None, bound: float, requested: float, approved: float
) -> Refusal:
    known = value is not None and math.isfinite(value)
    return Refusal(
        underlying=intent.underlying,
        limit=limit,
        value=value if known else None,
        bound=bound if math.isfinite(bound) else None,
        requested=requested if math.isfinite(requested) else None,
        approved=approved,
    )


def _room(quantity: float, base: float, bound: float) -> float:
    """The part of ``quantity`` that leaves ``|base + quantity| <= bound``, or only moves ``base`` towards that."""
    if quantity > 0.0:
        return min(quantity, max(0.0, bound - base))
    return max(quantity, min(0.0, -bound - base))


def _states(
    intent: OrderIntent, limits: Limits, exposure: Exposure, approved_usd: Mapping[str, float]
) -> Iterator[tuple[str, float | None, float]]:
    """``(limit, value, bound)`` of what refuses an order as a whole: a value that is unknown or above its bound."""
    yield "kill_switch", float(limits.kill_switch or exposure.killed), 0.0
    yield "finite_quantity", float(not math.isfinite(intent.quantity)), 0.0
    yield "known_underlying", float(intent.underlying not in exposure.legs), 0.0
    yield "one_order_a_leg", float(intent.underlying in approved_usd), 0.0
    leg = exposure.legs[intent.underlying]
    yield "max_orders_per_minute", exposure.recent_orders + len(approved_usd) + 1.0, limits.max_orders_per_minute
    yield "price_collar_bps", _distance_bps(intent.price, leg.reference_price), limits.price_collar_bps
    if _closes(intent, leg):
        return
    yield "max_loss_usd", None if exposure.pnl_usd is None else -exposure.pnl_usd, limits.max_loss_usd
    if _other_notional_usd(intent.underlying, exposure, approved_usd) is None:
        yield "max_gross_notional_usd", None, limits.max_gross_notional_usd
    if leg.options_delta is None or not math.isfinite(leg.options_delta):
        yield "max_net_delta_usd", None, limits.max_net_delta_usd
        return
    net_delta = leg.options_delta + leg.base(intent.quantity)
    if not abs(net_delta + intent.quantity) < abs(net_delta):
        yield "max_gamma_usd", None if leg.gamma_usd is None else abs(leg.gamma_usd), limits.max_gamma_usd
        yield "max_vega_usd", None if leg.vega_usd is None else abs(leg.vega_usd), limits.max_vega_usd


def _sizes(
    intent: OrderIntent, limits: Limits, exposure: Exposure, approved_usd: Mapping[str, float]
) -> Iterator[tuple[str, float, float, float, float]]:
    """``(limit, base, unit, others, bound)`` of what cuts: ``others + |base + quantity| unit`` stays within bound."""
    leg = exposure.legs[intent.underlying]
    yield "max_order_quantity", 0.0, 1.0, 0.0, limits.max_order_quantity.get(intent.underlying, 0.0)
    if _closes(intent, leg):
        return
    base, price, delta = leg.base(intent.quantity), leg.reference_price, leg.options_delta
    others = _other_notional_usd(intent.underlying, exposure, approved_usd)
    if price is None or delta is None or others is None:  # the states have refused it
        return
    yield "max_position", base, 1.0, 0.0, limits.max_position.get(intent.underlying, 0.0)
    yield "max_gross_notional_usd", base, price, others, limits.max_gross_notional_usd
    yield "max_net_delta_usd", delta + base, price, 0.0, limits.max_net_delta_usd


def _closes(intent: OrderIntent, leg: LegExposure) -> bool:
    """Whether a person ordered it and it only moves the position towards zero."""
    base = leg.base(intent.quantity)
    return intent.flatten and intent.quantity * base < 0.0 and abs(intent.quantity) <= abs(base)


def _distance_bps(price: float, reference: float | None) -> float | None:
    if reference is None or not (0.0 < reference < math.inf and 0.0 < price < math.inf):
        return None
    return abs(price / reference - 1.0) * 1e4


def _other_notional_usd(underlying: str, exposure: Exposure, approved_usd: Mapping[str, float]) -> float | None:
    """Gross notional of the other legs, with what this decision adds to them; ``None`` if a price is unknown."""
    total = sum(added for name, added in approved_usd.items() if name != underlying)
    for name, leg in exposure.legs.items():
        notional = 0.0 if name == underlying else leg.notional_usd
        if notional is None:
            return None
        total += notional
    return total

"""How much of each risk limit is still free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from features.average_cost import PRODUCT_UNITS


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """Upper bounds of absolute values; ``None`` or infinite where none is set.

    Attributes:
        max_position: coins by underlying.
        max_gross_notional_usd, max_loss_usd, max_orders_per_minute: of the portfolio.
        max_net_delta_usd, max_gamma_usd, max_vega_usd: of each underlying.
    """

    max_position: Mapping[str, float] = field(default_factory=dict)
    max_gross_notional_usd: float | None = None
    max_net_delta_usd: float | None = None
    max_gamma_usd: float | None = None
    max_vega_usd: float | None = None
    max_loss_usd: float | None = None
    max_orders_per_minute: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionsExposure:
    """Of the options on one underlying, at a bar's marks; ``None`` is unknown.

    Attributes:
        delta: coins.
        gamma_usd: change of their USD delta when the underlying moves by 1 %.
        vega_usd: change of their value when the volatility moves by 0.01.
        pnl_usd: change of their value since their first mark.
    """

    delta: float | None = None
    gamma_usd: float | None = None
    vega_usd: float | None = None
    pnl_usd: float | None = None


def limit_free(used: float | None, limit: float | None) -> float | None:
    """``1 - |used| / limit``; ``None`` when the use is unknown or not finite, or no limit is set.

    An infinite limit is none. Of a limit of 0 nothing is free while it is kept; once it is exceeded there is no such
    fraction.

    >>> limit_free(-2.5, 10.0), limit_free(15.0, 10.0), limit_free(0.0, 0.0), limit_free(1.0, 0.0)
    (0.75, -0.5, 0.0, None)
    """
    if used is None or limit is None or not math.isfinite(used) or not math.isfinite(limit):
        return None
    if limit == 0.0:
        return 0.0 if used == 0.0 else None
    return 1.0 - abs(used) / limit


def net_delta_usd(options: OptionsExposure, inventory: float, price: float | None) -> float | None:
    """``(options' delta + inventory) price``; ``None`` when either is unknown."""
    return None if options.delta is None or price is None else (options.delta + inventory) * price


def loss_usd(hedges_pnl: int | None, options: Mapping[str, OptionsExposure]) -> float | None:
    """``max(0, -P)`` of the whole portfolio; ``None`` when a part of ``P`` is unknown.

    Args:
        hedges_pnl: of all instruments, 1e-18 USD.
        options: by underlying; added in the order of their names.
    """
    if hedges_pnl is None:
        return None
    pnl = hedges_pnl / PRODUCT_UNITS
    for _, each in sorted(options.items()):
        if each.pnl_usd is None:
            return None
        pnl += each.pnl_usd
    return max(0.0, -pnl)

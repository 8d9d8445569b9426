"""Values and greeks of option positions in USD, by undiscounted Black-76 with the perpetual's mid as forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.surface.black import (
    YEAR_NS,
    black_delta_kernel,
    black_gamma_kernel,
    black_price_kernel,
    black_vega_kernel,
)
from hedger.portfolio import OptionPosition


@dataclass(frozen=True, slots=True)
class Greeks:
    """Of all options on one underlying, sign of the position included.

    Attributes:
        delta: coins; minus this is the position in the underlying that hedges them.
        gamma: coins per USD, ``d delta / d forward``.
        delta_usd: ``delta forward``.
        gamma_usd: ``gamma forward^2 / 100``: change of ``delta_usd`` when the forward moves by 1 %.
        vega_usd: change of the value when the volatility moves by 0.01.
    """

    delta: float
    gamma: float
    delta_usd: float
    gamma_usd: float
    vega_usd: float


def expiry_years(expiry_ns: int, at_ns: int) -> float:
    """Time to expiry in years of 365 days: exact in ns, then rounded once."""
    return (expiry_ns - at_ns) / YEAR_NS


def options_value_usd(options: Sequence[OptionPosition], forward: float, volatility: float, at_ns: int) -> float:
    """Value in USD: ``sum of quantity x undiscounted Black-76 price``; of an expired option its intrinsic value.

    Args:
        options: all on one underlying.
        forward: USD; the perpetual's mid.
        volatility: 1 / sqrt(year); ``atm_iv_30d`` for marks, at every strike and expiry.
        at_ns: when, ns UTC.
    """
    value = 0.0
    for option in options:
        years = expiry_years(option.expiry_ns, at_ns)
        price = black_price_kernel(forward, option.strike, years, volatility, option.is_call)
        value += option.quantity * price
    return value


def options_greeks(options: Sequence[OptionPosition], forward: float, volatility: float, at_ns: int) -> Greeks:
    """Greeks under the same model and arguments as :func:`options_value_usd`."""
    delta = gamma = vega = 0.0
    for option in options:
        years = expiry_years(option.expiry_ns, at_ns)
        delta += option.quantity * black_delta_kernel(forward, option.strike, years, volatility, option.is_call)
        gamma += option.quantity * black_gamma_kernel(forward, option.strike, years, volatility)
        vega += option.quantity * black_vega_kernel(forward, option.strike, years, volatility)
    return Greeks(
        delta=delta,
        gamma=gamma,
        delta_usd=delta * forward,
        gamma_usd=gamma * forward * forward / 100.0,
        vega_usd=vega / 100.0,
    )

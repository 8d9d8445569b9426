"""Option chains of the simulated exchange: coin-settled, priced from one surface without static arbitrage.

The surface is SSVI (Gatheral and Jacquier 2014, eq. 4.1): with log-moneyness k = log(K / F) and the at-the-money total
variance theta(T),

    w(k, theta) = theta / 2 (1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2))
    phi(theta) = eta / (theta^gamma (1 + theta)^(1 - gamma)),   0 < gamma <= 1/2

It is free of static arbitrage where eta (1 + |rho|) <= 2 (remark 4.4) and theta does not fall with T. Here theta is the
integral of an expected variance that reverts from the present v to its long-run mean m at rate kappa,

    theta(T) = m T + (v - m) (1 - exp(-kappa T)) / kappa

which rises with T because expected variance is positive. rho falls from calm to stormy markets; within one chain it is
one number. Marks are Black-76 prices over the forward, in coin.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.special import ndtr

from features.events import NANO
from features.surface.black import YEAR_NS
from pipeline.sources.simulated_market import O_PRICE, O_VARIANCE, O_WIDTH

Array = np.ndarray[Any, Any]

DAY_NS: Final = 24 * 3_600 * NANO
EXPIRY_DAYS: Final = (7, 14, 30, 60, 90, 180)
EXPIRY_HOUR_NS: Final = 8 * 3_600 * NANO
STRIKES: Final = 15
REACH: Final = 1.75
"""The outermost strikes lie this many standard deviations from the money."""

MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

PRICE_INCREMENT_E9: Final = NANO // 10_000

CARRY: Final = 0.04
"""Forwards grow with this rate per year."""

ETA: Final = 1.0
GAMMA: Final = 0.5
RHO_CALM: Final = -0.15
RHO_STORMY: Final = -0.45

MIN_HALF_SPREAD: Final = 0.25e-4
"""Of a quote, in coin."""

REVERSION_PER_YEAR: Final = 700.0
"""kappa. A half-life of 9 hours: a storm of minutes moves the short end by volatility points, the long end hardly."""


class Chain(NamedTuple):
    """The listed options: names (n,), and per option its expiry, strike (in USD) and whether it is a call."""

    names: list[str]
    expiry_ns: Array
    strike: Array
    is_call: Array


class Quotes(NamedTuple):
    """One chain a second: all arrays (N, n), in the units of ``option_quote``; a bid below 1 means there is none."""

    bid: Array
    ask: Array
    mark_e9: Array
    forward_e9: Array


def list_chain(underlying: str, spot: float, strike_step: int, start_ns: int, variance: float) -> Chain:
    """Options around ``spot``: strikes spread with sqrt(variance T), on multiples of ``strike_step``.

    Args:
        underlying: e.g. ``BTC``.
        spot, strike_step: in USD; the lowest strike must lie above zero.
        start_ns: listing date; expiries are at 08:00 UTC, so many days after its midnight.
        variance: long-run variance per year.
    """
    names: list[str] = []
    rows: list[tuple[int, int, bool]] = []
    for days in EXPIRY_DAYS:
        expiry_ns = (start_ns // DAY_NS + days) * DAY_NS + EXPIRY_HOUR_NS
        for strike in _strikes(spot, strike_step, math.sqrt(variance * days * DAY_NS / YEAR_NS)):
            for is_call in (True, False):
                names.append(f"sim:{underlying}-{_date(expiry_ns)}-{strike}-{'C' if is_call else 'P'}")
                rows.append((expiry_ns, strike, is_call))
    expiry, strikes, calls = zip(*rows, strict=True)
    return Chain(
        names,
        np.array(expiry, dtype=np.int64),
        np.array(strikes, dtype=np.float64),
        np.array(calls, dtype=np.bool_),
    )


def _strikes(spot: float, step: int, deviation: float) -> list[int]:
    """Strikes from low to high, no two the same."""
    wanted = spot * np.exp(np.linspace(-REACH, REACH, STRIKES) * deviation)
    rank = np.arange(STRIKES)
    steps = np.maximum.accumulate(np.rint(wanted / step).astype(np.int64) - rank) + rank
    strikes: list[int] = (steps * step).tolist()
    return strikes


def _date(ts_ns: int) -> str:
    """As venues write it, whatever the locale: 4FEB26."""
    day = datetime.fromtimestamp(ts_ns // NANO, UTC)
    return f"{day.day}{MONTHS[day.month - 1]}{day.year % 100:02d}"


def atm_total_variance(variance: Array, long_run: float, years: Array) -> Array:
    """theta(T), dimensionless; ``variance`` and ``long_run`` per year."""
    reverted = -np.expm1(-REVERSION_PER_YEAR * years) / REVERSION_PER_YEAR
    return long_run * years + (variance - long_run) * reverted


def total_variance(moneyness: Array, theta: Array, rho: Array) -> Array:
    """w(k, theta) of the SSVI surface, dimensionless."""
    x = moneyness * ETA / (theta**GAMMA * (1.0 + theta) ** (1.0 - GAMMA))
    surface: Array = 0.5 * theta * (1.0 + rho * x + np.sqrt((x + rho) ** 2 + 1.0 - rho * rho))
    return surface


def skew(variance: Array, calm: float, stormy: float) -> Array:
    """rho: between its two ends, linear in the log of the variance."""
    share = np.clip(np.log(variance / calm) / np.log(stormy / calm), 0.0, 1.0)
    rho: Array = RHO_CALM + (RHO_STORMY - RHO_CALM) * share
    return rho


def quote_chains(chain: Chain, opening: Array, ts_event: Array, variances: tuple[float, float, float]) -> Quotes:
    """Quote the whole chain N times.

    Args:
        chain: n options.
        opening: what is known when each second begins, (N, simulated_market.OPENING).
        ts_event: of each chain, (N,).
        variances: per year: of calm, of stormy, and in the long run.
    """
    spot_N1, variance_N1, width_N1 = (opening[:, [column]] for column in (O_PRICE, O_VARIANCE, O_WIDTH))
    years_Nn = (chain.expiry_ns - ts_event[:, np.newaxis]) / YEAR_NS
    forward_Nn = spot_N1 * np.exp(CARRY * years_Nn)
    moneyness_Nn = np.log(chain.strike / forward_Nn)
    theta_Nn = atm_total_variance(variance_N1, variances[2], years_Nn)
    deviation_Nn = np.sqrt(total_variance(moneyness_Nn, theta_Nn, skew(variance_N1, *variances[:2])))
    d1_Nn = 0.5 * deviation_Nn - moneyness_Nn / deviation_Nn
    mark_Nn = _coin_price(moneyness_Nn, d1_Nn, deviation_Nn, chain.is_call)
    vega_Nn = np.exp(-0.5 * d1_Nn * d1_Nn) * np.sqrt(years_Nn / (2.0 * math.pi))
    half_Nn = np.maximum(width_N1 * vega_Nn, MIN_HALF_SPREAD)
    increment = PRICE_INCREMENT_E9 / NANO
    return Quotes(
        bid=np.floor((mark_Nn - half_Nn) / increment).astype(np.int64),
        ask=np.ceil((mark_Nn + half_Nn) / increment).astype(np.int64),
        mark_e9=np.rint(mark_Nn * NANO).astype(np.int64),
        forward_e9=np.rint(forward_Nn * NANO).astype(np.int64),
    )


def _coin_price(moneyness: Array, d1: Array, deviation: Array, is_call: Array) -> Array:
    """Black-76 over the forward: N(d1) - e^k N(d1 - s) for a call, with the signs of both turned for a put."""
    sign = np.where(is_call, 1.0, -1.0)
    price: Array = sign * (ndtr(sign * d1) - np.exp(moneyness) * ndtr(sign * (d1 - deviation)))
    return price

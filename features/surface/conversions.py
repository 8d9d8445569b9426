r"""Between the units of volatility, strikes, prices and deltas: each defined once, here.

With volatility s, time to expiry T in years of 365 days, forward F, strike K, discount factor D and undiscounted price
V: total variance w = s^2 T, log-moneyness k = log(K / F), coin price v = V / F, discounted price D V. A delta comes in
three conventions (Wystup 2017, FX Options and Structured Products, sec. 1.1); phi is 1 for a call and -1 for a put:

- forward: dV / dF = phi N(phi d1)
- discounted: D dV / dF; with the discount factor of the underlying (dividends, or interest of the coin) in place of D
  it is the spot delta
- inverse, or premium-adjusted, of options that are paid and settled in coin: dV / dF - V / F = phi (K / F) N(phi d2),
  which is also d(V / F) / d log(F)

Functions broadcast arrays. What is unknown or impossible is NaN.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfcx, log_ndtr, ndtri

from features.surface.black import YEAR_NS, FloatArray

DAYS_PER_YEAR: Final = 365

_NEWTON_STEPS: Final = 64
"""More than are ever taken: each halves the distance at least, and doubles the right digits near a simple root."""
_CONVERGED: Final = 1e-15
_SQRT_HALF: Final = 0.7071067811865476
_SQRT_2_OVER_PI: Final = 0.7978845608028654


def _floats(*columns: ArrayLike) -> list[FloatArray]:
    return [np.asarray(column, np.float64) for column in columns]


def _where(known: NDArray[np.bool_], value: FloatArray) -> FloatArray:
    return np.where(known, value, np.nan)


def years_of(days: ArrayLike) -> FloatArray:
    """T = days / 365.

    >>> float(years_of(73))
    0.2
    """
    found: FloatArray = np.asarray(days, np.float64) / DAYS_PER_YEAR
    return found


def years_between(now_ns: ArrayLike, expiry_ns: ArrayLike) -> FloatArray:
    """T from two moments in nanoseconds since 1970 UTC: their exact difference over a year of 365 days.

    >>> float(years_between(1_770_000_000_123_456_789, 1_770_000_000_123_456_789 + 73 * 86_400 * 10**9))
    0.2
    """
    found: FloatArray = (np.asarray(expiry_ns, np.int64) - np.asarray(now_ns, np.int64)) / YEAR_NS
    return found


def total_variance(volatility: ArrayLike, years: ArrayLike) -> FloatArray:
    """w = s^2 T, dimensionless.

    Args:
        volatility: in 1 / sqrt(year), not negative.
        years: to expiry, not negative.

    >>> round(float(total_variance(0.52, 30 / 365)), 7)
    0.0222247
    """
    volatility, years = _floats(volatility, years)
    return _where((volatility >= 0.0) & (years >= 0.0), volatility**2 * years)


def variance_from_days(volatility: ArrayLike, days: ArrayLike) -> FloatArray:
    """w = s^2 days / 365, with days in parts where they are: a second is 1 / 86,400 of one.

    >>> round(float(variance_from_days(0.52, 30)), 7)
    0.0222247
    """
    return total_variance(volatility, years_of(days))


def volatility_of(total_variance: ArrayLike, years: ArrayLike) -> FloatArray:
    """s = sqrt(w / T), in 1 / sqrt(year); NaN without time, when every volatility gives the same.

    >>> float(volatility_of(0.09, 0.25))
    0.6
    """
    variance, years = _floats(total_variance, years)
    known = (variance >= 0.0) & (years > 0.0)
    return _where(known, np.sqrt(np.where(known, variance, 0.0) / np.where(known, years, 1.0)))


def log_moneyness(strike: ArrayLike, forward: ArrayLike) -> FloatArray:
    """k = log(K / F), dimensionless: negative below the forward.

    >>> round(float(log_moneyness(110.0, 100.0)), 6)
    0.09531
    """
    strike, forward = _floats(strike, forward)
    known = (strike > 0.0) & (forward > 0.0)
    return _where(known, np.log(np.where(known, strike, 1.0) / np.where(known, forward, 1.0)))


def strike_of(log_moneyness: ArrayLike, forward: ArrayLike) -> FloatArray:
    """K = F exp(k), in quote currency.

    >>> round(float(strike_of(0.0953101798, 100.0)), 6)
    110.0
    """
    k, forward = _floats(log_moneyness, forward)
    return _where(forward > 0.0, forward * np.exp(k))


def discounted(price: ArrayLike, discount: ArrayLike) -> FloatArray:
    """D V: what an undiscounted price is worth today, in the same currency.

    Args:
        price: not negative.
        discount: D, positive; above 1 where interest is negative.

    >>> float(discounted(8.0, 0.75))
    6.0
    """
    price, discount = _floats(price, discount)
    return _where((price >= 0.0) & (discount > 0.0), price * discount)


def undiscounted(price: ArrayLike, discount: ArrayLike) -> FloatArray:
    """V = price / D, from a price that is paid today.

    >>> float(undiscounted(6.0, 0.75))
    8.0
    """
    price, discount = _floats(price, discount)
    known = (price >= 0.0) & (discount > 0.0)
    return _where(known, price / np.where(known, discount, 1.0))


def coin_price(price: ArrayLike, forward: ArrayLike) -> FloatArray:
    """v = V / F, in coin: what a coin-settled (inverse) option costs.

    >>> float(coin_price(3_250.0, 65_000.0))
    0.05
    """
    price, forward = _floats(price, forward)
    known = (price >= 0.0) & (forward > 0.0)
    return _where(known, price / np.where(known, forward, 1.0))


def quote_price(coin_price: ArrayLike, forward: ArrayLike) -> FloatArray:
    """V = v F, in quote currency, from a price in coin.

    >>> float(quote_price(0.05, 65_000.0))
    3250.0
    """
    coin, forward = _floats(coin_price, forward)
    return _where((coin >= 0.0) & (forward > 0.0), coin * forward)


def discounted_delta(delta: ArrayLike, discount: ArrayLike) -> FloatArray:
    """D delta, from a forward delta.

    >>> float(discounted_delta(-0.5, 0.75))
    -0.375
    """
    delta, discount = _floats(delta, discount)
    return _where(discount > 0.0, delta * discount)


def premium_adjusted_delta(delta: ArrayLike, coin_price: ArrayLike) -> FloatArray:
    """delta - v, from a forward delta and the price in coin; the whole greek is ``inverse_delta``.

    >>> float(premium_adjusted_delta(0.5, 0.125))
    0.375
    """
    delta, coin = _floats(delta, coin_price)
    return _where(coin >= 0.0, delta - coin)


def strike_for_delta(
    delta: ArrayLike, forward: ArrayLike, years: ArrayLike, volatility: ArrayLike, is_call: ArrayLike
) -> FloatArray:
    """Strike whose forward delta is the given one: K = F exp(-phi N^-1(phi delta) s sqrt(T) + s^2 T / 2).

    The volatility is taken as that of the strike which is found; on a smile it is not known before.

    Args:
        delta: between 0 and 1 for calls, -1 and 0 for puts.
        forward: in quote currency.
        years: to expiry, of 365 days.
        volatility: in 1 / sqrt(year).
        is_call: call or put.

    Returns:
        In quote currency; NaN outside those bounds, and without variance, when delta is a step.

    >>> round(float(strike_for_delta(0.25, 100.0, 0.25, 0.4, True)), 4)
    116.7539
    """
    delta, forward, years, volatility = _floats(delta, forward, years, volatility)
    phi = np.where(is_call, 1.0, -1.0)
    variance = total_variance(volatility, years)
    known = (phi * delta > 0.0) & (phi * delta < 1.0) & (variance > 0.0)
    variance = np.where(known, variance, 1.0)
    k = -phi * ndtri(np.where(known, phi * delta, 0.5)) * np.sqrt(variance) + 0.5 * variance
    return strike_of(_where(known, k), forward)


def strike_for_inverse_delta(
    delta: ArrayLike, forward: ArrayLike, years: ArrayLike, volatility: ArrayLike, is_call: ArrayLike
) -> FloatArray:
    """Strike whose inverse (premium-adjusted) delta is the given one: phi (K / F) N(phi d2) = delta, solved for K.

    In k = log(K / F) the logarithm of the left side, k + log N(phi d2), is concave. For puts it rises everywhere: one
    strike. For calls it rises to a maximum and falls: of two strikes the higher one is meant, where
    the delta falls with the strike as a forward delta does (Reiswich and Wystup 2010, A Guide to FX Options Quoting
    Conventions; Wystup 2017). Newton's method comes to such a root from outside without ever passing it, from
    k = log(-delta) for puts and from the strike of the same forward delta for calls; should it meet the maximum, no
    strike has this delta.

    Args:
        delta: positive for calls, negative for puts; those of puts may be below -1.
        forward, years, volatility, is_call: as in :func:`strike_for_delta`.

    Returns:
        In quote currency; NaN where no strike has this delta, and without variance.

    >>> round(float(strike_for_inverse_delta(0.25, 100.0, 0.25, 0.4, True)), 4)
    114.5211
    """
    delta, forward, years, volatility = _floats(delta, forward, years, volatility)
    phi = np.where(is_call, 1.0, -1.0)
    variance = total_variance(volatility, years)
    known = (phi * delta > 0.0) & (phi * delta < np.where(phi > 0.0, 1.0, np.inf)) & (variance > 0.0)
    delta, deviation = np.where(known, phi * delta, 0.5), np.sqrt(np.where(known, variance, 1.0))
    target = np.log(delta)
    at_forward_delta = -ndtri(np.where(phi > 0.0, delta, 0.5)) * deviation + 0.5 * deviation**2
    k = np.where(phi > 0.0, at_forward_delta, target)
    for _ in range(_NEWTON_STEPS):
        d2 = phi * (-k / deviation - 0.5 * deviation)
        log_share = log_ndtr(d2)
        slope = 1.0 - phi * _SQRT_2_OVER_PI / erfcx(-_SQRT_HALF * d2) / deviation  # of n(d2) / N(d2)
        known &= phi * slope < 0.0
        step = (k + log_share - target) / np.where(known, slope, 1.0)
        k = np.where(known, k - step, k)
        if not (known & (np.abs(step) > _CONVERGED * np.maximum(np.abs(k), deviation))).any():
            break
    return strike_of(_where(known, k), forward)

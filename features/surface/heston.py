r"""Heston's stochastic volatility: five numbers for the whole surface, priced by a cosine series.

    dF / F = sqrt(v) dW,   dv = kappa (theta - v) dt + sigma sqrt(v) dZ,   dW dZ = rho dt   (Heston 1993)

The characteristic function of log(F_T / F) is that of Albrecher, Mayer, Schoutens and Tistaert 2007, "The little Heston
trap", whose complex logarithm never jumps. Prices are the series of Fang and Oosterlee 2008, "A novel pricing method
for European options based on Fourier-cosine series expansions", eqs. 11 and 24: of puts, whose payoff is bounded; calls
follow by parity. Its interval comes from the second and fourth cumulants, its length from where the characteristic
function has vanished.
"""

from __future__ import annotations

import cmath
import math
import time
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from features.errors import BadInputError
from features.kernel import kernel
from features.surface.black import FloatArray, black_price, black_vega
from features.surface.cleaning import Points
from features.surface.inversion import implied_volatility_kernel
from features.surface.model import FitReport, SurfaceOf, expiry_fit
from features.surface.sparse import with_prior

Array = np.ndarray[Any, Any]

MAX_TERMS: Final = 32_768
"""Enough but for years at a volatility of variance far beyond its level, whose tails reach a hundred deviations."""
_WIDTH: Final = 14.0
"""Of the interval, in standard deviations of a law with these cumulants, to both sides."""

_FIT_TERMS: Final = 2048
"""Terms while a fit is under way: fewer bias it by basis points where the volatility of variance is large."""

_VANISHED: Final = 1e-17
_LEAST: Final = 1e-8
_SMALL: Final = 1e-3
_DENSITY_ERROR: Final = 1e-12

EVALUATIONS: Final = 60
LOW: Final = (1e-4, 1e-2, 1e-4, 1e-2, -0.995)
HIGH: Final = (16.0, 50.0, 16.0, 20.0, 0.995)
"""Bounds of a fit: v0, kappa, theta, sigma, rho."""


@kernel
def log_characteristic(
    u: float, years: float, v0: float, kappa: float, theta: float, sigma: float, rho: float
) -> complex:
    """log E[exp(i u log(F_T / F))]."""
    beta = kappa - 1j * rho * sigma * u
    turn = 1j * u + u * u
    d = cmath.sqrt(beta * beta + sigma * sigma * turn)
    # (beta - d) / sigma^2 = -turn / (beta + d), which does not cancel where sigma is small; g / sigma^2 likewise.
    level = -turn / (beta + d)
    share = level / (beta + d)
    g = sigma * sigma * share
    fall = cmath.exp(-d * years)
    # log((1 - g fall) / (1 - g)) = log(1 + z)
    z = g * (1.0 - fall) / (1.0 - g)
    if abs(z) < _SMALL:
        ratio = 1.0 - z * (0.5 - z * (1.0 / 3.0 - z * (0.25 - 0.2 * z)))
    else:
        ratio = cmath.log(1.0 + z) / z
    drift = kappa * theta * (level * years - 2.0 * share * (1.0 - fall) / (1.0 - g) * ratio)
    return drift + v0 * level * (1.0 - fall) / (1.0 - g * fall)


@kernel
def _interval(years: float, v0: float, kappa: float, theta: float, sigma: float, rho: float) -> tuple[float, float]:
    """Where the law of log(F_T / F) lies, from its cumulants, which are read off the characteristic function near 0."""
    mean_variance = theta * years + (v0 - theta) * (1.0 - math.exp(-kappa * years)) / kappa
    h = 0.05 / math.sqrt(max(mean_variance, 1e-12))
    one = log_characteristic(h, years, v0, kappa, theta, sigma, rho)
    two = log_characteristic(2.0 * h, years, v0, kappa, theta, sigma, rho)
    # Re log phi(h) = -c2 h^2 / 2 + c4 h^4 / 24
    second = (two.real - 16.0 * one.real) / (6.0 * h * h)
    fourth = max((two.real - 4.0 * one.real) * 2.0 / (h * h * h * h), 0.0)
    centre = one.imag / h
    half = _WIDTH * math.sqrt(abs(second) + math.sqrt(fourth))
    return centre - half, centre + half


@kernel
def _coefficients(
    years: float, v0: float, kappa: float, theta: float, sigma: float, rho: float, most: int, out: Array
) -> tuple[float, float, int]:
    """phi(j pi / (b - a)) exp(-i j pi a / (b - a)) into ``out``; (a, b, terms)."""
    low, high = _interval(years, v0, kappa, theta, sigma, rho)
    terms = 0
    for j in range(most):
        u = j * math.pi / (high - low)
        exponent = log_characteristic(u, years, v0, kappa, theta, sigma, rho)
        if exponent.real < -700.0:
            break
        size = math.exp(exponent.real)
        if j > 8 and size < _VANISHED:
            break
        angle = exponent.imag - u * low
        out[j] = size * complex(math.cos(angle), math.sin(angle))
        terms = j + 1
    return low, high, terms


@kernel
def _put(k: float, low: float, high: float, terms: int, coefficient: Array) -> float:
    """Put of F = 1 and strike e^k: the payoff e^k (1 - e^(x - k))^+ of x = log(F_T / F) over [a, k]."""
    width = high - low
    if k <= low:
        return 0.0
    top = min(k, high)
    strike = math.exp(k)
    total = 0.0
    for j in range(terms):
        u = j * math.pi / width
        # Integrals over [a, top] of cos(u (x - a)) and of e^x cos(u (x - a)).
        angle = u * (top - low)
        sine, cosine = math.sin(angle), math.cos(angle)
        flat = top - low if j == 0 else sine / u
        grown = (math.exp(top) * (cosine + u * sine) - math.exp(low)) / (1.0 + u * u)
        term = coefficient[j].real * (strike * flat - grown)
        total += 0.5 * term if j == 0 else term
    return max(2.0 / width * total, 0.0)


@kernel
def _puts(
    k: Array, years: float, v0: float, kappa: float, theta: float, sigma: float, rho: float, most: int, out: Array
) -> None:
    coefficient = np.empty(most, np.complex128)
    low, high, terms = _coefficients(years, v0, kappa, theta, sigma, rho, most, coefficient)
    for i in range(len(k)):
        out[i] = _put(k[i], low, high, terms, coefficient)


@kernel
def _variances(k: Array, put: Array, years: float, out: Array) -> None:
    """Total variance of puts of F = 1 and strike e^k; by parity from the side that is out of the money."""
    for i in range(len(k)):
        strike = math.exp(k[i])
        volatility = implied_volatility_kernel(put[i], 1.0, strike, years, False)
        out[i] = volatility * volatility * years


def _require_law(v0: float, kappa: float, theta: float, sigma: float, rho: float) -> None:
    if not (v0 >= 0.0 and kappa >= 0.0 and theta >= 0.0 and sigma >= 0.0 and abs(rho) < 1.0):
        given = f"v0 {v0}, kappa {kappa}, theta {theta}, sigma {sigma}, rho {rho}"
        raise BadInputError(
            f"Heston's model has no such parameters: {given}.",
            "v0, kappa, theta and sigma are not negative, and rho lies between -1 and 1.",
        )
    if not v0 + kappa * theta > 0.0:
        raise BadInputError(f"Heston's variance never leaves zero: v0 {v0}, theta {theta}.", "Give a positive one.")


def heston_price(
    forward: ArrayLike,
    strike: ArrayLike,
    years: float,
    is_call: ArrayLike,
    *,
    v0: float,
    kappa: float,
    theta: float,
    sigma: float,
    rho: float,
) -> FloatArray:
    """Undiscounted prices in quote currency of options of one expiry; at or after it their intrinsic value.

    Args:
        forward, strike: in quote currency.
        years: to expiry.
        is_call: call or put.
        v0, theta: variance now and in the long run, 1 / year.
        kappa: mean reversion, 1 / year.
        sigma: volatility of variance, 1 / year.
        rho: correlation.

    Raises:
        BadInputError: a parameter is out of its range: v0, kappa, theta and sigma not negative, |rho| < 1.
    """
    _require_law(v0, kappa, theta, sigma, rho)
    f, strikes, calls = np.broadcast_arrays(np.asarray(forward, float), np.asarray(strike, float), is_call)
    k = np.ascontiguousarray(np.log(strikes / f)).ravel()
    out = np.empty(k.size)
    if years <= 0.0:
        out[:] = np.maximum(np.exp(k) - 1.0, 0.0)
    else:
        # No mean reversion is the limit of a little.
        _puts(k, years, v0, max(kappa, _LEAST), theta, sigma, rho, MAX_TERMS, out)
    puts = out.reshape(k.shape).reshape(f.shape)
    return np.maximum(f * (puts + np.where(calls, 1.0 - strikes / f, 0.0)), 0.0)


@dataclass(frozen=True)
class Heston(SurfaceOf):
    """A surface of five numbers.

    Args:
        v0, kappa, theta, sigma, rho: as in :func:`heston_price`.
        report: how it was fitted.
    """

    v0: float
    kappa: float
    theta: float
    sigma: float
    rho: float
    report: FitReport

    @property
    def parameters(self) -> tuple[float, float, float, float, float]:
        """v0, kappa, theta, sigma, rho."""
        return self.v0, self.kappa, self.theta, self.sigma, self.rho

    def total_variance(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """w(k, T), of the broadcast shape; NaN where a price has no digits left, and for times not positive."""
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        found = np.full(x.shape, np.nan)
        for each in np.unique(t[t > 0.0]):
            at = t == each
            part = np.ascontiguousarray(x[at])
            put, w = np.empty(part.size), np.empty(part.size)
            _puts(part, float(each), *self.parameters, MAX_TERMS, put)
            _variances(part, put, float(each), w)
            found[at] = w
        return found

    def butterfly(self, k: ArrayLike, years: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Durrleman's g = p(k) sqrt(2 pi w) exp(d2^2 / 2) from the density itself, and how exact it is known.

        Differences of a volatility would tell nothing in the wings, where prices lose their digits.
        """
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        w = self.total_variance(x, t)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            d2 = -x / np.sqrt(w) - 0.5 * np.sqrt(w)
            scale = np.sqrt(2.0 * np.pi * w) * np.exp(0.5 * d2 * d2)
            # The density's own rounding is some 1e-14 of its peak, 1 / sqrt(w); that of w moves d2^2 / 2 as well.
            error = _DENSITY_ERROR / np.sqrt(w) * scale
        return self.density(x, t) * scale, np.where(np.isfinite(error), error, np.inf)

    def density(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """Risk-neutral density of log(F_T / F) at k: the cosine series itself (Fang and Oosterlee 2008, eq. 11)."""
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        found = np.full(x.shape, np.nan)
        for each in np.unique(t[t > 0.0]):
            at = t == each
            coefficient = np.empty(MAX_TERMS, np.complex128)
            low, high, terms = _coefficients(float(each), *self.parameters, MAX_TERMS, coefficient)
            u = np.arange(terms) * math.pi / (high - low)
            weight = 2.0 / (high - low) * coefficient[:terms].real
            weight[0] *= 0.5
            inside = (x[at] >= low) & (x[at] <= high)
            found[at] = np.where(inside, np.cos(np.multiply.outer(x[at] - low, u)) @ weight, 0.0)
        return found


def fit_heston(quotes: Points, warm: Heston | None = None) -> Heston:
    """One set of parameters for all expiries, by least squares of prices over vega and half the spread.

    Args:
        quotes: of :func:`features.surface.clean`.
        warm: the last surface, to begin with.
    """
    began = time.perf_counter()
    if not len(quotes.k_Q):
        return Heston(math.nan, math.nan, math.nan, math.nan, math.nan, FitReport("heston", (), 0.0))
    told = with_prior(quotes, warm)
    expiries = range(len(told.expiry_E))
    parts = [slice(int(told.start_F[e]), int(told.start_F[e + 1])) for e in expiries]
    years_Q, k, mid = told.years_Q, told.k_Q, told.mid_Q
    put = black_price(1.0, np.exp(k), years_Q, mid, False)
    scale = 1.0 / (np.maximum(black_vega(1.0, np.exp(k), years_Q, mid), 1e-8) * told.half_spread_Q)
    out = np.empty(len(k))

    def residuals(x: Array) -> Any:
        v0, kappa, theta, sigma, rho = x.tolist()
        for e in expiries:
            _puts(k[parts[e]], float(told.years_E[e]), v0, kappa, theta, sigma, rho, _FIT_TERMS, out[parts[e]])
        return (out - put) * scale

    low, high = np.array(LOW), np.array(HIGH)
    start = _start(quotes) if warm is None else np.array(warm.parameters)
    start = np.clip(start, low * (1.0 + 1e-6) + 1e-9, high - 1e-6)
    found = least_squares(residuals, start, bounds=(low, high), x_scale="jac", max_nfev=EVALUATIONS, xtol=1e-10)
    v0, kappa, theta, sigma, rho = found.x.tolist()
    seconds = time.perf_counter() - began
    unreported = Heston(v0, kappa, theta, sigma, rho, FitReport("heston", (), seconds))
    fits = []
    for e, years in enumerate(quotes.years_E.tolist()):
        own = quotes.k_Q[quotes.start_F[e] : quotes.start_F[e + 1]]
        fits.append(expiry_fit(quotes, e, unreported.implied_volatility(own, years), int(found.nfev)))
    return replace(unreported, report=FitReport("heston", tuple(fits), seconds))


def _start(quotes: Points) -> Array:
    """Variance at the money of the first and last expiry, and middling dynamics."""
    first, last = (
        int(quotes.start_F[e]) + int(np.argmin(np.abs(quotes.k_Q[quotes.start_F[e] : quotes.start_F[e + 1]])))
        for e in (0, len(quotes.expiry_E) - 1)
    )
    return np.array([quotes.mid_Q[first] ** 2, 2.0, quotes.mid_Q[last] ** 2, 1.0, -0.2])

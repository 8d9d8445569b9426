r"""SABR: a smile of three numbers at a given beta.

Hagan, Kumar, Lesniewski and Woodward 2002, "Managing smile risk", with the leading term of Obloj 2008, "Fine-tune your
smile", which Hagan's own lacks away from the money when beta < 1; at beta = 1 the two are one formula:

    s(K) = I0 (1 + I1 T),   I0 = nu x / log((sqrt(1 - 2 rho z + z^2) + z - rho) / (1 - rho)),   x = log(F / K)
    z = (nu / alpha) (F^(1 - beta) - K^(1 - beta)) / (1 - beta)      (nu x / alpha at beta = 1)
    I1 = (1 - beta)^2 alpha^2 / (24 (F K)^(1 - beta)) + rho beta nu alpha / (4 (F K)^((1 - beta) / 2))
         + (2 - 3 rho^2) nu^2 / 24

A smile here is in units of its forward (F = 1, K = e^k), so its alpha is that of F over F^(1 - beta). The expansion
has butterfly arbitrage at low strikes and long times: :func:`features.surface.check_arbitrage` finds it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from features.kernel import kernel
from features.surface.black import FloatArray
from features.surface.cleaning import Points
from features.surface.model import FitReport, SliceSurface, expiry_fit
from features.surface.sparse import with_prior

Array = np.ndarray[Any, Any]

_NEAR: Final = 1e-5
"""|z| below which z / log(...) is taken from its series: the quotient would lose half of the digits."""

_START: Final = (-0.1, 1.0)
"""rho and nu that a fit begins with."""

EVALUATIONS: Final = 200


@kernel
def sabr_volatility_kernel(
    forward: float, strike: float, years: float, alpha: float, beta: float, rho: float, nu: float
) -> float:
    """Implied volatility, 1 / sqrt(year); NaN for what is not positive."""
    if not (forward > 0.0 and strike > 0.0 and years > 0.0 and alpha > 0.0 and -1.0 < rho < 1.0 and nu >= 0.0):
        return math.nan
    x = math.log(forward / strike)
    power = 1.0 - beta
    middle = math.exp(0.5 * power * math.log(forward * strike))
    # (F^p - K^p) / p = 2 (F K)^(p / 2) sinh(p x / 2) / p
    half = 0.5 * power * x
    distance = middle * x * (math.sinh(half) / half if abs(half) > 1e-8 else 1.0 + half * half / 6.0)
    z = nu / alpha * distance
    if abs(z) < _NEAR:
        # z / log(...) = 1 - rho z / 2 + (2 - 3 rho^2) z^2 / 12 + O(z^3)
        ratio = 1.0 - 0.5 * rho * z + (2.0 - 3.0 * rho * rho) * z * z / 12.0
    else:
        root = math.sqrt(1.0 - 2.0 * rho * z + z * z)
        # (root + z - rho) (root - z + rho) = 1 - rho^2: of the two sums the one that does not cancel.
        below = z < rho
        ratio = z / math.log((1.0 + rho) / (root - z + rho) if below else (root + z - rho) / (1.0 - rho))
    # I0 = alpha x / distance * ratio
    leading = alpha * ratio * (x / distance if abs(x) > 1e-12 else 1.0 / middle)
    rest = (
        power * power * alpha * alpha / (24.0 * middle * middle)
        + 0.25 * rho * beta * nu * alpha / middle
        + (2.0 - 3.0 * rho * rho) * nu * nu / 24.0
    )
    return leading * (1.0 + rest * years)


@kernel
def _volatilities(k: Array, years: float, alpha: float, beta: float, rho: float, nu: float, out: Array) -> None:
    for i in range(len(out)):
        out[i] = sabr_volatility_kernel(1.0, math.exp(k[i]), years, alpha, beta, rho, nu)


@dataclass(frozen=True, slots=True)
class SABR:
    """A smile of one expiry, in units of its forward.

    Args:
        years: to expiry.
        alpha, beta, rho, nu: level, backbone, correlation and volatility of volatility (1 / sqrt(year)).
    """

    years: float
    alpha: float
    beta: float
    rho: float
    nu: float

    def implied_volatility(self, k: ArrayLike) -> FloatArray:
        """s(k), of the shape of k."""
        x = np.atleast_1d(np.asarray(k, np.float64))
        out = np.empty(x.size)
        _volatilities(x.ravel(), self.years, self.alpha, self.beta, self.rho, self.nu, out)
        return out.reshape(np.shape(k))

    def total_variance(self, k: ArrayLike) -> FloatArray:
        """w(k), of the shape of k; NaN where the expansion gives no positive volatility."""
        volatility = self.implied_volatility(k)
        return np.where(volatility > 0.0, volatility**2 * self.years, np.nan)


def sabr_volatility(
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    alpha: float,
    beta: float,
    rho: float,
    nu: float,
) -> FloatArray:
    """Implied volatilities, 1 / sqrt(year), of the broadcast shape.

    >>> round(float(sabr_volatility(100.0, 100.0, 1.0, 0.2, 1.0, -0.3, 0.5)), 6)
    0.202325
    """
    f, strikes, t = np.broadcast_arrays(*(np.asarray(each, np.float64) for each in (forward, strike, years)))
    found: FloatArray = np.array(
        [
            sabr_volatility_kernel(*each, alpha, beta, rho, nu)
            for each in zip(f.ravel().tolist(), strikes.ravel().tolist(), t.ravel().tolist(), strict=True)
        ]
    ).reshape(f.shape)
    return found


def fit_sabr(quotes: Points, warm: SliceSurface | None = None, *, beta: float | None = 1.0) -> SliceSurface:
    """A smile an expiry, each by itself, by least squares in volatility, weighed by vega and spread.

    Of few quotes with the help of the others (:mod:`features.surface.sparse`).

    Args:
        quotes: of :func:`features.surface.clean`.
        warm: the last surface, to begin with.
        beta: between 0 and 1; None fits it, too.
    """
    began = time.perf_counter()
    known = {} if warm is None else warm.by_expiry()
    told = with_prior(quotes, warm)
    smiles, fits = [], []
    for e, expiry in enumerate(quotes.expiry_E.tolist()):
        part = slice(int(told.start_F[e]), int(told.start_F[e + 1]))
        before = known.get(expiry)
        smile, evaluations = _fitted(told, e, part, before if isinstance(before, SABR) else None, beta)
        smiles.append(smile)
        k = quotes.k_Q[quotes.start_F[e] : quotes.start_F[e + 1]]
        fits.append(expiry_fit(quotes, e, smile.implied_volatility(k), evaluations))
    report = FitReport("sabr", tuple(fits), time.perf_counter() - began)
    return SliceSurface(quotes.years_E, tuple(smiles), report)


def _fitted(quotes: Points, e: int, part: slice, before: SABR | None, beta: float | None) -> tuple[SABR, int]:
    years, k, mid = float(quotes.years_E[e]), quotes.k_Q[part], quotes.mid_Q[part]
    scale = 1.0 / quotes.half_spread_Q[part]
    nearest = int(np.argmin(np.abs(k)))
    rho, nu = _START if before is None else (before.rho, before.nu)
    start = [float(mid[nearest]) if before is None else before.alpha, rho, nu]
    low, high = [1e-6, -0.999, 1e-6], [20.0, 0.999, 50.0]
    if beta is None:
        start.append(0.9 if before is None else before.beta)
        low.append(0.0)
        high.append(1.0)
    out = np.empty(len(k))

    def residuals(x: Array) -> Any:
        _volatilities(k, years, x[0], x[3] if beta is None else beta, x[1], x[2], out)
        # The expansion turns negative far out at wild parameters: such a smile is as wrong as can be.
        return np.where(np.isfinite(out), out - mid, 1.0) * scale

    start = np.clip(start, np.array(low) + 1e-9, np.array(high) - 1e-9).tolist()
    found = least_squares(residuals, start, bounds=(low, high), x_scale="jac", max_nfev=EVALUATIONS)
    values = found.x.tolist()
    alpha, rho, nu = values[:3]
    return SABR(years, alpha, values[3] if beta is None else beta, rho, nu), int(found.nfev)

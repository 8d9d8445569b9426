"""What every model of the surface gives: total variance at any log-moneyness and time, and how well it was fitted.

k = log(K / F) is log-moneyness, T the time to expiry in years of 365 days, s the implied volatility in 1 / sqrt(year),
w = s^2 T the total variance, which is dimensionless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.surface.cleaning import Points

FloatArray = NDArray[np.float64]

_STEP = 1e-4
"""Of a central difference in log-moneyness: its error and that of the rounding are alike, about 1e-8."""


@dataclass(frozen=True, slots=True)
class ExpiryFit:
    """How one expiry was fitted.

    Args:
        expiry_ns: ns since 1970 UTC.
        years: to expiry.
        quotes: that it was fitted to.
        rmse_bp: root mean square of the model's volatility less that of the mid, in basis points of volatility.
        inside: of the quotes, how many whose bid and ask volatility the model lies between.
        iterations: of the optimiser; of a whole surface's, its share.
    """

    expiry_ns: int
    years: float
    quotes: int
    rmse_bp: float
    inside: int
    iterations: int


@dataclass(frozen=True, slots=True)
class FitReport:
    """How a surface was fitted.

    Args:
        model: its name.
        expiries: by time.
        seconds: that the fit took, without inverting and cleaning the quotes.
    """

    model: str
    expiries: tuple[ExpiryFit, ...]
    seconds: float

    @property
    def quotes(self) -> int:
        """Of all expiries."""
        return sum(each.quotes for each in self.expiries)

    @property
    def rmse_bp(self) -> float:
        """Over all quotes, in basis points of volatility; NaN without any."""
        squares = sum(each.quotes * each.rmse_bp**2 for each in self.expiries)
        return math.sqrt(squares / self.quotes) if self.quotes else math.nan

    @property
    def inside_share(self) -> float:
        """Share of the quotes that the model meets between bid and ask; NaN without any."""
        return sum(each.inside for each in self.expiries) / self.quotes if self.quotes else math.nan


class Smile(Protocol):
    """Total variance of one expiry."""

    def total_variance(self, k: ArrayLike) -> FloatArray:
        """w(k), of the shape of k."""
        ...


class Surface(Protocol):
    """Total variance of all expiries."""

    @property
    def report(self) -> FitReport:
        """How it was fitted."""
        ...

    def total_variance(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """w(k, T), of the broadcast shape; NaN where it is unknown."""
        ...

    def implied_volatility(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """s(k, T) = sqrt(w / T), 1 / sqrt(year)."""
        ...

    def density(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """Risk-neutral density of log(F_T / F) at k, by :func:`log_density`."""
        ...

    def slopes(self, k: ArrayLike, years: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """w with its first two derivatives by k."""
        ...

    @property
    def slope_error(self) -> float:
        """How exact the second derivative is."""
        ...


class SurfaceOf:
    """What follows from a surface's total variance."""

    slope_error: float = 1e-6

    def total_variance(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """w(k, T)."""
        raise NotImplementedError

    def implied_volatility(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """s(k, T) = sqrt(w / T), 1 / sqrt(year)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: FloatArray = np.sqrt(self.total_variance(k, years) / np.asarray(years, np.float64))
        return found

    def density(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """Risk-neutral density of log(F_T / F) at k, by :func:`log_density`."""
        w, first, second = self.slopes(k, years)
        return log_density(np.asarray(k, np.float64), w, first, second)

    def slopes(self, k: ArrayLike, years: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """w with its first two derivatives by k: central differences, unless a model knows better."""
        x = np.asarray(k, np.float64)
        low, w, high = (self.total_variance(x + step, years) for step in (-_STEP, 0.0, _STEP))
        return w, (high - low) / (2.0 * _STEP), (high - 2.0 * w + low) / _STEP**2


@dataclass(frozen=True)
class SliceSurface(SurfaceOf):
    """A smile an expiry; between expiries linear in total variance at fixed log-moneyness.

    Before the first expiry and beyond the last its smile keeps its volatilities: w(k, T) = w(k, T_e) T / T_e.

    Args:
        years_E: times to expiry, increasing.
        smiles_E: one each.
        report: how it was fitted.
    """

    years_E: FloatArray
    smiles_E: tuple[Smile, ...]
    report: FitReport

    def by_expiry(self) -> dict[int, Smile]:
        """The smiles by the time of their expiry, ns since 1970 UTC."""
        return {fit.expiry_ns: smile for fit, smile in zip(self.report.expiries, self.smiles_E, strict=True)}

    def total_variance(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """w(k, T), of the broadcast shape; NaN without any slice and for times that are not positive."""
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        found = np.full(x.shape, np.nan)
        if not len(self.years_E):
            return found
        after = np.clip(np.searchsorted(self.years_E, t, side="left"), 0, len(self.years_E) - 1)
        before = np.clip(np.where(self.years_E[after] > t, after - 1, after), 0, None)
        for e in np.unique(np.concatenate([after.ravel(), before.ravel()])):
            w = self.smiles_E[e].total_variance(x)
            lower, upper = (before == e), (after == e)
            t0, t1 = self.years_E[before], self.years_E[after]
            apart = t1 > t0
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.where(apart, (t - t0) / np.where(apart, t1 - t0, 1.0), 0.0)
            flat = ~apart
            scale = np.where(flat, t / self.years_E[e], 1.0)
            found = np.where(lower & flat, w * scale, found)
            found = np.where(lower & apart, np.where(np.isnan(found), 0.0, found) + (1.0 - share) * w, found)
            found = np.where(upper & apart, np.where(np.isnan(found), 0.0, found) + share * w, found)
        return np.where(t > 0.0, found, np.nan)


def log_density(k: FloatArray, w: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """Density of log(F_T / F) from total variance and its first two derivatives by log-moneyness.

    p(k) = g(k) exp(-d2^2 / 2) / sqrt(2 pi w), with d2 = -k / sqrt(w) - sqrt(w) / 2 and Durrleman's
    g = (1 - k w' / (2 w))^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2 (Gatheral and Jacquier 2014, eq. 2.1 and lemma 2.2).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        d2 = -k / np.sqrt(w) - 0.5 * np.sqrt(w)
        found: FloatArray = durrleman(k, w, first, second) * np.exp(-0.5 * d2 * d2) / np.sqrt(2.0 * np.pi * w)
    return found


def durrleman(k: FloatArray, w: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """g(k) = (1 - k w' / (2 w))^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2; negative where there is a butterfly."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = (1.0 - k * first / (2.0 * w)) ** 2 - 0.25 * first**2 * (1.0 / w + 0.25) + 0.5 * second
    return found


def expiry_fit(points: Points, e: int, volatility: FloatArray, iterations: int) -> ExpiryFit:
    """How volatilities at the points of expiry e meet their quotes."""
    part = slice(int(points.start_F[e]), int(points.start_F[e + 1]))
    rest = volatility - points.mid_Q[part]
    inside = (volatility >= points.bid_Q[part]) & (volatility <= points.ask_Q[part])
    rmse = float(np.sqrt(np.mean(rest**2))) if len(rest) else math.nan
    return ExpiryFit(
        int(points.expiry_E[e]), float(points.years_E[e]), len(rest), 1e4 * rmse, int(inside.sum()), iterations
    )

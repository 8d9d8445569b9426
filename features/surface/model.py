"""What every model of the surface gives: total variance at any log-moneyness and time, and how well it was fitted.

k = log(K / F) is log-moneyness, T the time to expiry in years of 365 days, s the implied volatility in 1 / sqrt(year),
w = s^2 T the total variance, which is dimensionless.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.surface.cleaning import Points

FloatArray = NDArray[np.float64]

_STEP = 1e-4
"""Of a central difference in log-moneyness: its error and that of the rounding are alike, about 1e-8."""
_SHARE = 1e-2
"""Of a standard deviation, which that step is at most: a smile of an hour is narrower than that."""


@dataclass(frozen=True, slots=True)
class ExpiryFit:
    """How one expiry was fitted.

    Args:
        expiry_ns: ns since 1970 UTC.
        years: to expiry.
        quotes: that it was fitted to.
        rmse_bp: root mean square of the model's volatility less that of the mid, in basis points of volatility, over
            the quotes that the model gives a volatility; NaN without any.
        inside: of the quotes, how many whose bid and ask volatility the model lies between.
        iterations: of the optimiser; of a whole surface's, its share.
    """

    expiry_ns: int
    years: float
    quotes: int
    rmse_bp: float
    inside: int
    iterations: int
    unknown: int = 0
    """Quotes where the model has no volatility: its price there has no digits left."""

    @property
    def known(self) -> int:
        """Quotes that the model gives a volatility."""
        return self.quotes - self.unknown


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
        """Over all quotes that the model gives a volatility, in basis points of volatility; NaN without any."""
        known = [each for each in self.expiries if each.known]
        squares = sum(each.known * each.rmse_bp**2 for each in known)
        return math.sqrt(squares / sum(each.known for each in known)) if known else math.nan

    @property
    def unknown(self) -> int:
        """Quotes where the model has no volatility."""
        return sum(each.unknown for each in self.expiries)

    @property
    def inside_share(self) -> float:
        """Share of the quotes that the model meets between bid and ask; NaN without any."""
        return sum(each.inside for each in self.expiries) / self.quotes if self.quotes else math.nan


class Smile(Protocol):
    """Total variance of one expiry."""

    def total_variance(self, k: ArrayLike) -> FloatArray:
        """w(k), of the shape of k."""
        ...


@runtime_checkable
class SmoothSmile(Smile, Protocol):
    """A smile that knows its derivatives, and where it bends."""

    def slopes(self, k: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """w with its first two derivatives by k."""
        ...

    @property
    def bend(self) -> tuple[float, float]:
        """Where it bends, and over what width."""
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

    def butterfly(self, k: ArrayLike, years: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Durrleman's g, and how exact it is known."""
        ...

    def bends(self, years: float) -> FloatArray:
        """Log-moneynesses that a grid might miss: where the smile at that time bends within a narrow width."""
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
        w = self.total_variance(x, years)
        step = difference_step(w)
        low, high = (self.total_variance(x + each, years) for each in (-step, step))
        return w, (high - low) / (2.0 * step), (high - 2.0 * w + low) / step**2

    def butterfly(self, k: ArrayLike, years: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Durrleman's g, and how exact it is known."""
        found = durrleman(np.asarray(k, np.float64), *self.slopes(k, years))
        return found, np.full(found.shape, self.slope_error)

    def bends(self, years: float) -> FloatArray:
        """None, unless a model has some."""
        return np.zeros(0)


def difference_step(w: FloatArray) -> FloatArray:
    """Of central differences of a total variance by log-moneyness."""
    with np.errstate(invalid="ignore"):
        found: FloatArray = np.where(w > 0.0, np.minimum(_STEP, _SHARE * np.sqrt(np.maximum(w, 0.0))), _STEP)
    return found


def about(bend: float, width: float) -> FloatArray:
    """Points about a bend: at it, and from half its width on to both sides, each 1.6 times as far."""
    away = 0.5 * width * 1.6 ** np.arange(20)
    return np.concatenate([bend - away[::-1], [bend], bend + away])


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
        (found,) = self._between(k, years, lambda smile, x: smile.total_variance(x)[np.newaxis])
        return np.asarray(found)

    def slopes(self, k: ArrayLike, years: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """w with its first two derivatives by k: those of the smiles, by central differences where one has none."""
        w, first, second = self._between(k, years, lambda smile, x: np.stack(smile_slopes(smile, x)), rows=3)
        return w, first, second

    def butterfly(self, k: ArrayLike, years: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Durrleman's g, and how exact it is known."""
        found, error = super().butterfly(k, years)
        is_exact = all(isinstance(smile, SmoothSmile) for smile in self.smiles_E)
        return found, np.full(found.shape, 1e-10) if is_exact else error

    def bends(self, years: float) -> FloatArray:
        """Those of the two slices about a time."""
        after = min(int(np.searchsorted(self.years_E, years)), len(self.years_E) - 1)
        near = [self.smiles_E[e] for e in (after - 1, after) if 0 <= e < len(self.smiles_E)]
        return np.concatenate([np.zeros(0), *(about(*smile.bend) for smile in near if isinstance(smile, SmoothSmile))])

    def _between(
        self, k: ArrayLike, years: ArrayLike, of: Callable[[Smile, FloatArray], FloatArray], rows: int = 1
    ) -> FloatArray:
        """What ``of`` says of the smiles, as total variance is interpolated; shape (rows, ...)."""
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        found = np.zeros((rows, *x.shape))
        if not len(self.years_E):
            return np.full(found.shape, np.nan)
        after = np.clip(np.searchsorted(self.years_E, t, side="left"), 0, len(self.years_E) - 1)
        before = np.clip(np.where(self.years_E[after] > t, after - 1, after), 0, None)
        t0, t1 = self.years_E[before], self.years_E[after]
        share = np.where(t1 > t0, (t - t0) / np.where(t1 > t0, t1 - t0, 1.0), 0.0)
        for e in np.unique(np.concatenate([after.ravel(), before.ravel()])):
            flat = (t1 == t0) & (before == e)
            lower, upper = (t1 > t0) & (before == e), (t1 > t0) & (after == e)
            part = flat | lower | upper
            weight = np.where(flat, t / self.years_E[e], np.where(lower, 1.0 - share, share))[part]
            found[:, part] += weight * of(self.smiles_E[e], x[part])
        return np.where(t > 0.0, found, np.nan)


def smile_slopes(smile: Smile, k: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """w of a smile with its first two derivatives by k: its own, or by central differences."""
    if isinstance(smile, SmoothSmile):
        return smile.slopes(k)
    w = smile.total_variance(k)
    step = difference_step(w)
    low, high = smile.total_variance(k - step), smile.total_variance(k + step)
    return w, (high - low) / (2.0 * step), (high - 2.0 * w + low) / step**2


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
    known = rest[np.isfinite(rest)]
    rmse = float(np.sqrt(np.mean(known**2))) if len(known) else math.nan
    expiry, years = int(points.expiry_E[e]), float(points.years_E[e])
    return ExpiryFit(
        expiry, years, len(rest), 1e4 * rmse, int(inside.sum()), iterations, unknown=len(rest) - len(known)
    )

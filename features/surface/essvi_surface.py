"""A fitted eSSVI surface."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from features.kernel import kernel
from features.surface.cleaning import Points, weighed
from features.surface.essvi import essvi_at, essvi_like, essvi_slopes, essvi_variance
from features.surface.essvi_fit import fit_essvi_kernel
from features.surface.model import FitReport, FloatArray, SurfaceOf, expiry_fit

Array = np.ndarray[Any, Any]

PRIOR_WEIGHT: Final = 0.1
"""Of the last surface, against one quote at half its spread."""


@kernel
def _variances(years_E: Array, slice_E3: Array, k: Array, years: Array, out: Array) -> None:
    for i in range(len(out)):
        theta, right, left = essvi_at(years_E, slice_E3, years[i])
        out[i] = essvi_variance(theta, right, left, k[i]) if theta > 0.0 else math.nan


@kernel
def _slopes(years_E: Array, slice_E3: Array, k: Array, years: Array, w: Array, first: Array, second: Array) -> None:
    for i in range(len(w)):
        theta, right, left = essvi_at(years_E, slice_E3, years[i])
        w[i], first[i], second[i] = essvi_slopes(theta, right, left, k[i])


@dataclass(frozen=True)
class ESSVISurface(SurfaceOf):
    """Slices of three numbers each, free of static arbitrage (:mod:`features.surface.essvi`).

    Args:
        years_E: times to expiry, increasing.
        slice_E3: theta, right and left wing of each; shape (E, 3).
        report: how it was fitted.
    """

    years_E: FloatArray
    slice_E3: FloatArray
    report: FitReport

    slope_error = 1e-12

    def total_variance(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """w(k, T), of the broadcast shape; NaN without any slice and for times that are not positive."""
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        out = np.empty(x.size)
        _variances(self.years_E, self.slice_E3, x.flatten(), t.flatten(), out)
        return out.reshape(x.shape)

    def slopes(self, k: ArrayLike, years: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """w with its first two derivatives by k."""
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        w, first, second = np.empty(x.size), np.empty(x.size), np.empty(x.size)
        _slopes(self.years_E, self.slice_E3, x.flatten(), t.flatten(), w, first, second)
        return w.reshape(x.shape), first.reshape(x.shape), second.reshape(x.shape)


def prior_slices(
    expiry_E: Array, years_E: Array, last_expiry_E: Array, last_years_E: Array, last_slice_E3: Array
) -> Array:
    """What the last surface says of some expiries: theta, right, left; NaN without a last surface.

    An expiry that it had keeps its volatilities, whatever time has passed; another is taken from between its
    neighbours, or has the shape of the nearest.
    """
    prior = np.full((len(expiry_E), 3), np.nan)
    if not len(last_expiry_E):
        return prior
    known = {each: e for e, each in enumerate(last_expiry_E.tolist())}
    for e, (expiry, years) in enumerate(zip(expiry_E.tolist(), years_E.tolist(), strict=True)):
        if expiry in known:
            before = known[expiry]
            prior[e] = last_slice_E3[before] * (years / last_years_E[before])
        else:
            prior[e] = essvi_like(last_years_E, last_slice_E3, years)
    return prior


def fit_essvi(quotes: Points, warm: ESSVISurface | None = None, prior_weight: float = PRIOR_WEIGHT) -> ESSVISurface:
    """All expiries together, without static arbitrage.

    Args:
        quotes: of :func:`features.surface.clean`.
        warm: the last surface: where the fit begins, and what slices of few quotes look like.
        prior_weight: of the last surface, against one quote at half its spread.
    """
    began = time.perf_counter()
    w, weight = weighed(quotes)
    slices = np.empty((len(quotes.expiry_E), 3))
    weights = np.full(len(quotes.expiry_E), prior_weight)
    prior = np.full((len(quotes.expiry_E), 3), np.nan)
    if warm is not None:
        last = np.array([fit.expiry_ns for fit in warm.report.expiries], np.int64)
        prior = prior_slices(quotes.expiry_E, quotes.years_E, last, warm.years_E, warm.slice_E3)
    steps = fit_essvi_kernel(quotes.years_E, quotes.start_F, quotes.k_Q, w, weight, prior, weights, slices)
    seconds = time.perf_counter() - began
    fits = []
    for e, years in enumerate(quotes.years_E.tolist()):
        part = slice(int(quotes.start_F[e]), int(quotes.start_F[e + 1]))
        out = np.empty(part.stop - part.start)
        _variances(quotes.years_E, slices, quotes.k_Q[part], np.full(len(out), years), out)
        fits.append(expiry_fit(quotes, e, np.sqrt(out / years), steps // max(len(slices), 1)))
    return ESSVISurface(quotes.years_E, slices, FitReport("essvi", tuple(fits), seconds))

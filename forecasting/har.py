"""The heterogeneous autoregression of log realized variance: one line, and hard to beat.

Arrays carry their shape: N rows, P regressors.

References:
    Corsi 2009, "A simple approximate long-memory model of realized volatility", eq. 7, here in logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.kernel import kernel

Float = NDArray[np.float64]


PRIOR_PERSISTENCE: Final = 0.8
"""Sum of the slopes that are expected before any data, in equal parts."""

PRIOR_DEVIATION: Final = 0.3
"""Standard deviation of each slope around it."""


@dataclass(frozen=True, slots=True, eq=False)
class Har:
    """``log y = coefficients[0] + sum_p coefficients[p] log max(x_p, floor_p) + error``.

    One line for all underlyings (the panel regression of Bollerslev, Hood, Huss and Pedersen 2018).

    Attributes:
        floors: of the regressors, in their unit (P).
        coefficients: intercept first (1 + P).
        smearing: mean of y over exp(log forecast). It turns the forecast of the logarithm into one of the mean
            (Duan 1983), and it is the factor that minimises QLIKE.
    """

    floors: Float
    coefficients: Float
    smearing: float

    def log_forecast(self, x_NP: Float) -> Float:
        """``log_N`` row by row, NaN where a regressor is NaN; before smearing."""
        out: Float = _log_forecast(np.ascontiguousarray(x_NP, dtype=float), self.floors, self.coefficients)
        return out


def fit_har(x_NP: Float, y_N: Float, floors: Float, horizon_bars: int = 1) -> Har:
    """Regress log y on the logarithms, with a normal prior on the slopes: ``slope ~ N(0.8 / P, 0.3^2)``.

    ``slopes = (m/s^2 C + I/d^2)^-1 (m/s^2 c + p/d^2)`` with C and c the covariances of the regressors and with log y,
    s^2 the variance of the error at the prior slopes p, d their deviation, and m = N / horizon_bars: targets overlap,
    so N rows know as much as m. Ten minutes hold but few whole horizons, and least squares would then find slopes of
    -2 that explode in the next regime; over a day the prior is forgotten.

    Args:
        x_NP: regressors, without NaN.
        y_N: realized variance, positive.
        floors: of the regressors.
        horizon_bars: over which y adds up.
    """
    mean_P, mean_y, covariance_PP, covariance_P, variance_y = _moments(
        np.ascontiguousarray(x_NP, dtype=float), np.log(y_N), floors
    )
    p = len(floors)
    prior_P = np.full(p, PRIOR_PERSISTENCE / p)
    error = variance_y - 2.0 * prior_P @ covariance_P + prior_P @ covariance_PP @ prior_P
    # The prior counts as `weight` rows' worth of covariance.
    weight = horizon_bars / len(y_N) * error / PRIOR_DEVIATION**2
    slopes_P = np.linalg.solve(covariance_PP + (weight + 1e-12) * np.eye(p), covariance_P + (weight + 1e-12) * prior_P)
    har = Har(floors, np.append(mean_y - mean_P @ slopes_P, slopes_P), 1.0)
    return Har(floors, har.coefficients, float(np.mean(y_N / np.exp(har.log_forecast(x_NP)))))


@kernel
def _log_forecast(x_NP: Any, floor_P: Any, coefficients: Any) -> Any:
    n, p = x_NP.shape
    out = np.empty(n)
    for i in range(n):
        total = coefficients[0]
        for j in range(p):
            x = x_NP[i, j]
            # A comparison with NaN is false, and a floor must not hide it.
            total += coefficients[1 + j] * math.log(floor_P[j] if x < floor_P[j] else x)
        out[i] = total
    return out


@kernel
def _moments(x_NP: Any, log_y_N: Any, floor_P: Any) -> Any:
    """Means and covariances of the logarithms, summed in the order of the rows so that the fit has one value."""
    n, p = x_NP.shape
    log_x = np.empty((n, p))
    mean_P, mean_y = np.zeros(p), 0.0
    for i in range(n):
        mean_y += log_y_N[i] / n
        for j in range(p):
            log_x[i, j] = math.log(max(x_NP[i, j], floor_P[j]))
            mean_P[j] += log_x[i, j] / n
    covariance_PP, covariance_P, variance_y = np.zeros((p, p)), np.zeros(p), 0.0
    for i in range(n):
        variance_y += (log_y_N[i] - mean_y) ** 2 / n
        for j in range(p):
            centred = log_x[i, j] - mean_P[j]
            covariance_P[j] += centred * (log_y_N[i] - mean_y) / n
            for k in range(p):
                covariance_PP[j, k] += centred * (log_x[i, k] - mean_P[k]) / n
    return mean_P, mean_y, covariance_PP, covariance_P, variance_y

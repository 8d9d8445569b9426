"""The heterogeneous autoregression of log realized variance: one line, and hard to beat.

Arrays carry their shape: N rows, P regressors.

References:
    Corsi 2009, "A simple approximate long-memory model of realized volatility", eq. 7, here in logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.kernel import kernel

Float = NDArray[np.float64]


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


def fit_har(x_NP: Float, y_N: Float, floors: Float) -> Har:
    """Ordinary least squares of log y; y must be positive, and nothing may be NaN.

    Regressors without variation of their own get the smallest coefficients that fit (pseudo-inverse).
    """
    moments = _moments(np.ascontiguousarray(x_NP, dtype=float), np.log(y_N), floors)
    mean_P, mean_y, covariance_PP, covariance_P = moments
    slopes_P = np.linalg.lstsq(covariance_PP, covariance_P, rcond=1e-10)[0]
    coefficients = np.append(mean_y - mean_P @ slopes_P, slopes_P)
    har = Har(floors, coefficients, 1.0)
    return Har(floors, coefficients, float(np.mean(y_N / np.exp(har.log_forecast(x_NP)))))


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
    covariance_PP, covariance_P = np.zeros((p, p)), np.zeros(p)
    for i in range(n):
        for j in range(p):
            centred = log_x[i, j] - mean_P[j]
            covariance_P[j] += centred * (log_y_N[i] - mean_y) / n
            for k in range(p):
                covariance_PP[j, k] += centred * (log_x[i, k] - mean_P[k]) / n
    return mean_P, mean_y, covariance_PP, covariance_P

"""What an underlying's peers say about it: correlations, betas, lead-lag, spillover and dispersion, bar by bar.

Shapes: B bars, U underlyings, C inputs, S series, F features, N bars of a window, oldest first.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from features.declared import cross_asset as declared
from features.errors import ConfigError
from features.feature import window_name
from features.kernel import kernel

Array = np.ndarray[Any, Any]

RETURN, VARIANCE, ATM, SPREAD = range(4)
"""Inputs of a bar, in the order of ``features.declared.cross_asset.INPUTS``."""

OWN_RETURN, PEER_RETURN, OWN_SQUARE, PEER_SQUARE, OWN_CHANGE, PEER_CHANGE = range(6)
"""Series that are remembered an underlying; the changes are those of at-the-money volatility."""

SERIES: Final = 6


class Moments(NamedTuple):
    """Of two series over a window, about their means: ``xx = sum (x_i - x)^2``, and ``yy`` and ``xy`` likewise.

    ``xx`` and ``xy`` are exactly zero where x rests (the rounding of its mean would otherwise pass for a movement),
    and NaN where a value is not finite.
    """

    mean_x: float
    mean_y: float
    xx: float
    yy: float
    xy: float


class Windows(NamedTuple):
    """Lengths in bars: ``returns`` those of correlation and beta; ``lags`` the furthest lag of ``lead_lag``."""

    returns: Array
    atm: int
    lead_lag: int
    spillover: int
    lags: int


class History(NamedTuple):
    """What the windows remember.

    ``ring_UST`` holds each value twice, T = 2N: at its place and N further, so that the last n <= N bars are always
    one piece, oldest first, and every sum runs over them in that order wherever the ring stands. ``place`` (1,) is
    where the next bar goes; ``atm_2U`` the own and the peers' atm_iv_30d of the bar before. Unknown values are NaN.
    """

    ring_UST: Array
    place: Array
    atm_2U: Array


def empty_history(underlyings: int, bars: int) -> History:
    """A history of ``bars`` unknown bars."""
    ring_UST = np.full((underlyings, SERIES, 2 * bars), math.nan)
    return History(ring_UST, np.zeros(1, np.int64), np.full((2, underlyings), math.nan))


def windows_in_bars(interval_ns: int) -> tuple[Windows, int]:
    """The windows of the cross-asset features, and the longest of them.

    Raises:
        ConfigError: the interval does not divide each of them.
    """
    spans = (*declared.RETURN_NS, declared.ATM_NS, declared.LEAD_LAG_NS, declared.SPILLOVER_NS)
    for window_ns in spans:
        if interval_ns <= 0 or window_ns % interval_ns:
            raise ConfigError(
                f"A bar of {interval_ns} ns does not divide the window of {window_name(window_ns)}.",
                "Set `interval_ns` to a divisor of every window, e.g. 1 or 10 seconds.",
            )
    *returns, atm, lead_lag, spillover = (window_ns // interval_ns for window_ns in spans)
    return Windows(np.array(returns), atm, lead_lag, spillover, declared.LAGS), max(spans) // interval_ns


@kernel
def moments(x_N: Any, y_N: Any) -> Any:
    """:class:`Moments` of two series of equal length, in two passes."""
    n = len(x_N)
    mean_x, mean_y = 0.0, 0.0
    x_moves, y_moves = not math.isfinite(x_N[0]), not math.isfinite(y_N[0])
    for i in range(n):
        mean_x += x_N[i]
        mean_y += y_N[i]
        x_moves |= x_N[i] != x_N[0]
        y_moves |= y_N[i] != y_N[0]
    mean_x /= n
    mean_y /= n
    xx, yy, xy = 0.0, 0.0, 0.0
    for i in range(n):
        dx, dy = x_N[i] - mean_x, y_N[i] - mean_y
        xx += dx * dx
        yy += dy * dy
        xy += dx * dy
    xx, yy, xy = xx if x_moves else 0.0, yy if y_moves else 0.0, xy if x_moves and y_moves else 0.0
    return Moments(mean_x, mean_y, xx, yy, xy)


@kernel
def correlation(about: Any) -> float:
    """Pearson's ``xy / sqrt(xx yy)``, in [-1, 1]; NaN if a value is unknown or either side rests."""
    if not (about.xx > 0.0 and about.yy > 0.0):
        return math.nan
    value: float = about.xy / (math.sqrt(about.xx) * math.sqrt(about.yy))
    return min(max(value, -1.0), 1.0)  # rounding may carry a perfect one beyond 1


@kernel
def beta(about: Any) -> float:
    """Slope ``xy / xx`` of y on x; NaN if a value is unknown or x rests. Where only y rests it is zero."""
    slope: float = about.xy / about.xx if about.xx > 0.0 and about.yy >= 0.0 else math.nan
    return slope


@kernel
def cross_correlation(x_N: Any, y_N: Any, about: Any, lag: int) -> float:
    """``sum_{i > lag} (x_{i-lag} - x)(y_i - y) / sqrt(xx yy)``: of y with what x was ``lag`` bars before.

    Means and variances are those of the whole window, so that the lags of a window compare (Box, Jenkins and Reinsel
    2008, sec. 12.1). NaN if a value is unknown, either side rests, or the window has no more than ``lag`` bars.
    """
    n = len(x_N)
    if not (about.xx > 0.0 and about.yy > 0.0 and lag < n):
        return math.nan
    total = 0.0
    for i in range(lag, n):
        total += (x_N[i - lag] - about.mean_x) * (y_N[i] - about.mean_y)
    return total / (math.sqrt(about.xx) * math.sqrt(about.yy))


@kernel
def lead_lag(x_N: Any, y_N: Any, lags: int) -> float:
    """Cross-correlations with x ahead by 1 .. ``lags`` bars less those with y ahead: positive when x leads.

    Antisymmetric, and about zero where neither leads. NaN as for :func:`cross_correlation`.
    """
    about = moments(x_N, y_N)
    turned = Moments(about.mean_y, about.mean_x, about.yy, about.xx, about.xy)
    total = 0.0
    for lag in range(1, lags + 1):
        total += cross_correlation(x_N, y_N, about, lag) - cross_correlation(y_N, x_N, turned, lag)
    return total


@kernel
def peer_mean(value_U: Any, own: int) -> float:
    """Mean of all but ``own``, in the order of the underlyings; NaN if one is unknown or there is no other."""
    total = 0.0
    for u in range(len(value_U)):
        if u != own:
            total += value_U[u]
    return total / (len(value_U) - 1) if len(value_U) > 1 else math.nan


@kernel
def dispersion(value_U: Any) -> float:
    """``sqrt(sum_u (v_u - v)^2 / (U - 1))``; NaN if one is not finite, or there is one only."""
    return math.sqrt(moments(value_U, value_U).xx / (len(value_U) - 1)) if len(value_U) > 1 else math.nan


@kernel
def remember(history: Any, input_UC: Any) -> None:
    """Append a bar of inputs to the history; a row of NaN is a bar that some underlying never had."""
    ring_UST, size = history.ring_UST, history.ring_UST.shape[2] // 2
    square_U = input_UC[:, RETURN] * input_UC[:, RETURN]
    for u in range(len(input_UC)):
        own_atm, peer_atm = input_UC[u, ATM], peer_mean(input_UC[:, ATM], u)
        peer_return, peer_square = peer_mean(input_UC[:, RETURN], u), peer_mean(square_U, u)
        for at in (history.place[0], history.place[0] + size):
            ring_UST[u, OWN_RETURN, at] = input_UC[u, RETURN]
            ring_UST[u, PEER_RETURN, at] = peer_return
            ring_UST[u, OWN_SQUARE, at] = square_U[u]
            ring_UST[u, PEER_SQUARE, at] = peer_square
            ring_UST[u, OWN_CHANGE, at] = own_atm - history.atm_2U[0, u]
            ring_UST[u, PEER_CHANGE, at] = peer_atm - history.atm_2U[1, u]
        history.atm_2U[0, u], history.atm_2U[1, u] = own_atm, peer_atm
    history.place[0] = (history.place[0] + 1) % size


@kernel
def window(history: Any, own: int, series: int, bars: int) -> Any:
    """The last ``bars`` values of a series, oldest first."""
    end = history.place[0] + history.ring_UST.shape[2] // 2
    return history.ring_UST[own, series, end - bars : end]


@kernel
def close_bars(history: Any, windows: Any, missing_B: Any, input_BUC: Any) -> Any:
    """Append bars and return ``out_BUF``, F in the order of ``features.declared.cross_asset.FEATURES``.

    Args:
        history: changed in place.
        windows: lengths of the windows.
        missing_B: bars that never came before each; they count as unknown.
        input_BUC: columns of the feature rows; NaN where null.
    """
    bars, underlyings, inputs = input_BUC.shape
    out_BUF = np.full((bars, underlyings, 9 + 2 * len(windows.returns)), math.nan)
    unknown_UC = np.full((underlyings, inputs), math.nan)
    for b in range(bars):
        for _ in range(missing_B[b]):
            remember(history, unknown_UC)
        remember(history, input_BUC[b])
        out_BUF[b, :, -2] = dispersion(input_BUC[b, :, RETURN])
        out_BUF[b, :, -1] = dispersion(np.log(input_BUC[b, :, SPREAD]))
        for u in range(underlyings):
            _fill(out_BUF[b, u], history, windows, input_BUC[b], u)
    return out_BUF


@kernel
def _fill(out_F: Any, history: Any, windows: Any, input_UC: Any, u: int) -> None:
    out_F[0] = peer_mean(input_UC[:, RETURN], u)
    out_F[1] = peer_mean(input_UC[:, VARIANCE], u)
    out_F[2] = peer_mean(input_UC[:, ATM], u)
    f = 3
    for bars in windows.returns:
        about = moments(window(history, u, PEER_RETURN, bars), window(history, u, OWN_RETURN, bars))
        out_F[f] = correlation(about)
        out_F[f + 1] = beta(about)
        f += 2
    about = moments(window(history, u, PEER_CHANGE, windows.atm), window(history, u, OWN_CHANGE, windows.atm))
    out_F[f] = correlation(about)
    out_F[f + 1] = beta(about)
    bars = windows.lead_lag
    out_F[f + 2] = lead_lag(window(history, u, PEER_RETURN, bars), window(history, u, OWN_RETURN, bars), windows.lags)
    peer_square = window(history, u, PEER_SQUARE, windows.spillover)
    own_square = window(history, u, OWN_SQUARE, windows.spillover)
    out_F[f + 3] = cross_correlation(peer_square, own_square, moments(peer_square, own_square), 1)

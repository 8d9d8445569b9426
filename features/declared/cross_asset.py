"""Features across underlyings: an underlying's reference instrument seen beside those of the others, its peers.

Notation: n bars fill the window, oldest first; r_i is the underlying's own log_return and p_i the peers' mean one;
v_i and w_i are the changes, from the bar before, of the own atm_iv_30d and of the peers' mean one; a letter without
index is the mean over the window. Of two underlyings, each is the other's only peer; a single one has none, and
everything here is null. A mean over peers is null when one of them is: which peers happen to be known must not move it.
"""

from __future__ import annotations

from typing import Final

from features.feature import MINUTE, Feature, window_name

RETURN: Final = "log_return"
VARIANCE: Final = f"realized_variance_{window_name(MINUTE)}"
ATM: Final = "atm_iv_30d"
SPREAD: Final = "spread_bps"
INPUTS: Final = (RETURN, VARIANCE, ATM, SPREAD)
"""Columns of the feature rows that everything here is computed from."""

RETURN_NS: Final = (MINUTE, 5 * MINUTE)
"""Windows of correlation and beta of returns."""

ATM_NS: Final = 5 * MINUTE
LEAD_LAG_NS: Final = 5 * MINUTE
SPILLOVER_NS: Final = 5 * MINUTE

LAGS: Final = 5
"""Bars by which one side may lead the other."""

NO_PEER: Final = "there is no peer"
ANY_PEER: Final = f"{NO_PEER}, or the value of one of them is null"
ANY_RETURN: Final = f"{NO_PEER}; a bar of the window is missing for one underlying, or a log_return in it is null"
ANY_ATM: Final = (
    f"{NO_PEER}; a bar of the window or the bar before it is missing for one underlying, or an atm_iv_30d in it is null"
)

_KERNELS: Final = "features.cross_asset"
_CORRELATION: Final = "sum (x_i - x)(y_i - y) / sqrt(sum (x_i - x)^2 sum (y_i - y)^2)"
_BETA: Final = "sum (x_i - x)(y_i - y) / sum (x_i - x)^2"
_EPPS: Final = "Epps 1979, Comovements in stock prices in the very short run"
_MARKET_MODEL: Final = "Campbell, Lo and MacKinlay 1997, The Econometrics of Financial Markets, sec. 4.3.2"
_DISPERSION: Final = "Christie and Huang 1995, Following the pied piper: the cross-sectional standard deviation"


def _peer(column: str, unit: str, name: str, window_ns: int) -> Feature:
    return Feature(
        name, unit, f"mean of the peers' {column}", ANY_PEER, (column,), f"{_KERNELS}.peer_mean", window_ns=window_ns
    )


def _returns_over(window_ns: int) -> tuple[Feature, ...]:
    window = window_name(window_ns)
    return (
        Feature(
            f"correlation_{window}",
            "1",
            f"{_CORRELATION}, x = p and y = r",
            f"{ANY_RETURN}; or either side does not vary",
            (RETURN,),
            f"{_KERNELS}.correlation",
            _EPPS,
            window_ns,
        ),
        Feature(
            f"beta_{window}",
            "1",
            f"{_BETA}, x = p and y = r: the slope of the own return on the peers'",
            f"{ANY_RETURN}; or the peers' return does not vary",
            (RETURN,),
            f"{_KERNELS}.beta",
            _MARKET_MODEL,
            window_ns,
        ),
    )


FEATURES: Final[tuple[Feature, ...]] = (
    _peer(RETURN, "1", "peer_return", 0),
    _peer(VARIANCE, "1", f"peer_{VARIANCE}", MINUTE),
    _peer(ATM, "1 / sqrt(year)", f"peer_{ATM}", 0),
    *(feature for window_ns in RETURN_NS for feature in _returns_over(window_ns)),
    Feature(
        f"atm_correlation_{window_name(ATM_NS)}",
        "1",
        f"{_CORRELATION}, x = w and y = v",
        f"{ANY_ATM}; or either side does not vary",
        (ATM,),
        f"{_KERNELS}.correlation",
        window_ns=ATM_NS,
    ),
    Feature(
        f"atm_beta_{window_name(ATM_NS)}",
        "1",
        f"{_BETA}, x = w and y = v: the slope of the own change on the peers'",
        f"{ANY_ATM}; or the peers' change does not vary",
        (ATM,),
        f"{_KERNELS}.beta",
        _MARKET_MODEL,
        ATM_NS,
    ),
    Feature(
        f"lead_lag_{window_name(LEAD_LAG_NS)}",
        "1",
        f"sum_{{l=1..{LAGS}}} sum_{{i=l+1..n}} [(p_{{i-l}} - p)(r_i - r) - (r_{{i-l}} - r)(p_i - p)] / "
        "sqrt(sum (p_i - p)^2 sum (r_i - r)^2): the sample cross-correlations with the peers ahead less those with the "
        "peers behind; positive when the peers lead",
        f"{ANY_RETURN}; or either side does not vary; or the window has no more than {LAGS} bars",
        (RETURN,),
        f"{_KERNELS}.lead_lag",
        "Huth and Abergel 2014, High frequency lead/lag relationships: their lead/lag ratio with the squares left out "
        "and a difference for the ratio, which is noise where nobody leads; the sample cross-correlation as in Box, "
        "Jenkins and Reinsel 2008, Time Series Analysis, sec. 12.1",
        LEAD_LAG_NS,
    ),
    Feature(
        f"volatility_spillover_{window_name(SPILLOVER_NS)}",
        "1",
        "sum_{i=2..n} (x_{i-1} - x)(y_i - y) / sqrt(sum (x_i - x)^2 sum (y_i - y)^2), x = mean of the peers' "
        "log_return^2 and y = r^2: from the peers' variance to the own one of the next bar",
        f"{ANY_RETURN}; or either side's squares do not vary",
        (RETURN,),
        f"{_KERNELS}.cross_correlation",
        "Cheung and Ng 1996, A causality-in-variance test: their sample cross-correlation of squares at lag 1, of "
        "returns not standardised by a model",
        SPILLOVER_NS,
    ),
    Feature(
        "return_dispersion",
        "1",
        "sqrt(sum_u (r_u - r)^2 / (U - 1)) over the U underlyings' log_return",
        "there is one underlying only, or the log_return of one is null",
        (RETURN,),
        f"{_KERNELS}.dispersion",
        _DISPERSION,
    ),
    Feature(
        "spread_dispersion",
        "1",
        "sqrt(sum_u (s_u - s)^2 / (U - 1)) over the U underlyings' s = log(spread_bps)",
        "there is one underlying only, or the spread_bps of one is null or zero",
        (SPREAD,),
        f"{_KERNELS}.dispersion",
        f"{_DISPERSION}, of spreads",
    ),
)
"""In the order of the columns of the universe rows, behind those of the feature rows."""

"""Features of one instrument's price: returns and variances of its mid.

Notation: n bars fill the window; r_1 .. r_n are their log_returns, oldest first; O, H, L and C are the first, highest,
lowest and last mid of a bar, O being the last mid of the bar before. A variance is that of the window, not annualised.
"""

from __future__ import annotations

from typing import Final

from features.feature import MINUTE, SECOND, Feature, window_name

ANY_RETURN: Final = "the log_return of a bar of the window is null or missing"
ANY_RANGE: Final = "a bar of the window is missing, or the book was unknown at any time in it"

VARIANCE_NS: Final = (10 * SECOND, MINUTE, 5 * MINUTE)
WINDOW_NS: Final = 5 * MINUTE
SLOW_SCALE_BARS: Final = 5
_W: Final = window_name(WINDOW_NS)


def _windowed(
    name: str,
    unit: str,
    formula: str,
    null_when: str = ANY_RETURN,
    reference: str = "",
    module: str = "realized",
    window_ns: int = WINDOW_NS,
) -> Feature:
    return Feature(
        f"{name}_{window_name(window_ns)}",
        unit,
        formula,
        null_when,
        ("mid",) if module == "ranges" else ("log_return",),
        f"features.{module}.{name}",
        reference,
        window_ns=window_ns,
    )


FEATURES: Final[tuple[Feature, ...]] = (
    Feature(
        "log_return",
        "1",
        "log(C / O): mid over the mid of the bar before",
        "either mid is null; or the increments changed",
        ("mid",),
        "features.bar_kernels.close_bar",
    ),
    *(
        _windowed(
            "realized_variance",
            "1",
            "sum r_i^2",
            reference="Andersen, Bollerslev, Diebold and Labys 2003, Modeling and forecasting realized volatility",
            window_ns=window,
        )
        for window in VARIANCE_NS
    ),
    _windowed(
        "bipower_variance",
        "1",
        "(pi / 2) (n / (n - 1)) sum |r_i| |r_{i-1}|",
        reference="Barndorff-Nielsen and Shephard 2004, Power and bipower variation",
    ),
    _windowed(
        "jump_share",
        "1",
        "max(0, 1 - bipower_variance / realized_variance)",
        f"{ANY_RETURN}; or all returns are zero",
        "Huang and Tauchen 2005, The relative contribution of jumps to total price variance",
    ),
    _windowed(
        "upside_semivariance",
        "1",
        "sum r_i^2 1{r_i > 0}",
        reference="Barndorff-Nielsen, Kinnebrock and Shephard 2010, Measuring downside risk",
    ),
    _windowed(
        "downside_semivariance",
        "1",
        "sum r_i^2 1{r_i < 0}",
        reference="Barndorff-Nielsen, Kinnebrock and Shephard 2010",
    ),
    _windowed(
        "two_scale_variance",
        "1",
        "(A - (k / n) sum r_i^2) / (1 - k / n) with A = (1/K) sum_{i=K..n} (r_{i-K+1} + .. + r_i)^2, "
        f"k = (n - K + 1) / K and K = {SLOW_SCALE_BARS} bars; may be negative where noise exceeds the signal",
        f"{ANY_RETURN}; or the window has fewer than {2 * SLOW_SCALE_BARS} bars",
        "Zhang, Mykland and Ait-Sahalia 2005, A tale of two time scales, eqs. 55 and 64",
    ),
    _windowed(
        "parkinson_variance",
        "1",
        "sum log(H / L)^2 / (4 log 2)",
        ANY_RANGE,
        "Parkinson 1980, The extreme value method for estimating the variance of the rate of return",
        "ranges",
    ),
    _windowed(
        "garman_klass_variance",
        "1",
        "sum log(H / L)^2 / 2 - (2 log 2 - 1) log(C / O)^2",
        ANY_RANGE,
        "Garman and Klass 1980, On the estimation of security price volatilities from historical data, eq. 20",
        "ranges",
    ),
    _windowed(
        "return_autocorrelation",
        "1",
        "sum_{i=2..n} (r_i - r)(r_{i-1} - r) / sum_{i=1..n} (r_i - r)^2 with r the mean",
        f"{ANY_RETURN}; or the returns do not vary",
        "Campbell, Lo and MacKinlay 1997, The Econometrics of Financial Markets, ch. 2",
    ),
    _windowed(
        "drawdown",
        "1",
        "1 - mid / largest mid at the bar ends of the window",
        "the mid of a bar of the window is null or missing",
        module="ranges",
    ),
)

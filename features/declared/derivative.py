"""Features of an instrument's derivatives: its underlying's option chain, and its funding, index and open interest.

They never hold a bar back, so they carry their age. What the option chain says is read off an arbitrage-checked surface
(docs/surface.md), fitted at the end of the bar in which its last quote came, warm from the one before; it stays until
the next one comes. A bid or ask that is not positive is none. A funding row
that is older than the last one is left out; what the last one does not name (index, open interest) is unknown.
"""

from __future__ import annotations

from typing import Final

from features.feature import MINUTE, Feature, window_name
from features.long_variance import HORIZONS_D

SURFACE: Final = "features.surface.streamed_features.surface_features_kernel"
SWAP: Final = "features.surface.streamed_features.variance_swap_level"
FACTORS: Final = "features.surface.principal.principal_scores"
FIT: Final = "features.surface.chain_surface.ChainSurface"
FUNDING: Final = "features.carry.carry_features"

NO_SURFACE: Final = "no quote was ever usable, or quotes come and none was usable for an hour"
ONE_EXPIRY: Final = "no surface, or one of a single expiry"
VOLATILITY: Final = "1 / sqrt(year)"

TENORS_D: Final = (7, 30, 60, 90, 180)
DELTAS: Final = (25, 10)
PREMIUM_NS: Final = 5 * MINUTE
INTEREST_NS: Final = 5 * MINUTE

_FACTOR: Final = {
    "level": "all volatilities alike",
    "slope": "long against short",
    "curvature": "wings against the middle",
}


def _of_surface(name: str, unit: str, formula: str, null_when: str, reference: str = "", by: str = SURFACE) -> Feature:
    return Feature(name, unit, formula, null_when, ("option_quote",), by, reference)


FEATURES: Final[tuple[Feature, ...]] = (
    *(
        _of_surface(
            f"atm_iv_{days}d",
            VOLATILITY,
            f"at-the-forward implied volatility at {days} days, linear in total variance between expiries, flat beyond "
            "the first and the last",
            NO_SURFACE,
            "Gatheral 2006, The Volatility Surface, ch. 3",
        )
        for days in TENORS_D
    ),
    *(
        feature
        for delta in DELTAS
        for feature in (
            _of_surface(
                f"risk_reversal_{delta}d",
                VOLATILITY,
                f"iv({delta}-delta call) - iv({delta}-delta put) at 30 days, forward deltas",
                NO_SURFACE,
                "Wystup 2017, FX Options and Structured Products",
            ),
            _of_surface(
                f"butterfly_{delta}d",
                VOLATILITY,
                f"(iv({delta}-delta call) + iv({delta}-delta put)) / 2 - iv at the forward, at 30 days",
                NO_SURFACE,
                "Wystup 2017",
            ),
        )
    ),
    _of_surface("skew_slope_30d", VOLATILITY, "d iv / dk at k = log(K / F) = 0 and 30 days", NO_SURFACE),
    _of_surface("smile_curvature_30d", VOLATILITY, "d2 iv / dk2 at k = 0 and 30 days", NO_SURFACE),
    _of_surface("term_slope", VOLATILITY, "atm_iv_90d - atm_iv_7d", ONE_EXPIRY),
    _of_surface("term_curvature", VOLATILITY, "atm_iv_30d - (atm_iv_7d + atm_iv_90d) / 2", ONE_EXPIRY),
    _of_surface(
        "forward_iv_30d_90d",
        VOLATILITY,
        "sqrt((90 atm_iv_90d^2 - 30 atm_iv_30d^2) / 60): the volatility that is priced between them",
        f"{ONE_EXPIRY}; or total variance falls between them",
    ),
    *(
        _of_surface(
            f"variance_swap_{days}d",
            VOLATILITY,
            f"sqrt(2 / T int O(K) / K^2 dK) at {days} days, O the surface's out-of-the-money options: what a variance "
            "swap pays for",
            NO_SURFACE,
            "Demeterfi, Derman, Kamal and Zou 1999, More than you ever wanted to know about volatility swaps, eq. 27",
            SWAP,
        )
        for days in HORIZONS_D
    ),
    *(
        _of_surface(
            f"surface_{name}",
            "standard deviations",
            f"score of the surface's principal factor that is most like {what}, with the factors of all earlier "
            "surfaces (half-life a day)",
            "no surface, or fewer than 60 before",
            "Cont and da Fonseca 2002, Dynamics of implied volatility surfaces",
            FACTORS,
        )
        for name, what in _FACTOR.items()
    ),
    _of_surface(
        "surface_residual",
        VOLATILITY,
        "root mean square of the surface's volatility less that of the mid, over the quotes that it was fitted to",
        "no usable quote",
        by=FIT,
    ),
    _of_surface(
        "surface_inside_share",
        "1",
        "share of those quotes that the surface meets between bid and ask",
        "no usable quote",
        by=FIT,
    ),
    _of_surface(
        "surface_arbitrage",
        "count",
        "slices that had to be lowered to stay below the next, and calls that are bid for more than what is worth at "
        "least as much (verticals, butterflies, calendars) costs at the ask",
        "no usable quote",
        "Cohen, Reisinger and Wang 2020, Detecting and repairing arbitrage in traded option prices",
        FIT,
    ),
    _of_surface(
        "option_spread", VOLATILITY, "mean of iv(ask) - iv(bid) over the usable quotes", "no usable quote", by=FIT
    ),
    _of_surface(
        "option_quotes",
        "count",
        "usable quotes: out of the money, two-sided, fresh, not too wide",
        "no quote yet",
        by=FIT,
    ),
    *(
        Feature(
            f"variance_risk_premium_{days}d",
            "1 / year",
            f"variance_swap_{days}d^2 - realized variance of the instrument's last {days} days (hours of squared log "
            "returns of the bars), annualised",
            "no surface; or less than nine tenths of the hours are known",
            ("option_quote", "log_return"),
            "features.long_variance.remember_return",
            "Carr and Wu 2009, Variance risk premiums",
        )
        for days in HORIZONS_D
    ),
    Feature(
        "variance_risk_premium",
        "1 / year",
        f"atm_iv_30d^2 - realized_variance_{window_name(PREMIUM_NS)} of the instrument, annualised",
        "either is null",
        ("option_quote", "log_return"),
        "features.carry.variance_risk_premium",
        "Bollerslev, Tauchen and Zhou 2009, Expected stock returns and variance risk premia",
        window_ns=PREMIUM_NS,
    ),
    Feature(
        "surface_age_s",
        "seconds",
        "bar end - ts_event of the newest option quote that the surface was fitted to",
        "no usable quote yet",
        ("option_quote",),
        FIT,
    ),
    Feature(
        "funding_rate",
        "fraction of notional per 8 hours",
        "last published rate of the instrument",
        "none yet",
        ("funding",),
        FUNDING,
    ),
    Feature(
        "basis_annualised",
        "1 / year",
        "of a perpetual 1095 (mid / index - 1), the premium per 8 hours for a year; of a dated future "
        "log(mid / index) / years to expiry",
        "mid or index is null; or the instrument is neither",
        ("mid", "funding"),
        FUNDING,
        "He, Manela, Ross and von Wachter 2024, Fundamentals of perpetual futures",
    ),
    Feature(
        f"open_interest_change_{window_name(INTEREST_NS)}",
        "1",
        f"log(open interest / open interest {window_name(INTEREST_NS)} of bars before)",
        "either is null",
        ("funding",),
        "features.carry.open_interest_change",
        window_ns=INTEREST_NS,
    ),
    Feature(
        "funding_age_s",
        "seconds",
        "bar end - ts_event of the instrument's last funding row",
        "none yet",
        ("funding",),
        FUNDING,
    ),
)

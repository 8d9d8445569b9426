"""Features of an instrument's derivatives: its underlying's option chain, and its funding, index and open interest.

They never hold a bar back, so they carry their age. What the option chain says is computed at the end of the bar in
which its last quote came, and stays until the next one comes; a bid or ask that is not positive is none. A funding row
that is older than the last one is left out; what the last one does not name (index, open interest) is unknown.
"""

from __future__ import annotations

from typing import Final

from features.feature import MINUTE, Feature, window_name

CHAIN: Final = "features.surface.chain.chain_features"
FUNDING: Final = "features.carry.carry_features"

NO_EXPIRY: Final = "no expiry has usable quotes on both sides of the forward, or one at it"
NO_DELTA: Final = "the strikes do not reach 25 delta"
VOLATILITY: Final = "1 / sqrt(year)"

TENORS_D: Final = (7, 30, 90)
PREMIUM_NS: Final = 5 * MINUTE
INTEREST_NS: Final = 5 * MINUTE

FEATURES: Final[tuple[Feature, ...]] = (
    *(
        Feature(
            f"atm_iv_{days}d",
            VOLATILITY,
            f"at-the-forward implied volatility at {days} days, interpolated in total variance, flat beyond the "
            "first and the last expiry",
            NO_EXPIRY,
            ("option_quote",),
            CHAIN,
            "Gatheral 2006, The Volatility Surface, ch. 3",
        )
        for days in TENORS_D
    ),
    Feature(
        "risk_reversal_25d",
        VOLATILITY,
        "iv(25-delta call) - iv(25-delta put) of the usable expiry nearest to 30 days",
        NO_DELTA,
        ("option_quote",),
        CHAIN,
        "Wystup 2017, FX Options and Structured Products",
    ),
    Feature(
        "butterfly_25d",
        VOLATILITY,
        "(iv(25-delta call) + iv(25-delta put)) / 2 - iv at the forward, of the same expiry: the smile's curvature",
        NO_DELTA,
        ("option_quote",),
        CHAIN,
        "Wystup 2017",
    ),
    Feature(
        "term_slope",
        VOLATILITY,
        "atm_iv_90d - atm_iv_7d",
        "fewer than two usable expiries",
        ("option_quote",),
        CHAIN,
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
        "bar end - ts_event of the last option quote",
        "no quote yet",
        ("option_quote",),
        CHAIN,
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

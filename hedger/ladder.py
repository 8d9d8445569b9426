"""The ladder of DESIGN 7, one leg at a time: what each rung needs and which positions it keeps.

1. ``deep_policy``: the band that the policy puts around the Black delta at ``atm_iv_30d``.
2. ``no_trade_band``: Whalley and Wilmott's band around the Black delta, both at the forecast volatility (at the
   implied one while there is no forecast).
3. ``hold``: no order.
4. ``flatten``: the position is closed, when a person has ordered it.

References:
    Whalley and Wilmott 1997, "An asymptotic analysis of an optimal hedging model for option pricing with transaction
    costs", eq. 4.7.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.errors import ConfigError
from features.surface.black import YEAR_NS
from hedger.decision import Rung
from hedger.inputs import SignalInput
from hedger.policy_inputs import policy_inputs
from hedger.portfolio import OptionPosition
from hedger.valuation import Greeks, expiry_years, options_greeks

Float = NDArray[np.float64]

ATM_IV = "atm_iv_30d"
FORECAST = "forecast_variance"


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderConfig:
    """When to step down, and how wide the second rung's band is.

    Attributes:
        stale_after_s: without a bar for longer than this, by the timer, nothing is traded.
        max_surface_age_s: an implied volatility from older quotes is not used.
        risk_aversion_per_usd: absolute risk aversion of the second rung.
        fee_bps: of the hedge instrument's notional; its cost beside half the spread.
    """

    stale_after_s: float = 10.0
    max_surface_age_s: float = 120.0
    risk_aversion_per_usd: float = 1e-4
    fee_bps: float = 5.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) >= 0.0 or self.risk_aversion_per_usd == 0.0:
                raise ConfigError(f"{name} is {getattr(self, name)}.", "It is at least 0; risk aversion is positive.")

    @property
    def digest(self) -> str:
        """Names these settings in decisions."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stance:
    """What a rung says about one underlying; band and greeks are ``None`` where the rung has none.

    Attributes:
        reasons: why it is not a higher rung.
        black_delta: hedge position of net delta zero, coins.
        lower, upper: hedge positions that are kept, coins.
    """

    rung: Rung
    reasons: tuple[str, ...] = ()
    volatility: float | None = None
    volatility_source: str | None = None
    greeks: Greeks | None = None
    lower: float | None = None
    upper: float | None = None

    @property
    def black_delta(self) -> float | None:
        return None if self.greeks is None else -self.greeks.delta

    def target(self, held: float) -> float:
        """The position nearest to ``held`` that this stance keeps."""
        if self.rung is Rung.FLATTEN:
            return 0.0
        if self.lower is None or self.upper is None:
            return held
        return min(max(held, self.lower), self.upper)


def market_problem(signal: SignalInput, options: Sequence[OptionPosition]) -> str | None:
    """Why no order can be made at all in this market; ``None`` if one can."""
    if not signal.book_valid:
        return "the book is invalid"
    bid, ask = signal.best_bid, signal.best_ask
    if not (positive(bid) and positive(ask) and positive(signal.mid)):
        return "the book has no bid or no ask"
    if bid >= ask:
        return "the book is locked or crossed"
    if any(option.expiry_ns <= signal.bar_ts for option in options):
        return "an option has expired: take it out of the portfolio"
    return None


def policy_problem(signal: SignalInput, config: LadderConfig) -> str | None:
    """Why the deep policy has not what it needs, given a market; ``None`` if it has."""
    if not positive(signal.atm_iv_30d):
        return f"{ATM_IV} is unknown"
    age_s = signal.surface_age_s
    if age_s is None or not 0.0 <= age_s <= config.max_surface_age_s:
        return f"{ATM_IV} is {'of unknown age' if age_s is None else f'{age_s:g} s old'}"
    posterior = (signal.posterior_0, signal.posterior_1, signal.posterior_2)
    if not all(p is not None and 0.0 <= p <= 1.0 for p in posterior):
        return "the regime posterior is unknown"
    return None


def policy_rows(signal: SignalInput, options: Sequence[OptionPosition]) -> Float:
    """``inputs_ND``: the policy's inputs for each option (N), of a signal without a problem."""
    mid = _known(signal.mid)
    half_spread_bps = (_known(signal.best_ask) - _known(signal.best_bid)) / 2.0 / mid * 1e4
    posterior_K = np.array([signal.posterior_0, signal.posterior_1, signal.posterior_2], dtype=np.float64)
    return policy_inputs(
        mid,
        np.array([option.strike for option in options]),
        np.array([expiry_years(option.expiry_ns, signal.bar_ts) for option in options]),
        _known(signal.atm_iv_30d),
        np.array([option.is_call for option in options]),
        posterior_K,
        half_spread_bps,
    )


def deep_policy(
    signal: SignalInput, options: Sequence[OptionPosition], lower_N: Sequence[float], upper_N: Sequence[float]
) -> Stance | str:
    """Rung 1: ``[delta - lower, delta + upper]`` for each short option, mirrored for a long one, and summed.

    Args:
        lower_N, upper_N: offsets >= 0, coins per option; the policy's output for ``policy_rows``.

    Returns:
        The stance, or why there is none.
    """
    below = above = 0.0
    for option, lower, upper in zip(options, lower_N, upper_N, strict=True):
        if not (0.0 <= lower < math.inf and 0.0 <= upper < math.inf):
            return f"the policy's band is [-{lower:g}, +{upper:g}]"
        size = abs(option.quantity)
        below += size * (lower if option.quantity < 0.0 else upper)
        above += size * (upper if option.quantity < 0.0 else lower)
    return _around_delta(Rung.DEEP_POLICY, signal, options, _known(signal.atm_iv_30d), ATM_IV, below, above)


def no_trade_band(signal: SignalInput, options: Sequence[OptionPosition], config: LadderConfig) -> Stance | str:
    """Rung 2: the Black delta at the forecast volatility, give or take :func:`whalley_wilmott_half_width`.

    Returns:
        The stance, or why there is none.
    """
    volatility, source = forecast_volatility(signal), FORECAST
    if volatility is None:
        volatility, source = signal.atm_iv_30d, ATM_IV
    if volatility is None or not positive(volatility):
        return "neither a forecast nor an implied volatility is known"
    mid = _known(signal.mid)
    cost = (_known(signal.best_ask) - _known(signal.best_bid)) / 2.0 / mid + config.fee_bps * 1e-4
    gamma = options_greeks(options, mid, volatility, signal.bar_ts).gamma
    width = whalley_wilmott_half_width(gamma, mid, cost, config.risk_aversion_per_usd)
    return _around_delta(Rung.NO_TRADE_BAND, signal, options, volatility, source, width, width)


def whalley_wilmott_half_width(gamma: float, spot: float, cost: float, risk_aversion_per_usd: float) -> float:
    """``(3 c S Gamma^2 / 2 a)^(1/3)`` (Whalley and Wilmott 1997, eq. 4.7, without discounting), in coins.

    Args:
        gamma: of the whole position, coins per USD.
        spot: USD.
        cost: of a trade, as a fraction of its notional.
        risk_aversion_per_usd: absolute, of exponential utility.

    >>> round(whalley_wilmott_half_width(5e-4, 60_000.0, 5e-4, 1e-4), 4)
    0.4827
    """
    return float(np.cbrt(1.5 * cost * spot * gamma * gamma / risk_aversion_per_usd))


def forecast_volatility(signal: SignalInput) -> float | None:
    """``sqrt(forecast_variance year / forecast_horizon_s)``, in 1 / sqrt(year)."""
    if not (positive(signal.forecast_variance) and positive(signal.forecast_horizon_s)):
        return None
    return math.sqrt(_known(signal.forecast_variance) * (YEAR_NS * 1e-9 / _known(signal.forecast_horizon_s)))


def positive(value: float | None) -> TypeGuard[float]:
    """Whether it is known, finite and positive."""
    return value is not None and 0.0 < value < math.inf


def _around_delta(
    rung: Rung,
    signal: SignalInput,
    options: Sequence[OptionPosition],
    volatility: float,
    source: str,
    below: float,
    above: float,
) -> Stance:
    greeks = options_greeks(options, _known(signal.mid), volatility, signal.bar_ts)
    return Stance(
        rung=rung,
        volatility=volatility,
        volatility_source=source,
        greeks=greeks,
        lower=-greeks.delta - below,
        upper=-greeks.delta + above,
    )


def _known(value: float | None) -> float:
    assert value is not None, "checked by market_problem, policy_problem or positive"
    return value

"""Which quotes of a chain a surface is fitted to, and why the others are not.

Every quote gets one verdict, the first rule in the order of :class:`Rule` that it breaks. What is used are the
out-of-the-money options (calls at K >= F, puts below): an option in the money says by parity what its twin says, with
a wider spread. Quotes are placed by their own forward, at log-moneyness k = log(K / F), because the quotes of a live
chain are not of one moment.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from features.errors import BadInputError
from features.kernel import kernel
from features.surface.black import YEAR_NS
from features.surface.inversion import implied_volatility_kernel

Array = np.ndarray[Any, Any]


MIN_SPREAD: Final = 0.002
"""Narrowest spread (1 / sqrt(year)) that a weight knows: below it a quote is exact for what a surface is for."""


class Rule(IntEnum):
    """Why a quote is left out; each is counted."""

    USED = 0
    NO_STRIKE = 1
    """Its strike is no positive number."""
    EXPIRED = 2
    """No time is left, or next to none (``least_ns``): a tick of its price is then any volatility."""
    NO_FORWARD = 3
    """The forward of its expiry is unknown."""
    STALE = 4
    """It was quoted too long ago."""
    NO_BID = 5
    """Nobody bids: the smallest price that the market would pay is unknown."""
    NO_ASK = 6
    CROSSED = 7
    """The bid is above the ask."""
    IN_THE_MONEY = 8
    BELOW_INTRINSIC = 9
    """A bid or an ask that no volatility gives: at or below intrinsic value, or beyond the price's bound."""
    WIDE = 10
    """Bid and ask say too little: their volatilities are far apart."""
    DUPLICATE = 11
    """Another quote of the same expiry and log-moneyness has a narrower spread, or the same at a lower level."""


(
    _USED,
    _NO_STRIKE,
    _EXPIRED,
    _NO_FORWARD,
    _STALE,
    _NO_BID,
    _NO_ASK,
    _CROSSED,
    _IN_THE_MONEY,
    _BELOW_INTRINSIC,
    _WIDE,
    _DUPLICATE,
) = map(int, Rule)  # as a kernel takes them


class CleaningRules(NamedTuple):
    """Thresholds.

    Args:
        stale_ns: age beyond which a quote is stale.
        wide_share: of the mid volatility, by which bid and ask volatility may differ.
        wide_floor: difference (1 / sqrt(year)) that is never wide.
        least_ns: time to expiry below which an option counts as expired.
    """

    stale_ns: int = 3_600 * 1_000_000_000
    wide_share: float = 0.5
    wide_floor: float = 0.1
    least_ns: int = 60 * 1_000_000_000


class Points(NamedTuple):
    """What is left of a chain, by expiry and within it by log-moneyness. E expiries, Q points.

    Args:
        expiry_E: ns since 1970 UTC.
        years_E: to expiry, of 365 days.
        start_F: points ``start_F[e]`` to ``start_F[e + 1]`` are those of expiry e; F = E + 1.
        k_Q: log-moneyness.
        bid_Q, mid_Q, ask_Q: implied volatilities, 1 / sqrt(year); ``mid_Q`` is that of the mid price.
        row_Q: of the quote in the chain.
        rule_N: verdict on every quote of the chain.
    """

    expiry_E: Array
    years_E: Array
    start_F: Array
    k_Q: Array
    bid_Q: Array
    mid_Q: Array
    ask_Q: Array
    row_Q: Array
    rule_N: Array

    @property
    def years_Q(self) -> Array:  # noqa: N802 (named as the fields are)
        """To expiry, of every point."""
        return np.repeat(self.years_E, np.diff(self.start_F))

    @property
    def half_spread_Q(self) -> Array:  # noqa: N802 (named as the fields are)
        """Half of what lies between bid and ask volatility, and not less than a quote is good for (``MIN_SPREAD``)."""
        half: Array = 0.5 * np.maximum(self.ask_Q - self.bid_Q, MIN_SPREAD)
        return half


@kernel
def _verdict(
    left_ns: int, least_ns: int, strike: float, forward: float, bid: float, ask: float, out_of_the_money: bool,
    age_ns: int, stale_ns: int,
) -> int:  # fmt: skip
    if not 0.0 < strike < math.inf:
        return _NO_STRIKE
    if left_ns < max(least_ns, 1):
        return _EXPIRED
    if not 0.0 < forward < math.inf:
        return _NO_FORWARD
    if age_ns > stale_ns:
        return _STALE
    if not bid > 0.0:
        return _NO_BID
    if not ask > 0.0:
        return _NO_ASK
    if bid > ask:
        return _CROSSED
    return _USED if out_of_the_money else _IN_THE_MONEY


@kernel
def _comes_before(expiry: Array, k: Array, spread: Array, middle: Array, i: int, j: int) -> bool:
    """By expiry, log-moneyness, spread, level and row: a total order; the row tells only equal quotes apart."""
    if expiry[i] != expiry[j]:
        return bool(expiry[i] < expiry[j])
    if k[i] != k[j]:
        return bool(k[i] < k[j])
    if spread[i] != spread[j]:
        return bool(spread[i] < spread[j])
    if middle[i] != middle[j]:
        return bool(middle[i] < middle[j])
    return i < j


@kernel
def _sift_down(expiry: Array, k: Array, spread: Array, middle: Array, order: Array, root: int, end: int) -> None:
    """Let ``order[root]`` sink in the heap ``order[:end]`` until no child comes after it."""
    while 2 * root + 1 < end:
        child = 2 * root + 1
        if child + 1 < end and _comes_before(expiry, k, spread, middle, order[child], order[child + 1]):
            child += 1
        if not _comes_before(expiry, k, spread, middle, order[root], order[child]):
            return
        order[root], order[child] = order[child], order[root]
        root = child


@kernel
def _sort(expiry: Array, k: Array, spread: Array, middle: Array, order: Array) -> None:
    """Heapsort, which compiles in a fraction of the time of a multi-key ``np.argsort``."""
    for root in range(len(order) // 2 - 1, -1, -1):
        _sift_down(expiry, k, spread, middle, order, root, len(order))
    for end in range(len(order) - 1, 0, -1):
        order[0], order[end] = order[end], order[0]
        _sift_down(expiry, k, spread, middle, order, 0, end)


@kernel
def clean_chain(
    expiry_ns: Array, strike: Array, is_call: Array, bid: Array, ask: Array, forward: Array, quoted_ns: Array,
    n: int, now_ns: int, stale_ns: int, wide_share: float, wide_floor: float, least_ns: int,
) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array, Array]:  # fmt: skip
    """The points of a chain and the verdict on every quote, as :class:`Points` has them.

    The order of the quotes does not matter, to the bit, but for which of two equal ones is the duplicate.

    Args:
        expiry_ns, strike, is_call: of option i; int64, float64 in quote currency, bool or uint8; (n,) or longer.
        bid, ask: undiscounted prices in quote currency; NaN or 0 for none.
        forward: of the option's expiry, in quote currency; NaN when unknown.
        quoted_ns: when it was quoted.
        n: how many options there are.
        now_ns: the moment that times to expiry and ages count from.
        stale_ns, wide_share, wide_floor, least_ns: as in :class:`CleaningRules`.
    """
    rule = np.empty(n, np.int8)
    k, spread = np.empty(n), np.empty(n)
    low, middle, high = np.empty(n), np.empty(n), np.empty(n)
    order = np.empty(n, np.int64)
    points = 0
    for i in range(n):
        years = (expiry_ns[i] - now_ns) / YEAR_NS
        call = bool(is_call[i])
        rule[i] = _verdict(
            expiry_ns[i] - now_ns, least_ns, strike[i], forward[i], bid[i], ask[i],
            call == (strike[i] >= forward[i]), now_ns - quoted_ns[i], stale_ns,
        )  # fmt: skip
        if rule[i] != _USED:
            continue
        low[i] = implied_volatility_kernel(bid[i], forward[i], strike[i], years, call)
        high[i] = implied_volatility_kernel(ask[i], forward[i], strike[i], years, call)
        middle[i] = implied_volatility_kernel(0.5 * (bid[i] + ask[i]), forward[i], strike[i], years, call)
        spread[i] = high[i] - low[i]
        if math.isnan(spread[i]):
            rule[i] = _BELOW_INTRINSIC
        elif spread[i] > max(wide_floor, wide_share * middle[i]):
            rule[i] = _WIDE
        else:
            k[i] = math.log(strike[i] / forward[i])
            order[points] = i
            points += 1
    order = order[:points]
    _sort(expiry_ns, k, spread, middle, order)
    kept, expiries = 0, 0
    for at in range(points):
        i = order[at]
        new_expiry = kept == 0 or expiry_ns[i] != expiry_ns[order[kept - 1]]
        if not new_expiry and k[i] == k[order[kept - 1]]:
            rule[i] = _DUPLICATE
            continue
        expiries += new_expiry
        order[kept] = i
        kept += 1
    order = order[:kept]
    expiry_E, years_E = np.empty(expiries, np.int64), np.empty(expiries)
    start_F = np.empty(expiries + 1, np.int64)
    e = -1
    for at in range(kept):
        i = order[at]
        if at == 0 or expiry_ns[i] != expiry_E[e]:
            e += 1
            expiry_E[e], start_F[e] = expiry_ns[i], at
            years_E[e] = (expiry_ns[i] - now_ns) / YEAR_NS
    start_F[expiries] = kept
    return expiry_E, years_E, start_F, k[order], low[order], middle[order], high[order], order, rule


def clean(
    expiry_ns: Array,
    strike: Array,
    is_call: Array,
    bid: Array,
    ask: Array,
    forward: Array,
    quoted_ns: Array,
    now_ns: int,
    rules: CleaningRules = CleaningRules(),
) -> Points:
    """:func:`clean_chain` of whole arrays, named."""
    return Points(
        *clean_chain(expiry_ns, strike, is_call, bid, ask, forward, quoted_ns, len(expiry_ns), now_ns, *rules)
    )


def points_of_volatilities(
    years: ArrayLike,
    k: ArrayLike,
    mid: ArrayLike,
    *,
    bid: ArrayLike | None = None,
    ask: ArrayLike | None = None,
    now_ns: int = 0,
) -> Points:
    """Quotes that are volatilities already, as a fit takes them: nothing is inverted, and no rule but one applies.

    Of two quotes of one time and log-moneyness the one of the narrower spread stays.

    Args:
        years: to expiry, of 365 days.
        k: log-moneyness log(K / F).
        mid, bid, ask: in 1 / sqrt(year); a bid or ask that is left out is the mid. All are broadcast together.
        now_ns: the moment that ``years`` count from, ns since 1970 UTC; it tells one expiry in later quotes again.

    Raises:
        BadInputError: a number is unknown, a time or volatility is not positive, or a mid not between bid and ask.

    >>> points = points_of_volatilities(0.25, [-0.1, 0.0, 0.1], [0.55, 0.5, 0.52])
    >>> points.k_Q.tolist(), points.expiry_E.tolist()
    ([-0.1, 0.0, 0.1], [7884000000000000])
    """
    given = (years, k, mid, mid if bid is None else bid, mid if ask is None else ask)
    t, x, middle, low, high = (np.ravel(each) for each in np.broadcast_arrays(*(np.asarray(g, float) for g in given)))
    good = np.isfinite(x) & (t > 0.0) & (low > 0.0) & (low <= middle) & (middle <= high) & np.isfinite(high + t)
    if not good.all():
        at = int(np.argmin(good))
        raise BadInputError(
            f"Quote {at} is none: years {t[at]}, k {x[at]}, bid {low[at]}, mid {middle[at]}, ask {high[at]}.",
            "Leave out what is unknown: 0 < bid <= mid <= ask and 0 < years.",
        )
    expiry = now_ns + np.rint(t * YEAR_NS).astype(np.int64)
    order = np.lexsort((np.arange(len(x)), middle, high - low, x, expiry))
    same = (np.diff(expiry[order]) == 0) & (np.diff(x[order]) == 0.0)
    kept = order[np.concatenate([np.ones(min(len(x), 1), bool), ~same])]
    rule = np.full(len(x), Rule.DUPLICATE, np.int8)
    rule[kept] = Rule.USED
    expiry_E, counts = np.unique(expiry[kept], return_counts=True)
    start_F = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    years_E = (expiry_E - now_ns) / YEAR_NS
    return Points(expiry_E, years_E, start_F, x[kept], low[kept], middle[kept], high[kept], kept, rule)


def counts_of(points: Points) -> dict[str, int]:
    """How many quotes each rule took, by its name in lower case; rules that took none are left out."""
    found = np.bincount(points.rule_N, minlength=len(Rule))
    return {rule.name.lower(): int(found[rule]) for rule in Rule if found[rule]}


TOLD: Final = 7
"""Points that tell a smile, if they span ``SPAN`` standard deviations and the money."""
SPAN: Final = 1.0


@kernel
def is_short(k: Array, w: Array) -> bool:
    """Whether points are too few or too close together to tell a smile, even the side that they are on.

    Args:
        k, w: log-moneyness, increasing, and total variance.
    """
    if len(k) < TOLD:
        return True
    nearest = 0
    for i in range(len(k)):
        if abs(k[i]) < abs(k[nearest]):
            nearest = i
    return bool(k[-1] - k[0] < SPAN * math.sqrt(w[nearest]))


@kernel
def is_thin(k: Array, w: Array) -> bool:
    """Whether points do not tell a smile: :func:`is_short`, or all on one side of the money."""
    return bool(len(k) == 0 or k[0] > 0.0 or k[-1] < 0.0 or is_short(k, w))


@kernel
def weigh_points(start_F: Array, years_E: Array, bid: Array, mid: Array, ask: Array, w: Array, weight: Array) -> None:
    """Total variance of every point, and its weight in a least-squares fit of total variance, into the last two.

    With w = s^2 T, dw = 2 s T ds: the weight 1 / (2 s T h)^2, where h is half the spread, makes the residual that of
    the volatility in half spreads. A spread in volatility is the price's over vega, so this weighs by both.
    """
    for e in range(len(years_E)):
        for i in range(start_F[e], start_F[e + 1]):
            half = 0.5 * max(ask[i] - bid[i], MIN_SPREAD)
            scale = 1.0 / (2.0 * mid[i] * years_E[e] * half)
            w[i] = mid[i] * mid[i] * years_E[e]
            weight[i] = scale * scale


def weighed(points: Points) -> tuple[Array, Array]:
    """:func:`weigh_points` of all points."""
    w, weight = np.empty(len(points.k_Q)), np.empty(len(points.k_Q))
    weigh_points(points.start_F, points.years_E, points.bid_Q, points.mid_Q, points.ask_Q, w, weight)
    return w, weight

"""Features of one instrument's trades.

Notation: p, q and s are price, size and aggressor (+1 bought, -1 sold, 0 unknown) of a trade, in the order of the log;
m is the mid of the book as the log had it when the trade came; r is the bar's log_return.

A trade of a bar that has closed is late: counted in `late_rows`, and left out of everything. A trade without a positive
price and size, or with a count beyond 2^46 increments, is unusable: nobody knows what it was, so it counts as lost.
"""

from __future__ import annotations

from typing import Final

from features.feature import FLOAT, INTEGER, MINUTE, SECOND, Feature, window_name

LOST: Final = "a trade of the bar was lost or unusable, or the increments changed"
TOO_LARGE: Final = "the sum does not fit into 62 bits"
LOST_IN_WINDOW: Final = "a bar of the window is missing or lost a trade"

INTENSITY_NS: Final = (10 * SECOND, MINUTE)
"""Time constants of the trade intensity."""

IMPACT_NS: Final = 5 * MINUTE
"""Window of Kyle's lambda, Amihud's ratio and Roll's spread, and of what the sizes below are measured by."""

VPIN_BUCKETS: Final = 50
LARGE_TRADE: Final = 10
"""How many times the mean size a large trade has."""

_BAR: Final = "features.trade_flow.trade_features"
_IMPACT: Final = "features.price_impact"
_W: Final = window_name(IMPACT_NS)


def _bar(name: str, unit: str, formula: str, null_when: str = LOST, reference: str = "", dtype: str = FLOAT) -> Feature:
    return Feature(name, unit, formula, null_when, ("trade",), _BAR, reference, dtype=dtype)


FEATURES: Final[tuple[Feature, ...]] = (
    _bar("vwap", "quote currency", "sum(p q) / sum(q)", f"{LOST}; there was none; or {TOO_LARGE}"),
    _bar("volume", "contracts", "sum(q)"),
    _bar(
        "notional",
        "quote currency",
        "sum(p q) contract_size; of an inverse contract, whose size is an amount of quote currency, sum(q) "
        "contract_size",
        f"{LOST}; or {TOO_LARGE}",
    ),
    _bar("trade_count", "1", "number of trades", dtype=INTEGER),
    _bar("signed_volume", "contracts", "sum(s q)"),
    _bar(
        "buy_share",
        "1",
        "sum(q; s = 1) / sum(q; s != 0)",
        f"{LOST}; or there was none with a known aggressor",
    ),
    *(
        Feature(
            f"trade_intensity_{window_name(tau)}",
            "1 / second",
            f"sum over all trades so far of exp(-(t - t_i) / tau) / tau with tau = {window_name(tau)}, t the bar's end "
            "and t_i the trade's stream time",
            f"no trade yet; or {LOST}",
            ("trade",),
            _BAR,
            "Hawkes 1971, Spectra of some self-exciting and mutually exciting point processes, the exponential kernel",
            window_ns=tau,
        )
        for tau in INTENSITY_NS
    ),
    _bar(
        "effective_spread_bps",
        "basis points of mid",
        "2e4 sum(q s (p - m)) / sum(q m) over trades with a known aggressor and a two-sided book",
        f"{LOST}; there was no such trade; or {TOO_LARGE}",
        "Huang and Stoll 1996, Dealer versus auction markets; weighted by value",
    ),
    Feature(
        "large_trade_share",
        "1",
        f"sum(q; q >= {LARGE_TRADE} mean size of the trades of the {_W} of bars before) / sum(q)",
        f"{LOST}; there was none; {LOST_IN_WINDOW}; or the window has no trade",
        ("trade",),
        _BAR,
        window_ns=IMPACT_NS,
    ),
    Feature(
        "vpin",
        "1",
        f"sum |V_buy - V_sell| / sum V over the last {VPIN_BUCKETS} full volume buckets; trades are split among "
        f"buckets; a bucket's size V is fixed when it opens: the volume of the {_W} of closed bars before, divided by "
        f"{VPIN_BUCKETS} and rounded down, at least one increment; a lost trade empties all buckets",
        f"{VPIN_BUCKETS} buckets are not full yet; or {LOST}",
        ("trade",),
        "features.toxicity.vpin",
        "Easley, Lopez de Prado and O'Hara 2012, Flow toxicity and liquidity in a high-frequency world",
        window_ns=IMPACT_NS,
    ),
    Feature(
        f"kyle_lambda_{_W}",
        "basis points per contract",
        "slope of the least-squares fit, with intercept, of 1e4 r on signed_volume over the bars of the window",
        "r or signed_volume of a bar of the window is null; or signed_volume does not vary",
        ("log_return", "signed_volume"),
        f"{_IMPACT}.kyle_lambda",
        "Kyle 1985, Continuous auctions and insider trading; as estimated by Hasbrouck 2009",
        window_ns=IMPACT_NS,
    ),
    Feature(
        f"amihud_{_W}",
        "1 / million of quote currency",
        "1e6 mean(|r| / notional) over the bars of the window that have trades",
        "r or notional of a bar of the window is null; or the window has no trade",
        ("log_return", "notional"),
        f"{_IMPACT}.amihud",
        "Amihud 2002, Illiquidity and stock returns, eq. 1",
        window_ns=IMPACT_NS,
    ),
    Feature(
        f"roll_spread_{_W}",
        "basis points of mid",
        "2e4 sqrt(-cov(d_i, d_{i-1})) / mid, d_i the change from trade i-1 to trade i, over the pairs whose last trade "
        "lies in the window; cov = mean(d_i d_{i-1}) - mean(d_i) mean(d_{i-1}); no change spans a lost trade",
        f"{LOST_IN_WINDOW}; fewer than two pairs; cov > 0; or mid is null",
        ("trade", "mid"),
        f"{_IMPACT}.roll_spread",
        "Roll 1984, A simple implicit measure of the effective bid-ask spread",
        window_ns=IMPACT_NS,
    ),
)

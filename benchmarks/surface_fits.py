"""How well each model of the surface meets recorded chains: in sample, and on the strikes that it was not shown."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from scipy.stats import norm

from benchmarks.deribit_chains import Chain
from features import surface
from features.surface import black_delta, black_price, check_arbitrage, counts_of
from features.surface.arbitrage import ArbitrageReport
from features.surface.black import YEAR_NS
from features.surface.chain_surface import VALUES, ChainSurface
from features.surface.cleaning import Points
from features.surface.held_out import every_other
from pipeline import surface_models

Array = np.ndarray[Any, Any]

MODELS: Final = surface_models.MODELS

BUCKETS_D: Final = ((0, 3), (3, 14), (14, 60), (60, 400))


class Score:
    """Of one model, over many snapshots."""

    def __init__(self) -> None:
        self.squares: dict[tuple[str, int], float] = defaultdict(float)
        self.quotes: Counter[tuple[str, int]] = Counter()
        self.inside = 0
        self.violations: Counter[str] = Counter()
        self.free = 0
        self.unknown = 0
        self.seconds: list[float] = []

    def take(self, sample: str, points: Points, fitted: Any) -> None:
        """Count residuals of a surface at points, by bucket of expiry."""
        years = points.years_Q
        for each in np.unique(years):
            at = years == each
            volatility = fitted.implied_volatility(points.k_Q[at], float(each))
            rest = volatility - points.mid_Q[at]
            known = np.isfinite(rest)
            self.unknown += int(np.sum(~known))
            bucket = next(i for i, (low, high) in enumerate(BUCKETS_D) if low <= each * 365 < high)
            self.squares[sample, bucket] += float(np.sum(rest[known] ** 2))
            self.quotes[sample, bucket] += int(known.sum())
            if sample == "in":
                low, high = points.bid_Q[at], points.ask_Q[at]
                self.inside += int(np.sum((volatility >= low) & (volatility <= high)))

    def check(self, report: ArbitrageReport) -> None:
        """Count what was found in a surface, by the way that finds more."""
        self.free += report.is_free
        for kind, count in surface_models.arbitrage_counts(report).items():
            self.violations[kind] += count

    def rmse_bp(self, sample: str, bucket: int | None = None) -> float:
        """Root mean square residual in basis points of volatility."""
        keys = [key for key in self.quotes if key[0] == sample and bucket in (None, key[1])]
        total = sum(self.quotes[key] for key in keys)
        return 1e4 * math.sqrt(sum(self.squares[key] for key in keys) / total) if total else math.nan

    def result(self) -> dict[str, Any]:
        """As plain data."""
        quotes = sum(count for (sample, _), count in self.quotes.items() if sample == "in")
        return {
            "snapshots": len(self.seconds),
            "in_bp": round(self.rmse_bp("in"), 1),
            "out_bp": round(self.rmse_bp("out"), 1),
            "in_bp_by_bucket": [round(self.rmse_bp("in", i), 1) for i in range(len(BUCKETS_D))],
            "out_bp_by_bucket": [round(self.rmse_bp("out", i), 1) for i in range(len(BUCKETS_D))],
            "inside_share": round(self.inside / max(quotes, 1), 4),
            "free_snapshots": self.free,
            "violations": {kind: count for kind, count in self.violations.items() if count},
            "quotes_without_volatility": self.unknown,
            "ms": {
                "median": round(1e3 * float(np.median(self.seconds)), 3),
                "p99": round(1e3 * float(np.quantile(self.seconds, 0.99)), 3),
            },
        }


def scores(
    chains: Iterable[Chain], models: Iterable[str], say: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Score], Counter[str]]:
    """Every model over the snapshots, warm from the last snapshot of the same coin; ``say`` is told how far it is."""
    found = {name: Score() for name in models}
    rules: Counter[str] = Counter()
    warm: dict[tuple[str, str, str], Any] = {}
    for number, chain in enumerate(chains):
        if number % 20 == 0:
            say(f"snapshot {number}")
        points = chain.points()
        rules.update(counts_of(points))
        shown, hidden = every_other(points)
        for name, score in found.items():
            if not len(points.k_Q):
                continue
            for sample, given in (("in", points), ("out", shown)):
                key = name, chain.coin, sample
                began = time.perf_counter()
                through = warm[key] = getattr(surface, f"fit_{name}")(given, warm.get(key))
                seconds = time.perf_counter() - began
                if sample == "in":
                    score.seconds.append(seconds)
                    score.check(check_arbitrage(through))
                score.take(sample, points if sample == "in" else hidden, through)
    return found, rules


class Track:
    """The stream's surface over the snapshots, beside the venue's mark."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.seconds: list[float] = []
        self._surface: dict[str, ChainSurface] = {}

    def take(self, chain: Chain) -> None:
        """Fit one snapshot."""
        surface = self._surface.setdefault(chain.coin, ChainSurface())
        quoted = np.full(len(chain.strike), chain.now_ns)
        began = time.perf_counter()
        found = surface.update(
            chain.expiry_ns, chain.strike, chain.is_call, chain.bid, chain.ask, chain.forward, quoted, chain.now_ns
        )
        self.seconds.append(time.perf_counter() - began)
        mark = mark_features(chain)
        values = dict(zip(VALUES, found.tolist(), strict=True))
        report = check_arbitrage(surface.surface)
        sizes = [each.size for each in (*report.by_variance, *report.by_price)]
        self.rows.append(
            {"coin": chain.coin, "now_ns": chain.now_ns, **values, **mark, **mid_features(chain), **mark_places(chain)}
            | {"is_free": report.is_free, "largest_violation": max(sizes, default=0.0)}
        )


def mark_features(chain: Chain) -> dict[str, float]:
    """ATM volatility and 25-delta risk reversal at 30 days of the venue's marks."""
    return {f"mark_{name}": value for name, value in _read_off(chain, chain.mark_volatility).items()}


def mid_features(chain: Chain) -> dict[str, float]:
    """The same of the mids of the quotes that are used, without any surface."""
    points, volatility = chain.points(), np.full(len(chain.strike), np.nan)
    volatility[points.row_Q] = points.mid_Q
    return {f"mid_{name}": value for name, value in _read_off(chain, volatility).items()}


def mark_places(chain: Chain) -> dict[str, float]:
    """Where the venue's marks lie between bid (0) and ask (1), of about 25 delta and 14 to 60 days: the medians."""
    years = (chain.expiry_ns - chain.now_ns) / YEAR_NS
    mark = black_price(chain.forward, chain.strike, years, chain.mark_volatility, chain.is_call)
    delta = np.abs(black_delta(chain.forward, chain.strike, years, chain.mark_volatility, chain.is_call))
    of = (delta > 0.15) & (delta < 0.35) & (years > 14 / 365) & (years < 60 / 365) & (chain.ask > chain.bid)
    place = (mark - chain.bid) / np.where(chain.ask > chain.bid, chain.ask - chain.bid, np.nan)
    found = {}
    for name, side in (("call", chain.is_call), ("put", ~chain.is_call)):
        known = place[of & side & np.isfinite(place)]
        found[f"mark_place_25d_{name}"] = float(np.median(known)) if len(known) else math.nan
    return found


def _read_off(chain: Chain, volatility: Array) -> dict[str, float]:
    """ATM volatility and 25-delta risk reversal at 30 days: lines between neighbouring strikes.

    Read at each expiry, and then linear in total variance between the two around 30 days.
    """
    years = (chain.expiry_ns - chain.now_ns) / YEAR_NS
    used = (chain.is_call == (chain.strike >= chain.forward)) & (volatility > 0.0) & (years > 1.0 / 365.0)
    rows: list[tuple[float, float, float, float]] = []
    for each in np.unique(years[used]):
        at = np.flatnonzero(used & (years == each))
        k = np.log(chain.strike[at] / chain.forward[at])
        order = np.argsort(k)
        k, own = k[order], volatility[at][order]
        deviation = own * math.sqrt(each)
        delta = norm.cdf(0.5 * deviation - k / deviation)  # falls in k
        if not delta[-1] < 0.25 < 0.75 < delta[0]:
            continue
        call, put = (float(np.interp(-wanted, -delta, own)) for wanted in (0.25, 0.75))
        rows.append((float(each), float(np.interp(0.0, k, own)), call, put))
    times, *columns = (np.array(column) for column in zip(*rows, strict=True))
    month = 30.0 / 365.0
    atm, call, put = (math.sqrt(float(np.interp(month, times, c**2 * times)) / month) for c in columns)
    return {"atm_iv_30d": atm, "risk_reversal_25d": call - put}

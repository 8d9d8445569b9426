"""The surface of one underlying as its chain is quoted: each fit warm from the last, which is its state.

A slice that loses its quotes stays as it was, for an hour, and pulls ever less (its weight halves every ten minutes):
so a sparse or crossed chain keeps a sane surface, and :attr:`ChainSurface.fitted_ns` says how old it is. The state is a
few numbers an expiry and goes into the checkpoint, so a surface that was restored goes on to the same bits.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from features.events import NANO
from features.kernel import kernel
from features.surface.black import YEAR_NS, black_price_kernel
from features.surface.cleaning import CleaningRules, Points, clean_chain, weigh_points
from features.surface.essvi_fit import fit_essvi_kernel
from features.surface.essvi_surface import PRIOR_WEIGHT, prior_slices
from features.surface.model import ExpiryFit, FitReport, FloatArray, SurfaceOf, about, expiry_fit
from features.surface.principal import NAMES as FACTORS
from features.surface.principal import NODES, STATE, nodes_of, principal_scores
from features.surface.quote_arbitrage import TOLERANCE, count_dear
from features.surface.slices import fit_slices, slice_variance, variance_at
from features.surface.streamed_features import NAMES as SHAPE
from features.surface.streamed_features import surface_features_kernel

Array = np.ndarray[Any, Any]

HALF_LIFE_NS: Final = 600 * NANO
MAX_AGE_NS: Final = 3_600 * NANO
"""A slice without quotes for so long is forgotten."""

QUALITY: Final = ("surface_residual", "surface_inside_share", "surface_arbitrage", "option_spread", "option_quotes")
VALUES: Final = (*SHAPE, *FACTORS, *QUALITY)
"""What :meth:`ChainSurface.update` gives. The shape is known as long as any slice is kept, the rest with quotes now."""

_FACTORS: Final = len(SHAPE)
_QUALITY: Final = _FACTORS + len(FACTORS)


@kernel
def _quality(
    start_F: Array, years_E: Array, k: Array, bid: Array, mid: Array, ask: Array, essvi_E3: Array, svi_E5: Array,
    out: Array,
) -> None:  # fmt: skip
    """Root mean square residual, share inside bid and ask, mean spread and points: :data:`QUALITY` but its third."""
    squares, inside, spread = 0.0, 0, 0.0
    points = len(k)
    for e in range(len(years_E)):
        for i in range(start_F[e], start_F[e + 1]):
            volatility = math.sqrt(max(slice_variance(essvi_E3[e], svi_E5[e], k[i]), 0.0) / years_E[e])
            squares += (volatility - mid[i]) ** 2
            inside += bid[i] <= volatility <= ask[i]
            spread += ask[i] - bid[i]
    if points:
        out[0], out[1], out[3] = math.sqrt(squares / points), inside / points, spread / points
    out[4] = points


@kernel
def _tradable(start_F: Array, years_E: Array, k: Array, bid: Array, ask: Array) -> int:
    """Calls whose bid is above what is worth at least as much costs at the ask."""
    x, call_bid, call_ask = np.exp(k), np.empty(len(k)), np.empty(len(k))
    for e in range(len(years_E)):
        for i in range(start_F[e], start_F[e + 1]):
            call_bid[i] = black_price_kernel(1.0, x[i], years_E[e], bid[i], True)
            call_ask[i] = black_price_kernel(1.0, x[i], years_E[e], ask[i], True)
    return int(count_dear(start_F, x, call_bid, call_ask, TOLERANCE).sum())


@kernel
def _variances(years_E: Array, essvi_E3: Array, svi_E5: Array, k: Array, years: Array, out: Array) -> None:
    for i in range(len(out)):
        out[i] = variance_at(years_E, essvi_E3, svi_E5, k[i], years[i])


@dataclass(frozen=True)
class StreamedSurface(SurfaceOf):
    """What a :class:`ChainSurface` was at a moment, as a surface among others (:mod:`features.surface.slices`).

    Args:
        years_E: times to expiry, increasing.
        essvi_E3, svi_E5: slices of both kinds; NaN in the second where the first stands in.
        report: how it was fitted.
    """

    years_E: FloatArray
    essvi_E3: FloatArray
    svi_E5: FloatArray
    report: FitReport

    def total_variance(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """w(k, T), of the broadcast shape; NaN without any slice and for times that are not positive."""
        x, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        out = np.empty(x.size)
        _variances(self.years_E, self.essvi_E3, self.svi_E5, x.flatten(), t.flatten(), out)
        return out.reshape(x.shape)

    def bends(self, years: float) -> FloatArray:
        """Those of the SVI slices about a time."""
        after = min(int(np.searchsorted(self.years_E, years)), len(self.years_E) - 1)
        near = [self.svi_E5[e] for e in (after - 1, after) if 0 <= e < len(self.years_E)]
        return np.concatenate([np.zeros(0), *(about(each[3], each[4]) for each in near if not np.isnan(each[0]))])


class ChainSurface:
    """The last surface of an underlying, and what it says.

    Args:
        rules: which quotes it is fitted to.
    """

    def __init__(self, rules: CleaningRules = CleaningRules()) -> None:
        self._rules = rules
        self.expiry_E: Array = np.zeros(0, np.int64)
        self.years_E: Array = np.zeros(0)
        self.essvi_E3: Array = np.zeros((0, 3))
        self.svi_E5: Array = np.zeros((0, 5))
        self.fitted_E: Array = np.zeros(0, np.int64)
        """When the newest quote was quoted that each slice was fitted to."""
        self.fitted_ns = -1
        """When the newest quote was quoted that was ever used, also in slices that are forgotten; -1 for none."""
        self.factors: Array = np.zeros(STATE)
        """Of :mod:`features.surface.principal`."""

    def update(
        self,
        expiry_ns: Array,
        strike: Array,
        is_call: Array,
        bid: Array,
        ask: Array,
        forward: Array,
        quoted_ns: Array,
        now_ns: int,
    ) -> Array:
        """Fit the chain as it is quoted now; the features of :data:`VALUES`.

        Args:
            expiry_ns, strike, is_call: of option i; ns since 1970 UTC, quote currency, call or put.
            bid, ask, forward: undiscounted, in quote currency; NaN for none.
            quoted_ns: when each was quoted.
            now_ns: the moment that times to expiry count from.
        """
        quotes = Points(
            *clean_chain(expiry_ns, strike, is_call, bid, ask, forward, quoted_ns, len(expiry_ns), now_ns, *self._rules)
        )
        return self.take(quotes, quoted_ns[quotes.row_Q], now_ns)

    def take(self, quotes: Points, quoted_ns: Array, now_ns: int) -> Array:
        """Fit quotes that are clean; as :meth:`update`.

        Args:
            quotes: of :func:`features.surface.clean`.
            quoted_ns: when each of them was quoted; shape (Q,).
            now_ns: the moment that times to expiry count from.
        """
        k, low, middle, high = quotes.k_Q, quotes.bid_Q, quotes.mid_Q, quotes.ask_Q
        expiry, start, prior, weights, warm = self._prior(quotes.expiry_E, quotes.start_F, now_ns)
        years = (expiry - now_ns) / YEAR_NS
        w, weight = np.empty(len(k)), np.empty(len(k))
        weigh_points(start, years, low, middle, high, w, weight)
        essvi = np.empty((len(expiry), 3))
        fit_essvi_kernel(years, start, k, w, weight, prior, weights, essvi)
        svi = np.full((len(expiry), 5), np.nan)
        bid_w = low**2 * np.repeat(years, np.diff(start))
        lowered = fit_slices(start, k, bid_w, w, weight, essvi, warm, svi)
        fitted = self._fitted_of(expiry)
        for e in np.flatnonzero(np.diff(start)):
            fitted[e] = quoted_ns[start[e] : start[e + 1]].max()
        self.expiry_E, self.years_E, self.essvi_E3, self.svi_E5, self.fitted_E = expiry, years, essvi, svi, fitted
        out = np.full(len(VALUES), np.nan)
        surface_features_kernel(years, essvi, svi, out[:_FACTORS])
        quality = out[_QUALITY:]
        _quality(start, years, k, low, middle, high, essvi, svi, quality)
        if len(k):
            self.fitted_ns = max(self.fitted_ns, int(fitted.max()))
            quality[2] = lowered + _tradable(start, years, k, low, high)
            x = np.empty(NODES)
            nodes_of(years, essvi, svi, x)
            principal_scores(self.factors, x, now_ns, out[_FACTORS:_QUALITY])
        return out

    def begin(self, last: StreamedSurface, now_ns: int) -> None:
        """Go on from a surface as if it had just been fitted."""
        self.expiry_E = np.array([fit.expiry_ns for fit in last.report.expiries], np.int64)
        self.years_E, self.essvi_E3, self.svi_E5 = last.years_E, last.essvi_E3, last.svi_E5
        self.fitted_E = np.full(len(self.expiry_E), now_ns)

    @property
    def surface(self) -> StreamedSurface:
        """As of the last update; its report names the expiries, and how they were fitted was not kept."""
        expiries = zip(self.expiry_E.tolist(), self.years_E.tolist(), strict=True)
        fits = tuple(ExpiryFit(expiry, years, 0, math.nan, 0, 0) for expiry, years in expiries)
        return StreamedSurface(self.years_E, self.essvi_E3, self.svi_E5, FitReport("streamed", fits, math.nan))

    def _fitted_of(self, expiry: Array) -> Array:
        known = dict(zip(self.expiry_E.tolist(), self.fitted_E.tolist(), strict=True))
        return np.array([known.get(each, -1) for each in expiry.tolist()], np.int64)

    def _prior(self, expiry: Array, start: Array, now_ns: int) -> tuple[Array, Array, Array, Array, Array]:
        """The expiries with those that stay without quotes, and what the last surface says of each of them."""
        stay = (self.expiry_E > now_ns) & (now_ns - self.fitted_E <= MAX_AGE_NS) & ~np.isin(self.expiry_E, expiry)
        both = np.union1d(expiry, self.expiry_E[stay])
        counts = np.zeros(len(both), np.int64)
        counts[np.searchsorted(both, expiry)] = np.diff(start)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        years_E = (both - now_ns) / YEAR_NS
        prior = prior_slices(both, years_E, self.expiry_E, self.years_E, self.essvi_E3)
        weights, warm = np.zeros(len(both)), np.full((len(both), 5), np.nan)
        at = {each: e for e, each in enumerate(self.expiry_E.tolist())}
        newest = int(self.fitted_E.max()) if at else 0
        for e, each in enumerate(both.tolist() if at else ()):
            fitted = newest
            if each in at:
                before = at[each]
                # A smile keeps its volatilities as time passes: its variances shrink with it.
                shrunk = years_E[e] / self.years_E[before]
                warm[e] = self.svi_E5[before] * np.array([shrunk, shrunk, 1.0, 1.0, 1.0])
                fitted = int(self.fitted_E[before])
            weights[e] = PRIOR_WEIGHT * 0.5 ** ((now_ns - fitted) / HALF_LIFE_NS)
        return both, starts, prior, weights, warm

    def state(self) -> dict[str, Any]:
        """For the checkpoint: a copy."""
        return {name: np.copy(getattr(self, name)) for name in _ARRAYS} | {"fitted_ns": self.fitted_ns}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        for name in _ARRAYS:
            setattr(self, name, np.copy(state[name]))
        self.fitted_ns = int(state["fitted_ns"])


def fit_streamed(quotes: Points, warm: StreamedSurface | None = None) -> StreamedSurface:
    """The surface that streams, through one chain alone: SVI slices without butterflies, each below the next.

    Args:
        quotes: of :func:`features.surface.clean`.
        warm: the last surface, to begin with, and what slices of few quotes look like.
    """
    began = time.perf_counter()
    stream = ChainSurface()
    if len(quotes.expiry_E):
        now_ns = int(quotes.expiry_E[-1]) - round(float(quotes.years_E[-1]) * YEAR_NS)
        if warm is not None:
            stream.begin(warm, now_ns)
        stream.take(quotes, np.full(len(quotes.k_Q), now_ns), now_ns)
    found = stream.surface
    seconds = time.perf_counter() - began
    fits = []
    for e, expiry in enumerate(quotes.expiry_E.tolist()):
        k = quotes.k_Q[quotes.start_F[e] : quotes.start_F[e + 1]]
        at = int(np.searchsorted(stream.expiry_E, expiry))
        fits.append(expiry_fit(quotes, e, found.implied_volatility(k, float(stream.years_E[at])), 1))
    own = np.isin(stream.expiry_E, quotes.expiry_E)
    slices = found.years_E[own], found.essvi_E3[own], found.svi_E5[own]
    return StreamedSurface(*slices, FitReport("streamed", tuple(fits), seconds))


_ARRAYS: Final = ("expiry_E", "years_E", "essvi_E3", "svi_E5", "fitted_E", "factors")

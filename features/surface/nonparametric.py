r"""A surface without a formula: the smoothest density an expiry that meets the quotes, strictly free of arbitrage.

On a grid of moneyness x_m = K / F, the same for all expiries, every expiry has calls c_m, linear in between, with
c = 1 - x at the first two nodes and 0 at the last two. Convexity with slopes in [-1, 0] excludes butterflies and
verticals at any strike: the changes of slope q_m >= 0 are a law of F_T / F on the nodes, of mean 1. c_later >=
c_earlier at all nodes, between which both are linear, excludes calendars everywhere (Carr and Madan 2005). That is
linear in c; so is the distance to the quotes, and a linear programme (HiGHS) minimises

    sum_i |c(x_i) - mid_i| / (vega_i half_spread_i) + smoothness * roughness

where roughness is the total change of the density's slope, in units of each expiry's own deviation. Volatilities follow
by inverting the calls. Between expiries calls are linear in time at fixed moneyness, which keeps them convex and in
order; before the first they fall to (1 - x)^+, beyond the last they stay.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog
from scipy.sparse import block_array, block_diag, coo_array, csr_array, diags_array, eye_array

from features.errors import BadInputError
from features.surface.black import FloatArray, black_price, black_vega
from features.surface.cleaning import Points
from features.surface.inversion import implied_volatility
from features.surface.model import FitReport, SurfaceOf, expiry_fit
from features.surface.sparse import with_prior

Array = np.ndarray[Any, Any]

NODES: Final = 100
"""Of each expiry; more of them meet quotes that were left out no better, and take longer."""
REACH: Final = 5.0
"""How far the grid goes beyond the money, in deviations of the widest expiry."""

FARTHEST: Final = 6.0
"""Log-moneyness beyond which there are only a few nodes: some four hundred times the forward."""
PATIENCE_S: Final = 5.0
PATIENCE_A_QUOTE_S: Final = 5e-3
"""For one attempt of the solver: what it has not solved by then it will not."""
ATTEMPTS: Final = (("highs-ds", False), ("highs-ipm", True), ("highs-ipm", False))
"""The method, and whether the programme is reduced first. The simplex is the fastest on most chains; where it stalls,
inside points do not, and the other way about."""
ACCURACY: Final = 1e-6
"""Of the solver, in calls over the forward: at its own 1e-7 it may go round in circles."""

SMOOTHNESS: Final = 0.02
"""Of the roughness against one quote missed by half its spread."""


@dataclass(frozen=True, slots=True)
class GridSmile:
    """Calls on a grid, linear between its nodes.

    Args:
        years: to expiry.
        moneyness_M: K / F, increasing.
        call_M: undiscounted, over the forward.
    """

    years: float
    moneyness_M: FloatArray
    call_M: FloatArray

    def total_variance(self, k: ArrayLike) -> FloatArray:
        """w(k), of the shape of k; NaN beyond the grid and where the call has no time value."""
        x = np.exp(np.asarray(k, np.float64))
        call = np.interp(x, self.moneyness_M, self.call_M, left=np.nan, right=np.nan)
        volatility = implied_volatility(call, 1.0, x, self.years, True)
        return volatility**2 * self.years


@dataclass(frozen=True)
class GridSurface(SurfaceOf):
    """Calls on one grid an expiry.

    Args:
        smiles_E: by time.
        report: how it was fitted.
    """

    smiles_E: tuple[GridSmile, ...]
    report: FitReport

    slope_error = math.inf
    """Its density is a sum of points: only its prices say whether there is a butterfly."""

    @property
    def is_free(self) -> bool:
        """Whether its calls are convex with slopes in [-1, 0] and rise with time at every node, but for rounding.

        Between nodes they are linear, so there is then no static arbitrage at any strike.
        """
        earlier: FloatArray | None = None
        for smile in self.smiles_E:
            slope = np.diff(smile.call_M) / np.diff(smile.moneyness_M)
            rounding = 1e-15 / np.diff(smile.moneyness_M)
            if (np.diff(slope) < -rounding[1:] - rounding[:-1]).any():
                return False
            if (slope < -1.0 - rounding).any() or (slope > rounding).any():
                return False
            if earlier is not None and (smile.call_M < earlier - 1e-15).any():
                return False
            earlier = smile.call_M
        return True

    def call(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """Calls over the forward at strike e^k, of the broadcast shape; NaN beyond the grid."""
        k_, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        x = np.exp(k_)
        if not self.smiles_E:
            return np.full(x.shape, np.nan)
        times = np.array([0.0, *(smile.years for smile in self.smiles_E)])
        after = np.clip(np.searchsorted(times, t, side="left"), 1, len(times) - 1)
        share = self._share(times, after, t)
        now = np.maximum(1.0 - x, 0.0)
        later = [np.interp(x, each.moneyness_M, each.call_M, left=np.nan, right=np.nan) for each in self.smiles_E]
        every = np.stack([now, *later])
        before = np.take_along_axis(every, (after - 1)[None], 0)[0]
        found: FloatArray = before + share * (np.take_along_axis(every, after[None], 0)[0] - before)
        return np.where(t > 0.0, found, np.nan)

    def _share(self, times: FloatArray, after: Any, t: FloatArray) -> FloatArray:
        """Of the later expiry: such that at the money total variance is linear in time.

        A call grows like the square root of time, and a share of time itself would let volatility sag in between.
        """
        w = np.array([0.0, *(float(smile.total_variance(0.0)) for smile in self.smiles_E)])
        call = black_price(1.0, 1.0, 1.0, np.sqrt(w), True)
        low, high = times[after - 1], times[after]
        wanted = w[after - 1] + np.clip((t - low) / (high - low), 0.0, 1.0) * (w[after] - w[after - 1])
        gained = call[after] - call[after - 1]
        at = black_price(1.0, 1.0, 1.0, np.sqrt(wanted), True) - call[after - 1]
        return np.clip(np.where(gained > 0.0, at / np.where(gained > 0.0, gained, 1.0), 1.0), 0.0, 1.0)

    def total_variance(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """w(k, T), of the broadcast shape; NaN beyond the grid and where a call has no time value."""
        k_, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        found: FloatArray = implied_volatility(self.call(k_, t), 1.0, np.exp(k_), t, True) ** 2 * t
        return found

    def density(self, k: ArrayLike, years: ArrayLike) -> FloatArray:
        """The law's mass between the middles of neighbouring nodes, over their distance in k."""
        k_, t = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(years, np.float64))
        if not self.smiles_E:
            return np.full(k_.shape, np.nan)
        x = self.smiles_E[0].moneyness_M
        found = np.full(k_.shape, np.nan)
        for each in np.unique(t[t > 0.0]):
            law = _changes_of_slope(x) @ self.call(np.log(x), float(each))
            width = 0.5 * (np.log(x[2:]) - np.log(x[:-2]))
            at = t == each
            found[at] = np.interp(k_[at], np.log(x[1:-1]), np.maximum(law, 0.0) / width, left=0.0, right=0.0)
        return found


def grid_of(quotes: Points, nodes: int = NODES) -> FloatArray:
    """Moneynesses: dense where the shortest expiry lives, sparse as far as the longest goes.

    Where that is beyond all strikes that anybody quotes (``FARTHEST``), a few nodes stand for what is there: the
    solver's numbers would reach from e^-15 to e^15.
    """
    deviation = quotes.mid_Q * np.sqrt(quotes.years_Q)
    narrow, wide = float(deviation.min()), float(deviation.max())
    reach = REACH * wide
    low = min(float(quotes.k_Q.min()), -min(reach, FARTHEST))
    high = max(float(quotes.k_Q.max()), min(reach, FARTHEST))
    scale = 0.5 * narrow
    at = scale * np.sinh(np.linspace(math.asinh(low / scale), math.asinh(high / scale), nodes))
    outer = [sign * each * reach for sign in (-1.0, 1.0) for each in (0.9, 1.0)]
    beyond = [each for each in outer if not low - 0.5 <= each <= high + 0.5]
    return np.unique(np.exp(np.concatenate([at, beyond, [0.0]])))


def fit_nonparametric(
    quotes: Points, warm: GridSurface | None = None, *, smoothness: float = SMOOTHNESS, nodes: int = NODES
) -> GridSurface:
    """All expiries in one linear programme; those of few quotes with the help of :mod:`features.surface.sparse`.

    Args:
        quotes: of :func:`features.surface.clean`.
        warm: not used: a linear programme has one optimum, whatever came before.
        smoothness: weight of the roughness.
        nodes: of the grid.

    Raises:
        BadInputError: the solver gave up.
    """
    began = time.perf_counter()
    if not len(quotes.k_Q):
        return GridSurface((), FitReport("nonparametric", (), 0.0))
    told = with_prior(quotes)
    x = grid_of(told, nodes)
    calls, iterations = _solve(told, x, smoothness)
    smiles = tuple(GridSmile(years, x, call) for years, call in zip(quotes.years_E.tolist(), calls, strict=True))
    seconds = time.perf_counter() - began
    fits = []
    for e, smile in enumerate(smiles):
        k = quotes.k_Q[quotes.start_F[e] : quotes.start_F[e + 1]]
        fits.append(
            expiry_fit(quotes, e, np.sqrt(smile.total_variance(k) / smile.years), -(-iterations // len(smiles)))
        )
    return GridSurface(smiles, FitReport("nonparametric", tuple(fits), seconds))


def _solve(quotes: Points, x: FloatArray, smoothness: float) -> tuple[list[FloatArray], int]:
    """The calls of every expiry, and how many iterations it took.

    The variables are the calls (E x M), the misses (Q), and the changes of the density's slope (E x (M - 4)).
    """
    E, M, Q = len(quotes.expiry_E), len(x), len(quotes.k_Q)
    through, target = _quoted(quotes, x)
    bends = block_diag([_roughness(x, deviation) for deviation in _deviations(quotes)], format="csr")
    # Of the law's mass only the sign counts: over the steps, the solver's numbers are all of one size.
    changes = diags_array([np.minimum(np.diff(x)[:-1], np.diff(x)[1:])], offsets=[0]) @ _changes_of_slope(x)
    convex = block_diag([-changes] * E, format="csr")
    later = diags_array([np.ones(E * M - M), -np.ones(E * M - M)], offsets=[0, M], shape=(E * M - M, E * M))
    upper = block_array(
        [
            [through, -eye_array(Q), None],
            [-through, -eye_array(Q), None],
            [bends, None, -eye_array(bends.shape[0])],
            [-bends, None, -eye_array(bends.shape[0])],
            [convex, None, None],
            [later, None, None],
        ],
        format="csr",
    )
    bound = np.zeros(upper.shape[0])
    bound[:Q], bound[Q : 2 * Q] = target, -target
    cost = np.concatenate([np.zeros(E * M), np.ones(Q), np.full(bends.shape[0], smoothness)])
    low = np.concatenate([np.tile(np.maximum(1.0 - x, 0.0), E), np.zeros(Q + bends.shape[0])])
    high = np.concatenate([np.tile(np.ones(M), E), np.full(Q + bends.shape[0], np.inf)])
    # The law lies within the grid: up to its second node no put is worth anything, from its last but one no call.
    ends = (np.arange(E)[:, None] * M + np.array([0, 1, M - 2, M - 1])).ravel()
    high[ends] = low[ends]
    for method, is_reduced in ATTEMPTS:
        found = linprog(
            cost, A_ub=upper, b_ub=bound, bounds=np.column_stack([low, high]), method=method,
            options={
                "time_limit": PATIENCE_S + PATIENCE_A_QUOTE_S * Q, "presolve": is_reduced,
                "primal_feasibility_tolerance": ACCURACY, "dual_feasibility_tolerance": ACCURACY,
            },
        )  # fmt: skip
        if found.status == 0 and found.x is not None:
            return _exactly_free(found.x[: E * M].reshape(E, M), x), int(found.nit)
    raise BadInputError(
        f"The linear programme of the surface gave up: {found.message}",
        "Repair the quotes first (repair_arbitrage), or fit another model.",
    )


def _quoted(quotes: Points, x: FloatArray) -> tuple[Any, FloatArray]:
    """Rows that take the calls to what they say at the quotes, and the quotes; both over vega and half the spread."""
    M, Q = len(x), len(quotes.k_Q)
    per_expiry = np.diff(quotes.start_F)
    years_Q, expiry_Q = quotes.years_Q, np.repeat(np.arange(len(per_expiry)), per_expiry)
    strike = np.exp(quotes.k_Q)
    scale = 1.0 / np.maximum(black_vega(1.0, strike, years_Q, quotes.mid_Q) * quotes.half_spread_Q, 1e-9)
    at = np.clip(np.searchsorted(x, strike, side="right") - 1, 0, M - 2)
    share = (strike - x[at]) / (x[at + 1] - x[at])
    values = np.concatenate([(1.0 - share) * scale, share * scale])
    columns = np.concatenate([expiry_Q * M + at, expiry_Q * M + at + 1])
    through = coo_array((values, (np.tile(np.arange(Q), 2), columns)), shape=(Q, len(per_expiry) * M)).tocsr()
    return through, black_price(1.0, strike, years_Q, quotes.mid_Q, True) * scale


def _deviations(quotes: Points) -> list[float]:
    """s sqrt(T) of every expiry, about the money."""
    found = []
    for e, years in enumerate(quotes.years_E.tolist()):
        part = slice(int(quotes.start_F[e]), int(quotes.start_F[e + 1]))
        nearest = int(np.argmin(np.abs(quotes.k_Q[part])))
        found.append(float(quotes.mid_Q[part][nearest]) * math.sqrt(years))
    return found


def _changes_of_slope(x: FloatArray) -> Any:
    """Rows that take calls to q_m, m = 1 .. M - 2: the law at the inner nodes."""
    step = 1.0 / np.diff(x)
    M = len(x)
    return diags_array([step[:-1], -(step[:-1] + step[1:]), step[1:]], offsets=[0, 1, 2], shape=(M - 2, M))


def _roughness(x: FloatArray, deviation: float) -> Any:
    """Rows that take calls to the changes of the slope of the density of log(K / F), in units of the deviation.

    The density at a node is q_m x_m over its width in log-moneyness: of the share measure, which is alike on both ends.
    """
    k = np.log(x)
    width = 0.5 * (k[2:] - k[:-2])
    density = diags_array([np.sqrt(x[1:-1]) / width], offsets=[0]) @ _changes_of_slope(x)
    inner = 1.0 / np.diff(k[1:-1])
    M = len(x)
    changes = diags_array([inner[:-1], -(inner[:-1] + inner[1:]), inner[1:]], offsets=[0, 1, 2], shape=(M - 4, M - 2))
    return csr_array(deviation**2 * (changes @ density))


def _exactly_free(calls: FloatArray, x: FloatArray) -> list[FloatArray]:
    """Take the solver's calls, right to ``ACCURACY``, to the nearest that are convex, bounded and in order of time."""
    found: list[FloatArray] = []
    for call in calls:
        slope = np.diff(call) / np.diff(x)
        # Calls fall by one a unit before the first node and by nothing beyond the last: what is left lies at the ends.
        law = np.maximum(np.diff(slope, prepend=-1.0, append=0.0), 0.0)
        law /= law.sum()
        # The mean back to 1, by mass on the two ends of the grid.
        mean = float(law @ x)
        end = -1 if mean < 1.0 else 0
        share = (1.0 - mean) / (x[end] - mean)
        law *= 1.0 - share
        law[end] += share
        exact = np.maximum(x[None, :] - x[:, None], 0.0) @ law
        if found:
            # The larger of two convex functions is convex: in order of time, and still free.
            exact = np.maximum(exact, found[-1])
        found.append(exact)
    return found

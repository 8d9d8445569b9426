"""The surface's speed beside its peers, on the same numbers, which are compared before anything is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks.deribit_chains import RECORDED, chains
from benchmarks.peers import MISSING, peer, run
from features.surface import (
    black_price,
    black_vega,
    check_arbitrage,
    clean,
    fit_essvi,
    fit_heston,
    fit_nonparametric,
    fit_streamed,
    heston_price,
    implied_volatility,
    repair_arbitrage,
    sabr_volatility,
)
from features.surface.chain_surface import ChainSurface
from features.surface.cleaning import Points
from features.surface.quote_arbitrage import check_quotes
from features.surface.svi import grid_ends
from features.surface.svi_fit import FIRMNESS, UNBOUNDED, fit_svi_kernel

Array = np.ndarray[Any, Any]

OPTIONS: Final = 100_000
SLICES: Final = 20
DAY_NS: Final = 86_400 * 10**9
NOW_NS: Final = 1_767_225_600 * 10**9
HESTON: Final = (0.25, 3.0, 0.3, 1.2, -0.4)
SABR: Final = (0.5, -0.3, 1.2)
DAYS: Final = (7, 30, 90)

PRICE_ERROR: Final = 1e-8
EASY_ERROR: Final = 1e-11
HARD_ERROR: Final = 1e-9
HESTON_BP: Final = 4.0


def options(hard: bool, seed: int = 0) -> dict[str, Array]:
    """Out-of-the-money options and the volatilities that price them."""
    random = np.random.default_rng(seed)
    forward = np.full(OPTIONS, 100.0)
    if hard:
        years, volatility = random.uniform(2 / 365, 2.0, OPTIONS), random.uniform(0.1, 2.0, OPTIONS)
        k = random.uniform(-0.7, 0.7, OPTIONS)
    else:
        years, volatility = random.uniform(30 / 365, 1.0, OPTIONS), random.uniform(0.2, 1.0, OPTIONS)
        k = random.uniform(-1.5, 1.5, OPTIONS) * volatility * np.sqrt(years)
    strike = forward * np.exp(k)
    is_call = strike >= forward
    price = black_price(forward, strike, years, volatility, is_call)
    columns = (price, forward, strike, years, is_call, volatility)
    return dict(zip(("price", "forward", "strike", "years", "is_call", "volatility"), columns, strict=True))


def error(found: Array, given: dict[str, Array]) -> dict[str, float]:
    """Largest error where there is an answer, and how many there are not although the price is a normal number."""
    part = {name: column[: len(found)] for name, column in given.items()}
    alive = part["price"] > 1e-300
    rest = np.abs(found - part["volatility"])[alive]
    return {"error": float(np.nanmax(rest)), "missing": int(np.isnan(rest).sum())}


def best_of(repeats: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest of some runs, and the last result."""
    times, result = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return min(times), result


def small_chain(seed: int = 0, noise: float = 0.002) -> dict[str, Array]:
    """84 calls of three expiries, priced by Heston, with a spread of a vol point and noise of a fifth of it."""
    random = np.random.default_rng(seed)
    columns: dict[str, list[Array]] = {name: [] for name in ("days", "strike", "volatility")}
    for days in DAYS:
        deviation = 0.5 * np.sqrt(days / 365)
        strike = 100.0 * np.exp(np.linspace(-1.8, 1.8, 28) * deviation)
        price = heston_price(100.0, strike, days / 365, True, **_named(HESTON))
        exact = implied_volatility(price, 100.0, strike, days / 365, True)
        columns["days"].append(np.full(28, float(days)))
        columns["strike"].append(strike)
        columns["volatility"].append(exact + noise * random.standard_normal(28))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _named(parameters: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(("v0", "kappa", "theta", "sigma", "rho"), parameters, strict=True))


def quotes_of(chain: dict[str, Array]) -> tuple[Array, ...]:
    """The chain's quotes, out of the money, as :func:`features.surface.clean` takes them."""
    years = chain["days"] / 365.0
    is_call = chain["strike"] >= 100.0
    price = black_price(100.0, chain["strike"], years, chain["volatility"], is_call)
    half = 0.005 * black_vega(100.0, chain["strike"], years, chain["volatility"])
    expiry = NOW_NS + (chain["days"] * DAY_NS).astype(np.int64)
    forward = np.full(len(price), 100.0)
    return expiry, chain["strike"], is_call, price - half, price + half, forward, np.full(len(price), NOW_NS)


def invert_fit_repair(quotes: tuple[Array, ...]) -> tuple[Points, Any, Any]:
    """All that a desk wants of a chain; without the surfaces before it."""
    points = clean(*quotes, NOW_NS)
    repaired = repair_arbitrage(points)
    return points, fit_streamed(repaired.quotes), repaired


def slices(count: int) -> tuple[Array, Array, Array]:
    """Noisy SVI slices of 21 strikes."""
    random = np.random.default_rng(1)
    k = np.tile(np.linspace(-0.6, 0.5, 21), (count, 1))
    a, b, rho, m, s = 0.02, 0.2, -0.35, 0.03, 0.15
    w = a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + s * s))
    w = w * (1.0 + 0.01 * random.standard_normal(w.shape))
    return k, w, np.full(w.shape, 1e4)


def svi_fits(k: Array, w: Array, weight: Array) -> Array:
    """Our SVI of every slice, cold."""
    out, cold = np.empty((len(k), 5)), np.full(5, np.nan)
    for i in range(len(k)):
        low, high = grid_ends(k[i], w[i])
        fit_svi_kernel(k[i], w[i], weight[i], UNBOUNDED, FIRMNESS, cold, low, high, out[i])
    return out


def rmse_of(raw: Array, k: Array, w: Array) -> float:
    """Root mean square misfit of total variance over all slices."""
    a, b, rho, m, s = (raw[:, i : i + 1] for i in range(5))
    return float(np.sqrt(np.mean((a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + s * s)) - w) ** 2)))


def grids() -> dict[str, tuple[Array, Array, Array]]:
    """Volatilities on a mesh of surfaces that claim to be free, for the peer's own checks."""
    found = {}
    points = clean(*quotes_of(small_chain()), NOW_NS)
    if RECORDED.is_dir():
        points = next(chains()).points()
    for name, fit in (("essvi", fit_essvi), ("nonparametric", fit_nonparametric), ("streamed", fit_streamed)):
        surface = fit(points)
        years = points.years_E[points.years_E > 0.02]
        k = np.linspace(-0.3, 0.3, 31)
        found[name] = k, years, np.stack([surface.implied_volatility(k, t) for t in years.tolist()], axis=1)
    return found


def measure(quick: bool) -> dict[str, Any]:
    """Everything, ours and the peers'."""
    repeats = 2 if quick else 7
    sets = {"easy": options(hard=False), "hard": options(hard=True)}
    found: dict[str, Any] = {"seconds": {}, "checks": {}, "ratio": None}
    for name, given in sets.items():
        columns = [given[each] for each in ("price", "forward", "strike", "years", "is_call")]
        implied_volatility(*(column[:10] for column in columns))
        seconds, inverted = best_of(repeats, lambda: implied_volatility(*columns))  # noqa: B023 (called here)
        found["seconds"][f"{name} ours"] = seconds
        found["checks"][f"{name} ours"] = error(inverted, given)
        most = EASY_ERROR if name == "easy" else HARD_ERROR
        assert found["checks"][f"{name} ours"]["error"] <= most, found["checks"]
        assert found["checks"][f"{name} ours"]["missing"] == 0
    k, w, weight = slices(SLICES)
    svi_fits(k[:1], w[:1], weight[:1])
    seconds, raw = best_of(repeats, lambda: svi_fits(k, w, weight))
    found["seconds"]["svi slice ours"] = seconds / SLICES
    found["checks"]["svi rmse ours"] = rmse_of(raw, k, w)
    chain = small_chain()
    quotes = quotes_of(chain)
    invert_fit_repair(quotes)
    seconds, (points, surface, repaired) = best_of(3 * repeats, lambda: invert_fit_repair(quotes))
    found["seconds"]["84 quotes inverted, fitted, repaired"] = seconds
    broken = check_quotes(repaired.quotes).at_mid
    assert not any(broken.values()), broken
    assert check_arbitrage(surface).is_free
    _, exact, _ = invert_fit_repair(quotes_of(small_chain(noise=0.0)))
    assert exact.report.rmse_bp <= HESTON_BP
    assert check_arbitrage(exact).is_free
    found["checks"]["84 quotes"] = {
        "rmse_bp": surface.report.rmse_bp, "repaired": repaired.changed, "rmse_bp without noise": exact.report.rmse_bp,
    }  # fmt: skip
    fit_heston(points)
    seconds, heston = best_of(repeats, lambda: fit_heston(points))
    found["seconds"]["heston ours"] = seconds
    found["checks"]["heston rmse_bp"] = heston.report.rmse_bp
    if RECORDED.is_dir():
        found["seconds"] |= real_chain(repeats)
    found |= beside(sets, (k, w, weight), chain, found, quick)
    return found


def real_chain(repeats: int) -> dict[str, float]:
    """The recorded chain with the most quotes among the first, warm from the snapshot before it."""
    first = [chain for _, chain in zip(range(12), chains(), strict=False)]
    later = max(first[2:], key=lambda chain: len(chain.strike))
    before = max((chain for chain in first if chain.coin == later.coin and chain.now_ns < later.now_ns),
                 key=lambda chain: chain.now_ns)  # fmt: skip
    warm = fit_essvi(before.points())
    points = later.points()
    fitted, _ = best_of(repeats, lambda: fit_essvi(points, warm))
    streamed = ChainSurface()
    times = []
    for chain in (before, *(later,) * repeats):
        quoted = np.full(len(chain.strike), chain.now_ns)
        began = time.perf_counter()
        streamed.update(
            chain.expiry_ns, chain.strike, chain.is_call, chain.bid, chain.ask, chain.forward, quoted, chain.now_ns
        )
        times.append(time.perf_counter() - began)
    name = f"{len(later.strike)} quotes"
    return {f"{name}, eSSVI warm": fitted, f"{name}, inversion to features": median(times[1:])}


def beside(
    sets: dict[str, dict[str, Array]], svi: tuple[Array, Array, Array], chain: dict[str, Array], ours: dict[str, Any],
    quick: bool,
) -> dict[str, Any]:  # fmt: skip
    """The peers' figures, once their numbers are seen to be ours."""
    with TemporaryDirectory() as folder:
        given, written = Path(folder, "in.npz"), Path(folder, "out.npz")
        command = peer("surface_peers.py", given, written, "1" if quick else "5")
        if command is None:
            print(MISSING)
            return {}
        arrays = {f"{name}_{column}": values for name, each in sets.items() for column, values in each.items()}
        arrays |= dict(zip(("svi_k", "svi_w", "svi_weight"), svi, strict=True))
        arrays |= {f"chain_{name}": values for name, values in chain.items()}
        days = np.repeat([7.0, 30.0, 365.0], 9)
        strike = 100.0 * np.exp(np.tile(np.linspace(-1.5, 1.5, 9), 3) * 0.5 * np.sqrt(days / 365))
        arrays |= {"heston_parameters": np.array(HESTON), "heston_days": days, "heston_strike": strike}
        sabr = np.array([(k, t) for t in (0.05, 0.5, 2.0) for k in (60.0, 90.0, 100.0, 110.0, 170.0)])
        arrays |= {"sabr": np.array(SABR), "sabr_points": sabr}
        for name, (k, years, volatility) in grids().items():
            arrays |= {f"k_{name}": k, f"t_{name}": years, f"grid_{name}": volatility}
        np.savez(given, **arrays)
        told = run(command)
        theirs = np.load(written)
        checks = dict(ours["checks"])
        for name in sets:
            for who in ("jackel", "quantlib"):
                checks[f"{name} {who}"] = error(theirs[f"{name}_{who}"], sets[name])
        checks["easy newton"] = error(theirs["easy_newton"], sets["easy"])
        checks["svi rmse scipy"] = rmse_of(theirs["svi"], svi[0], svi[1])
        checks["black price"] = _apart(sets["easy"]["price"][: len(theirs["easy_price"])], theirs["easy_price"])
        mine = np.concatenate(
            [heston_price(100.0, strike[days == d], d / 365, True, **_named(HESTON)) for d in np.unique(days)]
        )
        checks["heston price"] = _apart(mine, theirs["heston_price"])
        mine = sabr_volatility(100.0, sabr[:, 0], sabr[:, 1], SABR[0], 1.0, *SABR[1:])
        checks["sabr volatility, beta 1"] = _apart(mine, theirs["sabr_volatility"])
    for name in ("black price", "heston price", "sabr volatility, beta 1"):
        assert checks[name] <= PRICE_ERROR, (name, checks[name])
    assert checks["svi rmse ours"] <= 1.01 * checks["svi rmse scipy"], checks
    assert not any(sum(kinds.values()) for kinds in told["violations"].values()), told["violations"]
    seconds = ours["seconds"] | told["seconds"]
    ratio = seconds["easy fast-vollib"] / seconds["easy ours"]
    return {"seconds": seconds, "checks": checks, "fast-vollib violations": told["violations"], "ratio": ratio}


def _apart(mine: Array, theirs: Array) -> float:
    """Largest relative difference."""
    return float(np.max(np.abs(mine / theirs - 1.0)))


def show_speed(found: dict[str, Any]) -> None:
    """The table."""
    seconds, checks = found["seconds"], found["checks"]
    for name in ("easy", "hard"):
        for who in ("ours", "fast-vollib", "QuantLib", "scipy"):
            if (took := seconds.get(f"{name} {who}")) is not None:
                key = {"fast-vollib": "jackel", "QuantLib": "quantlib", "scipy": "newton"}.get(who, who)
                check = checks[f"{name} {key}"]
                rest = f"error {check['error']:.1e}, missing {check['missing']}"
                print(f"inversion, {name}, {who:<12}{took / OPTIONS * 1e9:>9.0f} ns  {rest}")
    for name, took in seconds.items():
        if not name.startswith(("easy", "hard")):
            print(f"{name:<40}{took * 1e3:>10.3f} ms")
    print(", ".join(f"{name} {value}" for name, value in checks.items() if not isinstance(value, dict)))

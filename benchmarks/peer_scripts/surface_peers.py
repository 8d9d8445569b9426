"""fast-vollib, QuantLib and scipy on the surface's work; runs in ``.venv-peers``.

``surface_peers.py INPUT.npz OUTPUT.npz REPEATS`` writes what they compute, and prints their times as one JSON object.
"""

import json
import sys
import time

import numpy as np
import QuantLib as ql  # noqa: N813 (as its own documentation does)
from fast_vollib.jackel import jackel_iv_black
from fast_vollib.surface import IVSurface, validate_surface
from scipy.optimize import least_squares, newton
from scipy.stats import norm

LOOPED = 10_000


def best_of(repeats, work):
    """Seconds of the fastest of some runs, and the last result."""
    times, result = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return min(times), result


def scipy_newton(price, forward, strike, years, is_call):
    """Vectorised Newton on the price from the inflection point."""
    sign = np.where(is_call, 1.0, -1.0)
    root = np.sqrt(years)

    def miss(volatility):
        d1 = np.log(forward / strike) / (volatility * root) + 0.5 * volatility * root
        return sign * (forward * norm.cdf(sign * d1) - strike * norm.cdf(sign * (d1 - volatility * root))) - price

    def vega(volatility):
        d1 = np.log(forward / strike) / (volatility * root) + 0.5 * volatility * root
        return forward * norm.pdf(d1) * root

    start = np.sqrt(2.0 * np.abs(np.log(forward / strike)) / years) + 0.1
    return newton(miss, start, fprime=vega, maxiter=60, tol=1e-13, disp=False)


def quantlib_loop(price, forward, strike, years, is_call):
    """``blackFormulaImpliedStdDev`` one by one."""
    kinds = [ql.Option.Call if call else ql.Option.Put for call in is_call.tolist()]
    found = np.empty(len(price))
    rows = zip(kinds, strike.tolist(), forward.tolist(), price.tolist(), strict=True)
    for i, (kind, k, f, p) in enumerate(rows):
        try:
            found[i] = ql.blackFormulaImpliedStdDev(kind, k, f, p, 1.0, 0.0, 0.3, 1e-14, 200)
        except RuntimeError:
            found[i] = np.nan
    return found / np.sqrt(years)


def quantlib_prices(volatility, forward, strike, years, is_call):
    """``blackFormula`` one by one."""
    rows = zip(is_call.tolist(), strike.tolist(), forward.tolist(), (volatility * np.sqrt(years)).tolist(), strict=True)
    return np.array(
        [ql.blackFormula(ql.Option.Call if call else ql.Option.Put, k, f, s, 1.0) for call, k, f, s in rows]
    )


def svi_slice(k, w, weight):
    """Five numbers by scipy's trust-region least squares from a usual start."""

    def residuals(x):
        a, b, rho, m, s = x
        return (a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + s * s)) - w) * np.sqrt(weight)

    start = [w.min() * 0.5, 0.1, -0.1, 0.0, 0.1]
    bounds = ([-1.0, 0.0, -0.999, -2.0, 1e-4], [4.0, 4.0, 0.999, 2.0, 4.0])
    return least_squares(residuals, start, bounds=bounds, x_scale="jac").x


class Market:
    """A day, and curves without interest, for QuantLib."""

    def __init__(self):
        self.today = ql.Date(1, 1, 2026)
        ql.Settings.instance().evaluationDate = self.today
        self.day_count = ql.Actual365Fixed()
        self.flat = ql.YieldTermStructureHandle(ql.FlatForward(self.today, 0.0, self.day_count))
        self.spot = ql.QuoteHandle(ql.SimpleQuote(100.0))

    def model(self, v0, kappa, theta, sigma, rho):
        """Heston."""
        process = ql.HestonProcess(self.flat, self.flat, self.spot, v0, kappa, theta, sigma, rho)
        return ql.HestonModel(process)


def heston_prices(parameters, days, strike):
    """Undiscounted calls by the analytic engine."""
    market = Market()
    engine = ql.AnalyticHestonEngine(market.model(*parameters), 1e-13, 100_000)
    found = []
    for d, k in zip(days.tolist(), strike.tolist(), strict=True):
        option = ql.VanillaOption(ql.PlainVanillaPayoff(ql.Option.Call, k), ql.EuropeanExercise(market.today + int(d)))
        option.setPricingEngine(engine)
        found.append(option.NPV())
    return np.array(found)


def heston_calibration(days, strike, volatility):
    """Levenberg-Marquardt over helpers; the model's parameters."""
    market = Market()
    model = market.model(0.2, 2.0, 0.2, 1.0, -0.2)
    engine = ql.AnalyticHestonEngine(model)
    helpers = []
    for d, k, s in zip(days.tolist(), strike.tolist(), volatility.tolist(), strict=True):
        quote = ql.QuoteHandle(ql.SimpleQuote(s))
        helper = ql.HestonModelHelper(
            ql.Period(int(d), ql.Days), ql.NullCalendar(), 100.0, k, quote, market.flat, market.flat,
            ql.BlackCalibrationHelper.ImpliedVolError,
        )  # fmt: skip
        helper.setPricingEngine(engine)
        helpers.append(helper)
    model.calibrate(helpers, ql.LevenbergMarquardt(), ql.EndCriteria(400, 40, 1e-10, 1e-10, 1e-10))
    return np.array([model.v0(), model.kappa(), model.theta(), model.sigma(), model.rho()])


def violations(k, years, volatility):
    """How many fast-vollib finds on a grid, by kind."""
    report = validate_surface(IVSurface(k=k, T=years, iv=volatility), compute_trust=False)
    return {
        name: int(sum(each.type == name for each in report.violations))
        for name in ("butterfly", "calendar", "vertical")
    }


def main():
    """Compute, write, print."""
    given, repeats = np.load(sys.argv[1]), int(sys.argv[3])
    written, seconds = {}, {}
    for name in ("easy", "hard"):
        columns = [given[f"{name}_{each}"] for each in ("price", "forward", "strike", "years", "is_call")]
        price, forward, strike, years, is_call = columns
        seconds[f"{name} fast-vollib"], written[f"{name}_jackel"] = best_of(
            repeats,
            lambda: jackel_iv_black(price, forward, strike, years, is_call),  # noqa: B023 (called here)
        )
        part = [column[:LOOPED] for column in columns]
        took, written[f"{name}_quantlib"] = best_of(repeats, lambda: quantlib_loop(*part))  # noqa: B023 (called here)
        seconds[f"{name} QuantLib"] = took * len(price) / LOOPED
    easy = [given[f"easy_{each}"] for each in ("price", "forward", "strike", "years", "is_call")]
    seconds["easy scipy"], written["easy_newton"] = best_of(max(1, repeats // 2), lambda: scipy_newton(*easy))
    volatility = given["easy_volatility"][:LOOPED]
    written["easy_price"] = quantlib_prices(volatility, *(column[:LOOPED] for column in easy[1:]))
    slices = list(zip(given["svi_k"], given["svi_w"], given["svi_weight"], strict=True))
    took, fitted = best_of(1, lambda: [svi_slice(*each) for each in slices])
    seconds["svi slice scipy"], written["svi"] = took / len(slices), np.array(fitted)
    written["heston_price"] = heston_prices(given["heston_parameters"], given["heston_days"], given["heston_strike"])
    seconds["heston QuantLib"], written["heston_fitted"] = best_of(
        repeats, lambda: heston_calibration(given["chain_days"], given["chain_strike"], given["chain_volatility"])
    )
    alpha, rho, nu = given["sabr"].tolist()
    written["sabr_volatility"] = np.array(
        [ql.sabrVolatility(k, 100.0, t, alpha, 1.0, nu, rho) for k, t in given["sabr_points"].tolist()]
    )
    grids = sorted(name[5:] for name in given.files if name.startswith("grid_"))
    found = {name: violations(given[f"k_{name}"], given[f"t_{name}"], given[f"grid_{name}"]) for name in grids}
    np.savez(sys.argv[2], **written)
    print(json.dumps({"seconds": seconds, "violations": found}))


if __name__ == "__main__":
    main()

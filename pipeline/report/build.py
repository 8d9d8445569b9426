"""Build the report of a run from its lake."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from features.errors import BadInputError
from features.signals import REGIMES
from hedger.limits import Limits
from hedger.portfolio import Portfolio
from pipeline.lake_location import Place
from pipeline.option_chains import OptionChain
from pipeline.option_chains_lake import lake_chain
from pipeline.portfolios import read_portfolio
from pipeline.query import open_lake
from pipeline.report import hedge_figures, market_figures
from pipeline.report.evaluate import (
    ForecastScore,
    RegimeScore,
    annual_percent,
    forecast_rows,
    forecast_score,
    horizon_s,
    regime_scores,
)
from pipeline.report.hedges import HedgeResult, evaluate_hedges
from pipeline.report.page import Grid, Page, Section
from pipeline.report.streamed_figure import described, fitted_chain, streamed_figure
from pipeline.report.style import data_uri, png

SUMMARY_FILE: Final = "summary.json"
TRUTH_FILE: Final = "truth.parquet"
REPORT_FILE: Final = "report.html"
PICTURE_FILE: Final = "picture.png"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run beside its lake; the demo writes it."""

    source: str
    judged_from: int
    notice: str = ""
    numbers: dict[str, str] = {}


@dataclass(slots=True)
class Evaluation:
    """All that the report and the closing table show."""

    summary: Summary
    signals: pl.DataFrame
    universe: pl.DataFrame
    decisions: pl.DataFrame
    chains: list[OptionChain]
    truth: pl.DataFrame | None
    portfolio: Portfolio | None
    regimes: list[RegimeScore] = field(default_factory=list)
    forecasts: pl.DataFrame = field(default_factory=pl.DataFrame)
    forecast: ForecastScore | None = None
    hedges: list[HedgeResult] = field(default_factory=list)


def evaluate(folder: Path, lake: Place, portfolio: Path, limits: Limits) -> Evaluation:
    """Read a run's lake and judge it, out of sample only.

    Raises:
        LakeError: there is no lake.
        BadInputError: it holds no signals.
    """
    summary = _summary(folder)
    with open_lake(lake) as connection:
        signals = connection.sql("SELECT * FROM signals ORDER BY underlying, bar_ts").pl()
        universe = connection.sql("SELECT * FROM universe ORDER BY underlying, bar_ts").pl()
        decisions = connection.sql("SELECT * EXCLUDE (document) FROM decisions ORDER BY underlying, bar_ts").pl()
        fills = connection.sql("SELECT * FROM fills ORDER BY bar_ts, order_id").pl()
        named = connection.sql("SELECT DISTINCT underlying FROM options ORDER BY ALL").fetchall()
    if signals.is_empty():
        raise BadInputError(
            f"The lake at {lake} has no signals.", "Run the signals worker: `hedgeflow stream run signals`."
        )
    truth_path = folder / TRUTH_FILE
    truth = pl.read_parquet(truth_path) if truth_path.exists() else None
    held = read_portfolio(portfolio) if portfolio.exists() else None
    chains = [lake_chain(lake, name) for (name,) in named]
    result = Evaluation(summary, signals, universe, decisions, chains, truth, held)
    result.regimes = regime_scores(signals, truth, summary.judged_from)
    result.forecasts = forecast_rows(signals, universe, summary.judged_from)
    if not result.forecasts.is_empty():
        result.forecast = forecast_score(result.forecasts, horizon_s(signals))
    if held is not None:
        result.hedges = evaluate_hedges(signals, fills, held, limits, summary.judged_from)
    return result


def _summary(folder: Path) -> Summary:
    path = folder / SUMMARY_FILE
    if not path.exists():
        return Summary(source="lake", judged_from=0)
    return msgspec.json.decode(path.read_bytes(), type=Summary)


def write_report(evaluation: Evaluation, target: Path) -> Path:
    """Write ``report.html`` and, beside it, the picture that the README shows."""
    page = Page("hedgeflow: one run", f"Source: {evaluation.summary.source}. All times UTC.")
    if evaluation.summary.notice:
        page.notices.append(evaluation.summary.notice)
    page.sections = [section for section in _sections(evaluation) if section is not None]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page.render())
    if (picture := _picture(evaluation)) is not None:
        target.with_name(PICTURE_FILE).write_bytes(picture)
    return target


def _picture(evaluation: Evaluation) -> bytes | None:
    if evaluation.portfolio is None or not evaluation.hedges or evaluation.decisions.is_empty():
        return None
    traded = evaluation.decisions.group_by("underlying").agg(pl.col("order_quantity").count())
    most = traded.sort("order_quantity", "underlying")["underlying"][-1]
    signals = evaluation.signals.filter(
        (pl.col("underlying") == most) & (pl.col("bar_ts") >= evaluation.summary.judged_from)
    )
    decisions = evaluation.decisions.filter(pl.col("underlying") == most)
    curves = pl.concat([each.curve for each in evaluation.hedges])
    return png(hedge_figures.overview(signals, decisions, curves, evaluation.portfolio.currency), dpi=110)


def _sections(evaluation: Evaluation) -> list[Section | None]:
    return [
        _numbers(evaluation),
        _hedges(evaluation),
        _regimes(evaluation),
        _book(evaluation),
        _surface(evaluation),
        _forecast(evaluation),
    ]


def _image(figure: Any, alt: str) -> tuple[str, str]:
    return data_uri(png(figure)), alt


def _numbers(evaluation: Evaluation) -> Section | None:
    numbers = evaluation.summary.numbers
    if not numbers:
        return None
    return Section("The run in numbers", tables=[Grid(("", ""), list(numbers.items()))])


def _hedges(evaluation: Evaluation) -> Section | None:
    portfolio = evaluation.portfolio
    if portfolio is None or not evaluation.hedges:
        return None
    sold = ", ".join(
        f"{option.quantity:+g} {option.underlying} {'call' if option.is_call else 'put'} at {option.strike:,.0f}"
        for option in portfolio.options
    )
    header = (
        "hedge",
        f"P&L, {portfolio.currency}",
        f"sd a minute, {portfolio.currency}",
        f"mean loss, worst 5 % of minutes, {portfolio.currency}",
        f"turnover, {portfolio.currency}",
        f"cost, {portfolio.currency}",
        f"of it re-hedging, {portfolio.currency}",
        "orders",
    )
    rows = [
        (
            hedge_figures.STRATEGY_NAMES[each.strategy],
            *(
                "unknown" if value is None else f"{value:,.0f}"
                for value in (
                    each.pnl,
                    each.sd_per_minute,
                    each.expected_shortfall_per_minute,
                    each.turnover,
                    each.cost,
                    each.rehedging_cost,
                )
            ),
            f"{each.orders:,}",
        )
        for each in evaluation.hedges
    ]
    curves = pl.concat([each.curve for each in evaluation.hedges])
    return Section(
        "What each way to hedge earned",
        f"Portfolio {portfolio.name!r}: {sold}, thirty days to expiry at the start. Values in {portfolio.currency}, "
        f"options marked at {portfolio.settlement_price_source}; hedges in perpetuals, one bar of latency, spread, "
        "impact and fees paid. All three go through the same decider, limits and gateway. A perpetual hedges delta "
        "only: moves of implied volatility stay in all of them. Re-hedging is the cost after the first minute, in "
        "which every hedge buys the same position.",
        [Grid(header, rows)],
        [
            _image(hedge_figures.profit_and_cost(curves, portfolio.currency), "P&L and cost of the three hedges"),
            _image(hedge_figures.positions(evaluation.decisions), "Position and no-trade band"),
        ],
        "One run of a few minutes is an illustration, not evidence: the policy's expected shortfall against the delta "
        "and the best constant band, with standard errors on fresh paths, is in models/policy/manifest.json.",
    )


def _regimes(evaluation: Evaluation) -> Section:
    def percent(value: float | None) -> str:
        return "unknown" if value is None else f"{100 * value:.1f} %"

    header = ("", "bars", *REGIMES, "switches / 1000", "true switches", "balanced accuracy", "K-Means")
    rows = [
        (
            each.underlying,
            f"{each.bars:,}",
            *(percent(share) for share in each.occupancy),
            f"{each.switches_per_1000:.1f}",
            "unknown" if each.true_switches_per_1000 is None else f"{each.true_switches_per_1000:.1f}",
            percent(each.accuracy),
            percent(each.kmeans_accuracy),
        )
        for each in evaluation.regimes
    ]
    figure = market_figures.price_and_regimes(evaluation.signals, evaluation.truth, evaluation.summary.judged_from)
    return Section(
        "Regimes",
        "A hidden Markov model, filtered: the probability of each state given the bars so far, never later ones. "
        "The table counts out-of-sample bars only.",
        [Grid(header, rows)],
        [_image(figure, "Price with regime bands")],
    )


def _book(evaluation: Evaluation) -> Section:
    return Section(
        "Order books",
        images=[
            _image(market_figures.book_state(evaluation.universe), "Spread, imbalance and depth of the reference books")
        ],
    )


def _surface(evaluation: Evaluation) -> Section | None:
    """The last chain of each underlying under the surface that the stream fits to it."""
    fitted = [each for each in map(fitted_chain, evaluation.chains) if each is not None]
    if not fitted:
        return None
    text = (
        "The last chain of each underlying, and the surface that the stream fits to it: bars from bid to ask, dots at "
        "the mid, dashes beyond the quotes; the venue's mark is no input. "
    )
    figure = streamed_figure(fitted)
    return Section(
        "Volatility surface",
        text + " ".join(map(described, fitted)),
        images=[_image(figure, "Smiles by expiry and term structure")],
    )


def _forecast(evaluation: Evaluation) -> Section | None:
    score = evaluation.forecast
    if score is None:
        return None
    header = ("forecast of the next interval's variance", "mean QLIKE", "rows")
    rows = [
        ("HAR + LightGBM on its residual", f"{score.qlike:.4f}", f"{score.rows:,}"),
        ("HAR", f"{score.qlike_har:.4f}", f"{score.rows:,}"),
    ]
    figure = market_figures.forecast_against_realized(annual_percent(evaluation.forecasts, score.horizon_s))
    verdict = "equal" if score.qlike == score.qlike_har else f"Diebold-Mariano t = {score.t_statistic:.2f}"
    return Section(
        "Volatility forecast",
        f"Realized variance of the next {score.horizon_s:g} s, out of sample. QLIKE is the mean of "
        "y/f - log(y/f) - 1; lower is better.",
        [Grid(header, rows)],
        [_image(figure, "Forecast against realized volatility")],
        f"Difference to HAR: {verdict} (Newey-West; negative favours the first). Where the trees did not prove "
        "themselves on the validation rows, their weight is 0 and both lines are one.",
    )

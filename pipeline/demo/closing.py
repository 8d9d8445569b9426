"""What the demo says when it is done."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Column, Table

from features.signals import REGIMES
from pipeline.demo.run import DemoRun
from pipeline.report.build import Evaluation

QUERIES: Final = (
    "select underlying, regime, count(*) as bars, avg(forecast_variance) from signals group by all order by all",
    "select instrument, max(spread_bps), sum(volume), sum(signed_volume) from features group by all order by all",
    "select underlying, rung, count(*), count(order_quantity) as orders from decisions group by all order by all",
)
"""Three to try; a test runs them."""


def print_closing(console: Console, run: DemoRun, evaluation: Evaluation, report: Path) -> None:
    """Tables, the report's path, and three queries."""
    console.print()
    console.print(_run(run))
    console.print(_models(evaluation))
    console.print(_hedges(evaluation))
    console.print(f"report  [bold]{report}[/]")
    console.print("[dim]try[/]")
    lake = shlex.quote(str(run.settings.lake))
    for query in QUERIES:
        console.print(f'hedgeflow sql --lake {lake} "{query}"', highlight=False, soft_wrap=True)


def _run(run: DemoRun) -> Table:
    table = Table("", "", title="the run", title_justify="left", show_header=False)
    for name, value in run.numbers().items():
        table.add_row(name, value)
    return table


def _models(evaluation: Evaluation) -> Table:
    header = ("", *(f"{name} %" for name in REGIMES), "HMM", "K-Means")
    title = "regimes, out of sample: share of bars; balanced accuracy of HMM filter and K-Means"
    table = Table(*header, title=title, title_justify="left")
    for each in evaluation.regimes:
        accuracy = ["-" if value is None else f"{100 * value:.1f} %" for value in (each.accuracy, each.kmeans_accuracy)]
        table.add_row(each.underlying, *(f"{100 * share:.1f}" for share in each.occupancy), *accuracy)
    score = evaluation.forecast
    if score is not None:
        verdict = "" if score.qlike == score.qlike_har else f", Diebold-Mariano t {score.t_statistic:+.2f}"
        table.caption = (
            f"variance of the next {score.horizon_s:g} s, {score.rows:,} rows: "
            f"QLIKE {score.qlike:.4f}, HAR {score.qlike_har:.4f}{verdict}"
        )
    return table


def _hedges(evaluation: Evaluation) -> Table:
    portfolio = evaluation.portfolio
    currency = "" if portfolio is None else portfolio.currency
    header = (Column("hedge", no_wrap=True), "P&L", "sd/min", "ES/min", "turnover", "cost", "re-hedge", "orders")
    table = Table(*header, title=f"hedges, out of sample, {currency}", title_justify="left")
    for each in evaluation.hedges:
        risk = (each.sd_per_minute, each.expected_shortfall_per_minute)
        values = (each.pnl, *risk, each.turnover, each.cost, each.rehedging_cost)
        cells = ("-" if value is None else f"{value:,.0f}" for value in values)
        table.add_row(each.strategy.replace("_", " "), *cells, f"{each.orders:,}")
    if portfolio is not None:
        table.caption = (
            f"options marked at {portfolio.settlement_price_source}; the deep policy by its live fills; "
            "ES: mean loss of the worst 5 % of minutes; re-hedge: cost after the first minute"
        )
    return table

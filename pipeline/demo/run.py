"""``hedgeflow demo``: every part of the system, once, as an operator would run it.

History first: the market's first part goes through Kafka, the feature workers and into the lake. On it the models are
fitted. Then the signals and decisions workers start, the rest of the market plays, and a backfill of the raw tables is
held against what was streamed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from features.errors import ConfigError
from features.events import NANO
from hedger.portfolio import demo_portfolio, encode_portfolio
from hedger.training import TrainingConfig
from pipeline.backfill import BackfillResult, backfill
from pipeline.backfill_own_activity import backfill_own_activity
from pipeline.broker import EmbeddedBroker
from pipeline.compare import Comparison, compare
from pipeline.demo.market import Market, Player, recorded_market, simulated_market
from pipeline.fit import fit_forecast_artifact, fit_regimes_artifact, train_policy_artifact
from pipeline.interrupts import interrupted_between_steps
from pipeline.kafka import create_topics, end_offsets
from pipeline.lake import Lake
from pipeline.lake_location import Place
from pipeline.portfolios import read_portfolio
from pipeline.processes import Workers, environment_of
from pipeline.query import open_lake
from pipeline.raw_reader import read_log
from pipeline.report.build import SUMMARY_FILE, TRUTH_FILE, Summary
from pipeline.settings import Settings, load_settings
from pipeline.topics import TOPICS

MARKER: Final = ".hedgeflow-demo"
COMPARED: Final = ("features", "universe", "signals", "own_activity")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What ``hedgeflow demo`` was asked for."""

    data: Path | None
    minutes: float
    seed: int
    out: Path
    bootstrap: str | None
    partitions: int
    training_share: float = 0.5
    horizon_bars: int = 30
    policy_batches: int = 240
    device: str = "cpu"
    config: Path | None = None


@dataclass(slots=True)
class DemoRun:
    """What a demo made, for its tables and its report."""

    options: DemoOptions
    market: Market
    settings: Settings
    active_from: int
    events: int = 0
    dead_letters: int = 0
    restarts: int = 0
    backfilled: BackfillResult = field(default_factory=BackfillResult)
    comparisons: list[Comparison] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def numbers(self) -> dict[str, str]:
        """The run in a table."""
        bars = next((each.left for each in self.comparisons if each.table == "features"), 0)
        compared = ", ".join(f"{each.table} {each.left:,}" for each in self.comparisons)
        return {
            "source": f"{self.market.name}, {self.options.minutes:g} minutes, seed {self.options.seed}",
            "events": f"{self.events:,}",
            "bars": f"{bars:,} over {self.options.partitions} partition(s)",
            "dead letters": f"{self.dead_letters:,}",
            "differing rows, stream/backfill": f"{self.differing} ({compared})",
            "workers killed and started again": f"{self.restarts}",
            "wall time": f"{sum(self.seconds.values()):.0f} s",
        }

    def summary(self) -> Summary:
        """For the report, which stands on the lake and on this."""
        return Summary(
            source=self.market.name, judged_from=self.active_from, notice=self.market.notice, numbers=self.numbers()
        )

    @property
    def differing(self) -> int:
        """Rows that differ between stream and backfill."""
        return sum(each.differing for each in self.comparisons)


class _Steps:
    """Progress of the demo: a line a step."""

    def __init__(self, console: Console, run_seconds: dict[str, float]) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}", table_column=Column(no_wrap=True)),
            console=console,
        )
        self._seconds = run_seconds

    def __enter__(self) -> _Steps:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[_Step]:
        """One step of the demo, timed."""
        started = time.monotonic()
        task = self._progress.add_task(name, total=total or 1.0, note="")
        yield _Step(self._progress, task)
        self._progress.update(task, completed=total or 1.0)
        self._progress.stop_task(task)
        self._seconds[name] = time.monotonic() - started


class _Step:
    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def to(self, completed: float, note: str = "") -> None:
        """How far it is, and a word on it."""
        self._progress.update(self._task, completed=completed, note=note)  # type: ignore[arg-type]


def run_demo(options: DemoOptions, console: Console) -> DemoRun:
    """Run everything; the caller prints and reports.

    Raises:
        HedgeflowError: whatever a part says, with its remedy.
    """
    out = _fresh_folder(options.out)
    market = _market(options)
    if market.notice:
        console.print(f"[yellow]note[/] {market.notice}")
    broker = None if options.bootstrap else EmbeddedBroker(log=out / "broker.log").start()
    try:
        settings = load_settings(
            options.config,
            bootstrap=options.bootstrap or (broker.bootstrap if broker else ""),
            application="demo",
            partitions=options.partitions,
            lake=out / "lake",
            models=out / "models",
            portfolio=out / "portfolio.json",
            reference=dict(market.reference),
            active_from_bar_ts=market.at(options.training_share) + NANO,
            checkpoint_interval_ms=2_000,
            lake_commit_interval_ms=1_000,
            session_timeout_ms=6_000,
        )
        run = DemoRun(options, market, settings, settings.active_from_bar_ts)
        with _Steps(console, run.seconds) as steps:
            _stream(run, steps, out)
            _backfill(run, steps, out)
        truth = market.truth()
        if truth is not None:
            truth.write_parquet(out / TRUTH_FILE)
        (out / SUMMARY_FILE).write_bytes(msgspec.json.encode(run.summary()))
        return run
    finally:
        if broker is not None:
            broker.stop()


def _stream(run: DemoRun, steps: _Steps, out: Path) -> None:
    settings, market, options = run.settings, run.market, run.options
    with steps.step("broker and topics"):
        create_topics(settings)
        if any(end_offsets(settings, list(TOPICS)).values()):
            raise ConfigError(
                f"The topics at {settings.bootstrap} are not empty, and the demo would mix with what is there.",
                "Use a broker of its own, or leave --bootstrap away: the embedded one starts empty.",
            )
    player = Player(market, settings)
    with Workers(settings, environment_of(settings), out / "logs") as workers:
        workers.start("features", "universe", "lake")
        trained_until = market.at(options.training_share)
        _play(run, steps, player, workers, "history into the lake", trained_until + NANO // 2)
        _fit(run, steps, trained_until)
        workers.start("signals", "decisions", "own")
        _play(run, steps, player, workers, "stream, decide, fill", None)
        run.restarts = workers.restarts
    run.events = player.rows
    run.dead_letters = _dead_letters(settings.lake)


def _dead_letters(path: Place) -> int:
    """Rows that the edge or a worker refused; a worker that was started again may have sent one twice."""
    with open_lake(path) as lake:
        found = lake.sql(
            "SELECT coalesce(sum(rows), 0) FROM (SELECT DISTINCT ON (coalesce(origin, stage), source_topic, "
            "source_partition, coalesce(source_offset, topic_offset), reason) rows FROM dead_letters)"
        ).fetchall()
    return int(found[0][0])


def _play(run: DemoRun, steps: _Steps, player: Player, workers: Workers, name: str, until: int | None) -> None:
    """Play a part of the market and wait until every worker has taken it."""
    market, before = run.market, player.rows
    with steps.step(name, total=1.0) as step:
        begin = time.monotonic()
        with interrupted_between_steps() as look:
            for count, when in enumerate(player.play(until)):
                look()
                if count % 200 == 0:
                    share = (when - market.start_ns) / market.duration_ns
                    step.to(min(0.9, share), f"{player.rows - before:,} events")
                    workers.check()
        workers.drain(240.0)
        rate = (player.rows - before) / (time.monotonic() - begin)
        step.to(1.0, f"{player.rows - before:,} events, {rate:,.0f}/s end to end")


def _fit(run: DemoRun, steps: _Steps, until: int) -> None:
    """Fit on what was known by the end of the first part, and on nothing else."""
    settings, options = run.settings, run.options
    # Availability counts by our clock: the bars' own rows say when they were known.
    with open_lake(settings.lake) as lake:
        known = lake.execute("SELECT max(ts_known) FROM universe WHERE bar_ts <= ?", [until]).fetchall()[0][0]
    with steps.step("fit regimes (HMM, K-Means)"):
        fit_regimes_artifact(settings, known, options.seed)
    with steps.step("fit forecast (HAR, LightGBM)"):
        fit_forecast_artifact(settings, known, options.seed, options.horizon_bars)
    _write_portfolio(run, until)
    with steps.step("train policy (no-trade band)", total=1.0) as step:
        config = TrainingConfig(n_batches=options.policy_batches, seed=options.seed, device=options.device)
        portfolio = read_portfolio(settings.portfolio)
        train_policy_artifact(settings, portfolio, known, config, progress=step.to)


def _write_portfolio(run: DemoRun, until: int) -> None:
    """Short options at the money when the hedging begins."""
    query = "SELECT underlying, arg_max(mid, bar_ts) FROM universe WHERE bar_ts <= ? AND mid IS NOT NULL GROUP BY 1"
    with open_lake(run.settings.lake) as lake:
        spot = dict(lake.execute(query, [until]).fetchall())
    portfolio = demo_portfolio(spot, run.active_from, run.settings.reference)
    run.settings.portfolio.write_bytes(encode_portfolio(portfolio))


def _backfill(run: DemoRun, steps: _Steps, out: Path) -> None:
    """The same stages over the lake's raw tables; count the rows that differ in a bit."""
    again = Lake(out / "backfill")
    with steps.step("backfill and compare") as step:
        run.backfilled = backfill(read_log(run.settings.lake), again, run.settings, with_signals=True)
        streamed = Lake(run.settings.lake)
        backfill_own_activity(streamed, again, run.settings)
        run.comparisons = [compare(streamed, again, name) for name in COMPARED]
        step.to(1.0, f"{run.differing} rows differ")


def _market(options: DemoOptions) -> Market:
    if options.minutes <= 0:
        raise ConfigError(f"{options.minutes} minutes are none.", "Give --minutes a positive number, e.g. 20.")
    if options.data is None:
        return simulated_market(options.minutes, options.seed)
    return recorded_market(options.data, options.minutes)


def _fresh_folder(out: Path) -> Path:
    """An empty folder; what an earlier demo left there goes, anything else stays and is an error."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise ConfigError(f"{out} is not empty and not a demo's.", "Choose another folder: --out.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()
    return out

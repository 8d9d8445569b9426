"""Signals and decisions through kill -9: nothing decided twice, nothing lost, and the log alone explains it all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from broker_under_test import SESSION_MS, broker_under_test, create_topics

from features.events import NANO, EventBatch
from hedger.backtest import run as run_backtest
from hedger.decide import Decider
from hedger.decision import decode_decision, encode_decision
from hedger.inputs import KillInput, decode_input, encode_input
from hedger.paper import PaperGateway
from hedger.policy import load_policy
from hedger.portfolio import demo_portfolio, encode_portfolio
from hedger.profit import signal_inputs
from hedger.training import TrainingConfig
from pipeline.backfill import backfill
from pipeline.codec import KIND_HEADER
from pipeline.compare import compare
from pipeline.edge import Edge
from pipeline.fit import fit_forecast_artifact, fit_regimes_artifact, train_policy_artifact
from pipeline.kafka import committed_offsets
from pipeline.lake import Lake
from pipeline.log import KafkaLog, MemoryLog, Outbox
from pipeline.model_folders import POLICY_FOLDER
from pipeline.portfolios import DEFAULT_LIMITS, read_portfolio
from pipeline.processes import Workers, environment_of
from pipeline.query import open_lake
from pipeline.raw_reader import read_log
from pipeline.settings import Settings
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig
from pipeline.topics import DECISION_INPUTS
from pipeline.worker_specs import sources_of

pytestmark = pytest.mark.broker

REFERENCE = {"BTC": "sim:BTC-PERP", "ETH": "sim:ETH-PERP"}
CONFIG = SimulationConfig(minutes=6, seed=3)
ACTIVE_FROM = CONFIG.start_ns + 270 * NANO


def edged_events() -> list[EventBatch]:
    events: list[EventBatch] = []
    edge = Edge(MemoryLog(events.append), "test")
    for batch in SimulatedExchange(CONFIG).batches():
        edge.send(batch)
    return events


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and a portfolio, fitted on the first four and a half of six minutes."""
    folder = tmp_path_factory.mktemp("prepared")
    settings = Settings(reference=REFERENCE, models=folder / "models")
    backfill(edged_events(), Lake(folder / "history"), settings, with_signals=False)
    until = CONFIG.start_ns + 265 * NANO
    portfolio = demo_portfolio({"BTC": 60_000.0, "ETH": 2_600.0}, ACTIVE_FROM, REFERENCE)
    (folder / "portfolio.json").write_bytes(encode_portfolio(portfolio))
    history = settings.model_copy(update={"lake": folder / "history"})
    fit_regimes_artifact(history, until, 0)
    fit_forecast_artifact(history, until, 0, 20)
    quick = TrainingConfig(n_paths=128, n_batches=3, n_pilot_batches=1, n_test_batches=1)
    train_policy_artifact(history, portfolio, until, quick)
    return folder


@pytest.fixture
def settings(prepared: Path, tmp_path: Path) -> Iterator[Settings]:
    with broker_under_test() as broker:
        settings = Settings(
            bootstrap=broker.bootstrap,
            application=tmp_path.name,
            reference=REFERENCE,
            lake=tmp_path / "lake",
            models=prepared / "models",
            portfolio=prepared / "portfolio.json",
            active_from_bar_ts=ACTIVE_FROM,
            checkpoint_interval_ms=150,
            lake_commit_interval_ms=300,
            session_timeout_ms=SESSION_MS,
            batch_messages=20,
            member="a",
        )
        create_topics(broker, settings)
        yield settings


def test_killed_workers_decide_nothing_twice_and_lose_nothing(settings: Settings, tmp_path: Path) -> None:
    log = KafkaLog(settings)
    edge = Edge(log, "test")
    events = list(SimulatedExchange(CONFIG).batches())
    phases = [events[len(events) * i // 10 : len(events) * (i + 1) // 10] for i in range(10)]
    victims = {8: ["decisions", "signals"], 9: ["decisions", "features"]}
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        workers.start("features", "universe", "signals", "decisions", "lake")
        for number, phase in enumerate(phases):
            before = {victim: committed(settings, victim) for victim in victims.get(number, [])}
            for event in phase:
                edge.send(event)
            log.flush()
            for victim, done in before.items():
                # Not long: after ten seconds of silence timer ticks would decide, which the backtest does not have.
                deadline = time.monotonic() + 5
                while committed(settings, victim) == done and time.monotonic() < deadline:
                    time.sleep(0.05)
                workers[victim].kill()
                workers[victim].start()
        workers.drain(120)
    again = Lake(tmp_path / "again")
    backfill(read_log(settings.lake), again, settings, with_signals=True)
    for name in ("features", "universe", "signals"):
        result = compare(Lake(settings.lake), again, name)
        assert result.left == result.right > 700
        assert result.differing == 0
    check_decisions(settings)


def committed(settings: Settings, stage: str) -> int:
    return sum(committed_offsets(settings, stage, sources_of(stage)).values())


def check_decisions(settings: Settings) -> None:
    """Every bar once; equal to a backtest of the same signals; and to a second run over the log of inputs."""
    with open_lake(settings.lake) as lake:
        decisions = lake.sql("SELECT DISTINCT bar_ts, document FROM decisions ORDER BY bar_ts").fetchall()
        inputs = lake.sql("SELECT document FROM decision_inputs ORDER BY topic_offset").fetchall()
        fills = lake.sql("SELECT order_id, quantity, price FROM fills ORDER BY bar_ts, order_id").fetchall()
        signals = lake.sql(f"SELECT * FROM signals WHERE bar_ts >= {ACTIVE_FROM}").pl()
    bars = [bar for bar, _ in decisions]
    assert len(bars) == len(set(bars)) > 80
    market = signal_inputs(signals)
    expected = run_backtest(market, fresh(settings), PaperGateway())
    assert [
        (f.order_id, f.quantity, f.price) for f in sorted(expected.fills, key=lambda f: (f.bar_ts, f.order_id))
    ] == fills
    assert len(fills) > 2
    decider = fresh(settings)
    remade = [decision for (document,) in inputs if (decision := decider.apply(decode_input(document)))]
    # A crash may append an input twice: the decider drops the repeat, and says so in a notice and a count.
    assert [d.bar_ts for d in remade if d.bar_ts in set(bars)] == bars
    logged = {bar: decode_decision(document) for bar, document in decisions}
    for decision in remade:
        if decision.bar_ts in logged:
            assert encode_decision(decision) == encode_decision(logged[decision.bar_ts])


def fresh(settings: Settings) -> Decider:
    policy = load_policy(settings.models / POLICY_FOLDER, None)
    return Decider(read_portfolio(settings.portfolio), DEFAULT_LIMITS, policy)


def test_a_persons_kill_stops_orders_at_once(settings: Settings, tmp_path: Path) -> None:
    log = KafkaLog(settings)
    edge = Edge(log, "test")
    events = list(SimulatedExchange(CONFIG).batches())
    cut = len(events) * 17 // 20
    with Workers(settings, environment_of(settings), tmp_path / "logs") as workers:
        workers.start("features", "universe", "signals", "decisions", "lake")
        for event in events[:cut]:
            edge.send(event)
        log.flush()
        workers.drain(120)
        outbox = Outbox(settings, linger_ms=0)
        item = KillInput(input_id="person:1", reason="test", by="a test")
        outbox.send(DECISION_INPUTS, 0, "demo", encode_input(item), {KIND_HEADER: "input", "portfolio": "demo"})
        outbox.flush()
        time.sleep(0.5)
        for event in events[cut:]:
            edge.send(event)
        log.flush()
        workers.drain(120)
    with open_lake(settings.lake) as lake:
        killed_at = lake.sql(
            """SELECT min(bar_ts) FROM decisions WHERE document LIKE '%"trigger":"person:1"%'"""
        ).fetchall()[0][0]
        after = lake.sql(f"SELECT * FROM decisions WHERE bar_ts >= {killed_at}").pl()
        before = lake.sql(f"SELECT count(order_quantity) FROM decisions WHERE bar_ts < {killed_at}").fetchall()[0][0]
    assert before > 2
    assert after.height > 40
    assert after["order_quantity"].null_count() == after.height
    assert after.filter(pl.col("rung") == "hold").height == after.height

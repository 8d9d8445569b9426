"""Our own activity after a crash, with poison and repeats: each row once, and to the bit what a backfill gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from broker_under_test import broker_under_test, create_topics
from hedge_market import FixedBand, portfolio, random_walk

from features.errors import HedgeflowError
from hedger.backtest import run
from hedger.decide import Decider
from hedger.inputs import Input, encode_input
from hedger.limits import Limits
from hedger.paper import PaperGateway
from hedger.portfolio import encode_portfolio
from hedger.profit import signal_inputs
from pipeline.backfill_own_activity import backfill_own_activity
from pipeline.chain import snapshot
from pipeline.checkpoint import Checkpoint, CheckpointStore
from pipeline.codec import KIND_HEADER, encode
from pipeline.compare import compare
from pipeline.kafka import partition_of
from pipeline.lake import Lake
from pipeline.log import Outbox
from pipeline.own_activity import LoggedInput, OwnActivityStage
from pipeline.processes import WorkerProcess, environment_of
from pipeline.query import open_lake
from pipeline.settings import Settings
from pipeline.topics import DECISION_INPUTS, OWN_ACTIVITY
from pipeline.worker_specs import make_worker

pytestmark = pytest.mark.broker

BARS = 60


def send(settings: Settings, documents: list[bytes]) -> None:
    outbox = Outbox(settings)
    for document in documents:
        outbox.send(DECISION_INPUTS, 0, "demo", document, {KIND_HEADER: "input", "portfolio": "demo"})
    outbox.flush()


def wait_for(what: Callable[[], bool], timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def count(lake: Path, table: str) -> int:
    try:
        with open_lake(lake) as connection:
            return int(connection.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0])
    except HedgeflowError:
        return 0


def crash(settings: Settings, items: list[Input], covered: int) -> None:
    """Leave behind what a worker does that dies: rows of all ``items``, and a checkpoint of the first ``covered``."""
    stage, outbox = OwnActivityStage.load(settings), Outbox(settings)
    for offset, item in enumerate(items):
        if offset == covered:
            checkpoint = Checkpoint(1, {(DECISION_INPUTS, 0): covered}, snapshot([("own", stage)]))
            CheckpointStore(settings, outbox).save("own/0", checkpoint)
        for rows in stage.process(LoggedInput("demo", item)).rows:
            partition = partition_of(rows.key, settings.partitions)
            outbox.send(OWN_ACTIVITY, partition, rows.key, encode(rows.data), {KIND_HEADER: OWN_ACTIVITY})
    outbox.flush()


def test_after_a_crash_each_row_is_told_once_and_as_a_backfill_tells_it(tmp_path: Path) -> None:
    market = signal_inputs(random_walk(BARS, seed=2))
    items = list(run(market, Decider(portfolio(), Limits(), FixedBand(0.0, 0.0)), PaperGateway()).inputs)
    half = len(items) // 2
    (tmp_path / "portfolio.json").write_bytes(encode_portfolio(portfolio()))
    with broker_under_test() as broker:
        settings = Settings(
            bootstrap=broker.bootstrap,
            application=tmp_path.name,
            lake=tmp_path / "lake",
            portfolio=tmp_path / "portfolio.json",
            checkpoint_interval_ms=50,
            lake_commit_interval_ms=200,
            batch_messages=5,
        )
        create_topics(broker, settings)
        lake = make_worker(["lake"], settings)
        writing = threading.Thread(target=lake.run)
        writing.start()
        own = WorkerProcess("own", environment_of(settings), tmp_path / "own.log")
        try:
            send(settings, [encode_input(item) for item in items[:half]])
            crash(settings, items[:half], covered=half - 30)
            own.start()
            # Poison, then inputs that are appended again: what a crash of the decisions worker leaves behind.
            send(settings, [b'{"type":"gossip"}', *(encode_input(item) for item in items[half - 20 :])])
            wait_for(lambda: count(settings.lake, "own_activity") >= 2 * BARS)
            wait_for(lambda: count(settings.lake, "dead_letters") >= 1)
        finally:
            status = own.stop()
            lake.stop()
            writing.join()
    assert status == 0
    assert '"task": "own/0", "generation": 1' in (tmp_path / "own.log").read_text()
    again = Lake(tmp_path / "again")
    result = backfill_own_activity(Lake(settings.lake), again, settings)
    assert result.rejects == {"bad_input": 1}
    compared = compare(Lake(settings.lake), again, "own_activity")
    assert (compared.left, compared.right, compared.differing) == (2 * BARS, 2 * BARS, 0)
    with open_lake(settings.lake) as connection:
        traded = connection.sql("SELECT sum(fills), max(turnover_1h) FROM own_activity").fetchall()[0]
        letters = connection.sql("SELECT stage, reason FROM dead_letters").fetchall()
    assert traded[0] == len(items) - 2 * BARS > 50
    assert traded[1] > 0.0
    assert letters == [("own", "bad_input")]

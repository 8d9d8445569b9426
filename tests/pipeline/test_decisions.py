"""The decider at the end of a chain, crashed at each of its steps on a real broker: no bar decided twice, none lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from confluent_kafka import OFFSET_BEGINNING, TopicPartition
from hedge_market import portfolio, random_walk

from features.catalog import catalogue_hash
from features.signals import SCHEMA
from hedger.decision import Decision, decode_decision
from hedger.inputs import decode_input, encode_input, signal_input
from hedger.policy import BandNetwork, BandPolicy, save_policy
from hedger.policy_inputs import POLICY_INPUTS
from hedger.portfolio import encode_portfolio
from pipeline.broker import EmbeddedBroker
from pipeline.codec import KIND_HEADER
from pipeline.decisions import Decisions
from pipeline.kafka import create_topics, make_reader, read_to_end
from pipeline.log import Outbox
from pipeline.metrics import WorkerMetrics
from pipeline.model_folders import POLICY_FOLDER
from pipeline.settings import Settings
from pipeline.topics import DECISION_INPUTS, DECISIONS

pytestmark = pytest.mark.broker

BARS = 12


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    d = len(POLICY_INPUTS)
    network = BandNetwork(torch.zeros(d), torch.ones(d), 0.03, 5.0, 32, torch.Generator().manual_seed(0))
    policy = BandPolicy(network.eval(), {"config": {"n_steps": 60}})
    save_policy(
        tmp_path / "models" / POLICY_FOLDER,
        policy,
        name="band",
        catalogue=catalogue_hash(),
        seed=0,
        metrics={},
        data={},
    )
    (tmp_path / "portfolio.json").write_bytes(encode_portfolio(portfolio()))
    with EmbeddedBroker() as broker:
        settings = Settings(
            bootstrap=broker.bootstrap, models=tmp_path / "models", portfolio=tmp_path / "portfolio.json"
        )
        create_topics(settings)
        yield settings


def signals() -> list[pa.RecordBatch]:
    """A batch a bar, with a row an underlying."""
    rows = random_walk(BARS, seed=1).select(SCHEMA.names).to_arrow().cast(SCHEMA)
    names = rows.column("bar_ts").unique().to_pylist()
    return [rows.filter(pc.equal(rows["bar_ts"], bar)).combine_chunks().to_batches()[0] for bar in names]


def logged(settings: Settings, topic: str) -> list[bytes]:
    reader = make_reader(settings)
    try:
        return [message.value() for message in read_to_end(reader, [TopicPartition(topic, 0, OFFSET_BEGINNING)])]
    finally:
        reader.close()


def decisions(settings: Settings) -> list[Decision]:
    return [decode_decision(document) for document in logged(settings, DECISIONS)]


def started(settings: Settings, dead: Decisions | None = None, *, with_state: bool = True) -> Decisions:
    """One that goes on from the state of another."""
    subject = Decisions(settings, WorkerMetrics("decisions"))
    if dead is not None and with_state:
        subject.restore(dead.snapshot(), dead.offsets())
    else:
        subject.restore({}, {})
    return subject


def shown(each: Decision) -> tuple[Any, ...]:
    return each.bar_ts, each.decision_id, each.legs, each.orders


def test_a_bar_of_which_a_crash_left_only_a_part_in_the_log_is_decided_once_with_the_rest(settings: Settings) -> None:
    bars = signals()
    subject = started(settings)
    for bar in bars[:5]:
        subject.take(bar)
    # It dies after it has appended the first underlying's row of the next bar, and not the second's.
    outbox = Outbox(settings, linger_ms=0)
    first = signal_input(bars[5].to_pylist()[0])
    outbox.send(DECISION_INPUTS, 0, "demo", encode_input(first), {KIND_HEADER: "input", "portfolio": "demo"})
    outbox.flush()
    subject.close()
    again = started(settings, subject)
    for bar in bars[5:]:
        again.take(bar)
    again.close()
    made = decisions(settings)
    assert [each.bar_ts for each in made] == [bar.column("bar_ts")[0].as_py() for bar in bars]
    appended = [decode_input(document).input_id for document in logged(settings, DECISION_INPUTS)]
    assert len(appended) == len(set(appended))


@pytest.mark.parametrize("with_state", [True, False])
def test_started_again_it_repeats_no_decision_and_reads_no_more_of_them_than_it_must(
    settings: Settings, with_state: bool
) -> None:
    bars = signals()
    subject = started(settings)
    for bar in bars[:6]:
        subject.take(bar)
    subject.close()
    again = started(settings, subject, with_state=with_state)
    assert again.offsets() == subject.offsets()
    for bar in bars:  # those of before come again: whoever sends them has gone back to its own checkpoint
        again.take(bar)
    again.close()
    assert len(decisions(settings)) == BARS
    whole = [shown(each) for each in decisions(settings)]
    assert len({name for _, name, _, _ in whole}) == BARS


def test_rows_that_wait_for_another_underlying_are_state(settings: Settings) -> None:
    bars = signals()
    subject = started(settings)
    subject.take(bars[0])
    subject.take(bars[1].slice(0, 1))
    subject.close()
    again = started(settings, subject)
    again.take(bars[1].slice(1, 1))
    again.close()
    assert [each.bar_ts for each in decisions(settings)] == [bar.column("bar_ts")[0].as_py() for bar in bars[:2]]


def test_what_is_no_decision_acknowledges_none(settings: Settings) -> None:
    outbox = Outbox(settings, linger_ms=0)
    outbox.send(DECISIONS, 0, "demo", b"\xff garbage", {KIND_HEADER: "decision"})
    outbox.send(DECISION_INPUTS, 0, "demo", b"{}", {KIND_HEADER: "input"})
    outbox.flush()
    subject = started(settings)
    for bar in signals()[:3]:
        subject.take(bar)
    subject.close()
    assert len(logged(settings, DECISIONS)) == 4

"""Events that span hours are taken in pieces: the same rows, of which few are in memory at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small_market import START, small_market

from features.bars import FeatureStage
from features.events import NANO, EventBatch, Kind, record_batch
from pipeline.chain import PIECE_NS, flow, pieces

INTERVAL = NANO
FILLED = 3_600
"""Bars of a second that one silence gives at most."""


def beats(*seconds: float) -> EventBatch:
    """Heartbeats at these times after the start."""
    at = START + (np.array(seconds) * NANO).astype(np.int64)
    data = record_batch(
        Kind.HEARTBEAT, ["test:clock"], {"instrument": np.zeros(len(at)), "ts_event": at, "ts_recv": at}
    )
    return EventBatch(Kind.HEARTBEAT, "BTC", data)


def rows_of(batches: list[EventBatch], *, whole: bool) -> list[pa.RecordBatch]:
    """Feature rows, as the chain gives them or with each batch in one piece."""
    stage = FeatureStage(INTERVAL)
    outputs: list[Any] = []
    for batch in batches:
        outputs += [stage.process(batch)] if whole else [output for _, output in flow([("features", stage)], batch)]
    return [rows.data for output in outputs for rows in output.rows]


@pytest.fixture(scope="module")
def history() -> list[EventBatch]:
    return [each for each in small_market(5) if each.underlying == "BTC"]


def test_the_rows_are_those_of_one_piece(history: list[EventBatch]) -> None:
    sparse = beats(*(10 + 3_500 * i for i in range(8)), 10 + 3_500 * 8 + 4_000)
    whole, cut = (rows_of([*history, sparse], whole=whole) for whole in (True, False))
    assert pa.Table.from_batches(whole).equals(pa.Table.from_batches(cut))
    instruments = len(set(whole[-1].column("instrument").to_pylist()))
    assert max(each.num_rows for each in whole) > 7 * 3_500 * instruments
    assert max(each.num_rows for each in cut) <= (FILLED + PIECE_NS // INTERVAL) * instruments


def test_a_message_of_a_live_feed_stays_whole() -> None:
    batch = beats(0, 0.1, 5, 4, 600)
    assert [each is batch for each in pieces(batch)] == [True]
    assert [each is batch for batch in (beats(7),) for each in pieces(batch)] == [True]


@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_all_rows_in_order_and_none_moves_far(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = beats(*rng.choice([-900.0, -1.0, 0.0, 0.5, 30.0, 599.0, 700.0, 9e6], 300).cumsum())
    found = list(pieces(batch))
    assert pa.Table.from_batches([each.data for each in found]).equals(pa.Table.from_batches([batch.data]))
    for each in found:
        moved = np.diff(each.data.column("ts_event").to_numpy())
        assert moved[moved > 0].sum() <= PIECE_NS

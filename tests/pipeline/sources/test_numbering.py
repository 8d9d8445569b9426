"""A source that is started again goes on numbering where the log stands."""

from __future__ import annotations

import pytest
from small_market import START, book_event, small_market

from features.events import BID, SNAPSHOT, EventBatch, Kind
from pipeline.broker import EmbeddedBroker
from pipeline.codec import MAX_ROWS
from pipeline.kafka import create_topics, end_offsets, partition_of
from pipeline.log import KafkaLog, MemoryLog
from pipeline.settings import Settings
from pipeline.sources.numbering import ResumedEdge, resumed_edge
from pipeline.topics import EVENTS


def numbers(batches: list[EventBatch], kind: Kind = Kind.BOOK) -> list[int]:
    return [seq for batch in batches if batch.kind is kind for seq in batch.data.column("seq").to_pylist()]


def test_known_numbers_go_on_and_others_begin_where_their_partition_says() -> None:
    out: list[EventBatch] = []
    known = {(Kind.BOOK, "x:BTC"): 7}
    btc, eth = partition_of("BTC", 8), partition_of("ETH", 8)
    assert btc != eth
    edge = ResumedEdge(MemoryLog(out.append), "test", known, {eth: 1_000}, 8)
    for underlying in ("BTC", "ETH", "BTC", "ETH"):
        edge.send(book_event(underlying, f"x:{underlying}", [(BID, 1, 1), (BID, 2, 1)], 0, 1, START, SNAPSHOT))
    edge.send(book_event("BTC", "y:BTC", [(BID, 1, 1)], 0, 1, START, SNAPSHOT))
    assert numbers(out) == [7, 8, 1_000, 1_001, 9, 10, 1_002, 1_003, 0]


@pytest.mark.broker
def test_numbers_come_from_the_log_and_no_number_is_given_twice() -> None:
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap=broker.bootstrap)
        create_topics(settings)
        market = small_market(3)
        sent: dict[tuple[Kind, str], list[int]] = {}

        class Seen(KafkaLog):
            def append(self, batch: EventBatch) -> None:
                super().append(batch)
                for row in batch.data.select(["instrument", "seq"]).to_pylist():
                    sent.setdefault((batch.kind, row["instrument"]), []).append(row["seq"])

        def session(tail_messages: int) -> None:
            log = Seen(settings)
            edge = resumed_edge(log, "test", settings, tail_messages)
            for batch in market:
                edge.send(batch)
            log.flush()

        session(20_000)
        session(20_000)
        assert all(seqs == list(range(len(seqs))) for seqs in sent.values())
        session(5)  # most are not in so short a tail
        assert all(seqs == sorted(set(seqs)) for seqs in sent.values())
        assert max(max(seqs) for seqs in sent.values()) >= min(end_offsets(settings, [EVENTS]).values()) // 2 * MAX_ROWS

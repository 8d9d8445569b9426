"""The lake's writer: every row once, whatever comes twice, fails, is slow or changes hands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from lake_feed import LakeFeed, assert_same, contents, fill
from small_market import small_market

from features.declared import own_activity
from features.stage import Reject
from pipeline import topics
from pipeline.broker import EmbeddedBroker
from pipeline.codec import KIND_HEADER, MAX_BYTES, encode
from pipeline.edge import Edge
from pipeline.kafka import create_topics, end_offsets
from pipeline.lake import Lake, LakeError, LakeUnavailableError, Offsets
from pipeline.lake_writer import SOURCES
from pipeline.lake_writer_tables import MOST_TAKEOVERS
from pipeline.log import KafkaLog, Outbox, send_dead_letter
from pipeline.settings import Settings
from pipeline.tables import TABLES, Table

pytestmark = pytest.mark.broker

Append = Callable[[Lake, Table, pa.Table, Offsets], None]


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    settings = Settings(
        bootstrap=broker.bootstrap, lake=tmp_path / "lake", lake_commit_interval_ms=50, batch_messages=100
    )
    create_topics(settings)
    return settings


def send_market(settings: Settings, seconds: int = 3, seed: int = 3) -> None:
    log = KafkaLog(settings)
    edge = Edge(log, "test")
    for event in small_market(seconds, seed=seed):
        edge.send(event)
    log.flush()


def undisturbed(settings: Settings) -> dict[str, pl.DataFrame]:
    """What a lake of its own holds when nothing happens."""
    return fill(settings.model_copy(update={"lake": settings.lake / "undisturbed", "lake_commit_interval_ms": 500}))


def send_own(settings: Settings, bars: Sequence[int], portfolio: str = "a", partition: int = 0) -> None:
    """One message a bar of the topic ``own.activity``, two instruments in each."""
    outbox = Outbox(settings)
    for bar in bars:
        known = {"portfolio": portfolio, "underlying": "BTC", "bar_ts": bar, "ts_known": bar, "version": "1"}
        rows = pa.RecordBatch.from_pylist(
            [{**known, "instrument": each} for each in ("x", "y")], schema=own_activity.SCHEMA
        )
        outbox.send(topics.OWN_ACTIVITY, partition, "BTC", encode(rows), {KIND_HEADER: topics.OWN_ACTIVITY})
    outbox.flush()


def own_rows(settings: Settings) -> list[tuple[str, str, int]]:
    frame = contents(settings)["own_activity"]
    return list(frame.select("portfolio", "instrument", "bar_ts").iter_rows())


def letters(settings: Settings) -> list[tuple[str, str, int | None]]:
    frame = contents(settings).get("dead_letters")
    return [] if frame is None else list(frame.select("stage", "reason", "source_offset").iter_rows())


# -- what comes twice -----------------------------------------------------------------------------------------------


def test_every_row_is_in_its_table_with_its_place_in_the_log(settings: Settings) -> None:
    send_market(settings)
    with LakeFeed(settings) as feed:
        feed.drain()
        metrics = feed.metrics.registry
        assert metrics.get_sample_value("hedgeflow_messages_total", {"stage": "lake", "topic": topics.EVENTS}) > 100
    ends = end_offsets(settings, [topics.EVENTS])
    found = contents(settings)
    assert {"book", "trades", "options", "funding", "instruments", "heartbeats"} <= found.keys()
    places = [row for frame in found.values() for row in frame.select("topic_partition", "topic_offset").iter_rows()]
    assert set(places) == {(p, at) for (_, p), end in ends.items() for at in range(end)}
    book = found["book"]
    assert book["topic_row"].max() > 0
    assert set(book["underlying"]) == {"BTC", "ETH"}
    assert all(
        name.split(":")[1].startswith(under) for name, under in book.select("instrument", "underlying").iter_rows()
    )
    days = pl.from_epoch(book["ts_event"], time_unit="ns").dt.strftime("%Y-%m-%d")
    assert (days == book["date"].cast(pl.String)).all()


def test_a_writer_that_starts_again_goes_on_where_the_tables_stand(settings: Settings) -> None:
    send_market(settings)
    first = fill(settings)
    with LakeFeed(settings) as again:
        again.drain()
    assert_same(contents(settings), first)
    send_market(settings, seed=4)
    whole = fill(settings)
    assert_same(undisturbed(settings), whole)


def test_computed_rows_that_come_again_under_new_offsets_are_dropped(settings: Settings) -> None:
    day = 86_400 * 10**9
    send_own(settings, [1, 2, 3, 3, 2])
    with LakeFeed(settings) as feed:
        feed.drain()
        send_own(settings, [2, 3, 4])
        feed.drain()
        send_own(settings, [2 * day, 2 * day + 1])
        feed.drain()
    send_own(settings, [4, 2 * day + 1, 2 * day + 2])
    send_own(settings, [4, 5, 3 * day], portfolio="b")
    with LakeFeed(settings) as feed:
        feed.drain()
        send_own(settings, [1, 5, 6, 3 * day], portfolio="b")
        feed.drain()
    rows = own_rows(settings)
    assert len(rows) == len(set(rows))
    assert sorted({(p, bar) for p, _, bar in rows}) == [
        *(("a", bar) for bar in (1, 2, 3, 4, 2 * day, 2 * day + 1, 2 * day + 2)),
        *(("b", bar) for bar in (4, 5, 3 * day)),
    ]


def test_dead_letters_that_a_crashed_worker_sends_again_are_dropped(settings: Settings) -> None:
    outbox = Outbox(settings)

    def send(stage: str, offset: int, reason: str, detail: str = "", partition: int = 0) -> None:
        where = {"stage": stage, "topic": topics.EVENTS, "partition": str(partition), "offset": str(offset)}
        send_dead_letter(outbox, Reject(reason, detail), where, b"bytes")
        outbox.flush()

    told = [("features", 5, "a"), ("features", 5, "b"), ("features", 9, "a"), ("own", 9, "a")]
    for each in told:
        send(*each)
    send("features", 9, "a", partition=1)
    with LakeFeed(settings) as feed:
        feed.drain()
        for each in told:
            send(*each)
        send("features", 12, "a")
        feed.drain()
    for each in told:
        send(*each)
    send("features", 12, "a")
    send("features", 12, "a", "another detail")
    for _ in range(2):
        # Of a source: nothing but its own place identifies it.
        send_dead_letter(outbox, Reject("a", ""), {"origin": "file:1"}, b"")
    # A header that is no number.
    send_dead_letter(outbox, Reject("a", ""), {"stage": "s", "topic": "t", "partition": "x", "offset": "9" * 30}, b"")
    outbox.flush()
    with LakeFeed(settings) as feed:
        feed.drain()
    found = contents(settings)["dead_letters"]
    named = found.filter(found["source_offset"].is_not_null())
    assert sorted(named.select("stage", "source_partition", "source_offset", "reason", "detail").iter_rows()) == [
        ("features", 0, 5, "a", ""),
        ("features", 0, 5, "b", ""),
        ("features", 0, 9, "a", ""),
        ("features", 0, 12, "a", ""),
        ("features", 0, 12, "a", "another detail"),
        ("features", 1, 9, "a", ""),
        ("own", 0, 9, "a", ""),
    ]
    assert found.height - named.height == 3


def test_poison_that_only_the_lake_reads_becomes_one_dead_letter(settings: Settings) -> None:
    good = {"order_id": "1", "bar_ts": 5, "quantity": 1.0}
    poison = [
        (topics.FILLS, b"\xff no json", b"fill"),
        (topics.FILLS, msgspec.json.encode({**good, "quantity": "much"}), b"fill"),
        (topics.FILLS, msgspec.json.encode({**good, "bar_ts": None}), b"fill"),
        (topics.FILLS, msgspec.json.encode({**good, "bar_ts": 1 << 70}), b"fill"),
        (topics.DECISIONS, b'{"legs": [3]}', b"decision"),
        (topics.DECISIONS, b'{"legs": 3, "bar_ts": 1}', b"decision"),
        (topics.SIGNALS, b"garbage", b"signals"),
        (topics.SIGNALS, b"garbage", b"gossip"),
        (topics.SIGNALS, b"", b"signals"),
        (topics.FEATURES, b"x" * (MAX_BYTES - 200_000), b"features"),
        # Those have a stage that reads them and tells: the lake counts, and leaves them out.
        (topics.EVENTS, b"garbage", b"book"),
        (topics.DECISION_INPUTS, b"garbage", b"input"),
    ]
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    for topic, payload, kind in poison:
        producer.produce(topic, payload, b"k", 0, headers={KIND_HEADER: kind})
    producer.produce(topics.FILLS, msgspec.json.encode(good), b"k", 0, headers={KIND_HEADER: b"fill"})
    producer.flush()
    with LakeFeed(settings) as feed:
        feed.drain()
        feed.drain()  # the letters, which came meanwhile
        counted = feed.metrics.registry.get_sample_value
        undecodable = counted("hedgeflow_dead_letters_total", {"stage": "lake", "reason": "undecodable"})
        unknown = counted("hedgeflow_dead_letters_total", {"stage": "lake", "reason": "unknown_kind"})
    assert (undecodable, unknown) == (10, 1)
    found = contents(settings)
    assert found["fills"]["order_id"].to_list() == ["1"]
    told = found["dead_letters"]
    assert told.height == 10
    assert set(told["stage"]) == {"lake"}
    assert sorted(told["source_topic"].value_counts().iter_rows()) == [
        ("decisions", 2),
        ("features", 1),
        ("oms.fills", 4),
        ("signals", 3),
    ]
    assert set(told.filter(told["source_topic"] == "signals")["source_kind"]) == {"signals", "gossip"}
    # The decider runs after all and tells of the same message; and we, killed before our commit, tell again.
    outbox = Outbox(settings)
    for stage in ("decisions", "lake"):
        where = {"stage": stage, "topic": topics.SIGNALS, "partition": "0", "offset": "0"}
        send_dead_letter(outbox, Reject("undecodable", "otherwise said"), where, b"garbage")
    outbox.flush()
    with LakeFeed(settings) as feed:
        feed.drain()
    assert len(letters(settings)) == 10


# -- a lake that is slow or fails ------------------------------------------------------------------------------------


def around(monkeypatch: pytest.MonkeyPatch, before: Callable[[Table], None]) -> None:
    """Something happens before each append; the real one follows."""
    append = Lake.append

    def appended(self: Lake, table: Table, data: pa.Table, offsets: Offsets) -> None:
        before(table)
        append(self, table, data, offsets)

    monkeypatch.setattr(Lake, "append", appended)


def test_a_slow_lake_stops_neither_the_loop_nor_loses_rows_and_what_waits_is_bounded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_market(settings, seconds=8)
    expected = undisturbed(settings)
    bound, batch = 1 << 19, 20
    slow = settings.model_copy(update={"lake_waiting_bytes": bound, "batch_messages": batch})
    delays = [2.0, 2.0]
    around(monkeypatch, lambda table: time.sleep(delays.pop() if delays and table.name == "book" else 0.0))
    most, paused = 0, 0
    with LakeFeed(slow) as feed:
        ends = end_offsets(slow, [topics.EVENTS])
        while any(feed.offsets.get(each, 0) < at for each, at in ends.items()):
            feed.turn()
            most = max(most, feed.writer.waiting_bytes)
            paused += feed.writer.full()
        assert feed.longest_turn_s < 1.0
    assert paused > 20
    assert bound <= most < bound + (batch + 1) * 20_000
    assert_same(contents(slow), expected)


def test_a_lake_that_fails_is_tried_again_and_ends_equal(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    send_market(settings)
    send_own(settings, [1, 2, 3, 2])
    expected = undisturbed(settings)
    failing = [True, True, False, True, True, False, True]

    def fail(table: Table) -> None:
        if failing and failing.pop():
            raise LakeUnavailableError("The store has gone for a walk.", "Wait.")

    around(monkeypatch, fail)
    with LakeFeed(settings) as feed:
        feed.drain()
        failures = sum(
            sample.value
            for metric in feed.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "hedgeflow_lake_failures_total"
        )
    assert (failures, failing) == (5, [])
    assert_same(contents(settings), expected)


def test_an_append_whose_answer_was_lost_is_not_repeated(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    send_market(settings)
    send_own(settings, [1, 2, 3])
    expected = undisturbed(settings)
    append, lost = Lake.append, []

    def appended(self: Lake, table: Table, data: pa.Table, offsets: Offsets) -> None:
        if table.name in lost:
            append(self, table, data, offsets)
            return
        lost.append(table.name)
        append(Lake(self.path), table, data, offsets)  # our handle does not learn of it
        raise LakeUnavailableError("The connection broke.", "Wait.")

    monkeypatch.setattr(Lake, "append", appended)
    with LakeFeed(settings) as feed:
        feed.drain(30)
    assert len(lost) > 5
    assert_same(contents(settings), expected)


def test_a_lake_that_fails_when_partitions_are_handed_over_leaves_them_to_the_next_owner(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_market(settings)
    expected = undisturbed(settings)
    with monkeypatch.context() as patch, LakeFeed(settings) as feed:

        def fail(table: Table) -> None:
            if table.name == "trades":
                raise LakeUnavailableError("The store has gone for a walk.", "Wait.")

        around(patch, fail)
        feed.until(lambda: feed.writer.waiting_bytes > 0)
        begin = time.monotonic()
        feed.hand_over()
        assert time.monotonic() - begin < 5.0
        assert not feed.offsets.get((topics.EVENTS, 0))
        assert feed.writer.waiting_bytes == 0
    assert_same(fill(settings), expected)


def test_an_error_that_will_not_pass_ends_the_worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(table: Table) -> None:
        raise ZeroDivisionError("a fault of ours")

    around(monkeypatch, refuse)
    send_own(settings, [1])
    with LakeFeed(settings) as feed, pytest.raises(ZeroDivisionError, match="a fault of ours"):
        feed.drain()


# -- other owners, other logs ----------------------------------------------------------------------------------------


def test_partitions_that_change_hands_leave_each_row_once(settings: Settings) -> None:
    everything = set(end_offsets(settings, SOURCES))
    some = {each for each in everything if each[1] == 0}
    send_market(settings, seed=1)
    send_own(settings, [1, 2])
    with LakeFeed(settings, some) as one, LakeFeed(settings, everything - some) as two:
        one.until(lambda: bool(one.offsets))
        two.until(lambda: bool(two.offsets))
        send_market(settings, seed=2)
        two.turn()
        one.turn()
        one.hand_over()
        two.hand_over()
        with LakeFeed(settings, some) as three:
            send_own(settings, [2, 3])
            three.drain()
            three.hand_over()
    send_own(settings, [3, 4])
    again = fill(settings)
    assert_same(undisturbed(settings), again)
    assert [bar for *_, bar in own_rows(settings)] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_writer_that_was_thought_dead_neither_duplicates_nor_stops(settings: Settings) -> None:
    """It wakes with rows that its successor has committed meanwhile, and more."""
    send_own(settings, [1, 2])
    with LakeFeed(settings) as old:
        old.until(lambda: old.writer.waiting_bytes > 0)
        with LakeFeed(settings) as new:
            send_own(settings, [3])
            new.drain()
            send_own(settings, [4, 5])
            old.drain()
            send_own(settings, [6])
            new.drain()
    assert [bar for *_, bar in own_rows(settings)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


def test_two_writers_that_keep_writing_the_same_partitions_are_stopped(settings: Settings) -> None:
    with LakeFeed(settings) as one, LakeFeed(settings) as two:
        bars = iter(range(1, 100))

        def contend() -> None:
            for bar in bars:
                send_own(settings, [bar])
                one.drain()
                two.drain()

        with pytest.raises(LakeError, match=r"Another writer committed to .*own_activity.*one lake writer per part"):
            contend()
        last = next(bars) - 1
        assert MOST_TAKEOVERS < last < 10 * MOST_TAKEOVERS
        assert [bar for *_, bar in own_rows(settings)] == [bar for bar in range(1, last + 1) for _ in "xy"]


def test_a_log_that_is_another_one_is_refused_even_when_it_is_longer(
    settings: Settings, broker: EmbeddedBroker
) -> None:
    send_market(settings, seconds=2)
    before = fill(settings)
    broker.stop()
    broker.start()
    create_topics(settings)
    send_market(settings, seconds=8)
    with pytest.raises(LakeError, match=r"written from another log.*another --lake"):
        LakeFeed(settings).__enter__()
    assert_same(contents(settings), before)


def test_a_lake_that_is_ahead_of_the_log_is_refused(settings: Settings) -> None:
    send_own(settings, [1])
    fill(settings)
    rows = Lake(settings.lake).dataset(TABLES["own_activity"]).to_table()
    Lake(settings.lake).append(TABLES["own_activity"], rows, {(topics.OWN_ACTIVITY, 0): 1_000_000})
    with pytest.raises(LakeError, match="up to offset 1000000, the broker only up to 1"):
        LakeFeed(settings).__enter__()


def test_offsets_that_come_back_grow(settings: Settings) -> None:
    """What is told as durable only grows, and reaches the end; positions of others are never among it."""
    send_market(settings)
    small = settings.model_copy(update={"batch_messages": 10})
    seen: list[int] = []
    with LakeFeed(small, {(topics.EVENTS, 0)}) as feed:
        while not seen or seen[-1] < end_offsets(small, [topics.EVENTS])[topics.EVENTS, 0]:
            feed.turn()
            seen.append(feed.offsets.get((topics.EVENTS, 0), 0))
        assert feed.offsets.keys() == {(topics.EVENTS, 0)}
    assert all(a <= b for a, b in pairwise(seen))
    assert len(set(seen)) > 3

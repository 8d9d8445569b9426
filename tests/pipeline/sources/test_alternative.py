"""Any file of timestamped texts or numbers becomes a log that is sorted by availability and looks into no future."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInputError, ConfigError
from features.events import NANO, SCHEMAS, EventBatch, Kind
from pipeline.codec import MAX_BYTES, decode_event, encode
from pipeline.edge import Edge
from pipeline.log import MemoryLog
from pipeline.sources.alternative import AlternativeFile
from pipeline.sources.alternative_mapping import AlternativeMapping, mapping_of, read_mapping
from pipeline.sources.alternative_rows import DAY_NS, MAX_TEXT_BYTES, rows_of
from pipeline.sources.base import Reject, UnusableError

MINUTE_NS = 60 * NANO

POSTS = """
source = "posts"
underlyings = ["BTC", "ETH"]

[time]
field = "at"
format = "s"
delay_s = 2.5

[text]
fields = ["title", "body.text"]
score_field = "score"

[values]
social_volume = "stats.volume"

[route]
field = "about"
to = { bitcoin = ["BTC"], gossip = [] }
"""


def posts(**changes: Any) -> AlternativeMapping:
    import tomllib

    return mapping_of(tomllib.loads(POSTS) | changes)


def daily(**time: Any) -> AlternativeMapping:
    time = {"field": "date", "format": "%Y-%m-%d", "period_s": 86_400, **time}
    return mapping_of(
        {"source": "chain", "underlyings": ["BTC"], "time": time, "values": {"fees": "fees"}, "form": "csv"}
    )


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records))
    return path


def table(source: AlternativeFile) -> list[dict[str, Any]]:
    batches = list(source.batches())
    assert all(batch.kind is Kind.ALT and batch.data.schema == SCHEMAS[Kind.ALT] for batch in batches)
    return [row | {"underlying": batch.underlying} for batch in batches for row in batch.data.to_pylist()]


def test_a_record_becomes_its_text_and_numbers_for_every_underlying(tmp_path: Path) -> None:
    record = {"at": 100, "title": " Up ", "body": {"text": "much"}, "score": 0.5, "stats": {"volume": "12"}}
    found = table(AlternativeFile(write(tmp_path / "p.jsonl", record), posts()))
    assert [(row["underlying"], row["name"], row["text"], row["value"]) for row in found] == [
        ("BTC", "headline", "Up. much", 0.5),
        ("BTC", "social_volume", None, 12.0),
        ("ETH", "headline", "Up. much", 0.5),
        ("ETH", "social_volume", None, 12.0),
    ]
    for row in found:
        assert row["instrument"] == "alt:posts"
        assert row["source"] == "posts"
        assert row["ts_event"] == 100 * NANO
        assert row["ts_available"] == row["ts_recv"] == 102_500_000_000


def test_a_route_names_the_underlyings(tmp_path: Path) -> None:
    about = ({"at": i, "title": str(i), "about": each} for i, each in enumerate(("bitcoin", "gossip", "weather")))
    found = table(AlternativeFile(write(tmp_path / "p.jsonl", *about), posts()))
    assert [(row["underlying"], row["text"]) for row in found] == [("BTC", "0"), ("BTC", "2"), ("ETH", "2")]


def test_a_daily_figure_is_known_after_its_day(tmp_path: Path) -> None:
    path = write(tmp_path / "chain.csv", "date,fees", "1970-01-03,3.5", "1970-01-02,2.5")
    found = table(AlternativeFile(path, daily(delay_s=3_600)))
    assert [row["value"] for row in found] == [2.5, 3.5]
    assert found[0]["ts_event"] == 2 * DAY_NS
    assert found[0]["ts_available"] == found[0]["ts_recv"] == 2 * DAY_NS + 3_600 * NANO


def test_midnight_may_mean_the_day() -> None:
    mapping = daily(format="%Y-%m-%d %H:%M", period_s=60, midnight_is_day=True)
    assert rows_of({"date": "1970-01-02 00:00", "fees": 1}, mapping)[0].ts_event == 2 * DAY_NS
    assert rows_of({"date": "1970-01-02 00:01", "fees": 1}, mapping)[0].ts_event == DAY_NS + 2 * MINUTE_NS


def test_a_row_that_is_available_much_later_is_received_within_a_day() -> None:
    (row,) = rows_of({"date": "1970-01-02", "fees": 1}, daily(delay_s=7 * 86_400))
    assert row.ts_available == 9 * DAY_NS
    assert row.ts_recv == row.ts_event + DAY_NS == 3 * DAY_NS
    (row,) = rows_of({"date": "1970-01-02", "fees": 1, "out": "1970-01-02"}, daily(available_field="out"))
    assert row.ts_available == row.ts_event, "what is available before it happened is available when it happened"
    (row,) = rows_of({"date": "1970-01-02", "fees": 1, "out": "1970-01-20"}, daily(available_field="out"))
    assert row.ts_available == 19 * DAY_NS


RECORDS = st.fixed_dictionaries(
    {"at": st.integers(0, 40)},
    optional={
        "title": st.text(max_size=5),
        "score": st.floats(-1, 1),
        "stats": st.fixed_dictionaries({"volume": st.integers(-3, 3)}),
        "about": st.sampled_from(("bitcoin", "gossip", "x")),
    },
)


@settings(max_examples=60, deadline=None)
@given(records=st.lists(RECORDS, max_size=30), order=st.randoms(use_true_random=False))
def test_the_log_is_sorted_free_of_repetition_and_passes_the_edge(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], order: Any
) -> None:
    folder = tmp_path_factory.mktemp("alt")
    lines = [*records, *records, {"at": 1, "title": "last"}]
    order.shuffle(lines)
    source = AlternativeFile(write(folder / "p.jsonl", *lines), posts())
    found = table(source)
    assert [row["ts_recv"] for row in found] == sorted(row["ts_recv"] for row in found)
    assert all(row["ts_available"] >= row["ts_event"] for row in found)
    contents = [(r["underlying"], r["name"], r["text"], r["value"], r["ts_event"]) for r in found]
    assert len(set(contents)) == len(contents)
    log: list[EventBatch] = []
    memory = MemoryLog(log.append)
    edge = Edge(memory, "test")
    for batch in source.batches():
        edge.send(batch)
    assert edge.rows == len(found)
    assert not memory.rejected
    for batch in log:
        decode_event("alt", batch.underlying, encode(batch.data))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "bad_record"),
        ("[1]", "bad_record"),
        ('{"title": "x"}', "bad_time"),
        ('{"at": "soon", "title": "x"}', "bad_time"),
        ('{"at": 1}', "no_content"),
        ('{"at": 1, "title": "  "}', "no_content"),
        ('{"at": 1, "title": "x", "score": "high"}', "bad_value"),
        ('{"at": 1, "stats": {"volume": "nan"}}', "bad_value"),
        ('{"at": 1, "stats": {"volume": 1e999}}', "bad_record"),
        ('{"at": 1, "stats": {"volume": true}}', "bad_value"),
        ('{"at": 1, "stats": {"volume": [1]}}', "bad_value"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    rejects: list[Reject] = []
    good = {"at": 1, "title": "good"}
    source = AlternativeFile(write(tmp_path / "p.jsonl", good, line, "", good), posts(), on_reject=rejects.append)
    assert [row["text"] for row in table(source)] == ["good", "good"]
    assert dict(source.rejected) == {reason: 1}
    assert [(reject.reason, reject.payload, reject.origin.rpartition(":")[2]) for reject in rejects] == [
        (reason, line.encode(), "2")
    ]
    assert source.duplicates == 1


def test_bytes_that_are_no_text_and_torn_rows(tmp_path: Path) -> None:
    path = tmp_path / "chain.csv"
    path.write_bytes(
        b"\xef\xbb\xbfdate,fees\r\n1970-01-02,1\r\n1970-01-\xff,2\r\n1970-01-03\r\n1970-01-04,,\r\n1970-01-05,\r\n"
    )
    source = AlternativeFile(path, daily())
    assert [row["value"] for row in table(source)] == [1.0]
    assert dict(source.rejected) == {"undecodable": 1, "bad_record": 2, "no_content": 1}


def test_a_damaged_gzip_file_costs_what_lies_behind_the_damage(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f'{{"at": {i}, "title": "{i}"}}\n' for i in range(20_000)).encode())
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    source = AlternativeFile(path, posts())
    assert 0 < len(source.rows) < 40_000
    assert source.rejected["truncated_gzip"] == 1


def test_long_texts_are_cut_so_that_messages_fit(tmp_path: Path) -> None:
    records = [{"at": i, "title": f"{i} " + "ü" * 10_000, "about": "bitcoin"} for i in range(1_000)]
    batches = list(
        AlternativeFile(write(tmp_path / "p.jsonl", *records), posts(time={"field": "at", "format": "ns"})).batches()
    )
    texts = [text for batch in batches for text in batch.data.column("text").to_pylist()]
    assert all(MAX_TEXT_BYTES - 1 <= len(text.encode()) <= MAX_TEXT_BYTES for text in texts)
    assert max(len(encode(batch.data)) for batch in batches) < MAX_BYTES
    assert len(texts) == 1_000


def test_a_file_without_the_mapped_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"lacks the column\(s\) \['fees'\]"):
        AlternativeFile(write(tmp_path / "chain.csv", "date,fee", "1970-01-02,1"), daily())
    with pytest.raises(BadInputError, match="does not exist"):
        AlternativeFile(tmp_path / "nothing.csv", daily())


def test_a_live_record_counts_from_its_receipt_on() -> None:
    (row,) = rows_of({"date": "1970-01-02", "fees": 1}, daily(), received_ns=5 * DAY_NS)
    assert (row.ts_event, row.ts_recv, row.ts_available) == (2 * DAY_NS, 5 * DAY_NS, 5 * DAY_NS)
    with pytest.raises(UnusableError) as refused:
        rows_of({"date": "1970-01-02", "fees": 1}, daily(), received_ns=DAY_NS)
    assert refused.value.reason == "from_the_future"


def test_a_mapping_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "posts.toml"
    path.write_text(POSTS)
    assert read_mapping(path) == posts()
    assert read_mapping(path).time.delay_ns == 2_500_000_000


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sauce": 1}, "sauce"),
        ({"time": {"format": "s"}}, "field"),
        ({"time": {"field": "at", "delay_s": -1}}, "delay_s is -1"),
        ({"time": {"field": "at", "format": "epoch"}}, "'epoch' is unknown"),
        ({"underlyings": []}, "no underlying"),
        ({"source": "a:b"}, "'a:b' is no name"),
        ({"text": None, "values": {}}, "neither text nor values"),
        ({"form": "xml"}, "xml"),
    ],
)
def test_a_wrong_mapping_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        posts(**changes)


def test_a_mapping_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mapping(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="is not TOML"):
        read_mapping(write(tmp_path / "bad.toml", "= ="))

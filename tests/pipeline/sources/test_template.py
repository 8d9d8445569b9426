"""The template of docs/sources.md works as it stands: a file through the edge into a log, a book and bars."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from features.book import replay_l2
from features.events import EventBatch, Kind
from pipeline.edge import Edge
from pipeline.log import MemoryLog
from pipeline.settings import Settings
from pipeline.sources.base import Reject
from pipeline.stages import feature_stage

TEMPLATE = Path(__file__).parents[3] / "examples" / "my_source.py"
HEADER = "time_ms,symbol,bid,bid_size,ask,ask_size,trade_price,trade_size\n"


@pytest.fixture(scope="module")
def template() -> ModuleType:
    spec = importlib.util.spec_from_file_location("my_source", TEMPLATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_template_is_short() -> None:
    assert len(TEMPLATE.read_text().splitlines()) < 100


def test_a_file_reaches_the_log_the_book_and_the_bars(template: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    lines = [f"{1_723_075_200_000 + 250 * i},BTCUSD,61800.1,2,61800.{2 + i % 3},1.5,," for i in range(20)]
    lines[5] += (
        "\n1723075201250,BTCUSD,61800.1,2,61800.2,1.25,61800.2,0.25\n1723075201250,BTCUSD,61800.1,1,61800.2,1,61800.1,-0.5"
    )
    path.write_text(HEADER + "\n".join(lines) + "\n")
    sent: list[EventBatch] = []
    log = MemoryLog(sent.append)
    edge = Edge(log, "template")
    for batch in template.MySource(path).batches():
        edge.send(batch)
    assert log.rejected == Counter()
    books = replay_l2(sent)
    assert books["valid"].all()
    assert books.height == 22
    assert books.select("bid_price_0", "bid_size_0", "ask_price_0").row(0) == (618_001, 2_000, 618_002)
    trades = [row for batch in sent if batch.kind is Kind.TRADE for row in batch.data.to_pylist()]
    assert [(row["price"], row["size"], row["aggressor"], row["seq"]) for row in trades] == [
        (618_002, 250, 1, 0),
        (618_001, 500, -1, 1),
    ]
    assert sent[0].kind is Kind.INSTRUMENT
    stage = feature_stage(Settings(reference={"BTC": "mine:BTCUSD"}))
    bars = [row for batch in sent for rows in stage.process(batch).rows for row in rows.data.to_pylist()]
    assert len(bars) == 5
    assert sum(row["trade_count"] for row in bars) == 2
    assert bars[0]["mid"] == pytest.approx(61_800.15)


def test_lines_that_cannot_be_used_are_rejects(template: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    good = "1723075200000,BTCUSD,61800.1,2,61800.2,1.5,,"
    bad = [
        "torn",
        good.replace("BTCUSD", "DOGE"),
        good.replace("61800.1", "61800.15"),
        good.replace("000000,", "000,", 1),
    ]
    bad.append(good.replace("1723075200000", "1723075199999"))
    path.write_text(HEADER + "\n".join([good, *bad, good]) + "\n")
    rejects: list[Reject] = []
    batches = list(template.MySource(path, rejects.append).batches())
    assert [reject.reason for reject in rejects][:3] == ["unexpected_form", "unexpected_form", "off_increment"]
    assert rejects[-1].reason == "out_of_order"
    assert replay_l2(batches).height == 7 - len(rejects)

"""`hedgeflow lake`: every command of docs/lake.md runs on a real lake, and says what a careful operator expects."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from written_lake import raw_lake, rows_of, signals_lake

from features.errors import ConfigError
from pipeline import topics
from pipeline.cli import app
from pipeline.lake import LakeError
from pipeline.tables import TABLES

DOCUMENT = Path(__file__).parents[3] / "docs" / "lake.md"


def lake_command(*words: str) -> Any:
    return CliRunner().invoke(app, ["lake", *words], env={"COLUMNS": "200"})


def documented() -> list[list[str]]:
    blocks = re.findall(r"```(?:console|cron)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    lines = [line.split(" #")[0] for block in blocks for line in block.splitlines()]
    return [shlex.split(line[line.index("hedgeflow lake") :])[1:] for line in lines if "hedgeflow lake" in line]


def test_every_documented_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw_lake(tmp_path / "hedgeflow-demo" / "lake")
    raw_lake(tmp_path / "lake", 4)
    commands = [words for words in documented() if "--bootstrap" not in words]
    assert {words[1] for words in commands} == {"describe", "compact", "vacuum", "verify"}
    for words in commands:
        done = CliRunner().invoke(app, words, env={"HEDGEFLOW_LAKE": "lake"})
        assert done.exit_code == 0, (words, done.output, done.exception)


def test_describe_and_compact(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    where = ("--lake", str(lake.path), "--format", "json")
    described = {state["table"]: state for state in json.loads(lake_command("describe", *where).output)}
    assert set(described) == {"book", "trades", "dead_letters"}
    book = described["book"]
    assert (book["rows"], book["files"], book["small_files"], book["offsets"]) == (51, 17, 17, {"md.events/0": 23})
    assert (book["dates"], book["compaction"]) == (["2023-12-09", "2023-12-10"], [17, 2])
    (done,) = json.loads(lake_command("compact", "--table", "book", *where).output)
    assert (done["files_before"], done["files_after"], done["rows"]) == (17, 2, 51)
    shown = lake_command("describe", "--lake", str(lake.path))
    assert "md.events/0: 24" in shown.output
    assert "would merge 6 files in 2 commits" in shown.output
    assert "Nothing to merge" in lake_command("compact", "--lake", str(lake.path), "--table", "book").output


def test_vacuum_lists_first_and_deletes_when_told(tmp_path: Path) -> None:
    lake = raw_lake(tmp_path / "lake")
    where = ("--lake", str(lake.path))
    lake_command("compact", *where)
    assert "0 files would go" in lake_command("vacuum", *where).output
    refused = lake_command("vacuum", *where, "--retention-hours", "1")
    assert isinstance(refused.exception, ConfigError)
    forced = (*where, "--retention-hours", "0", "--force")
    listed = lake_command("vacuum", *forced)
    assert "23 files would go; --delete removes them." in listed.output
    assert "book/date=2023-12-09/part-" in listed.output
    assert len(list((tmp_path / "lake" / "book").rglob("*.parquet"))) > 2
    assert "23 files deleted" in lake_command("vacuum", *forced, "--delete").output
    kept = list((tmp_path / "lake" / "book").glob("date=*/*.parquet"))
    assert len(kept) == 2
    assert lake.delta(TABLES["book"]).count() == 51


def test_verify_exits_with_8_and_lists_what_is_wrong(tmp_path: Path) -> None:
    lake = signals_lake(tmp_path / "lake")
    where = ("--lake", str(lake.path))
    fine = lake_command("verify", *where)
    assert fine.exit_code == 0
    assert "Nothing is wrong" in fine.output
    Path(lake.files(TABLES["signals"])[0]).unlink()
    broken = lake_command("verify", *where, "--format", "json")
    assert broken.exit_code == 8
    (finding,) = json.loads(broken.output)
    assert (finding["table"], finding["check"]) == ("signals", "file missing")
    assert "file missing" in lake_command("verify", *where).output


def test_what_is_not_there(tmp_path: Path) -> None:
    assert isinstance(lake_command("describe", "--lake", str(tmp_path)).exception, LakeError)
    lake = signals_lake(tmp_path / "lake", 1)
    unknown = lake_command("compact", "--lake", str(lake.path), "--table", "signal")
    assert isinstance(unknown.exception, ConfigError)


@pytest.mark.broker
def test_verify_against_the_topics(tmp_path: Path) -> None:
    """The broker holds three messages; the lake is missing one of them, then another lake knows too many."""
    from pipeline.broker import EmbeddedBroker
    from pipeline.kafka import create_topics, make_producer
    from pipeline.lake import Lake
    from pipeline.settings import Settings

    book = TABLES["book"]
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap=broker.bootstrap, partitions=1)
        create_topics(settings)
        producer = make_producer(settings)
        for number in range(3):
            producer.produce(topics.EVENTS, str(number).encode(), partition=0)
        producer.flush(10)
        short, ahead = Lake(tmp_path / "short"), Lake(tmp_path / "ahead")
        for offset in (1, 2):
            short.append(book, rows_of(book, offset), {(topics.EVENTS, 0): offset + 1, ("md.events/from", 0): offset})
        ahead.append(book, rows_of(book, 8), {(topics.EVENTS, 0): 9})
        found = {
            name: json.loads(
                lake_command(
                    "verify", "--lake", str(tmp_path / name), "--bootstrap", broker.bootstrap, "--format", "json"
                ).output
            )
            for name in ("short", "ahead")
        }
    assert [(each["table"], each["check"]) for each in found["short"]] == [("md.events", "offsets")]
    assert "log" in {each["check"] for each in found["ahead"]}

"""The commands of alternative data, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from confluent_kafka import TopicPartition
from typer.testing import CliRunner

from features.alternative.text_artifact import load_text
from features.errors import BadInputError, ConfigError
from pipeline.broker import EmbeddedBroker
from pipeline.codec import decode_event
from pipeline.commands import source_alternative, text
from pipeline.kafka import end_offsets, make_reader, read_to_end
from pipeline.settings import Settings
from pipeline.topics import DEAD_LETTER, EVENTS

app = typer.Typer()
text.register(app)
source_alternative.register(app)

WORDS = {"negative": "crash hack", "neutral": "report meeting", "positive": "rally record"}


@pytest.fixture
def headlines(tmp_path: Path) -> Path:
    path = tmp_path / "headlines.jsonl"
    lines = [
        {
            "time": f"2024-01-01T00:{i // 60:02d}:{i % 60:02d}Z",
            "text": f"{WORDS[label]} of coin{i % 7} no{i}",
            "label": label,
        }
        for i, label in enumerate(list(WORDS) * 60)
    ]
    path.write_text("\n".join(map(json.dumps, [*lines, {"time": "soon"}])))
    return path


def test_fit_text_writes_a_model_and_says_how_good_it_is(headlines: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fit-text", "--headlines", str(headlines), "--to", str(tmp_path / "models/text")])
    assert done.exit_code == 0, done.output
    model = load_text(tmp_path / "models/text")
    for shown in (model.version, "balanced_accuracy_majority", "topic 5: ", "rejected: no_content 1"):
        assert shown in done.output
    assert model.read("crash")[0] < -0.5 < 0.5 < model.read("rally")[0]


def test_fit_text_overwrites_no_other_folder(headlines: Path) -> None:
    done = CliRunner().invoke(app, ["fit-text", "--headlines", str(headlines), "--to", str(headlines.parent)])
    assert "is no model" in str(done.exception)
    assert headlines.exists()


def test_fit_text_without_headlines_names_the_form(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fit-text", "--headlines", str(tmp_path / "no.jsonl")])
    assert isinstance(done.exception, BadInputError)
    assert "does not exist" in str(done.exception)


@pytest.mark.parametrize("arguments", [[], ["posts.jsonl", "--topic", "posts"]])
def test_a_source_is_a_file_or_a_topic(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["alternative", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert "Name a file, or a topic" in str(done.exception)


def test_a_file_needs_a_mapping() -> None:
    done = CliRunner().invoke(app, ["alternative", "posts.jsonl"])
    assert isinstance(done.exception, ConfigError)
    assert "There is no mapping" in str(done.exception)


@pytest.mark.broker
def test_a_file_reaches_the_log(tmp_path: Path) -> None:
    (tmp_path / "posts.jsonl").write_text('{"at": 1, "text": "up"}\n{"at": 1, "text": "up"}\n{"at": 2}\n')
    (tmp_path / "posts.toml").write_text(
        'source = "posts"\nunderlyings = ["BTC"]\n[time]\nfield = "at"\nformat = "s"\n[text]\nfields = ["text"]\n'
    )
    with EmbeddedBroker() as broker:
        arguments = ["posts.jsonl", "--mapping", "posts.toml", "--bootstrap", broker.bootstrap]
        paths = [str(tmp_path / each) if each.startswith("posts.") else each for each in arguments]
        done = CliRunner().invoke(app, ["alternative", *paths])
        assert done.exit_code == 0, done.output
        assert "1 rows to md.events" in done.output
        assert "1 duplicate record(s) left out; rejected no_content 1" in done.output
        settings = Settings(bootstrap=broker.bootstrap)
        assert sum(end_offsets(settings, [EVENTS]).values()) == 1
        assert sum(end_offsets(settings, [DEAD_LETTER]).values()) == 1
        assert CliRunner().invoke(app, ["alternative", *paths]).exit_code == 0
        first, second = numbers(settings)
        assert first < second, "what is published later counts as no duplicate"


def numbers(settings: Settings) -> list[int]:
    reader = make_reader(settings)
    wanted = [TopicPartition(EVENTS, partition, 0) for partition in range(settings.partitions)]
    batches = [decode_event("alt", "BTC", message.value()) for message in read_to_end(reader, wanted)]
    reader.close()
    return [seq for batch in batches for seq in batch.data.column("seq").to_pylist()]

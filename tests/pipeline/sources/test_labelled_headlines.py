"""Labelled headlines of a file, and what the text model learns from the recorded ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from features.alternative.fit_text import fit_text
from features.errors import BadInputError
from pipeline.sources.labelled_headlines import LEXICON_NOTE, LabelledHeadlines


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "headlines.jsonl"
    good = '{"time": "1970-01-01T00:00:01Z", "text": " Up ", "label": "positive", "polarity": 0.5}'
    lines = [
        good,
        good.replace(', "polarity": 0.5', ""),
        good.replace("positive", "bullish"),
        good.replace("Up", ""),
        good.replace("0.5", "3"),
        good.replace("1970-01-01T00:00:01Z", "soon"),
        "{",
    ]
    path.write_text("\n".join(lines))
    source = LabelledHeadlines(path)
    assert [(each.ts_event, each.text, each.label) for each in source.texts] == [(10**9, "Up", "positive")] * 2
    assert source.texts[0].polarity == 0.5
    assert math.isnan(source.texts[1].polarity)
    assert dict(source.rejected) == {
        "bad_label": 1,
        "no_content": 1,
        "bad_value": 1,
        "bad_time": 1,
        "bad_record": 1,
    }
    assert source.note == ""


def test_semicolons_with_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "headlines.csv"
    path.write_text(
        "date;sentiment;text\n"
        "2-1-1970 00:01;{'class': 'negative', 'polarity': -0.1};Down\n"
        "2-1-1970 00:01;open('x');Down\n"
        "2-1-1970 00:01;[1];Down\n"
        "2-1-1970 00:01;{'class': 'negative'};Down;more\n"
    )
    source = LabelledHeadlines(path)
    assert [(each.ts_event, each.label, each.polarity) for each in source.texts] == [(86_460 * 10**9, "negative", -0.1)]
    assert dict(source.rejected) == {"bad_record": 2, "bad_label": 1}
    assert source.note == LEXICON_NOTE


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "headlines.csv"
    path.write_text("date;text\n1-1-1970 00:00;x\n")
    with pytest.raises(BadInputError, match="has the columns"):
        LabelledHeadlines(path)
    path.write_text('{"text": "x"}\n')
    with pytest.raises(BadInputError, match="no labelled text"):
        LabelledHeadlines(path)


@pytest.mark.data
def test_the_recorded_headlines_teach_more_than_their_majority(recorded_data: Path) -> None:
    source = LabelledHeadlines(recorded_data / "altdata" / "cryptonews.csv.gz")
    assert len(source.texts) == 7_524
    assert not source.rejected
    metrics = fit_text(source.texts).metrics
    assert metrics["balanced_accuracy"] > 0.6 > metrics["balanced_accuracy_majority"]
    assert metrics["log_loss"] < 0.75 * metrics["log_loss_majority"]
    assert metrics["polarity_correlation"] > 0.4

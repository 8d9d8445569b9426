"""The fit sees the past only, is reproducible, and beats its baseline where there is something to learn."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from features.alternative.fit_text import FittedText, LabelledText, TextFit, fit_text
from features.errors import BadInputError

MOODS = {
    "negative": ("crash", "hack", "lawsuit", "plunge"),
    "neutral": ("meeting", "report", "survey", "calendar"),
    "positive": ("rally", "record", "adoption", "surge"),
}
SUBJECTS = (("bitcoin", "halving", "miner"), ("ether", "merge", "staking"), ("art", "gallery", "token"))


def headlines(count: int, seed: int = 0) -> list[LabelledText]:
    """Each draws a mood, whose words it uses four times in five, and a subject."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        label = str(rng.choice(list(MOODS), p=(0.2, 0.3, 0.5)))
        said = label if rng.random() < 0.8 else str(rng.choice(list(MOODS)))
        subject = SUBJECTS[int(rng.integers(3))]
        words = [*rng.choice(MOODS[said], 2), *rng.choice(subject, 3), "the", f"no{i}"]
        polarity = {"negative": -0.5, "neutral": 0.0, "positive": 0.5}[label]
        made.append(LabelledText(i, " ".join(map(str, rng.permutation(words))), label, polarity))
    return made


TEXTS = headlines(600)
FIT = TextFit(topics=3)


@pytest.fixture(scope="module")
def fitted() -> FittedText:
    return fit_text(TEXTS, FIT)


def test_it_beats_the_majority_on_later_texts(fitted: FittedText) -> None:
    metrics = fitted.metrics
    assert metrics["texts_fitted"] == 420
    assert metrics["texts_evaluated"] == 180
    assert metrics["balanced_accuracy_majority"] == pytest.approx(1 / 3)
    assert metrics["balanced_accuracy"] > 0.7
    assert metrics["log_loss"] < 0.8 * metrics["log_loss_majority"]
    assert metrics["polarity_correlation"] > 0.6


def test_the_metrics_are_those_of_their_formulas(fitted: FittedText) -> None:
    later = TEXTS[420:]
    given = [fitted.model.probabilities(fitted.model.tfidf(each.text)) for each in later]
    classes = list(MOODS)
    loss = -sum(math.log(p[classes.index(each.label)]) for p, each in zip(given, later, strict=True)) / len(later)
    found = [classes[int(np.argmax(p))] for p in given]
    recalls = [np.mean([found[i] == label for i, each in enumerate(later) if each.label == label]) for label in classes]
    assert fitted.metrics["log_loss"] == pytest.approx(loss, abs=1e-12)
    assert fitted.metrics["balanced_accuracy"] == pytest.approx(float(np.mean(recalls)), abs=1e-12)


def test_the_same_texts_give_the_same_model_in_any_order(fitted: FittedText) -> None:
    shuffled = [TEXTS[i] for i in np.random.default_rng(1).permutation(len(TEXTS))]
    assert fit_text(shuffled, FIT).model.version == fitted.model.version


def test_the_model_has_seen_nothing_of_the_later_part(fitted: FittedText) -> None:
    changed = TEXTS[:420] + [
        dataclasses.replace(each, text="other " * 5 + each.text, label="negative") for each in TEXTS[420:]
    ]
    again = fit_text(changed, FIT)
    assert again.model.version == fitted.model.version
    assert again.metrics["accuracy"] != fitted.metrics["accuracy"]


def test_topics_are_the_subjects_without_stop_words(fitted: FittedText) -> None:
    model = fitted.model
    assert "the" in model.vocabulary
    assert (model.topics_KV[:, model.vocabulary.index("the")] == 0).all()
    for terms in model.topic_terms:
        assert 1 <= len(terms) <= 8
    assert model.read("bitcoin miner halving")[1] != model.read("ether staking merge")[1]


def test_later_texts_that_were_fitted_on_are_not_evaluated() -> None:
    repeated = TEXTS[:590] + [dataclasses.replace(TEXTS[i], ts_event=1_000 + i) for i in range(10)]
    assert fit_text(repeated, FIT).metrics["texts_evaluated"] == 170


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (TEXTS[:10], "too few"),
        ([dataclasses.replace(each, label="bullish") for each in TEXTS], "bullish"),
        ([each for each in TEXTS if each.label != "neutral"], "neutral"),
        ([dataclasses.replace(each, text=f"no{each.ts_event}") for each in TEXTS], "no vocabulary"),
        ([dataclasses.replace(each, text="crash") for each in TEXTS], "terms are too few|Every later text"),
    ],
)
def test_texts_that_teach_nothing_are_refused(texts: list[LabelledText], problem: str) -> None:
    with pytest.raises(BadInputError, match=problem):
        fit_text(texts, FIT)

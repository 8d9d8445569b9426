"""Alternative features against slow references, and against the ways in which a stream can be cut."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.alternative import state as state_module
from features.alternative.state import MAX_WAIT_NS, AlternativeState
from features.alternative.text import TextModel
from features.declared.alternative import (
    FEATURES,
    HOUR,
    AlternativeFeature,
    change,
    level,
    news_intensity,
    sentiment,
    sentiment_momentum,
    topic_share,
    zscore,
)
from features.errors import BadInputError, ConfigError
from features.feature import MINUTE, SECOND, Feature
from features.stage import Reject
from features.state import pack, unpack

MODEL = TextModel(
    ("crash", "fork", "rally"),
    np.array([1.0, 1.5, 1.2]),
    np.array([[2.0, 0.1, -1.0], [0.0, 0.3, 0.0], [-1.0, 0.2, 3.0]]),
    np.array([0.1, 0.2, -0.1]),
    np.array([[1.0, 0.0, 0.2], [0.0, 1.0, 0.0], [0.1, 0.0, 1.0]]),
    (("crash",), ("fork",), ("rally",)),
)

ALL = (
    *FEATURES,
    sentiment(15 * MINUTE),
    sentiment_momentum(MINUTE, HOUR),
    news_intensity(MINUTE),
    topic_share(2, HOUR),
    level("posts"),
    level("posts", source="chain", column="posts_of_chain"),
    change("posts"),
    zscore("posts", 4),
)
NAMES = [feature.name for feature in ALL]


def row(
    name: str = "headline",
    *,
    text: str | None = None,
    value: float | None = None,
    ts_event: int = 0,
    available: int = 0,
    seq: int = 0,
    source: str = "news",
) -> dict[str, Any]:
    return {
        "instrument": f"alt:{source}",
        "ts_event": ts_event,
        "ts_recv": ts_event,
        "seq": seq,
        "late_ns": 0,
        "ref_version": 0,
        "source": source,
        "name": name,
        "text": text,
        "value": value,
        "ts_available": available,
    }


Log = list[tuple[dict[str, Any], int]]
"""Rows with their stream times."""


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Rows of two sources whose stream time never falls; some late, some early, some repeated, some garbage."""
    stream, log, seqs = draw(st.integers(1, 10)) * HOUR, [], {"news": 0, "chain": 0}
    for _ in range(draw(st.integers(0, 20))):
        stream += draw(st.sampled_from((0, 1, SECOND, 7 * MINUTE, 3 * HOUR)))
        source = draw(st.sampled_from(sorted(seqs)))
        repeated = draw(st.integers(0, 9)) == 0
        event = stream - draw(st.sampled_from((0, 0, 5 * SECOND, 2 * HOUR)))
        wait = draw(st.sampled_from((0, 0, 1, MINUTE, HOUR)))
        content = draw(
            st.sampled_from(
                [
                    ("headline", text, value)
                    for text in ("Rally!", "crash; crash", "fork", "zzz")
                    for value in (None, 0.25)
                ]
                + [("sentiment", None, -0.5), ("headline", "rally", 7.0), ("headline", " ", None)]
                + [("posts", None, float(v)) for v in range(5)]
                + [("fees", None, 1e308), ("posts", None, math.nan), ("fear_greed", None, 40.0)]
            )
        )
        name, text, value = content
        seq = max(0, seqs[source] - 1) if repeated else seqs[source]
        log.append(
            (row(name, text=text, value=value, ts_event=event, available=event + wait, seq=seq, source=source), stream)
        )
        if not repeated:
            seqs[source] += 1
    return log


@dataclass
class Reference:
    """Every feature anew from all items at every end: slow and obvious."""

    items: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @staticmethod
    def of(log: Log) -> Reference:
        seen: dict[str, int] = {}
        kept = []
        for item, stream in log:
            if item["seq"] <= seen.get(item["instrument"], -1):
                continue
            seen[item["instrument"]] = item["seq"]
            value, text = item["value"], (item["text"] or "").strip()
            scored = text or item["name"] == "sentiment"
            if value is None and not text:
                continue
            if value is not None and (not math.isfinite(value) or (scored and abs(value) > 1)):
                continue
            kept.append((max(item["ts_available"], stream), item))
        return Reference([kept[i] for i in sorted(range(len(kept)), key=lambda i: (kept[i][0], i))])

    def value(self, feature: Feature, end: int) -> float:
        assert isinstance(feature, AlternativeFeature)
        known = [(at, item) for at, item in self.items if at <= end]
        news = [(at, item) for at, item in known if (item["text"] or "").strip()]
        tau = feature.window_ns
        if feature.name.startswith("sentiment_momentum"):
            return self.mean(self.polarities(known), end, feature.fast_ns) - self.mean(self.polarities(known), end, tau)
        if feature.name.startswith("sentiment"):
            return self.mean(self.polarities(known), end, tau)
        if feature.name.startswith("news_intensity"):
            rate = sum(math.exp(-(end - at) / tau) / (tau / HOUR) for at, _ in news)
            return rate if news else math.nan
        if feature.name.startswith("topic_share"):
            read = [(at, MODEL.read(item["text"])[1]) for at, item in news]
            return self.mean([(at, t[feature.topic]) for at, t in read if len(t) > feature.topic], end, tau)
        if feature.name in ("news_age_s", "alternative_age_s"):
            of = news if feature.name == "news_age_s" else known
            return (end - max(item["ts_event"] for _, item in of)) / 1e9 if of else math.nan
        return self.number(feature, known)

    @staticmethod
    def polarities(known: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, float]]:
        found = []
        for at, item in known:
            if (item["text"] or "").strip() or item["name"] == "sentiment":
                score = item["value"] if item["value"] is not None else MODEL.read(item["text"])[0]
                found.append((at, score))
        return [(at, score) for at, score in found if not math.isnan(score)]

    @staticmethod
    def mean(observed: list[tuple[int, float]], end: int, tau: int) -> float:
        if not observed:
            return math.nan
        newest = observed[-1][0]  # any common factor cancels; this one keeps the weights of old items from vanishing
        assert newest <= end
        weights = [math.exp(-(newest - at) / tau) for at, _ in observed]
        return sum(w * x for w, (_, x) in zip(weights, observed, strict=True)) / sum(weights)

    @staticmethod
    def number(feature: AlternativeFeature, known: list[tuple[int, dict[str, Any]]]) -> float:
        history: dict[int, float] = {}
        for _, item in known:
            of_feature = item["name"] == feature.item and feature.source in ("", item["source"])
            if of_feature and item["text"] is None and item["ts_event"] >= max(history, default=item["ts_event"]):
                history[item["ts_event"]] = item["value"]
        values = [history[when] for when in sorted(history)]
        kind = feature.implementation.rpartition(".")[2]
        if kind == "Level":
            return values[-1] if values else math.nan
        if kind == "Change":
            return values[-1] - values[-2] if len(values) > 1 else math.nan
        before = values[:-1][-feature.observations :]
        if len(before) < max(2, math.ceil(feature.observations / 2)) or len(set(before)) == 1:
            return math.nan
        return (values[-1] - statistics.mean(before)) / statistics.stdev(before)


def run(log: Log, ends: list[int], cut: int | None = None) -> dict[int, bytes]:
    """Values at each end, asked when the stream has passed it, as bars are."""
    state, out, left = AlternativeState(MODEL, ALL), {}, sorted(ends)
    for number, (item, stream) in enumerate(log):
        while left and left[0] < stream:
            end = left.pop(0)
            out[end] = state.values(end).tobytes()
        if number == cut:
            packed = pack(state.snapshot())
            state = AlternativeState(MODEL, ALL)
            state.restore(unpack(packed))
            assert pack(state.snapshot()) == packed
        state.take(item, stream)
    for end in left:
        out[end] = state.values(end).tobytes()
    return out


def horizon(log: Log) -> list[int]:
    return [stream + shift for _, stream in log for shift in (-1, 0, HOUR + 1)] + [30 * HOUR]


@settings(max_examples=50, deadline=None)
@given(log=logs())
def test_every_feature_is_what_its_formula_says(log: Log) -> None:
    ends = sorted(set(horizon(log)))
    reference = Reference.of(log)
    for end, values in run(log, ends).items():
        expected = [reference.value(feature, end) for feature in ALL]
        np.testing.assert_allclose(np.frombuffer(values), expected, rtol=1e-9, atol=1e-9, err_msg=str(NAMES))


@settings(max_examples=50, deadline=None)
@given(log=logs(), data=st.data())
def test_neither_other_questions_nor_a_restart_change_a_bit(log: Log, data: st.DataObject) -> None:
    ends = sorted(set(horizon(log)))
    full = run(log, ends)
    some = data.draw(st.lists(st.sampled_from(ends), unique=True))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(log))))
    for end, values in run(log, some, cut).items():
        assert values == full[end]


@settings(max_examples=50, deadline=None)
@given(log=logs(), data=st.data())
def test_later_rows_change_no_earlier_value(log: Log, data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(log)))
    until = log[kept][1] if kept < len(log) else 10**18
    ends = [end for end in sorted(set(horizon(log))) if end < until]
    assert run(log[:kept], ends) == run(log, ends)


def values_of(state: AlternativeState, end: int, features: tuple[Feature, ...] = FEATURES) -> dict[str, float]:
    return dict(zip([feature.name for feature in features], state.values(end).tolist(), strict=True))


def test_nothing_is_known_before_the_first_row() -> None:
    assert np.isnan(AlternativeState(MODEL).values(HOUR)).all()
    assert AlternativeState(None).values(0).shape == (len(FEATURES),)


def test_a_row_is_invisible_until_it_is_available() -> None:
    state = AlternativeState(None)
    assert state.take(row("fear_greed", value=30.0, ts_event=HOUR, available=2 * HOUR), HOUR) is None
    assert math.isnan(values_of(state, 2 * HOUR - 1)["fear_greed"])
    assert math.isnan(values_of(state, 2 * HOUR - 1)["alternative_age_s"])
    assert values_of(state, 2 * HOUR)["fear_greed"] == 30.0
    assert values_of(state, 2 * HOUR)["alternative_age_s"] == 3_600.0


def test_a_late_row_counts_from_its_arrival_on() -> None:
    state = AlternativeState(None)
    state.values(2 * HOUR)
    state.take(row("sentiment", value=0.5, ts_event=HOUR, available=HOUR), 2 * HOUR + 1)
    assert math.isnan(values_of(state, 2 * HOUR)["sentiment"])
    assert values_of(state, 2 * HOUR + 1)["sentiment"] == 0.5


def test_a_row_behind_an_end_that_was_asked_already_counts_after_it() -> None:
    state = AlternativeState(None)
    before = state.values(HOUR)
    state.take(row("sentiment", value=0.5), HOUR)
    assert state.values(HOUR).tobytes() == before.tobytes()
    assert values_of(state, HOUR + 1)["sentiment"] == 0.5
    with pytest.raises(BadInputError, match="Ask in order"):
        state.values(HOUR)


def test_rows_take_effect_by_availability_then_arrival() -> None:
    state = AlternativeState(None, (level("x"), change("x")))
    state.take(row("x", value=3.0, ts_event=3, available=30, seq=0), 3)
    state.take(row("x", value=1.0, ts_event=4, available=20, seq=1), 4)
    assert state.values(20).tolist()[0] == 1.0
    assert state.values(30).tolist()[0] == 1.0, "what happened earlier is left out once later news is known"
    state.take(row("x", value=7.0, ts_event=31, available=40, seq=2), 31)
    state.take(row("x", value=8.0, ts_event=32, available=40, seq=3), 32)
    assert state.values(40).tolist() == [8.0, 1.0]


def test_duplicates_are_ignored_by_sequence_number() -> None:
    state = AlternativeState(None)
    for seq, value in ((5, 0.5), (5, -1.0), (4, -1.0)):
        assert state.take(row("sentiment", value=value, seq=seq), 1) is None
    assert values_of(state, 1)["sentiment"] == 0.5


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(), "no_content"),
        (row(text=" \n"), "no_content"),
        (row("fees", value=math.nan), "bad_value"),
        (row("fees", value=math.inf), "bad_value"),
        (row("sentiment", value=1.5), "out_of_range"),
        (row(text="rally", value=-2.0), "out_of_range"),
        (row("fear_greed", value=101.0), "out_of_range"),
        (row("fees", value=1.0, available=MAX_WAIT_NS + 2), "far_future"),
    ],
)
def test_garbage_is_rejected_with_its_reason(bad: dict[str, Any], reason: str) -> None:
    state = AlternativeState(MODEL)
    rejected = state.take(bad, 1)
    assert isinstance(rejected, Reject)
    assert rejected.reason == reason
    assert np.isnan(state.values(2 * MAX_WAIT_NS)).all()


def test_a_score_that_comes_with_the_text_wins_over_the_model() -> None:
    state = AlternativeState(MODEL)
    state.take(row(text="crash", value=0.75), 1)
    assert values_of(state, 1)["sentiment"] == 0.75
    assert values_of(state, 1)["topic_share_0"] > 0.5


def test_without_a_model_texts_count_and_age_only() -> None:
    state = AlternativeState(None)
    state.take(row(text="crash"), 1)
    known = {name for name, value in values_of(state, 1).items() if not math.isnan(value)}
    assert known == {"news_intensity", "news_age_s", "alternative_age_s"}


def test_topic_shares_sum_to_one_over_the_models_topics() -> None:
    state = AlternativeState(MODEL)
    for seq, text in enumerate(("crash", "rally fork", "fork")):
        state.take(row(text=text, seq=seq), (seq + 1) * HOUR)
    found = values_of(state, 4 * HOUR)
    assert sum(found[f"topic_share_{k}"] for k in range(3)) == pytest.approx(1.0, abs=1e-12)
    assert all(math.isnan(found[f"topic_share_{k}"]) for k in range(3, 6)), "the model has three topics"


def test_a_steady_stream_of_news_has_its_rate() -> None:
    state = AlternativeState(None)
    for minute in range(0, 24 * 60, 2):
        state.take(row(text="x", seq=minute), minute * MINUTE)
    end = 24 * HOUR
    assert values_of(state, end)["news_intensity"] == pytest.approx(30.0, rel=0.02)
    assert values_of(state, end + HOUR)["news_intensity"] == pytest.approx(30.0 / math.e, rel=0.02)


def test_a_z_score_by_hand() -> None:
    state = AlternativeState(None, (zscore("x", 4),))
    for number, value in enumerate((10.0, 11.0, 12.0, 13.0, 14.0)):
        state.take(row("x", value=value, ts_event=number, seq=number), number)
    assert state.values(10)[0] == pytest.approx(2.5 / math.sqrt(5 / 3), abs=1e-12)
    state.take(row("x", value=11.5, ts_event=4, seq=5), 11)
    assert state.values(11)[0] == 0.0, "a row with the same time revises the observation"


def test_numbers_that_do_not_move_or_overflow_are_unknown() -> None:
    state = AlternativeState(None, (zscore("x", 2), change("y")))
    for number in range(5):
        state.take(row("x", value=0.1, ts_event=number, seq=2 * number), number)
        state.take(row("y", value=(-1) ** number * 1.7e308, ts_event=number, seq=2 * number + 1), number)
    assert np.isnan(state.values(9)).all()


def test_rows_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_WAITING", 3)
    state = AlternativeState(None)
    for seq in range(50):
        assert state.take(row("sentiment", value=0.1, seq=seq), seq + 1) is None, "what is available does not wait"
    for seq in range(50, 60):
        rejected = state.take(row("sentiment", value=0.1, seq=seq, available=HOUR), seq + 1)
        assert (rejected is None) == (seq < 53)


def test_a_checkpoint_of_other_features_is_refused() -> None:
    saved = AlternativeState(None).snapshot()
    with pytest.raises(BadInputError, match="other alternative features"):
        AlternativeState(None, (level("x"),)).restore(saved)


def test_a_feature_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="not made of alternative rows"):
        AlternativeState(None, (Feature("mid", "1", "m", "never", ("book",), "features.book_shape.book_shape"),))

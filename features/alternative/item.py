"""What a row of alternative data says, once its text has been read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from features.stage import Reject

if TYPE_CHECKING:
    from features.alternative.text import TextModel

SCORE: Final = "sentiment"
"""Name of rows that carry a feed's own polarity."""

RANGES: Final[Mapping[str, tuple[float, float]]] = {SCORE: (-1.0, 1.0), "fear_greed": (0.0, 100.0)}
"""What a number can be, by the row's name."""


@dataclass(frozen=True, slots=True)
class Item:
    """One row: when it happened, and what of it the columns read. The text itself is not kept.

    Args:
        ts_event: when it happened.
        source, name: of the row.
        is_news: it has a text.
        polarity: in [-1, 1]; NaN unknown.
        topics: weights that sum to 1; empty where unknown.
        number: its value where the row is neither news nor a polarity; NaN otherwise.
    """

    ts_event: int
    source: str
    name: str
    is_news: bool
    polarity: float
    topics: tuple[float, ...]
    number: float

    def plain(self) -> list[Any]:
        """As a checkpoint holds it."""
        topics = list(self.topics)
        return [self.ts_event, self.source, self.name, self.is_news, self.polarity, topics, self.number]

    @staticmethod
    def of(plain: list[Any]) -> Item:
        """The inverse of :meth:`plain`."""
        ts_event, source, name, is_news, polarity, topics, number = plain
        return Item(ts_event, source, name, is_news, polarity, tuple(topics), number)


def read_item(row: Mapping[str, Any], model: TextModel | None) -> Item | Reject:
    """Read one row of kind ``alt``.

    - ``no_content``: it has neither a value nor a text with a visible character.
    - ``bad_value``: the value is NaN or infinite.
    - ``out_of_range``: a polarity (of a text, or of a row named ``sentiment``) outside [-1, 1], or a fear-and-greed
      level outside 0..100.

    Args:
        row: ``source, name, text, value, ts_event``.
        model: None: texts have no topics, and no polarity but the feed's own.
    """
    name, text, value = str(row["name"]), str(row["text"] or "").strip(), row["value"]
    if value is None and not text:
        return Reject("no_content", f"{name} of {row['source']}: neither text nor value")
    if value is not None and not math.isfinite(value):
        return Reject("bad_value", f"{name} of {row['source']} is {value}")
    scored = bool(text) or name == SCORE
    low, high = RANGES.get(SCORE if scored else name, (-math.inf, math.inf))
    if value is not None and not low <= value <= high:
        return Reject("out_of_range", f"{name} of {row['source']} is {value}, not in [{low:g}, {high:g}]")
    polarity, topics = model.read(text) if text and model is not None else (math.nan, ())
    if scored and value is not None:
        polarity = float(value)
    number = math.nan if scored or value is None else float(value)
    return Item(int(row["ts_event"]), str(row["source"]), name, bool(text), polarity, topics, number)

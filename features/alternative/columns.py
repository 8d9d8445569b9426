"""One column of alternative features: what it takes of an item, and its value at a bar's end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from features.alternative.decay import DecayedMean, DecayedRate
from features.alternative.item import Item
from features.alternative.observations import Observations
from features.declared import alternative as declared
from features.declared.alternative import AlternativeFeature
from features.errors import ConfigError
from features.feature import SECOND, Feature


class Column(Protocol):
    """The state of one feature of one underlying."""

    moves: bool
    """Its value also changes between items."""

    def take(self, item: Item, at_ns: int) -> None:
        """An item takes effect at ``at_ns``, which does not decrease."""
        ...

    def value(self, end_ns: int) -> float:
        """At a bar's end; NaN unknown. Reading changes nothing."""
        ...

    def snapshot(self) -> list[Any]:
        """The state, exactly."""
        ...

    def restore(self, state: list[Any]) -> None:
        """Continue where ``snapshot`` was taken."""
        ...


class ItemMean:
    """Decayed mean of what an item says of one thing."""

    moves = False

    def __init__(self, feature: AlternativeFeature) -> None:
        self._topic = feature.topic
        self._mean = DecayedMean(feature.window_ns)

    def _observed(self, item: Item) -> float | None:
        """None where the item says nothing of it."""
        raise NotImplementedError

    def take(self, item: Item, at_ns: int) -> None:
        observed = self._observed(item)
        if observed is not None:
            self._mean.add(observed, at_ns)

    def value(self, end_ns: int) -> float:
        return self._mean.mean

    def snapshot(self) -> list[Any]:
        return self._mean.snapshot()

    def restore(self, state: list[Any]) -> None:
        self._mean.restore(state)


class MeanPolarity(ItemMean):
    """Decayed mean of the polarity."""

    def _observed(self, item: Item) -> float | None:
        return None if math.isnan(item.polarity) else item.polarity


class TopicShare(ItemMean):
    """Decayed share of one topic."""

    def _observed(self, item: Item) -> float | None:
        return item.topics[self._topic] if self._topic < len(item.topics) else None


class Momentum:
    """A fast mean less a slow one."""

    moves = False

    def __init__(self, feature: AlternativeFeature) -> None:
        self._fast, self._slow = DecayedMean(feature.fast_ns), DecayedMean(feature.window_ns)

    def take(self, item: Item, at_ns: int) -> None:
        if not math.isnan(item.polarity):
            self._fast.add(item.polarity, at_ns)
            self._slow.add(item.polarity, at_ns)

    def value(self, end_ns: int) -> float:
        return self._fast.mean - self._slow.mean

    def snapshot(self) -> list[Any]:
        return [self._fast.snapshot(), self._slow.snapshot()]

    def restore(self, state: list[Any]) -> None:
        self._fast.restore(state[0])
        self._slow.restore(state[1])


class Intensity:
    """Decayed rate of news."""

    moves = True

    def __init__(self, feature: AlternativeFeature) -> None:
        self._rate = DecayedRate(feature.window_ns)

    def take(self, item: Item, at_ns: int) -> None:
        if item.is_news:
            self._rate.add(at_ns)

    def value(self, end_ns: int) -> float:
        return self._rate.per_hour(end_ns)

    def snapshot(self) -> list[Any]:
        return self._rate.snapshot()

    def restore(self, state: list[Any]) -> None:
        self._rate.restore(state)


class Age:
    """Seconds since the newest item of any kind."""

    moves = True
    news_only = False

    def __init__(self, feature: AlternativeFeature) -> None:
        self._newest: int | None = None

    def take(self, item: Item, at_ns: int) -> None:
        if item.is_news or not self.news_only:
            self._newest = item.ts_event if self._newest is None else max(self._newest, item.ts_event)

    def value(self, end_ns: int) -> float:
        return math.nan if self._newest is None else (end_ns - self._newest) / SECOND

    def snapshot(self) -> list[Any]:
        return [self._newest]

    def restore(self, state: list[Any]) -> None:
        (self._newest,) = state


class NewsAge(Age):
    """Seconds since the newest item with a text."""

    news_only = True


class Level:
    """The last value of a number."""

    moves = False

    def __init__(self, feature: AlternativeFeature) -> None:
        self._item, self._source = feature.item, feature.source
        self._observations = Observations(self._before(feature))

    def _before(self, feature: AlternativeFeature) -> int:
        return 0

    def take(self, item: Item, at_ns: int) -> None:
        if item.name == self._item and not math.isnan(item.number) and self._source in ("", item.source):
            self._observations.add(item.number, item.ts_event)

    def value(self, end_ns: int) -> float:
        return self._observations.level

    def snapshot(self) -> list[Any]:
        return self._observations.snapshot()

    def restore(self, state: list[Any]) -> None:
        self._observations.restore(state)


class Change(Level):
    """The last value less the one before."""

    def _before(self, feature: AlternativeFeature) -> int:
        return 1

    def value(self, end_ns: int) -> float:
        return self._observations.change


class ZScore(Level):
    """The last value against those before it."""

    def _before(self, feature: AlternativeFeature) -> int:
        return feature.observations

    def value(self, end_ns: int) -> float:
        return self._observations.zscore


_COLUMNS: Final[Mapping[str, Callable[[AlternativeFeature], Column]]] = {
    declared.SENTIMENT: MeanPolarity,
    declared.MOMENTUM: Momentum,
    declared.INTENSITY: Intensity,
    declared.TOPIC_SHARE: TopicShare,
    declared.NEWS_AGE: NewsAge,
    declared.AGE: Age,
    declared.LEVEL: Level,
    declared.CHANGE: Change,
    declared.ZSCORE: ZScore,
}


def column_of(feature: Feature) -> Column:
    """A fresh column.

    Raises:
        ConfigError: the feature is none of alternative data.
    """
    if not isinstance(feature, AlternativeFeature) or feature.implementation not in _COLUMNS:
        raise ConfigError(
            f"Feature {feature.name!r} is not made of alternative rows.",
            "Declare it with a function of features/declared/alternative.py, e.g. zscore(name).",
        )
    return _COLUMNS[feature.implementation](feature)

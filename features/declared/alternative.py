"""Features of alternative data: headlines, posts, chain metrics, any timestamped text or number (rows of kind ``alt``).

Notation: t is the bar's end. An item i takes effect at a_i, when it is both available and in the log; it happened at
e_i = ``ts_event``. An item is *news* where it has a text. Its polarity s_i in [-1, 1] is the feed's own score (a row
named ``sentiment``, or a text that comes with a value), else the text model's; its topic weights h_ik, which sum to 1
over k, are the text model's. Items of all sources about one underlying count together. The time constant tau of a
kernel exp(-(t - a_i) / tau) is the feature's window.

A column for any other number of a feed is declared with :func:`level` or :func:`zscore`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from features.errors import ConfigError
from features.feature import MINUTE, Feature, window_name

HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

TOPICS: Final = 6
OBSERVATIONS: Final = 30

SENTIMENT_WINDOW_NS: Final = HOUR
FAST_WINDOW_NS: Final = 15 * MINUTE
SLOW_WINDOW_NS: Final = 4 * HOUR
INTENSITY_WINDOW_NS: Final = HOUR
TOPIC_WINDOW_NS: Final = DAY

_COLUMNS: Final = "features.alternative.columns"
SENTIMENT: Final = f"{_COLUMNS}.MeanPolarity"
MOMENTUM: Final = f"{_COLUMNS}.Momentum"
INTENSITY: Final = f"{_COLUMNS}.Intensity"
TOPIC_SHARE: Final = f"{_COLUMNS}.TopicShare"
NEWS_AGE: Final = f"{_COLUMNS}.NewsAge"
AGE: Final = f"{_COLUMNS}.Age"
LEVEL: Final = f"{_COLUMNS}.Level"
CHANGE: Final = f"{_COLUMNS}.Change"
ZSCORE: Final = f"{_COLUMNS}.ZScore"


@dataclass(frozen=True, slots=True)
class AlternativeFeature(Feature):
    """A feature of alternative rows, with the parameters of its column.

    Args:
        item: ``name`` of the rows that carry the number; empty where the feature reads news.
        source: ``source`` of those rows; empty: of any source.
        observations: how many earlier observations a z-score compares with.
        fast_ns: the short time constant of a momentum, whose long one is ``window_ns``.
        topic: index of the topic, from 0.
    """

    item: str = ""
    source: str = ""
    observations: int = 0
    fast_ns: int = 0
    topic: int = 0


def sentiment(window_ns: int = SENTIMENT_WINDOW_NS) -> AlternativeFeature:
    """The decayed mean polarity with another time constant than ``sentiment`` has; its name then ends with it."""
    return AlternativeFeature(
        _named("sentiment", window_ns, SENTIMENT_WINDOW_NS),
        "1",
        "sum_i exp(-(t - a_i) / tau) s_i / sum_i exp(-(t - a_i) / tau)",
        "no item with a polarity yet",
        ("alt",),
        SENTIMENT,
        "exponential smoothing of irregular observations: Mueller 1991; Zumbach and Mueller 2001, eq. 3",
        window_ns,
    )


def sentiment_momentum(fast_ns: int = FAST_WINDOW_NS, slow_ns: int = SLOW_WINDOW_NS) -> AlternativeFeature:
    """The mean polarity of the last minutes less that of the last hours.

    Raises:
        ConfigError: ``fast_ns`` is not shorter than ``slow_ns``.
    """
    _require(0 < fast_ns < slow_ns, f"A momentum of {fast_ns} ns against {slow_ns} ns is none.", "Fast < slow.")
    default = (fast_ns, slow_ns) == (FAST_WINDOW_NS, SLOW_WINDOW_NS)
    return AlternativeFeature(
        "sentiment_momentum" + ("" if default else f"_{window_name(fast_ns)}_{window_name(slow_ns)}"),
        "1",
        f"sentiment with tau = {window_name(fast_ns)} less sentiment with tau = {window_name(slow_ns)}",
        "no item with a polarity yet",
        ("alt",),
        MOMENTUM,
        "difference of two exponential means: Zumbach and Mueller 2001, section 3.3",
        slow_ns,
        fast_ns=fast_ns,
    )


def news_intensity(window_ns: int = INTENSITY_WINDOW_NS) -> AlternativeFeature:
    """The rate of news with another time constant than ``news_intensity`` has; its name then ends with it."""
    return AlternativeFeature(
        _named("news_intensity", window_ns, INTENSITY_WINDOW_NS),
        "items per hour",
        "sum over news of exp(-(t - a_i) / tau) / tau, tau in hours",
        "no news yet",
        ("alt",),
        INTENSITY,
        "Hawkes 1971, the exponential kernel as an estimator of the rate",
        window_ns,
    )


def topic_share(topic: int, window_ns: int = TOPIC_WINDOW_NS) -> AlternativeFeature:
    """How much of the recent news is about one topic of the text model."""
    _require(topic >= 0, f"There is no topic {topic}.", "Topics count from 0.")
    return AlternativeFeature(
        _named(f"topic_share_{topic}", window_ns, TOPIC_WINDOW_NS),
        "1",
        f"sum_i exp(-(t - a_i) / tau) h_i{topic} / sum_i exp(-(t - a_i) / tau) over news with topics",
        "no news with a topic yet, or the text model has fewer topics",
        ("alt",),
        TOPIC_SHARE,
        "topics: Lee and Seung 1999, non-negative matrix factorization of TF-IDF",
        window_ns,
        topic=topic,
    )


def level(name: str, source: str = "", unit: str = "as the feed gives it", column: str = "") -> AlternativeFeature:
    """A column with the last number that a feed gave under ``name``.

    Args:
        name: of the alternative rows.
        source: of those rows; empty: of any source.
        unit: of the number.
        column: name of the column; empty: ``name``.
    """
    return AlternativeFeature(
        column or name,
        unit,
        f"{_origin(name, source)} with the largest e_i; a row of the same e_i revises it, an older one is left out",
        "none yet",
        ("alt",),
        LEVEL,
        item=name,
        source=source,
    )


def change(name: str, source: str = "", unit: str = "as the feed gives it", column: str = "") -> AlternativeFeature:
    """A column with the difference between the last two observations of ``name``; see :func:`level`."""
    return AlternativeFeature(
        column or f"{name}_change",
        unit,
        f"{_origin(name, source)}: the last less the one before",
        "fewer than two observations yet",
        ("alt",),
        CHANGE,
        item=name,
        source=source,
    )


def zscore(name: str, observations: int = OBSERVATIONS, source: str = "", column: str = "") -> AlternativeFeature:
    """A column that says how unusual the last number under ``name`` is among those before it.

    Args:
        name, source: see :func:`level`.
        observations: N, how many earlier observations it is compared with.
        column: name of the column; empty: ``NAME_z``.

    Raises:
        ConfigError: fewer than two observations have no spread.
    """
    _require(observations >= 2, f"A z-score against {observations} observation(s) is none.", "Give 2 or more.")
    return AlternativeFeature(
        column or f"{name}_z",
        "standard deviations",
        f"(x - m) / sd of {_origin(name, source)}; m, sd (n - 1) of the {observations} observations before x",
        f"fewer than {required(observations)} observations before it, or they are all equal",
        ("alt",),
        ZSCORE,
        item=name,
        source=source,
        observations=observations,
    )


def required(observations: int) -> int:
    """How many of ``observations`` must be there before a z-score is known: half of them, and two at least."""
    return max(2, -(-observations // 2))


def _age(name: str, of: str, null_when: str, implementation: str) -> AlternativeFeature:
    return AlternativeFeature(name, "seconds", f"t - largest e_i of {of}", null_when, ("alt",), implementation)


def _named(name: str, window_ns: int, default_ns: int) -> str:
    _require(window_ns > 0, f"{name} cannot have a window of {window_ns} ns.", "Give a positive one.")
    return name if window_ns == default_ns else f"{name}_{window_name(window_ns)}"


def _origin(name: str, source: str) -> str:
    return f"{name} of {source}" if source else name


def _require(met: bool, problem: str, remedy: str) -> None:
    if not met:
        raise ConfigError(problem, remedy)


FEATURES: Final[tuple[Feature, ...]] = (
    sentiment(),
    sentiment_momentum(),
    news_intensity(),
    *(topic_share(topic) for topic in range(TOPICS)),
    _age("news_age_s", "news", "no news yet", NEWS_AGE),
    zscore("fees"),
    zscore("active_addresses"),
    zscore("transactions"),
    level("fear_greed", unit="1 (0: extreme fear, 100: extreme greed)"),
    change("fear_greed", unit="1"),
    _age("alternative_age_s", "all alternative rows", "none yet", AGE),
)
"""Of an underlying; they never hold a bar back, so they carry their age."""

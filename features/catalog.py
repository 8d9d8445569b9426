"""The catalogue: every feature of a running system, declared once, and the schemas that follow from it.

The catalogue's hash names the meaning of the numbers. It is part of the ``version`` of every feature row and of every
model artifact: a model refuses features that were computed from another catalogue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final, TypeAlias

import msgspec
import pyarrow as pa

from features.declared import alternative, book, cross_asset, derivative, price, trade
from features.declared.alternative import AlternativeFeature
from features.declared.windowed import FUNCTIONS, is_windowed
from features.errors import ConfigError
from features.feature import ARROW_TYPES, Feature
from features.user_feature import UserFeature

KEYS: Final = (
    pa.field("underlying", pa.utf8(), nullable=False),
    pa.field("instrument", pa.utf8(), nullable=False),
    pa.field("bar_ts", pa.int64(), nullable=False),  # end of the bar (t - interval, t]
    pa.field("ts_known", pa.int64(), nullable=False),
    pa.field("version", pa.utf8(), nullable=False),
)
"""``ts_known`` is the largest ``ts_recv`` that went into the row, the row that closed the bar among them."""

QUALITY: Final = (
    pa.field("book_valid", pa.bool_(), nullable=False),
    pa.field("book_crossed", pa.bool_(), nullable=False),
    pa.field("late_rows", pa.int64(), nullable=False),
    pa.field("lost_rows", pa.int64(), nullable=False),
    pa.field("corrected_rows", pa.int64(), nullable=False),
)
"""``book_valid``: the book can be computed from; ``book_crossed``: it is whole, but bid >= ask. ``late_rows``: trades
of a bar that had closed already. ``lost_rows``: sequence numbers of books and trades that never came.
``corrected_rows``: corrections and busts of trades that came in the bar."""

MARKET_FEATURES: Final = book.FEATURES + trade.FEATURES + price.FEATURES + derivative.FEATURES
"""Of one instrument and its underlying's derivatives."""

UNIVERSE_FEATURES: Final = cross_asset.FEATURES
"""Across underlyings, of the reference instruments."""

Extra: TypeAlias = Feature | UserFeature


@dataclass(frozen=True)
class Catalogue:
    """The features of a system: those of the house, and a user's own behind them.

    Args:
        extra: a user's own features: windowed and alternative ones of the house with other parameters, and
            :class:`features.user_feature.UserFeature`. Those behind may read those before.

    Raises:
        ConfigError: a name is taken, an input is unknown, or no function of ours computes it.
    """

    extra: tuple[Extra, ...] = ()

    def __post_init__(self) -> None:
        known = {field.name for field in (*KEYS, *QUALITY)} | {f.name for f in (*self._ours, *UNIVERSE_FEATURES)}
        readable = {feature.name for feature in self._ours if feature.dtype in ARROW_TYPES}
        for each in self.extra:
            feature = each.feature if isinstance(each, UserFeature) else each
            if feature.name in known:
                raise ConfigError(f"There is a column {feature.name!r} already.", "Give your feature another name.")
            if isinstance(each, UserFeature) and (unknown := sorted(set(feature.inputs) - readable)):
                raise ConfigError(
                    f"Feature {feature.name!r} reads {unknown}, which are no columns before it.",
                    "`hedgeflow features list` shows them.",
                )
            if type(each) is Feature and not is_windowed(each):
                raise ConfigError(
                    f"No function {feature.implementation!r} computes {feature.name!r}.",
                    f"Name one of {', '.join(FUNCTIONS)}, or declare a UserFeature.",
                )
            known.add(feature.name)
            readable.add(feature.name)

    @property
    def _ours(self) -> tuple[Feature, ...]:
        return (*MARKET_FEATURES, *alternative.FEATURES)

    @cached_property
    def market(self) -> tuple[Feature, ...]:
        """Of one instrument, from kernels; a user's windowed ones last."""
        own = [each for each in self.extra if type(each) is Feature]
        return (*MARKET_FEATURES, *own)

    @cached_property
    def alternative(self) -> tuple[Feature, ...]:
        """From rows of kind ``alt``."""
        own = [each for each in self.extra if isinstance(each, AlternativeFeature)]
        return (*alternative.FEATURES, *own)

    @cached_property
    def user(self) -> tuple[UserFeature, ...]:
        """A user's own."""
        return tuple(each for each in self.extra if isinstance(each, UserFeature))

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """Of the feature rows, in the order of the columns."""
        return (*self.market, *self.alternative, *(each.feature for each in self.user))

    @cached_property
    def all(self) -> tuple[Feature, ...]:
        """Of the universe rows, in the order of the columns."""
        return (*self.features, *UNIVERSE_FEATURES)

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the ``features`` topic and table: one row an instrument and bar."""
        return pa.schema([*KEYS, *QUALITY, *_columns(self.features)])

    @cached_property
    def universe_schema(self) -> pa.Schema:
        """Of the ``universe`` topic and table: an underlying's reference instrument, seen beside its peers."""
        return pa.schema([*self.schema, *_columns(UNIVERSE_FEATURES)])

    @cached_property
    def hash(self) -> str:
        """The first 12 hex digits of the SHA-256 of all declarations and of the user's code."""
        declared = [asdict(feature) for feature in self.all]
        code = [each.source_hash for each in self.user]
        return hashlib.sha256(msgspec.json.encode([declared, code], order="sorted")).hexdigest()[:12]


def _columns(features: Iterable[Feature]) -> list[pa.Field]:
    return [pa.field(feature.name, ARROW_TYPES[feature.dtype]) for feature in features]


STANDARD: Final = Catalogue()
"""The features of the house, without a user's own."""

FEATURES: Final = STANDARD.features
SCHEMA: Final = STANDARD.schema
UNIVERSE_SCHEMA: Final = STANDARD.universe_schema


def catalogue_hash() -> str:
    """Hash of the features of the house."""
    return STANDARD.hash

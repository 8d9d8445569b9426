"""What a user says of a feed of texts or numbers: where the time stands, when it was known, and what it is about."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from features.errors import ConfigError
from features.events import NANO
from pipeline.sources.alternative_time import ISO, UNITS

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class TimeMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a record happened, and when it was available.

    Args:
        field: of the record.
        format: see :func:`pipeline.sources.alternative_time.parse_time`.
        period_s: length of the period that begins at that time, at whose end the record happened: a day for daily
            figures, 60 for times written in minutes.
        midnight_is_day: a time of 00:00:00 says only the day; the record happened at the day's end.
        delay_s: from then until it was available.
        available_field: a field with the time of availability in the same format; the later of the two counts.
    """

    field: str
    format: str = ISO
    period_s: float = 0.0
    midnight_is_day: bool = False
    delay_s: float = 0.0
    available_field: str = ""

    @property
    def period_ns(self) -> int:
        """``period_s`` in nanoseconds."""
        return round(self.period_s * NANO)

    @property
    def delay_ns(self) -> int:
        """``delay_s`` in nanoseconds."""
        return round(self.delay_s * NANO)


class TextMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a text stands.

    Args:
        fields: joined by ". ", those that are there.
        name: of the rows.
        score_field: a polarity in [-1, 1] that comes with the text; it then counts in place of the text model's.
    """

    fields: tuple[str, ...]
    name: str = "headline"
    score_field: str = ""


class RouteMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which underlyings a record is about, by one of its fields; a value that is not named concerns all.

    Args:
        field: of the record.
        to: value of that field -> underlyings; an empty list leaves such records out.
    """

    field: str
    to: dict[str, tuple[str, ...]]


class AlternativeMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the records of a feed become rows of kind ``alt``.

    Args:
        source: name of the feed; its rows have the instrument ``alt:SOURCE``.
        underlyings: whom it concerns; a row is sent to each.
        time, text, route: see there.
        values: name of the rows -> field with a number. A name in ``RANGES`` of :mod:`features.alternative.item` means
            what the features read there.
        form: ``json``: a JSON object a line; ``csv``: a header, then rows.
        delimiter: of CSV fields.

    A field may be a path into nested objects, its steps separated by dots.
    """

    source: str
    underlyings: tuple[str, ...]
    time: TimeMapping
    text: TextMapping | None = None
    values: dict[str, str] = {}
    route: RouteMapping | None = None
    form: Literal["json", "csv"] = "json"
    delimiter: str = ","

    def __post_init__(self) -> None:
        """Refuse what could give no row, or rows from the future."""
        for name in (self.source, *self.values, *([self.text.name] if self.text else [])):
            _require(_NAME.fullmatch(name) is not None, f"{name!r} is no name.", "Use letters, digits, '_', '-', '.'.")
        _require(bool(self.underlyings) and all(self.underlyings), "The feed concerns no underlying.", "Name some.")
        _require(bool(self.values or self.text), "The mapping has neither text nor values.", "Name a field.")
        _require(self.text is None or bool(self.text.fields), "[text] names no field.", "Name one.")
        _require(len(self.delimiter) == 1, f"{self.delimiter!r} separates no fields.", "Give one character.")
        for key, value in (("period_s", self.time.period_s), ("delay_s", self.time.delay_s)):
            _require(0 <= value <= 366 * 86_400, f"[time] {key} is {value:g}.", "Give seconds from 0 to a year.")
        known = self.time.format == ISO or self.time.format in UNITS or "%" in self.time.format
        _require(known, f"[time] format {self.time.format!r} is unknown.", f"iso, {', '.join(UNITS)} or a % pattern.")


def read_mapping(path: Path) -> AlternativeMapping:
    """Read a mapping from TOML; ``docs/alternative-data.md`` describes it.

    Raises:
        ConfigError: the file is missing or no TOML, or a key is missing, unknown or out of range.
    """
    try:
        return mapping_of(tomllib.loads(path.read_text()))
    except OSError as error:
        raise ConfigError(f"The mapping {path} cannot be read: {error.strerror}.", "Check --mapping.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.", "See docs/alternative-data.md.") from error


def mapping_of(raw: Mapping[str, Any]) -> AlternativeMapping:
    """The same from a mapping of plain values.

    Raises:
        ConfigError: a key is missing, unknown or out of range.
    """
    try:
        return msgspec.convert(raw, AlternativeMapping)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The mapping is not usable: {error}.", "See docs/alternative-data.md.") from error


def _require(met: bool, problem: str, remedy: str) -> None:
    if not met:
        raise ConfigError(problem, remedy)

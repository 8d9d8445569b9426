"""Records of a feed as rows of kind ``alt``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from features.events import NANO, Kind
from pipeline.sources.alternative_mapping import AlternativeMapping
from pipeline.sources.alternative_time import parse_time
from pipeline.sources.base import UnusableError
from pipeline.sources.runs import MERGE_ORDER, Run

MAX_TEXT_BYTES: Final = 4_000
"""Of a row's text in UTF-8, what is longer is cut; so :data:`MAX_BATCH_ROWS` of them fit into one message."""

MAX_BATCH_ROWS: Final = 200

MAX_AHEAD_NS: Final = NANO
"""How far a live record's time may lie beyond its receipt; farther, it would push the stream ahead of the market."""

DAY_NS: Final = 86_400 * NANO


class AlternativeRow(NamedTuple):
    """One row for one underlying; the log has them by the first four fields.

    ``ts_recv`` is ``ts_available``, but no more than a day after ``ts_event``, which the edge requires; the features
    let the row wait until it is available.
    """

    ts_recv: int
    ts_available: int
    ts_event: int
    underlying: str
    name: str
    text: str | None
    value: float | None


def rows_of(
    record: Mapping[str, Any], mapping: AlternativeMapping, received_ns: int | None = None
) -> list[AlternativeRow]:
    """The rows of one record: for every underlying that it concerns, its text and each of its numbers.

    Args:
        record: as the feed gives it. A number may be written as text; one that is missing, null or empty gives no row.
        mapping: of the feed.
        received_ns: when a live record came; it is available then at the earliest. None for files.

    Raises:
        UnusableError: ``bad_time``: see :func:`parse_time`; ``bad_value``: a number is none, or not finite;
            ``no_content``: there is neither text nor number; ``from_the_future``: a live record says that it happened
            more than ``MAX_AHEAD_NS`` after its receipt.
    """
    event, available = _times(record, mapping)
    if received_ns is not None:
        if event > received_ns + MAX_AHEAD_NS:
            raise UnusableError("from_the_future", f"it happened {(event - received_ns) / NANO:g} s after its receipt")
        available = max(available, received_ns)
    contents = list(_contents(record, mapping))
    if not contents:
        raise UnusableError("no_content", "neither text nor number")
    recv = min(available, event + DAY_NS) if received_ns is None else received_ns
    return [
        AlternativeRow(recv, available, event, underlying, *content)
        for underlying in _underlyings(record, mapping)
        for content in contents
    ]


def runs_of(rows: Sequence[AlternativeRow], feed: str, source: int) -> Iterator[Run]:
    """Rows in log order as runs, to merge with other sources.

    Args:
        rows: in log order.
        feed: the mapping's ``source``.
        source: which of the merged sources this is.
    """
    order = MERGE_ORDER[Kind.ALT]
    for number, row in enumerate(rows):
        columns = {
            "instrument": f"alt:{feed}",
            "ts_event": [row.ts_event],
            "source": [feed],
            "name": [row.name],
            "text": [row.text],
            "value": [row.value],
            "ts_available": [row.ts_available],
        }
        yield Run(row.ts_recv, order, source, number, Kind.ALT, row.underlying, 1, columns)


def _times(record: Mapping[str, Any], mapping: AlternativeMapping) -> tuple[int, int]:
    time = mapping.time
    begin = parse_time(_field(record, time.field), time.format)
    event = begin + (DAY_NS if time.midnight_is_day and begin % DAY_NS == 0 else time.period_ns)
    available = event + time.delay_ns
    if time.available_field:
        available = max(available, parse_time(_field(record, time.available_field), time.format))
    return event, available


def _contents(record: Mapping[str, Any], mapping: AlternativeMapping) -> Iterator[tuple[str, str | None, float | None]]:
    if mapping.text is not None:
        pieces = [_field(record, field) for field in mapping.text.fields]
        text = ". ".join(stripped for piece in pieces if isinstance(piece, str) and (stripped := piece.strip()))
        if text:
            score = _number(_field(record, mapping.text.score_field)) if mapping.text.score_field else None
            yield mapping.text.name, _cut(text), score
    for name, field in mapping.values.items():
        number = _number(_field(record, field))
        if number is not None:
            yield name, None, number


def _underlyings(record: Mapping[str, Any], mapping: AlternativeMapping) -> tuple[str, ...]:
    if mapping.route is None:
        return mapping.underlyings
    return mapping.route.to.get(str(_field(record, mapping.route.field)), mapping.underlyings)


def _field(record: Mapping[str, Any], path: str) -> Any:
    """A field, by its full name or else as a path; None where there is none."""
    if path in record:
        return record[path]
    found: Any = record
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _number(value: Any) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UnusableError("bad_value", f"{str(value)[:80]!r} is no finite number")
    return number


def _cut(text: str) -> str:
    """No more than ``MAX_TEXT_BYTES``, ending with a whole character; lone surrogates become question marks."""
    return text.encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore")

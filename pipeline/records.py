"""Messages that are records rather than rows: decisions, their inputs, fills and dead letters, as lake columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import pyarrow as pa

from pipeline import topics
from pipeline.codec import UndecodableError
from pipeline.kafka import header
from pipeline.tables import Table

NANOS_PER_MILLI: Final = 1_000_000

_INT64: Final = 1 << 63


def record_batch(table: Table, message: Any) -> pa.RecordBatch:
    """The rows of one message.

    Raises:
        UndecodableError: it is no record of its topic.
    """
    try:
        rows = _DECODERS[table.topic](message)
        columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in table.columns]
    except (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UndecodableError("undecodable", f"{type(error).__name__}: {error}".splitlines()[0][:200]) from error
    data = pa.RecordBatch.from_arrays(columns, schema=table.columns)
    for name in (table.time, *table.key):
        if data.column(name).null_count:
            raise UndecodableError("null_in_required", f"column {name}")
    return data


def _dead_letter(message: Any) -> list[dict[str, Any]]:
    """A dead letter's headers; its time is when the broker took it, for its own event may have none.

    A letter is never refused: a header that is no number is null.
    """
    names = ("reason", "detail", "origin", "stage", "source_kind", "source_key")
    row: dict[str, Any] = {name: header(message, name) for name in names}
    row["rows"] = _number(header(message, "rows"))
    row["source_topic"] = header(message, "topic")
    row["source_partition"] = _number(header(message, "partition"))
    row["source_offset"] = _number(header(message, "offset"))
    row["ts_event"] = message.timestamp()[1] * NANOS_PER_MILLI
    row["payload"] = message.value() or b""
    return [row]


def _number(text: str | None) -> int | None:
    try:
        number = None if text is None else int(text)
    except ValueError:
        return None
    return number if number is not None and -_INT64 <= number < _INT64 else None


def _input(message: Any) -> list[dict[str, Any]]:
    """An input of the decision log; one without a bar (a person's command) has the time at which the log took it."""
    document = message.value() or b""
    item = _json(document)
    logged = message.timestamp()[1] * NANOS_PER_MILLI
    when = item.get("bar_ts") or item.get("ts") or item.get("active_from_bar_ts") or logged
    known = {"portfolio": header(message, "portfolio"), "input_id": item.get("input_id"), "type": item.get("type")}
    return [{**known, "bar_ts": when, "document": document.decode()}]


def _decision(message: Any) -> list[dict[str, Any]]:
    """A decision, one row a leg, with the whole document in each."""
    document = message.value() or b""
    decision = _json(document)
    shared = {name: decision.get(name) for name in ("portfolio", "bar_ts", "decision_id")}
    return [
        {**leg, **shared, "reason": "; ".join(leg.get("reasons", ())), "document": document.decode()}
        for leg in decision.get("legs", ())
    ]


def _fill(message: Any) -> list[dict[str, Any]]:
    return [{**_json(message.value() or b""), "portfolio": header(message, "portfolio")}]


def _json(document: bytes) -> Mapping[str, Any]:
    """A record.

    Raises:
        UndecodableError: it is no JSON object.
    """
    try:
        return msgspec.json.decode(document, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UndecodableError("undecodable", str(error)) from error


_DECODERS: Final[dict[str, Callable[[Any], list[dict[str, Any]]]]] = {
    topics.DEAD_LETTER: _dead_letter,
    topics.DECISION_INPUTS: _input,
    topics.DECISIONS: _decision,
    topics.FILLS: _fill,
}

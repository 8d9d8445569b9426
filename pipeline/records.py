"""Messages that are records rather than rows: decisions, their inputs, fills and dead letters, as lake columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import pyarrow as pa

from pipeline import topics
from pipeline.codec import UndecodableError
from pipeline.kafka import header
from pipeline.tables import DEAD_LETTER_COLUMNS, Table

NANOS_PER_MILLI: Final = 1_000_000

Columns = Mapping[str, pa.Array]


def record_columns(table: Table, message: Any) -> tuple[Columns, int]:
    """The columns of one message, and how many rows they have."""
    rows = _DECODERS[table.topic](message)
    columns = {field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in table.columns}
    return columns, len(rows)


def _dead_letter(message: Any) -> list[dict[str, Any]]:
    """A dead letter's headers; its time is when the broker took it, for its own event may have none."""
    known = {name: header(message, name) for name in ("reason", "detail", "rows", "origin", "stage")}
    position = {f"source_{name}": header(message, name) for name in ("topic", "partition", "offset")}
    row: dict[str, Any] = {**known, **position}
    for name in ("rows", "source_partition", "source_offset"):
        row[name] = None if row[name] is None else int(row[name])
    row["ts_event"] = message.timestamp()[1] * NANOS_PER_MILLI
    row["payload"] = message.value() or b""
    return [{field.name: row[field.name] for field in DEAD_LETTER_COLUMNS}]


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


def _json(document: bytes) -> dict[str, Any]:
    """A record.

    Raises:
        UndecodableError: it is no JSON object.
    """
    try:
        return msgspec.json.decode(document, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise UndecodableError("undecodable", str(error)) from error


_DECODERS: Final[dict[str, Callable[[Any], list[dict[str, Any]]]]] = {
    topics.DEAD_LETTER: _dead_letter,
    topics.DECISION_INPUTS: _input,
    topics.DECISIONS: _decision,
    topics.FILLS: _fill,
}

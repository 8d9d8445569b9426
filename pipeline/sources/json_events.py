"""hedgeflow's own JSON: a message is one event, with the columns of its kind (:mod:`features.events`).

``{"kind": "trade", "underlying": "BTC", "instrument": "desk:BTC", "ts_event": 1723075200000000000, "trade_id": 7,
"price": "61800.1", "size": "0.25", "aggressor": 1}``
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
import pyarrow as pa

from features.events import ASK, BID, EDGE_COLUMNS, LAST, SCHEMAS, SNAPSHOT, EventBatch, Kind
from pipeline.sources.base import UnusableError
from pipeline.sources.decimals import Increment
from pipeline.sources.listing import RunNumbers
from pipeline.sources.runs import Run
from pipeline.sources.tardis_increments import TardisIncrements

COUNTS: Final[Mapping[Kind, Mapping[str, int]]] = {
    Kind.BOOK: {"price": 0, "size": 1},
    Kind.TRADE: {"price": 0, "size": 1},
    Kind.TRADE_CORRECTION: {"price": 0, "size": 1},
    Kind.OPTION_QUOTE: {"bid": 0, "ask": 0},
}
"""Columns that are counts of the price (0) or size (1) increment: decimal strings in JSON."""

_PER_LEVEL: Final = ("side", "price", "size")
_OWN: Final = ("kind", "underlying", "snapshot")
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])


class JsonDecoder(Protocol):
    """Turns messages of one format into rows."""

    def decode(self, payload: bytes, received_ns: int) -> list[Run]:
        """The rows of the next message.

        Args:
            payload: the message.
            received_ns: when the topic had it: ``ts_recv`` of messages that name none.

        Raises:
            UnusableError: it cannot be used; nothing of it has been.
        """
        ...

    def resume(self, batch: EventBatch) -> None:
        """Take rows that an earlier run appended: in order, the newest last."""
        ...


class HedgeflowMessages:
    """Decodes :mod:`.json_events`.

    - An ``instrument`` message gives an instrument's increments; prices before it are refused
      (``unknown_increments``), unless they are in ``increments``. Send it again from time to time: a source that is
      started again finds it in the newest part of the log, or in ``increments``.
    - ``price``, ``size``, ``bid`` and ``ask`` are decimal strings; ``_e9`` columns are integers.
    - A book message is a whole event: ``side`` (1 bid, -1 ask), ``price`` and ``size`` are lists, and
      ``"snapshot": true`` says that it replaces the book. Its ids are the message's ``prev_id`` and ``update_id``.
    - ``ts_recv`` may be left out. Edge columns and ``flags`` are not allowed.

    Refused: no JSON object (``broken_json``), an unknown kind, a missing or unknown column, a value of another type
    (``unexpected_form``), what is no decimal (``bad_decimal``), no whole number of increments (``off_increment``), or
    too large. Impossible values, such as a negative size, the edge refuses.
    """

    def __init__(self, increments: TardisIncrements) -> None:
        self._given = increments
        self._learned: dict[str, tuple[Increment, Increment]] = {}
        self._numbers = RunNumbers(0)

    def resume(self, batch: EventBatch) -> None:
        """Learn increments."""
        if batch.kind is Kind.INSTRUMENT:
            for row in batch.data.to_pylist():
                increments = (Increment.from_e9(row[f"{name}_increment_e9"]) for name in ("price", "size"))
                self._learned[row["instrument"]] = next(increments), next(increments)

    def decode(self, payload: bytes, received_ns: int) -> list[Run]:
        """One run."""
        try:
            message = _DECODER.decode(payload)
        except msgspec.ValidationError as error:
            raise UnusableError("unexpected_form", str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnusableError("broken_json", str(error)) from error
        kind = message.get("kind")
        if not isinstance(kind, str) or kind not in set(SCHEMAS):
            raise UnusableError("unknown_message", f"kind {kind!r}")
        return [self._run(Kind(kind), message, received_ns)]

    def _run(self, kind: Kind, message: dict[str, Any], received_ns: int) -> Run:
        underlying, instrument = message.get("underlying"), message.get("instrument")
        if not (isinstance(underlying, str) and underlying and isinstance(instrument, str) and instrument):
            raise UnusableError("missing_field", "a message names its underlying and its instrument")
        ts_recv = message.get("ts_recv", received_ns)
        fields = {field.name: field for field in SCHEMAS[kind] if field.name not in (*EDGE_COLUMNS, "flags")}
        unknown = set(message) - set(fields) - set(_OWN)
        if unknown or ("snapshot" in message and kind is not Kind.BOOK):
            raise UnusableError("unknown_column", f"{sorted(unknown) or ['snapshot']} of kind {kind}")
        _check("ts_recv", pa.int64(), ts_recv)
        rows = _levels(message) if kind is Kind.BOOK else 1
        columns: dict[str, Any] = {"instrument": [instrument] * rows}
        for name, field in fields.items():
            if name not in ("instrument", "ts_recv"):
                columns[name] = self._column(kind, message, field, rows)
        if kind is Kind.BOOK:
            columns["flags"] = [SNAPSHOT if message.get("snapshot") is True else 0] * rows
            columns["flags"][-1] |= LAST
        if kind is Kind.INSTRUMENT:
            self._learn(instrument, columns)
        return self._numbers.run(kind, ts_recv, underlying, rows, columns)

    def _column(self, kind: Kind, message: dict[str, Any], field: Any, rows: int) -> list[Any]:
        value = message.get(field.name)
        if value is None:
            if not field.nullable:
                raise UnusableError("missing_field", f"{field.name} of kind {kind}")
            return [None] * rows
        which = COUNTS.get(kind, {}).get(field.name)
        per_level = kind is Kind.BOOK and field.name in _PER_LEVEL
        values = (value or [None if which is None else "0"]) if per_level else [value]
        if which is not None:
            increment = self._known(message["instrument"])[which]
            return [_count(field.name, text, increment) for text in values]
        if per_level:
            values = [BID if each is None else each for each in values]
            if not set(values) <= {BID, ASK}:
                raise UnusableError("unexpected_form", "side is 1 or -1")
        for each in values:
            _check(field.name, field.type, each)
        return values if per_level else values * rows

    def _known(self, instrument: str) -> tuple[Increment, Increment]:
        found = self._learned.get(instrument) or self._given.known(instrument)
        if found is None:
            raise UnusableError("unknown_increments", f"{instrument} has not been introduced by an instrument message")
        return found

    def _learn(self, instrument: str, columns: dict[str, Any]) -> None:
        price, size = (columns[f"{name}_increment_e9"][0] for name in ("price", "size"))
        if price <= 0 or size <= 0:
            raise UnusableError("unexpected_form", "increments are positive")
        self._learned[instrument] = Increment.from_e9(price), Increment.from_e9(size)


def _levels(message: dict[str, Any]) -> int:
    """How many rows a book message has: a row a level, and one where there is none."""
    lists = [message.get(name) for name in _PER_LEVEL]
    if not all(isinstance(each, list) for each in lists) or len({len(each or ()) for each in lists}) != 1:
        raise UnusableError("unexpected_form", "side, price and size of a book are lists of one length")
    if not isinstance(message.get("snapshot", False), bool):
        raise UnusableError("unexpected_form", "snapshot is true or false")
    return max(len(lists[0] or ()), 1)


def _count(name: str, text: Any, increment: Increment) -> int:
    if not isinstance(text, str):
        raise UnusableError("unexpected_form", f"{name} is a decimal in quotes")
    return increment.count(text)


def _check(name: str, type_: Any, value: Any) -> None:
    if pa.types.is_integer(type_):
        bits = type_.bit_width
        good = isinstance(value, int) and not isinstance(value, bool) and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
    elif pa.types.is_boolean(type_):
        good = isinstance(value, bool)
    elif pa.types.is_floating(type_):
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        good = isinstance(value, str)
    if not good:
        raise UnusableError("unexpected_form", f"{name} is no {type_}")

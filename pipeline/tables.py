"""The lake's tables: which topic fills them, with which columns, and what identifies a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from features import signals
from features.catalog import STANDARD, Catalogue
from features.declared import own_activity
from features.events import SCHEMAS, Kind
from pipeline import topics

DATE: Final = pa.field("date", pa.utf8(), nullable=False)
POSITION: Final = (
    pa.field("topic_partition", pa.int32(), nullable=False),
    pa.field("topic_offset", pa.int64(), nullable=False),
    pa.field("topic_row", pa.int32(), nullable=False),
)
"""Where in the log a row stands: the order that a backfill replays."""


@dataclass(frozen=True, slots=True)
class Table:
    """A Delta table, partitioned by date.

    Args:
        name: of the table and of its view.
        topic: where its rows come from.
        kind: the ``kind`` header of its messages.
        columns: without position and date.
        time: the column that the date is taken from.
        key: for rows that are computed, the columns that identify a row's series: rows of a key not beyond its last
            ``time`` are repeats and dropped. Raw rows have none: their position in the log identifies them.
        doc: one line, shown by ``hedgeflow sql``.
    """

    name: str
    topic: str
    kind: str
    columns: pa.Schema
    time: str
    doc: str
    key: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """All columns, as stored."""
        return pa.schema([*self.columns, *POSITION, DATE])


def _stored(schema: pa.Schema) -> pa.Schema:
    """Event columns as the lake stores them: the underlying as a column, no dictionaries."""
    fields = [pa.field("underlying", pa.utf8(), nullable=False)]
    for field in schema:
        plain = pa.utf8() if pa.types.is_dictionary(field.type) else field.type
        # Delta has no unsigned integers.
        fields.append(pa.field(field.name, pa.int16() if plain == pa.uint8() else plain, field.nullable))
    return pa.schema(fields)


def _raw(name: str, kind: Kind, doc: str) -> Table:
    return Table(name, topics.EVENTS, kind.value, _stored(SCHEMAS[kind]), "ts_event", doc)


def _record(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, type_) for name, type_ in fields])


DEAD_LETTER_COLUMNS: Final = _record(
    ("ts_event", pa.int64()),
    ("reason", pa.utf8()),
    ("detail", pa.utf8()),
    ("rows", pa.int64()),
    ("origin", pa.utf8()),
    ("stage", pa.utf8()),
    ("source_topic", pa.utf8()),
    ("source_partition", pa.int64()),
    ("source_offset", pa.int64()),
    ("source_kind", pa.utf8()),
    ("source_key", pa.utf8()),
    ("payload", pa.binary()),
)
INPUT_COLUMNS: Final = _record(
    ("bar_ts", pa.int64()),
    ("portfolio", pa.utf8()),
    ("input_id", pa.utf8()),
    ("type", pa.utf8()),
    ("document", pa.utf8()),
)
DECISION_COLUMNS: Final = _record(
    ("portfolio", pa.utf8()),
    ("bar_ts", pa.int64()),
    ("decision_id", pa.utf8()),
    ("underlying", pa.utf8()),
    ("instrument", pa.utf8()),
    ("rung", pa.utf8()),
    ("black_delta", pa.float64()),
    ("lower", pa.float64()),
    ("upper", pa.float64()),
    ("position", pa.float64()),
    ("target", pa.float64()),
    ("order_quantity", pa.float64()),
    ("reason", pa.utf8()),
    ("document", pa.utf8()),
)
FILL_COLUMNS: Final = _record(
    ("portfolio", pa.utf8()),
    ("bar_ts", pa.int64()),
    ("order_id", pa.utf8()),
    ("decision_id", pa.utf8()),
    ("underlying", pa.utf8()),
    ("instrument", pa.utf8()),
    ("quantity", pa.float64()),
    ("price", pa.float64()),
    ("fee_usd", pa.float64()),
)


def tables_of(catalogue: Catalogue) -> Mapping[str, Table]:
    """Every table of a system with these features, by name."""
    tables = (
        _raw("book", Kind.BOOK, "order-book levels as they came: integer increments, snapshot and last-in-event flags"),
        _raw("trades", Kind.TRADE, "trades; aggressor +1 bought, -1 sold"),
        _raw("trade_corrections", Kind.TRADE_CORRECTION, "what a trade should have been; size 0: it is busted"),
        _raw("options", Kind.OPTION_QUOTE, "option quotes; *_e9 columns are in units of 1e-9"),
        _raw("funding", Kind.FUNDING, "funding rate per 8 hours, index, mark, open interest"),
        _raw("alt", Kind.ALT, "alternative data, known from ts_available on"),
        _raw("instruments", Kind.INSTRUMENT, "reference data, versioned: increments, contract size, expiry, strike"),
        _raw("heartbeats", Kind.HEARTBEAT, "stream time of quiet instruments"),
        Table(
            "features",
            topics.FEATURES,
            "features",
            catalogue.schema,
            "bar_ts",
            "one row an instrument and bar (`hedgeflow features list`)",
            ("instrument",),
        ),
        Table(
            "universe",
            topics.UNIVERSE,
            "universe",
            catalogue.universe_schema,
            "bar_ts",
            "each underlying's reference instrument beside its peers",
            ("instrument",),
        ),
        Table(
            "signals",
            topics.SIGNALS,
            "signals",
            signals.SCHEMA,
            "bar_ts",
            "regime posterior and forecasts, one row an underlying and bar",
            ("underlying",),
        ),
        Table(
            "decision_inputs", topics.DECISION_INPUTS, "input", INPUT_COLUMNS, "bar_ts", "all that decided, in order"
        ),
        Table(
            "decisions",
            topics.DECISIONS,
            "decision",
            DECISION_COLUMNS,
            "bar_ts",
            "one row a decision and leg",
            ("portfolio", "underlying"),
        ),
        Table("fills", topics.FILLS, "fill", FILL_COLUMNS, "bar_ts", "what the gateway filled", ("order_id",)),
        Table(
            "own_activity",
            topics.OWN_ACTIVITY,
            topics.OWN_ACTIVITY,
            own_activity.SCHEMA,
            "bar_ts",
            "position, P&L in USD at the mid, execution cost and free limits, one row a portfolio, instrument and bar",
            ("portfolio", "instrument"),
        ),
        Table(
            "dead_letters",
            topics.DEAD_LETTER,
            "",
            DEAD_LETTER_COLUMNS,
            "ts_event",
            "what could not be used, why, and its bytes",
        ),
    )
    return {table.name: table for table in tables}


TABLES: Final = tables_of(STANDARD)
"""Of a system with the features of the house."""

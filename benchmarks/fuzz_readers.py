"""Everything that reads what others wrote, as the workers do: decoders, and the stages behind them."""

from __future__ import annotations

from collections import Counter
from typing import Final

from benchmarks.fuzz_messages import RECORDS, Message
from features.bars import FeatureStage
from features.catalog import STANDARD
from features.events import EventBatch, Kind
from features.universe import UniverseStage
from pipeline.codec import UndecodableError, decode_event, decode_rows
from pipeline.lake_writer_rows import Piece, stacked
from pipeline.records import record_batch
from pipeline.sources.base import UnusableError
from pipeline.sources.json_events import HedgeflowMessages
from pipeline.sources.tardis_increments import TardisIncrements
from pipeline.tables import tables_of
from pipeline.topics import EVENTS

REFERENCE: Final = {"BTC": "sim:BTC-PERP", "ETH": "sim:ETH-PERP"}
RECEIVED_NS: Final = 1_767_571_200_000_000_000


class Record:
    """A message of a topic of records, as a client hands it over; its headers are as damaged as the rest."""

    def __init__(self, message: Message) -> None:
        self._payload = message.payload

    def value(self) -> bytes:
        """The bytes."""
        return self._payload

    def headers(self) -> list[tuple[str, bytes]]:
        """Text and numbers that are none."""
        return [("portfolio", b"desk"), ("reason", self._payload[:9]), ("rows", self._payload[:3]), ("offset", b"\xff")]

    def timestamp(self) -> tuple[int, int]:
        """When the broker had it, in ms."""
        return 1, RECEIVED_NS // 1_000_000


class Readers:
    """The readers, with the stages that take what was accepted."""

    def __init__(self, events: list[EventBatch]) -> None:
        self._introductions = [batch for batch in events if batch.kind is Kind.INSTRUMENT]
        tables = tables_of(STANDARD).values()
        self._table_of_kind = {table.kind: table for table in tables if table.topic == EVENTS}
        self._table_of_topic = {table.topic: table for table in tables if table.topic != EVENTS}
        self._readers = {"event": self._event, "row": self._row, "record": self._record, "json": self._json}
        self.begin_anew()

    def begin_anew(self) -> None:
        """Fresh stages that know the instruments."""
        self._features = FeatureStage()
        self._universe = UniverseStage(REFERENCE)
        self._messages = HedgeflowMessages(TardisIncrements((), {}))
        for batch in self._introductions:
            self._features.process(batch)

    def read(self, message: Message) -> tuple[str, Counter[str]]:
        """Why it was refused, empty if it was not; and which rows the stages refused of it.

        Whatever else it raises is a mistake.
        """
        later: Counter[str] = Counter()
        try:
            self._readers[message.reader](message, later)
        except (UndecodableError, UnusableError) as error:
            return error.reason, later
        return "", later

    def _event(self, message: Message, later: Counter[str]) -> None:
        batch = decode_event(message.kind, message.key, message.payload)
        stacked(self._table_of_kind[batch.kind.value], [Piece((EVENTS, 0), 0, batch.data, batch.underlying)])
        for reject in self._features.process(batch).rejects:
            later[reject.reason] += reject.rows

    def _row(self, message: Message, later: Counter[str]) -> None:
        data = decode_rows(message.kind, message.payload)
        stacked(self._table_of_topic[message.kind], [Piece((message.kind, 0), 0, data)])
        if message.kind == "features":
            for reject in self._universe.process(data).rejects:
                later[reject.reason] += reject.rows

    def _record(self, message: Message, later: Counter[str]) -> None:
        table = self._table_of_topic.get(message.kind)
        if table is None or message.kind not in RECORDS:
            raise UndecodableError("unknown_kind", "no such topic")
        stacked(table, [Piece((table.topic, 0), 0, record_batch(table, Record(message)))])

    def _json(self, message: Message, later: Counter[str]) -> None:
        self._messages.decode(message.payload, RECEIVED_NS)

"""The alternative data of one underlying, as it becomes known."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from features.alternative.columns import column_of
from features.alternative.item import Item, read_item
from features.declared.alternative import DAY, FEATURES
from features.errors import BadInputError
from features.feature import Feature
from features.stage import Reject

if TYPE_CHECKING:
    from features.alternative.text import TextModel

MAX_WAIT_NS: Final = 366 * DAY
"""A row that becomes available later than this is garbage, and would wait forever."""

MAX_WAITING: Final = 10_000
"""How many rows may wait for the time at which they are available, so that the state is bounded."""


class AlternativeState:
    """Rows of kind ``alt`` about one underlying in log order, and the columns that they give at a bar's end.

    A row takes effect at a = max(``ts_available``, stream time at its arrival), and never changes a value at an end
    before a. Rows that are not available yet wait in the order of (a, arrival). Values are those that all rows of the
    same log give, wherever they are asked, snapshot or restored in between.

    Args:
        text: reads polarity and topics of texts; None: only a feed's own polarity counts.
        features: the columns, in order.

    Raises:
        ConfigError: a feature is none of alternative data.
    """

    def __init__(self, text: TextModel | None, features: tuple[Feature, ...] = FEATURES) -> None:
        self._text = text
        self._names = [feature.name for feature in features]
        self._columns = [column_of(feature) for feature in features]
        self._moving = [i for i, column in enumerate(self._columns) if column.moves]
        self._values = np.full(len(features), math.nan)
        self._waiting: list[tuple[int, int, Item]] = []
        self._arrivals = 0
        self._last_seq: dict[str, int] = {}
        self._end_ns = -1
        self._changed = False

    def take(self, row: Mapping[str, Any], stream_ns: int) -> Reject | None:
        """Take the next row of the log.

        Args:
            row: with the fields of ``SCHEMAS[Kind.ALT]``.
            stream_ns: its stream time, ``ts_event + late_ns``. It lies beyond the last end that :meth:`values` was
                asked for; a row that breaks this counts from the nanosecond after that end on.

        Returns:
            None: taken, or ignored as a duplicate (its ``seq`` is not beyond the last of its instrument). A reject,
            and the row is left out: as :func:`features.alternative.item.read_item` says; ``far_future``: available
            only after more than ``MAX_WAIT_NS``; ``too_many_waiting``: ``MAX_WAITING`` rows wait already.
        """
        instrument, seq = str(row["instrument"]), int(row["seq"])
        if seq <= self._last_seq.get(instrument, -1):
            return None
        self._last_seq[instrument] = seq
        available = int(row["ts_available"])
        if available > stream_ns + MAX_WAIT_NS:
            return Reject("far_future", f"{row['name']} of {row['source']} is available only at {available}")
        if len(self._waiting) >= MAX_WAITING:
            self._apply(stream_ns)
            if len(self._waiting) >= MAX_WAITING:
                return Reject("too_many_waiting", f"{MAX_WAITING} rows are not available yet")
        item = read_item(row, self._text)
        if isinstance(item, Reject):
            return item
        effective = max(available, stream_ns, self._end_ns + 1)
        heapq.heappush(self._waiting, (effective, self._arrivals, item))
        self._arrivals += 1
        return None

    def values(self, end_ns: int) -> np.ndarray:
        """The columns at a bar's end, float64 of shape (features,); NaN unknown.

        Args:
            end_ns: not before the last one; asking twice for one end gives the same bits.

        Raises:
            BadInputError: ``end_ns`` lies before the last one.
        """
        if end_ns < self._end_ns:
            raise BadInputError(f"Values at {end_ns} were asked after those at {self._end_ns}.", "Ask in order.")
        self._end_ns = end_ns
        self._apply(end_ns)
        for i in range(len(self._columns)) if self._changed else self._moving:
            self._values[i] = self._columns[i].value(end_ns)
        self._changed = False
        return self._values.copy()

    def _apply(self, until_ns: int) -> None:
        """Let what is available by then take effect; no value at an earlier end is asked any more."""
        while self._waiting and self._waiting[0][0] <= until_ns:
            at_ns, _, item = heapq.heappop(self._waiting)
            for column in self._columns:
                column.take(item, at_ns)
            self._changed = True

    def snapshot(self) -> dict[str, Any]:
        """The state as values that :func:`features.state.pack` holds."""
        return {
            "names": list(self._names),
            "columns": [column.snapshot() for column in self._columns],
            "waiting": [[at_ns, arrival, item.plain()] for at_ns, arrival, item in sorted(self._waiting, key=_order)],
            "arrivals": self._arrivals,
            "last_seq": dict(self._last_seq),
            "end_ns": self._end_ns,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`snapshot` was taken.

        Raises:
            BadInputError: the state is one of other features.
        """
        if list(state["names"]) != self._names:
            raise BadInputError("The checkpoint has other alternative features.", "Delete it; the log is read anew.")
        for column, saved in zip(self._columns, state["columns"], strict=True):
            column.restore(saved)
        self._waiting = [(at_ns, arrival, Item.of(plain)) for at_ns, arrival, plain in state["waiting"]]
        self._arrivals, self._end_ns = state["arrivals"], state["end_ns"]
        self._last_seq = dict(state["last_seq"])
        self._changed = True


def _order(waiting: tuple[int, int, Item]) -> tuple[int, int]:
    return waiting[0], waiting[1]

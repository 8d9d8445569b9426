"""A source's own copy of one venue book: it joins snapshot and diffs, sees gaps, and snapshots again by itself."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Final, NamedTuple

import numpy as np

from features.book_side import MAX_LEVELS
from features.events import ASK, BID, LAST, SNAPSHOT
from pipeline.sources.base import UnusableError

Array = np.ndarray[Any, Any]

MAX_HELD: Final = 20_000
"""Diffs held while no snapshot has come; beyond it the oldest are dropped and counted."""


class BookEvent(NamedTuple):
    """One venue message about a book, in counts of increments: the bids first, then the asks."""

    ts_event: int
    ts_recv: int
    prev_id: int
    update_id: int
    bids: Array  # (n, 2): price, size
    asks: Array
    is_snapshot: bool

    def columns(self, instrument: str) -> dict[str, Any]:
        """As columns of the log. An event without levels still has a row, so that its ids reach the book."""
        levels = np.concatenate((self.bids, self.asks)) if len(self.bids) + len(self.asks) else np.zeros((1, 2), int)
        side = np.full(len(levels), ASK, dtype=np.int8)
        side[: len(self.bids)] = BID
        flags = np.full(len(levels), SNAPSHOT if self.is_snapshot else 0, dtype=np.uint8)
        flags[-1] |= LAST
        return {
            "instrument": instrument,
            "ts_event": self.ts_event,
            "prev_id": self.prev_id,
            "update_id": self.update_id,
            "side": side,
            "price": levels[:, 0],
            "size": levels[:, 1],
            "flags": flags,
        }


class VenueBook:
    """Turns a venue's snapshots and diffs into events that any reader of the log can follow.

    A diff applies to a book whose last id lies in [prev_id, update_id). While there is no such book (before the first
    snapshot, after a gap), diffs are held; once a snapshot comes they follow it, available when it was. The diff that
    shows a gap is also let through at once: it makes every reader's book invalid.

    Args:
        resnapshot_ns: how often (event time) the whole book is sent again, for readers that join late.
        counts: where what is left out is counted: ``stale_diff``, ``snapshot_behind``, ``gap``, ``held_overflow``.
    """

    def __init__(self, resnapshot_ns: int, counts: Counter[str]) -> None:
        self._resnapshot_ns = resnapshot_ns
        self._counts = counts
        self._sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._held: deque[BookEvent] = deque()
        self._next_snapshot = 0
        self._synced = False
        self._update_id = -1

    @property
    def held(self) -> int:
        """How many diffs wait for a snapshot."""
        return len(self._held)

    def diff(self, event: BookEvent) -> list[BookEvent]:
        """Take a diff; return what goes into the log now."""
        if not self._synced:
            self._hold(event)
            return []
        if event.update_id <= self._update_id:
            self._counts["stale_diff"] += 1
            return []
        if event.prev_id > self._update_id:
            self._counts["gap"] += 1
            self._synced = False
            self._hold(event)
            return [event]
        self._apply(event)
        if event.ts_event < self._next_snapshot:
            return [event]
        return [event, self._whole(event.ts_event, event.ts_recv)]

    def snapshot(self, event: BookEvent) -> list[BookEvent]:
        """Take the venue's snapshot; return it and the held diffs that continue it.

        Raises:
            UnusableError: the first diff after it that we have does not follow it: too old.
        """
        if self._synced and event.update_id <= self._update_id:
            self._counts["snapshot_behind"] += 1
            return []
        while self._held and self._held[0].update_id <= event.update_id:
            self._held.popleft()
        if self._held and self._held[0].prev_id > event.update_id:
            raise UnusableError(
                "snapshot_too_old",
                f"it ends at id {event.update_id}, the next diff that we have follows id {self._held[0].prev_id}",
            )
        self._sides = ({}, {})
        self._apply(event)
        self._synced = True
        self._next_snapshot = event.ts_event + self._resnapshot_ns
        held, self._held = self._held, deque()
        events = [event]
        for diff in held:
            events += self.diff(diff._replace(ts_recv=event.ts_recv))
        return events

    def _hold(self, event: BookEvent) -> None:
        if len(self._held) == MAX_HELD:
            self._held.popleft()
            self._counts["held_overflow"] += 1
        self._held.append(event)

    def _apply(self, event: BookEvent) -> None:
        for side, levels in zip(self._sides, (event.bids, event.asks), strict=True):
            for price, size in levels.tolist():
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
        self._update_id = event.update_id

    def _whole(self, ts_event: int, ts_recv: int) -> BookEvent:
        self._next_snapshot = ts_event + self._resnapshot_ns
        bids, asks = (_best(side, sign) for side, sign in zip(self._sides, (BID, ASK), strict=True))
        return BookEvent(ts_event, ts_recv, self._update_id, self._update_id, bids, asks, True)


def _best(side: dict[int, int], sign: int) -> Array:
    """The best levels of a side, best first: as many as a reader's book holds."""
    levels = np.empty((len(side), 2), dtype=np.int64)
    levels[:, 0] = np.fromiter(side.keys(), dtype=np.int64, count=len(side))
    levels[:, 1] = np.fromiter(side.values(), dtype=np.int64, count=len(side))
    return levels[np.argsort(-sign * levels[:, 0], kind="stable")][:MAX_LEVELS]

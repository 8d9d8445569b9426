"""How far our clock is from the venue's, from timestamps alone."""

from __future__ import annotations

from typing import Final

from features.events import NANO

WINDOW_NS: Final = 60 * NANO


class ClockOffset:
    """offset = min over a window of (ts_recv - ts_event).

    Each difference is the true offset of the clocks plus a latency that is not negative; the least of many comes
    closest to the offset (the idea of the clock filter in NTP, RFC 5905, section 10). What remains is the least latency
    of the window. Negative: our clock lags the venue's.

    The window is kept as two halves, so the least value that counts is between half and one window old.
    """

    __slots__ = ("_current", "_half_ns", "_previous", "_until")

    def __init__(self, window_ns: int = WINDOW_NS) -> None:
        self._half_ns = window_ns // 2
        self._until: int | None = None
        self._current: int | None = None
        self._previous: int | None = None

    def observe(self, ts_recv: int, ts_event: int) -> None:
        """Take the two times of one message, in ns."""
        if self._until is None or ts_recv >= self._until:
            self._previous, self._current = self._current, None
            self._until = ts_recv + self._half_ns
        difference = ts_recv - ts_event
        if self._current is None or difference < self._current:
            self._current = difference

    @property
    def offset_ns(self) -> int | None:
        """The estimate; None before the first message."""
        if self._current is None or self._previous is None:
            return self._current
        return min(self._current, self._previous)

"""Where live messages become rows of the log, or dead letters."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from features.errors import HedgeflowError
from pipeline.edge import Edge
from pipeline.sources.base import OnReject, Reject, UnusableError, ignore_reject
from pipeline.sources.live.capture import Capture
from pipeline.sources.runs import Run, batches_of

Clock = Callable[[], int]
"""Our time in ns since the epoch."""

LINGER_S: Final = 0.005
MAX_WAITING: Final = 256


class Outlet:
    """Gathers the rows of several connections for a few ms and appends them in batches; it keeps their order.

    Args:
        edge: numbers and judges the rows.
        clock: gives times of receipt. One that steps back is held: no message is received before the one before it.
        on_reject: receives every message that could not be used; the session goes on.
        linger_s: how long a row may wait for others.
    """

    def __init__(
        self,
        edge: Edge,
        *,
        clock: Clock = time.time_ns,
        on_reject: OnReject = ignore_reject,
        linger_s: float = LINGER_S,
    ) -> None:
        self.messages = 0
        self.rejected: Counter[str] = Counter()
        self.edge = edge
        self._clock = clock
        self._on_reject = on_reject
        self._linger_s = linger_s
        self._now = 0
        self._runs: list[Run] = []
        self._timer: asyncio.TimerHandle | None = None
        self._failure: HedgeflowError | None = None

    def now(self) -> int:
        """The time of receipt of what has just come."""
        self._now = max(self._now, self._clock())
        return self._now

    def take(
        self, message: bytes, decode: Callable[[int, bytes], list[Run]], origin: str, capture: Capture | None
    ) -> None:
        """Stamp, capture and decode one message; its rows go on within ``linger_s``.

        Args:
            message: as it came.
            decode: makes rows of it; what it refuses becomes a dead letter.
            origin: where the message comes from, for its dead letter.
            capture: where it is kept as it came.
        """
        ts_recv = self.now()
        self.messages += 1
        if capture is not None:
            capture.write(ts_recv, message)
        try:
            self.send(decode(ts_recv, message))
        except UnusableError as error:
            self.reject(error.reason, error.detail, message, origin)

    def reject(self, reason: str, detail: str, message: bytes, origin: str) -> None:
        """Count a dead letter and hand it on."""
        self.rejected[reason] += 1
        self._on_reject(Reject(reason, detail, message, origin))

    def send(self, runs: list[Run]) -> None:
        """Append rows, soon.

        Raises:
            HedgeflowError: the log refused rows that were sent before.
        """
        if self._failure is not None:
            raise self._failure
        if not runs:
            return
        self._runs += runs
        if len(self._runs) >= MAX_WAITING:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._flush_late)

    def _flush_late(self) -> None:
        try:
            self.flush()
        except HedgeflowError as error:  # nobody would hear of it here: the next message raises it
            self._failure = error

    def flush(self) -> None:
        """Append what waits.

        Raises:
            HedgeflowError: the log refuses.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        runs, self._runs = self._runs, []
        for batch in batches_of(runs):
            self.edge.send(batch)

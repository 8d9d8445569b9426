"""Whether a worker lives and may be given work: what its loop says about itself, read by the monitor's threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

BEAT_S: Final = 30.0
"""After this silence a loop counts as hanging: it turns every 100 ms."""

BUSY_S: Final = 600.0
"""How long a declared step (restoring a state, compiling) may take."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer and the reason for it."""

    good: bool
    why: str


class Health:
    """Written by the worker's thread, read by others.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._beat = clock()
        self._busy = ""
        self._ready = Verdict(False, "starting")

    def beat(self) -> None:
        """The loop turned."""
        with self._lock:
            self._beat, self._busy = self._clock(), ""

    def busy(self, what: str) -> None:
        """A step begins that may take up to ``BUSY_S``, in which the loop does not turn."""
        with self._lock:
            self._beat, self._busy = self._clock(), what

    def ready(self, ready: bool, why: str) -> None:
        """Whether messages are taken now, and why or why not."""
        with self._lock:
            self._ready = Verdict(ready, why)

    def alive(self) -> Verdict:
        """Whether the loop turns, or is inside a step that it declared."""
        with self._lock:
            silent_s, busy = self._clock() - self._beat, self._busy
        if busy:
            return Verdict(silent_s < BUSY_S, f"{busy}, for {silent_s:.0f} s")
        if silent_s < BEAT_S:
            return Verdict(True, "the loop turns")
        return Verdict(False, f"the loop has not turned for {silent_s:.0f} s")

    def takes_work(self) -> Verdict:
        """What :meth:`ready` was told last; a loop that hangs takes none."""
        alive = self.alive()
        if not alive.good:
            return alive
        with self._lock:
            return self._ready

"""Run what a signal ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, Final, Protocol

WATCH_S: Final = 1.0


class Stoppable(Protocol):
    """A worker, or a source that follows a topic."""

    def run(self) -> None:
        """Go on until stopped."""
        ...

    def stop(self) -> None:
        """Finish what is at hand and leave ``run``."""
        ...


def run_until_signal(worker: Stoppable, *, with_parent: bool = False) -> bool:
    """Run until SIGINT or SIGTERM; whether it was SIGINT, which a command answers with status 130.

    Args:
        with_parent: stop also when the process that started us has ended, however it did.
    """
    interrupted = False

    def leave(number: int, _frame: Any) -> None:
        nonlocal interrupted
        interrupted = interrupted or number == signal.SIGINT
        worker.stop()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    if with_parent:
        threading.Thread(target=_watch_parent, args=(worker,), daemon=True).start()
    worker.run()
    return interrupted


def _watch_parent(worker: Stoppable) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    worker.stop()

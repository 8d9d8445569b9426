"""Run what a signal ends."""

from __future__ import annotations

import signal
from typing import Any, Protocol


class Stoppable(Protocol):
    """A worker, or a source that follows a topic."""

    def run(self) -> None:
        """Go on until stopped."""
        ...

    def stop(self) -> None:
        """Finish what is at hand and leave ``run``."""
        ...


def run_until_signal(worker: Stoppable) -> bool:
    """Run until SIGINT or SIGTERM; whether it was SIGINT, which a command answers with status 130."""
    interrupted = False

    def leave(number: int, _frame: Any) -> None:
        nonlocal interrupted
        interrupted = interrupted or number == signal.SIGINT
        worker.stop()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    worker.run()
    return interrupted

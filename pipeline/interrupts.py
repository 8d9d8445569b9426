"""Ctrl-C between two steps of a loop, and not inside a client's C code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupted_between_steps() -> Iterator[Callable[[], None]]:
    """Yields a function that raises ``KeyboardInterrupt`` if Ctrl-C was pressed; a second Ctrl-C raises at once.

    An exception out of a signal's handler that meets confluent-kafka inside ``produce`` comes out as a ``TypeError``,
    or ends the process with a segmentation fault.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pressed = 0

    def remember(_number: int, _frame: Any) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            raise KeyboardInterrupt

    def look() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield look
    finally:
        signal.signal(signal.SIGINT, before)

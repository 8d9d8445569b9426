"""One session of a live source: it ends after a time, by a signal, or with the first error that will not pass."""

from __future__ import annotations

import asyncio
import signal
from typing import Protocol

from features.errors import HedgeflowError
from pipeline.source_metrics import Teller


class Live(Protocol):
    """A live source."""

    async def run(self) -> None:
        """Follow until cancelled; rows that wait are appended before it returns."""
        ...


async def follow(
    live: Live, seconds: float | None = None, *, signals: bool = True, turn: Teller | None = None
) -> int | None:
    """Run ``live``.

    Args:
        live: the source.
        seconds: after which it ends; None: never by itself.
        signals: whether SIGINT and SIGTERM end it too.
        turn: hears of the event loop's turns.

    Returns:
        The signal that ended it.

    Raises:
        HedgeflowError: the first one that a task of the source raised.
    """
    running = asyncio.ensure_future(live.run())
    turning = asyncio.ensure_future(turn.forever()) if turn is not None else None
    caught: list[int] = []
    loop = asyncio.get_running_loop()

    def leave(number: int) -> None:
        caught.append(number)
        running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM) if signals else ():
        loop.add_signal_handler(number, leave, number)
    timer = loop.call_later(seconds, running.cancel) if seconds is not None else None
    try:
        await asyncio.gather(running, return_exceptions=True)
    finally:
        running.cancel()
        if turning is not None:
            turning.cancel()
        if timer is not None:
            timer.cancel()
        for number in (signal.SIGINT, signal.SIGTERM) if signals else ():
            loop.remove_signal_handler(number)
    if not running.cancelled() and (error := running.exception()) is not None:
        raise _first(error)
    return caught[0] if caught else None


def _first(error: BaseException) -> BaseException:
    """The error itself, without the groups that tasks wrap around it; one of ours before any other."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_first(each) for each in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, HedgeflowError)), leaves[0])

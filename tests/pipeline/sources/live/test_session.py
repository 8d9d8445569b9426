"""A session ends after a time, by a signal, or with the error itself."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from features.errors import ConfigError
from pipeline.sources.live.session import follow


class Waiting:
    """Follows nothing, and says that it left in order."""

    left = False

    async def run(self) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            self.left = True


class Failing:
    """One of its tasks fails."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(self._inner())

    async def _inner(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(30))
            tasks.create_task(self._fail())

    async def _fail(self) -> None:
        raise ConfigError("Nothing is listed.", "Check it.")


def test_it_ends_after_its_time() -> None:
    live = Waiting()
    assert asyncio.run(follow(live, 0.01)) is None
    assert live.left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_is_named(number: signal.Signals) -> None:
    async def interrupted(live: Waiting) -> int | None:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
        return await follow(live)

    live = Waiting()
    assert asyncio.run(interrupted(live)) == number
    assert live.left


def test_an_error_comes_out_as_itself() -> None:
    with pytest.raises(ConfigError, match="Nothing is listed"):
        asyncio.run(follow(Failing(), signals=False))

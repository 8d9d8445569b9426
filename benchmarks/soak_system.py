"""A whole system under load: worker processes, and a market that is fed into their log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.soak_market import Feed, Prepared
from pipeline.processes import WorkerDiedError, Workers, environment_of
from pipeline.settings import Settings

ALONE: Final = ("features", "universe", "signals", "decisions", "own", "lake")
CHAINED: Final = ("features-universe-signals-decisions", "own", "lake")
BEGUN_S: Final = 300.0
DRAINED_S: Final = 600.0


@dataclass(frozen=True)
class UnderLoad:
    """The running parts."""

    workers: Workers
    feed: Feed


@contextmanager
def under_load(
    prepared: Prepared, settings: Settings, folder: Path, workers: Sequence[str], speed: float
) -> Iterator[UnderLoad]:
    """Run ``workers``, feed the market once all have begun; at the end wait until all is fed and taken, then stop.

    Args:
        settings: of a broker that has the topics.
        folder: for the logs.
        speed: simulated seconds a second.

    Raises:
        WorkerDiedError: a worker ended by itself.
    """
    with Workers(settings, environment_of(settings), folder / "logs") as running:
        running.start(*workers)
        _wait_for_all(running, folder / "logs", workers)
        feed = Feed(settings, prepared.config, speed).start()
        try:
            yield UnderLoad(running, feed)
        except BaseException:
            feed.stop()
            raise
        feed.finish()
        running.drain(DRAINED_S)


def _wait_for_all(running: Workers, logs: Path, workers: Sequence[str]) -> None:
    """Until every worker's log says that it was given partitions."""
    deadline = time.monotonic() + BEGUN_S
    while not all('"assigned"' in (logs / f"{name}.log").read_text(errors="replace") for name in workers):
        running.check()
        if time.monotonic() > deadline:
            raise WorkerDiedError(f"Workers do not begin within {BEGUN_S:.0f} s.", f"See {logs}.")
        time.sleep(0.1)

"""A whole system under load: worker processes, and a market that is fed into their log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.soak_market import Feed, Prepared
from pipeline.processes import Workers, environment_of
from pipeline.settings import Settings

ALONE: Final = ("features", "universe", "signals", "decisions", "own", "lake")
CHAINED: Final = ("features-universe-signals-decisions", "own", "lake")
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
    """Run ``workers`` while the market is fed; at the end wait until the feed is done and all is taken, then stop.

    Args:
        settings: of a broker that has the topics.
        folder: for the logs.
        speed: simulated seconds a second.

    Raises:
        WorkerDiedError: a worker ended by itself.
    """
    with Workers(settings, environment_of(settings), folder / "logs") as running:
        running.start(*workers)
        feed = Feed(settings, prepared.config, speed).start()
        try:
            yield UnderLoad(running, feed)
        except BaseException:
            feed.stop()
            raise
        feed.finish()
        running.drain(DRAINED_S)

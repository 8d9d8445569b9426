"""The ``features`` stage: the log's rows in, one row an instrument and bar out."""

from __future__ import annotations

from collections.abc import Mapping

from features.engine import UnderlyingEngine
from features.events import NANO, EventBatch
from features.stage import Keyed, StageOutput


class FeatureStage:
    """Features of every underlying in the part of the log that it reads.

    The log must be in order per underlying; how underlyings interleave does not matter.
    """

    name = "features"

    def __init__(self, interval_ns: int = NANO) -> None:
        self._interval_ns = interval_ns
        self._engines: dict[str, UnderlyingEngine] = {}

    def process(self, batch: EventBatch) -> StageOutput:
        """Take the next rows of one kind about one underlying."""
        engine = self._engines.get(batch.underlying)
        if engine is None:
            engine = self._engines[batch.underlying] = UnderlyingEngine(batch.underlying, self._interval_ns)
        rows, rejects = engine.process(batch)
        return StageOutput([] if rows is None else [Keyed(batch.underlying, rows)], rejects)

    def snapshot(self) -> Mapping[str, bytes]:
        """State by underlying."""
        return {underlying: engine.snapshot() for underlying, engine in self._engines.items()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Replace all state."""
        self._engines = {}
        for underlying, data in state.items():
            engine = UnderlyingEngine(underlying, self._interval_ns)
            engine.restore(data)
            self._engines[underlying] = engine

"""The ``features`` stage: the log's rows in, one row an instrument and bar out."""

from __future__ import annotations

from collections.abc import Mapping

from features.alternative.text import TextModel
from features.catalog import STANDARD, Catalogue
from features.compute_bars import compute_bars as compute_bars
from features.engine import UnderlyingEngine
from features.events import NANO, EventBatch
from features.stage import Keyed, StageOutput


class FeatureStage:
    """Features of every underlying in the part of the log that it reads.

    The log must be in order per underlying; how underlyings interleave does not matter. Arguments as those of
    :class:`features.engine.UnderlyingEngine`.
    """

    name = "features"

    def __init__(
        self,
        interval_ns: int = NANO,
        catalogue: Catalogue = STANDARD,
        text: TextModel | None = None,
        drop_crossing: bool = False,
    ) -> None:
        self._interval_ns = interval_ns
        self._catalogue = catalogue
        self._text = text
        self._drop_crossing = drop_crossing
        self._engines: dict[str, UnderlyingEngine] = {}

    def process(self, batch: EventBatch) -> StageOutput:
        """Take the next rows of one kind about one underlying."""
        engine = self._engines.get(batch.underlying)
        if engine is None:
            engine = self._engines[batch.underlying] = self._engine(batch.underlying)
        rows, rejects = engine.process(batch)
        return StageOutput([Keyed(batch.underlying, each) for each in rows], rejects)

    def _engine(self, underlying: str) -> UnderlyingEngine:
        return UnderlyingEngine(underlying, self._interval_ns, self._catalogue, self._text, self._drop_crossing)

    def snapshot(self) -> Mapping[str, bytes]:
        """State by underlying."""
        return {underlying: engine.snapshot() for underlying, engine in self._engines.items()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Replace all state."""
        self._engines = {}
        for underlying, data in state.items():
            engine = self._engine(underlying)
            engine.restore(data)
            self._engines[underlying] = engine

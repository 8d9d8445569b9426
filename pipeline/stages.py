"""The stages by name: what ``hedgeflow stream run STAGE`` runs, and the chain that backfill runs in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from features.bars import FeatureStage
from features.errors import ConfigError
from features.stage import Stage
from features.universe import UniverseStage
from pipeline import topics
from pipeline.codec import decode_event, decode_rows
from pipeline.settings import Settings
from pipeline.worker import StageSpec

STAGE_NAMES: Final = ("features", "universe", "signals", "own", "decisions", "lake")
"""Every stage that is a worker; the last two have loops of their own."""


def _rows(kind: str, _key: str, payload: bytes) -> Any:
    return decode_rows(kind, payload)


def feature_stage(settings: Settings) -> FeatureStage:
    """Events to feature rows."""
    return FeatureStage(settings.interval_ns)


def universe_stage(settings: Settings) -> UniverseStage:
    """Feature rows of all underlyings, side by side."""
    return UniverseStage(settings.reference)


def signal_stage(settings: Settings) -> Stage[Any]:
    """Universe rows to posteriors and forecasts; loads the models."""
    from pipeline.signals import SignalStage

    return SignalStage.load(settings.models)


def _own_activity_spec(settings: Settings) -> StageSpec:
    """Decision inputs to features of our own activity; reads portfolio and limits."""
    from pipeline.own_activity import OwnActivityStage, decode_logged_input

    return StageSpec(
        "own",
        topics.DECISION_INPUTS,
        topics.OWN_ACTIVITY,
        decode_logged_input,
        lambda: OwnActivityStage.load(settings),
    )


def stage_spec(name: str, settings: Settings) -> StageSpec:
    """How the stage called ``name`` is run as a worker.

    Raises:
        ConfigError: there is no such stage.
    """
    specs: dict[str, Callable[[], StageSpec]] = {
        "features": lambda: StageSpec(
            "features", topics.EVENTS, topics.FEATURES, decode_event, lambda: feature_stage(settings)
        ),
        "universe": lambda: StageSpec(
            "universe", topics.FEATURES, topics.UNIVERSE, _rows, lambda: universe_stage(settings), whole=True
        ),
        "signals": lambda: StageSpec("signals", topics.UNIVERSE, topics.SIGNALS, _rows, lambda: signal_stage(settings)),
        "own": lambda: _own_activity_spec(settings),
    }
    if name not in specs:
        raise ConfigError(f"There is no stage {name!r}.", f"Stages are {', '.join(STAGE_NAMES)}.")
    return specs[name]()

"""The stages by name: what ``hedgeflow stream run STAGE`` runs, and the chain that backfill runs in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from features.bars import FeatureStage
from features.errors import ConfigError
from features.stage import Stage
from features.universe import UniverseStage
from pipeline import topics
from pipeline.codec import decode_event, decode_rows, row_schemas
from pipeline.model_folders import TEXT_FOLDER
from pipeline.settings import Settings
from pipeline.user_features import catalogue_of
from pipeline.worker import Decode, StageSpec

STAGE_NAMES: Final = ("features", "universe", "signals", "decisions", "own", "lake")
"""Every stage that is a worker; ``decisions`` and ``lake`` have loops of their own."""


def _rows_of(settings: Settings) -> Decode:
    schemas = row_schemas(catalogue_of(settings))

    def decode(kind: str, _key: str, payload: bytes) -> Any:
        return decode_rows(kind, payload, schemas)

    return decode


def feature_stage(settings: Settings) -> FeatureStage:
    """Events to feature rows; headlines are read where the models have a text model."""
    text = None
    if (settings.models / TEXT_FOLDER).is_dir():
        from features.alternative.text_artifact import load_text

        text = load_text(settings.models / TEXT_FOLDER)
    return FeatureStage(settings.interval_ns, catalogue_of(settings), text, settings.drop_crossing_levels)


def universe_stage(settings: Settings) -> UniverseStage:
    """Feature rows of all underlyings, side by side."""
    catalogue = catalogue_of(settings)
    return UniverseStage(
        settings.reference,
        settings.interval_ns,
        schema=catalogue.schema,
        universe_schema=catalogue.universe_schema,
    )


def signal_stage(settings: Settings) -> Stage[Any]:
    """Universe rows to posteriors and forecasts; loads the models."""
    from pipeline.signals import SignalStage

    return SignalStage.load(settings.models, catalogue_of(settings).hash)


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
            "universe",
            topics.FEATURES,
            topics.UNIVERSE,
            _rows_of(settings),
            lambda: universe_stage(settings),
            whole=True,
        ),
        "signals": lambda: StageSpec(
            "signals", topics.UNIVERSE, topics.SIGNALS, _rows_of(settings), lambda: signal_stage(settings)
        ),
        "own": lambda: _own_activity_spec(settings),
    }
    if name not in specs:
        raise ConfigError(f"There is no stage {name!r}.", f"Stages are {', '.join(STAGE_NAMES)}.")
    return specs[name]()

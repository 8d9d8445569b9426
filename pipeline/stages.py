"""The stages, made from the settings: what workers run, and backfill and replay in one process.

Imports are late: a worker loads what its own stages need, and starts in half the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from features.stage import Stage
from pipeline.model_folders import TEXT_FOLDER
from pipeline.settings import Settings
from pipeline.user_features import catalogue_of

if TYPE_CHECKING:
    from features.bars import FeatureStage
    from features.universe import UniverseStage


def feature_stage(settings: Settings) -> FeatureStage:
    """Events to feature rows; headlines are read where the models have a text model."""
    from features.bars import FeatureStage

    text = None
    if (settings.models / TEXT_FOLDER).is_dir():
        from features.alternative.text_artifact import load_text

        text = load_text(settings.models / TEXT_FOLDER)
    return FeatureStage(settings.interval_ns, catalogue_of(settings), text, settings.drop_crossing_levels)


def universe_stage(settings: Settings) -> UniverseStage:
    """Feature rows of all underlyings, side by side."""
    from features.universe import UniverseStage

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

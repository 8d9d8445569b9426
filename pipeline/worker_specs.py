"""What ``hedgeflow stream run STAGE...`` runs: stages by name, what each reads and writes, and how they are chained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from features.errors import ConfigError
from pipeline import topics
from pipeline.chain_spec import ChainSpec, Decode, Ending, StageSpec
from pipeline.codec import decode_event, decode_rows, row_schemas
from pipeline.health import Health
from pipeline.metrics import WorkerMetrics
from pipeline.settings import Settings
from pipeline.stage_chain import StageChain
from pipeline.stages import feature_stage, signal_stage, universe_stage
from pipeline.tables import TABLES
from pipeline.user_features import catalogue_of
from pipeline.worker import Worker

STAGE_NAMES: Final = ("features", "universe", "signals", "decisions", "own", "lake")
"""Every stage that a worker runs."""

DECISIONS: Final = "decisions"
LAKE: Final = "lake"

SOURCES: Final[Mapping[str, Sequence[str]]] = {
    "features": (topics.EVENTS,),
    "universe": (topics.FEATURES,),
    "signals": (topics.UNIVERSE,),
    "decisions": (topics.SIGNALS,),
    "own": (topics.DECISION_INPUTS,),
    LAKE: tuple(sorted({table.topic for table in TABLES.values()})),
}
"""What each worker reads, in the order in which the log runs through them."""

_ORDER: Final = "Chain them in the order features universe signals decisions; own and lake run by themselves."


def _rows_of(settings: Settings) -> Decode:
    schemas = row_schemas(catalogue_of(settings))

    def decode(kind: str, _key: str, payload: bytes) -> Any:
        return decode_rows(kind, payload, schemas)

    return decode


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
    """How the stage called ``name`` is run.

    Raises:
        ConfigError: there is no such stage.
    """
    rows = _rows_of(settings)
    specs: dict[str, Callable[[], StageSpec]] = {
        "features": lambda: StageSpec(
            "features", topics.EVENTS, topics.FEATURES, decode_event, lambda: feature_stage(settings)
        ),
        "universe": lambda: StageSpec(
            "universe", topics.FEATURES, topics.UNIVERSE, rows, lambda: universe_stage(settings), whole=True
        ),
        "signals": lambda: StageSpec("signals", topics.UNIVERSE, topics.SIGNALS, rows, lambda: signal_stage(settings)),
        "own": lambda: _own_activity_spec(settings),
    }
    if name not in specs:
        raise ConfigError(f"There is no stage {name!r}.", f"Stages are {', '.join(STAGE_NAMES)}.")
    return specs[name]()


def chain_spec(names: Sequence[str], settings: Settings, metrics: WorkerMetrics) -> ChainSpec:
    """How stages are chained in one process.

    Raises:
        ConfigError: there is no such stage, or one does not read what the one before it writes.
    """
    stages = tuple(stage_spec(name, settings) for name in names if name != DECISIONS)
    for before, after in pairwise(stages):
        if after.source != before.sink:
            raise ConfigError(f"{after.name} does not read what {before.name} writes.", _ORDER)
    ending: Callable[[], Ending] | None = None
    if DECISIONS in names:
        if names[-1] != DECISIONS or (stages and stages[-1].sink != topics.SIGNALS):
            raise ConfigError("The decisions come after the signals.", _ORDER)

        def ending() -> Ending:
            from pipeline.decisions import Decisions

            return Decisions(settings, metrics)

    return ChainSpec(
        name="-".join(names),
        source=stages[0].source if stages else topics.SIGNALS,
        decode=stages[0].decode if stages else _rows_of(settings),
        stages=stages,
        ending=ending,
        whole=ending is not None or any(stage.whole for stage in stages),
        version=f"catalogue {catalogue_of(settings).hash}, bars of {settings.interval_ns} ns",
    )


def sources_of(stage: str) -> Sequence[str]:
    """The topics that a worker reads, by its name (of a chain, its stages' names joined with ``-``)."""
    return SOURCES[stage.split("-")[0]]


def make_worker(names: Sequence[str], settings: Settings) -> Worker:
    """The worker that runs these stages in this process.

    Raises:
        ConfigError: they cannot be chained.
    """
    name = "-".join(names)
    metrics = WorkerMetrics(name)
    metrics.describe(catalogue_of(settings).hash)
    health = Health()
    if list(names) == [LAKE]:
        from pipeline.lake_writer import LakeWriter

        return Worker(settings, LakeWriter(settings, metrics), metrics, health)
    health.busy("loading")
    return Worker(settings, StageChain(settings, chain_spec(names, settings, metrics), metrics), metrics, health)

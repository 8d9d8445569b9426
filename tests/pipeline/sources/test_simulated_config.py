"""Settings out of range are refused, with the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from features.errors import ConfigError
from pipeline.sources.simulated_config import SimulationConfig
from pipeline.sources.simulated_regimes import CALM, ILLIQUID, STRESSED


@pytest.mark.parametrize(
    "wrong",
    [
        {"minutes": 0},
        {"minutes": float("nan")},
        {"minutes": 20_000},
        {"seed": -1},
        {"start_ns": 1},
        {"tick_ms": 30},
        {"tick_ms": 1},
        {"depth_levels": 0},
        {"depth_levels": 500},
        {"underlyings": ()},
        {"underlyings": ("BTC", "BTC")},
        {"underlyings": ("DOGE",)},
        {"regimes": (STRESSED, CALM, ILLIQUID)},
        {"snapshot_interval_s": 0},
        {"funding_interval_s": 0},
        {"block_s": 0},
    ],
    ids=str,
)
def test_bad_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        SimulationConfig(**wrong)
    assert "Use " in caught.value.remedy


def test_lengths() -> None:
    config = SimulationConfig(minutes=2.5, tick_ms=250)
    assert config.seconds == 150
    assert config.ticks_per_s == 4

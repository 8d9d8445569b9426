"""What ``hedgeflow sql`` prints."""

from __future__ import annotations

import pytest

from pipeline.commands.sql import _cell


@pytest.mark.parametrize(
    ("value", "shown"),
    [(11657.07, "11657.07"), (11657.08, "11657.08"), (100_000.01, "100000.01"), (0.25, "0.25"), (7, "7"), ("a", "a")],
)
def test_prices_a_tick_apart_are_told_apart(value: object, shown: str) -> None:
    assert _cell(value) == shown

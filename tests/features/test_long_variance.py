"""Realized variance over days, hour by hour, against sums over all returns."""

from __future__ import annotations

import math

import numpy as np
import pytest

from features.events import NANO
from features.long_variance import HORIZONS_D, HOUR_NS, HOURS, remember_return

MINUTE = 60 * NANO
START = 1_767_571_200 * NANO  # the beginning of an hour


class Memory:
    """What an instrument keeps."""

    def __init__(self) -> None:
        self.hour = np.zeros(2, np.int64)
        self.sum = np.zeros(1)
        self.hours = np.full(HOURS, np.nan)
        self.variance = np.full(len(HORIZONS_D), np.nan)

    def take(self, bar: int, value: float) -> None:
        """The return of minute bar ``bar``."""
        remember_return(self.hour, self.sum, self.hours, self.variance, value, START + (bar + 1) * MINUTE, MINUTE)


def test_a_month_of_minutes() -> None:
    returns = np.random.default_rng(0).normal(0.0, 1e-4, 31 * 1_440)
    memory = Memory()
    for bar, value in enumerate(returns):
        memory.take(bar, value)
        if bar == 6 * 1_440:
            assert np.isnan(memory.variance).all(), "not yet nine tenths of a week"
    last = len(returns) - 1 - (len(returns) - 1) % 60  # the open hour does not count
    for days, found in zip(HORIZONS_D, memory.variance, strict=True):
        expected = np.sum(returns[last - days * 1_440 : last] ** 2) * 365 / days
        assert found == pytest.approx(expected, rel=1e-12)


def test_hours_that_are_hardly_known_are_left_out_and_others_stand_for_all_their_bars() -> None:
    memory = Memory()
    for bar in range(8 * 1_440):
        minute, hour = bar % 60, bar // 60
        unknown = (hour % 24 == 3 and minute < 7) or (hour % 24 == 5 and minute < 6)
        memory.take(bar, math.nan if unknown else 1e-3)
    # 3 o'clock has 53 of 60 minutes, less than nine tenths: 7 of 168 hours are missed, and all others alike.
    assert memory.variance[0] == pytest.approx(60 * 1e-6 * 8_760, rel=1e-12)
    assert math.isnan(memory.variance[1])


def test_a_silence_of_more_than_a_tenth_makes_it_unknown_until_it_has_passed() -> None:
    memory = Memory()
    for bar in range(8 * 1_440):
        memory.take(bar, 1e-3)
    assert memory.variance[0] > 0
    for bar in range(9 * 1_440, 9 * 1_440 + 61):
        memory.take(bar, 1e-3)
    assert math.isnan(memory.variance[0])
    for bar in range(9 * 1_440 + 61, 16 * 1_440 + 61):
        memory.take(bar, 1e-3)
    assert memory.variance[0] == pytest.approx(60 * 1e-6 * 8_760, rel=1e-12)


def test_more_than_a_month_of_silence_forgets_everything() -> None:
    memory = Memory()
    for bar in range(8 * 1_440):
        memory.take(bar, 1e-3)
    memory.take(60 * 1_440, 1e-3)
    assert np.isnan(memory.hours).all()
    assert HOURS * HOUR_NS == 30 * 24 * 3_600 * NANO

from __future__ import annotations

import numpy as np
import pytest

from features.events import NANO
from pipeline.sources.clock_offset import ClockOffset


def test_none_before_the_first_message() -> None:
    assert ClockOffset().offset_ns is None


@pytest.mark.parametrize("offset_ns", [-1_270_000_000, 0, 40_000_000])
def test_offset_is_found_up_to_the_least_latency(offset_ns: int) -> None:
    random = np.random.Generator(np.random.PCG64(1))
    clock = ClockOffset()
    latency = 2_000_000 + random.exponential(5e6, size=2_000).astype(int)
    for i, each in enumerate(latency.tolist()):
        event = i * 20_000_000
        clock.observe(event + offset_ns + each, event)
    assert clock.offset_ns is not None
    assert 2_000_000 <= clock.offset_ns - offset_ns < 2_100_000


def test_a_clock_that_was_set_is_followed_after_a_window() -> None:
    clock = ClockOffset(window_ns=10 * NANO)
    for second in range(60):
        step = 0 if second < 30 else NANO
        clock.observe(second * NANO + step, second * NANO)
        if 5 < second < 30:
            assert clock.offset_ns == 0
    assert clock.offset_ns == NANO

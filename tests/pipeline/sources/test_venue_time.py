"""Heartbeats: one a new second of stream time, and quiet underlyings follow a second behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from features.events import NANO
from pipeline.sources.venue_time import QUIET_NS, VenueTime

steps = st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 10 * NANO)), min_size=1, max_size=60)


@given(steps)
def test_heartbeats_never_run_backwards_nor_ahead_of_what_may_still_come(steps: list[tuple[str, int]]) -> None:
    time = VenueTime()
    last: dict[str, int] = {}
    own: dict[str, int] = {}
    largest = 0
    for underlying, ts_event in steps:
        time.observe(underlying, ts_event)
        own[underlying] = max(own.get(underlying, 0), ts_event)
        largest = max(largest, ts_event)
        for name, beat in time.heartbeats():
            assert beat // NANO > last.get(name, 0)
            assert beat == max(own[name], largest - QUIET_NS)
            last[name] = beat // NANO
    assert time.heartbeats() == []


def test_a_time_apart_from_any_underlying_moves_only_the_venues() -> None:
    time = VenueTime()
    time.note(5 * NANO)
    assert (time.largest, time.reached("A"), time.heartbeats()) == (5 * NANO, 0, [])
    time.observe("A", NANO)
    assert time.heartbeats() == [("A", 4 * NANO)]

"""Times of feeds are exact, and what is no time is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.alternative_time import LATEST_NS, UNITS, parse_time
from pipeline.sources.base import UnusableError


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        ("1970-01-01T00:00:01Z", "iso", 1_000_000_000),
        ("1970-01-01T02:00:00.000001+02:00", "iso", 1_000),
        ("1970-01-02", "iso", 86_400_000_000_000),
        ("2-1-1970 00:01", "%d-%m-%Y %H:%M", 86_460_000_000_000),
        (1_657_000_000.123456789, "s", 1_657_000_000_123_456_700),
        ("1657000000.123456789", "s", 1_657_000_000_123_456_789),
        (1_657_000_000_123, "ms", 1_657_000_000_123_000_000),
        (1_657_000_000_123_456_789, "ns", 1_657_000_000_123_456_789),
    ],
)
def test_known_times(value: Any, form: str, expected: int) -> None:
    assert parse_time(value, form) == pytest.approx(expected, abs=200 if isinstance(value, float) else 0)


@given(st.integers(0, LATEST_NS - 1), st.sampled_from(sorted(UNITS)))
def test_numbers_lose_nothing(time_ns: int, unit: str) -> None:
    whole = time_ns // UNITS[unit]
    assert parse_time(whole, unit) == parse_time(str(whole), unit) == whole * UNITS[unit]


@given(st.datetimes(datetime(1970, 1, 1), datetime(2115, 1, 1)))
def test_iso_is_exact_to_the_microsecond(moment: datetime) -> None:
    seconds = int((moment - datetime(1970, 1, 1)).total_seconds() // 1)
    expected = int(moment.replace(tzinfo=UTC, microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1_000
    assert seconds == expected // 10**9
    assert parse_time(moment.isoformat(), "iso") == expected


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, "iso"),
        ("", "iso"),
        ("yesterday", "iso"),
        (5, "iso"),
        ("2022-13-01", "%Y-%m-%d"),
        (True, "s"),
        ("nan", "s"),
        ("1e999999999", "s"),
        (float("inf"), "ms"),
        (-1, "ns"),
        (LATEST_NS, "ns"),
        ("1969-12-31", "iso"),
        ([], "s"),
        ({}, "iso"),
    ],
)
def test_what_is_no_time_is_refused(value: Any, form: str) -> None:
    with pytest.raises(UnusableError) as refused:
        parse_time(value, form)
    assert refused.value.reason == "bad_time"

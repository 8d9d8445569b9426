"""Deribit's decimals become counts, exactly."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.base import UnusableError
from pipeline.sources.deribit_instruments import count, e9

increments = st.sampled_from([1, 10, 100_000, 500_000, 50_000_000, 500_000_000, 10**9, 10 * 10**9])


@given(st.integers(-(10**12), 10**12), increments)
def test_a_whole_number_of_increments_is_counted_exactly(number: int, increment_e9: int) -> None:
    value = Decimal(number * increment_e9).scaleb(-9)
    assert count(value, increment_e9) == number
    assert count(Decimal(str(value.normalize())), increment_e9) == number


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=9), increments)
def test_anything_else_is_refused_never_rounded(value: Decimal, increment_e9: int) -> None:
    exact = Fraction(value) * 10**9 / increment_e9
    if exact.denominator == 1:
        assert count(value, increment_e9) == exact
    else:
        with pytest.raises(UnusableError, match="off_increment"):
            count(value, increment_e9)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9))
def test_values_are_rounded_to_the_nearest_billionth(value: Decimal) -> None:
    assert abs(Fraction(value) * 10**9 - e9(value)) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "bad_decimal"), ("sNaN", "bad_decimal"), ("-Infinity", "bad_decimal"),
        ("1e999999", "number_overflow"), ("1e18", "number_overflow"), ("-1e400", "number_overflow"),
    ],
)  # fmt: skip
def test_what_is_no_number_of_an_int64_is_refused(text: str, reason: str) -> None:
    for convert in (e9, lambda value: count(value, 1)):
        with pytest.raises(UnusableError, match=reason):
            convert(Decimal(text))


@pytest.mark.parametrize("text", ["1e-999999", "1e-31", "-1e-10", "0.0000000001"])
def test_a_sliver_of_an_increment_is_refused_and_as_a_value_it_is_zero(text: str) -> None:
    with pytest.raises(UnusableError, match="off_increment"):
        count(Decimal(text), 1)
    assert e9(Decimal(text)) == 0

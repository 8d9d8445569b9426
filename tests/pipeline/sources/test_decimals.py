from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ConfigError
from pipeline.sources.base import UnusableError
from pipeline.sources.decimals import Increment, increment_of_decimals, levels_of

INCREMENTS_E9 = [1, 10, 1_000, 100_000, 2_500_000, 10_000_000, 100_000_000, 500_000_000, 10**9, 25 * 10**9, 10**11]

increments = st.sampled_from(INCREMENTS_E9).map(Increment.from_e9)


def printed(count: int, increment: Increment, zeros: int) -> str:
    exact = Decimal(count) * Decimal(increment.multiple).scaleb(-increment.decimals)
    text = f"{exact:f}"
    return text + ("0" * zeros if "." in text else "." + "0" * zeros if zeros else "")


@pytest.mark.parametrize("e9", INCREMENTS_E9)
def test_increment_is_itself_again(e9: int) -> None:
    assert Increment.from_e9(e9).e9 == e9


@given(st.integers(-(2**63) + 1, 2**63 - 1), increments, st.integers(0, 12))
@settings(deadline=None)  # the first call compiles
def test_count_is_exact_over_all_of_int64(count: int, increment: Increment, zeros: int) -> None:
    text = printed(count, increment, zeros)
    if abs(count) * increment.multiple > 2**63 - 1:
        with pytest.raises(UnusableError, match="number_overflow"):
            increment.count(text)
    else:
        assert increment.count(text) == count


@given(st.decimals(min_value=-(10**6), max_value=10**6, allow_nan=False, places=10), increments)
@settings(deadline=None)  # the first call compiles
def test_what_is_no_whole_number_of_increments_is_refused_and_never_rounded(
    value: Decimal, increment: Increment
) -> None:
    quotient = value / Decimal(increment.multiple).scaleb(-increment.decimals)
    if quotient == quotient.to_integral_value():
        assert increment.count(f"{value:f}") == int(quotient)
    else:
        with pytest.raises(UnusableError, match="off_increment"):
            increment.count(f"{value:f}")


@pytest.mark.parametrize(
    "text",
    [
        "", "-", ".", "1.", ".5", "1..2", "1.2.3", "+1", "1e5", "0x1", "1,0", " 1", "1 ", "NaN", "inf", "--1", "1-",
        "٣", '1"',
    ],
)  # fmt: skip
def test_anything_but_a_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(UnusableError, match="bad_decimal"):
        Increment(2, 1).count(text)


@given(
    st.lists(st.tuples(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12)), max_size=40),
    st.sampled_from([None, (",", ":"), (" , ", ":"), (",\n\t ", ":")]),
    increments,
    increments,
)
@settings(deadline=None)  # the first call compiles
def test_levels_of_any_valid_json_layout(
    counts: list[tuple[int, int]], separators: tuple[str, str] | None, price: Increment, size: Increment
) -> None:
    levels = [[printed(p, price, 2), printed(s, size, 0)] for p, s in counts]
    text = json.dumps(levels, separators=separators).encode()
    assert levels_of(text, price, size).tolist() == [list(level) for level in counts]


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "]", "{}", "null", "[[]]", "[[1,2]]", '[["1"]]', '[["1","2"]', '[["1","2"],]', '[["1","2","3"]]',
        '[["1" "2"]]', '["1","2"]', '[["1","2"] ["3","4"]]', '[["1","2',
    ],
)  # fmt: skip
def test_anything_but_pairs_of_strings_is_refused(text: str) -> None:
    with pytest.raises(UnusableError, match="unexpected_form"):
        levels_of(text.encode(), Increment(0, 1), Increment(0, 1))


@given(st.binary(max_size=80))
@settings(deadline=None)  # the first call compiles
def test_arbitrary_bytes_give_levels_or_a_refusal(text: bytes) -> None:
    try:
        levels = levels_of(text, Increment(1, 1), Increment(1, 1))
    except UnusableError:
        return
    assert len(levels) == len(json.loads(text))


def test_one_bad_level_refuses_all() -> None:
    with pytest.raises(UnusableError, match="off_increment"):
        levels_of(b'[["1.0","2.0"],["1.05","2.0"]]', Increment(1, 1), Increment(1, 1))


def test_increment_of_an_unknown_symbol_is_the_last_decimal_that_it_prints() -> None:
    assert increment_of_decimals(["1", "0.00001230", "7.5"]) == Increment(8, 1)
    assert increment_of_decimals(["17"]) == Increment(0, 1)
    for text in ("0.1234567890", "1e5", ""):
        with pytest.raises(UnusableError, match="bad_decimal"):
            increment_of_decimals(["1.0", text])


def test_increment_must_be_positive() -> None:
    with pytest.raises(ConfigError):
        Increment.from_e9(0)

from __future__ import annotations

import gzip
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInputError
from pipeline.sources import recording_lines
from pipeline.sources.csv_fields import csv_block, read_blocks
from pipeline.sources.csv_kernels import MISSING
from pipeline.sources.decimals import BAD_DECIMAL, OFF_INCREMENT, OVERFLOW, Increment

NUMBERS = st.decimals(min_value=-(10**8), max_value=10**8, allow_nan=False, allow_infinity=False, places=7)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=30))
def test_counts_and_e9_agree_with_decimal_arithmetic(numbers: list[Decimal]) -> None:
    for form in ("f", "E"):
        block = csv_block(1, "".join(f"x,{number:{form}}\n" for number in numbers).encode(), 2)
        for increment in (Increment(7, 1), Increment(2, 5), Increment(0, 10)):
            counts, faults = block.counts(1, [increment])
            for number, count, fault in zip(numbers, counts.tolist(), faults.tolist(), strict=True):
                exact = number / (increment.multiple * Decimal(10) ** -increment.decimals)
                assert (fault == 0) == (exact == exact.to_integral_value())
                assert fault == OFF_INCREMENT or count == exact
        rounded, _ = block.e9(1)
        assert rounded.tolist() == [int((number * 10**9).to_integral_value(ROUND_HALF_UP)) for number in numbers]


def test_rounding_is_half_away_from_zero() -> None:
    block = csv_block(1, b"0.0000000005\n-0.0000000005\n0.00000000049999999999999999999999\n4e-10\n", 1)
    assert block.e9(0)[0].tolist() == [1, -1, 0, 0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", MISSING),
        (b"\r", MISSING),
        (b"abc", BAD_DECIMAL),
        (b"1.", BAD_DECIMAL),
        (b".5", BAD_DECIMAL),
        (b"-", BAD_DECIMAL),
        (b"1e", BAD_DECIMAL),
        (b"1e5x", BAD_DECIMAL),
        (b" 1", BAD_DECIMAL),
        (b"1e9999", BAD_DECIMAL),
        (b"nan", BAD_DECIMAL),
        (b"0.05", OFF_INCREMENT),
        (b"1e-2", OFF_INCREMENT),
        (b"1.00000000000000000000000001", OFF_INCREMENT),
        (b"99999999999999999999", OVERFLOW),
        (b"1e30", OVERFLOW),
        (b"1e18", OVERFLOW),
        (b"1.50000000000000000000000000", 0),
        (b"15e-1", 0),
        (b"1.5\r", 0),
        (b"0e30", 0),
        (b"-0", 0),
    ],
)
def test_what_is_no_count_says_why(text: bytes, fault: int) -> None:
    counts, faults = csv_block(1, text + b"\n", 1).counts(0, [Increment(1, 1)])
    assert faults.tolist() == [fault]
    assert counts[0] == (15 if text.startswith(b"1") and fault == 0 else 0)


def test_rows_keep_their_line_numbers_and_torn_ones_are_marked() -> None:
    block = csv_block(7, b"a,b\na\na,b,c\n,\n", 2)
    assert block.torn.tolist() == [False, True, True, False]
    assert [block.line(row) for row in range(4)] == [b"a,b", b"a", b"a,b,c", b","]
    assert block.field(0, 1) == b"b"
    assert block.first_line == 7


@pytest.mark.parametrize("block_bytes", [1, 10, 64, 10_000])
@pytest.mark.parametrize("zipped", [False, True])
def test_any_block_size_gives_the_same_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, zipped: bool
) -> None:
    monkeypatch.setattr(recording_lines, "_CHUNK", 1 + block_bytes // 3)
    text = b"".join(b"%d,x\n" % i for i in range(500)) + b"end"
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(text) if zipped else text)
    blocks = list(read_blocks(path, pytest.fail, block_bytes))
    assert b"".join(lines for _, lines in blocks) == text + b"\n"
    lines_before = 0
    for first, lines in blocks:
        assert first == 1 + lines_before
        lines_before += lines.count(b"\n")


def test_a_truncated_gzip_gives_its_good_lines_and_the_torn_one_to_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    lines = [b"%d,%d" % (i, i * 7919 % 10_007) for i in range(20_000)]
    whole = gzip.compress(b"\n".join(lines) + b"\n")
    path.write_bytes(whole[: len(whole) // 2])
    damage: list[tuple[str, str, int, bytes]] = []
    got = b"".join(text for _, text in read_blocks(path, lambda *each: damage.append(each))).splitlines()
    assert 1_000 < len(got) < 20_000
    assert got == lines[: len(got)]
    ((reason, _, good, torn),) = damage
    assert (reason, good) == ("truncated_gzip", len(got))
    assert lines[len(got)].startswith(torn)
    path.write_bytes(b"")
    with pytest.raises(BadInputError, match="is empty"):
        list(read_blocks(path, pytest.fail))

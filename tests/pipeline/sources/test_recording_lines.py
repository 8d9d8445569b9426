from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInputError
from pipeline.sources.recording_lines import read_lines

TEXT = b"".join(b"line %d of the recording\n" % i for i in range(5_000))


def lines_of(path: Path) -> tuple[list[bytes], list[tuple[str, str, int, bytes]]]:
    damage: list[tuple[str, str, int, bytes]] = []
    return list(read_lines(path, lambda *what: damage.append(what))), damage


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda t: gzip.compress(t[:999]) + gzip.compress(t[999:]) + b"\0\0"]
)
def test_plain_gzip_and_several_members_read_alike(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "recording"
    path.write_bytes(pack(TEXT))  # type: ignore[operator]
    lines, damage = lines_of(path)
    assert lines == TEXT.splitlines()
    assert damage == []


def test_last_line_needs_no_end(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(b"a\nb")
    assert lines_of(path) == ([b"a", b"b"], [])


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cut") / "recording.gz"


@given(st.floats(0.05, 0.999))
@settings(deadline=None)
def test_truncated_gzip_keeps_every_line_before_the_cut(cut: Path, share: float) -> None:
    whole = gzip.compress(TEXT)
    cut.write_bytes(whole[: int(len(whole) * share)])
    lines, damage = lines_of(cut)
    assert [(reason, count) for reason, _, count, _ in damage] == [("truncated_gzip", len(lines))]
    *whole_lines, rest = zlib.decompressobj(31).decompress(cut.read_bytes()).split(b"\n")
    assert (lines, damage[0][3]) == (whole_lines, rest)


def test_flipped_bits_are_damage_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "recording.gz"
    whole = bytearray(gzip.compress(TEXT * 20))
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    lines, damage = lines_of(path)
    assert [reason for reason, *_ in damage] == ["corrupt_gzip"]
    assert len(lines) < 100_000


def test_missing_and_empty_files_say_what_to_do(tmp_path: Path) -> None:
    empty, empty_inside = tmp_path / "empty", tmp_path / "empty.gz"
    empty.write_bytes(b"")
    empty_inside.write_bytes(gzip.compress(b""))
    for path, problem in (
        (empty, "is empty"),
        (empty_inside, "holds no line"),
        (tmp_path / "no" / "file", "no does not exist"),
        (tmp_path / "file", "file does not exist"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(BadInputError, match=problem) as error:
            lines_of(path)
        assert error.value.remedy

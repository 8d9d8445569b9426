"""What a task leaves on disk: whole, durable, and found by what the table holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import BadInputError
from pipeline.backfill_state import StateFolder, TaskState
from pipeline.lake import LakeError


def test_the_state_that_fits_the_table(tmp_path: Path) -> None:
    states = StateFolder(tmp_path, "features/BTC/odd name")
    assert states.newest(0) is None
    one = TaskState(step=1, committed=1, position={"BTC": [3, 4]}, stage={"BTC": b"\x00\xff"})
    two = TaskState(step=2, committed=1, events=7)  # a step without rows
    three = TaskState(step=3, committed=3)
    for state in (one, two, three):
        states.save(state)
    assert states.newest(3) == states.last() == three
    assert states.newest(1) == two, "the rows of the third step were not committed"
    with pytest.raises(LakeError, match="has no state of that step"):
        StateFolder(tmp_path, "features/ETH").newest(1)
    states.forget_before(3)
    assert [path.name for path in states.path.iterdir()] == ["0000000003.state"]


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    states = StateFolder(tmp_path, "universe")
    states.save(TaskState(step=1))
    (states.path / "0000000001.state").write_bytes(b"\xc1")
    with pytest.raises(BadInputError, match="cannot be read"):
        states.newest(0)


def test_a_file_that_was_not_finished_is_none(tmp_path: Path) -> None:
    states = StateFolder(tmp_path, "universe")
    states.path.mkdir()
    (states.path / "0000000001.tmp").write_bytes(b"half")
    assert states.newest(0) is None

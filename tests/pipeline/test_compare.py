"""The comparison finds a single bit, and nothing where there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features import signals
from pipeline.compare import compare
from pipeline.lake import Lake, LakeError, positioned
from pipeline.tables import TABLES

TABLE = TABLES["signals"]


def rows(count: int = 50) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    base = {field.name: None for field in signals.SCHEMA}
    return [
        base
        | {
            "underlying": "BTC", "instrument": "x:BTC", "bar_ts": (i + 1) * 10**9, "ts_known": i, "version": "v",
            "book_valid": True, "mid": float(rng.normal()), "posterior_0": 0.0 if i % 7 == 0 else float(rng.random()),
        }
        for i in range(count)
    ]  # fmt: skip


def lake_of(folder: Path, values: list[dict[str, Any]]) -> Lake:
    lake = Lake(folder)
    data = pa.RecordBatch.from_pylist(values, schema=signals.SCHEMA)
    columns = dict(zip(data.schema.names, data.columns, strict=True))
    lake.append(TABLE, positioned(TABLE, columns, 0, 0, range(len(values))), {})
    return lake


def differing(tmp_path: Path, left: list[dict[str, Any]], right: list[dict[str, Any]]) -> int:
    result = compare(lake_of(tmp_path / "left", left), lake_of(tmp_path / "right", right), "signals")
    assert (result.left, result.right) == (len(left), len(right))
    return result.differing


def test_equal_lakes_in_another_order(tmp_path: Path) -> None:
    assert differing(tmp_path, rows(), rows()[::-1]) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"mid": float(np.nextafter(rows()[3]["mid"], 9.0))},
        {"posterior_0": None},
        {"posterior_0": -0.0, "mid": rows()[3]["mid"]},
        {"ts_known": 99},
        {"instrument": "x:ETH"},
    ],
    ids=["last bit", "null", "signed zero", "integer", "text"],
)
def test_one_changed_value_is_one_row(tmp_path: Path, change: dict[str, Any]) -> None:
    changed = rows()
    index = 7 if change.get("posterior_0", 1) == 0 else 3
    changed[index] = changed[index] | {k: v for k, v in change.items() if index == 3 or k == "posterior_0"}
    assert differing(tmp_path, rows(), changed) == 1


def test_a_null_is_not_a_zero(tmp_path: Path) -> None:
    changed = rows()
    changed[0] = changed[0] | {"posterior_0": None}
    assert rows()[0]["posterior_0"] == 0.0
    assert differing(tmp_path, rows(), changed) == 1


def test_missing_and_repeated_rows_count(tmp_path: Path) -> None:
    assert differing(tmp_path / "missing", rows(), rows()[:-2]) == 2
    assert differing(tmp_path / "repeated", rows(), [*rows(), rows()[5]]) == 1


def test_a_second_writer_fails_instead_of_duplicating(tmp_path: Path) -> None:
    first = lake_of(tmp_path, rows(3))
    second = Lake(tmp_path)
    assert second.version(TABLE, "signals", 0) == 0
    data = pa.RecordBatch.from_pylist(rows(3), schema=signals.SCHEMA)
    columns = dict(zip(data.schema.names, data.columns, strict=True))
    table = positioned(TABLE, columns, 0, 3, range(3))
    first.append(TABLE, table, {("signals", 0): 4})
    with pytest.raises(LakeError, match="Another writer"):
        second.append(TABLE, table, {("signals", 0): 4})
    assert Lake(tmp_path).version(TABLE, "signals", 0) == 4

"""The stages over messages: right by hand, equal however they are cut, and after a restart."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from features.errors import ConfigError
from features.events import NANO
from features.stage import Stage
from pipeline.messages import MessageBars, MessageFeatures
from pipeline.messages.declaration import OFFSET, read_declaration

EXAMPLES = Path(__file__).parents[3] / "examples"
BARS = MessageBars(key="symbol", time="ts", price="price", size="size")


def trades(rows: int, seed: int = 1) -> pl.DataFrame:
    """Of 100 keys, some rows late."""
    rng = np.random.default_rng(seed)
    ts = 1_700_000_000 * NANO + np.arange(rows) * (NANO // 500) - rng.integers(0, 2, rows) * rng.integers(0, NANO, rows)
    return pl.DataFrame(
        {
            "symbol": rng.choice([f"S{i}" for i in range(100)], rows),
            "ts": ts,
            "price": rng.normal(100, 1, rows),
            "size": rng.exponential(1, rows),
            OFFSET: np.arange(rows),
        }
    )


def outputs(stage: Stage[pl.DataFrame], frame: pl.DataFrame, cut: int) -> pa.Table:
    parts = [stage.process(frame[start : start + cut]) for start in range(0, frame.height, cut)]
    return pa.Table.from_batches([each.data for part in parts for each in part.rows], schema=BARS.schema)


def bars_by_hand(frame: pl.DataFrame) -> dict[tuple[str, int], tuple[float, ...]]:
    open_bars: dict[str, tuple[int, list[tuple[float, float]]]] = {}
    late: dict[str, int] = defaultdict(int)
    closed = {}
    for key, ts, price, size in frame.select("symbol", "ts", "price", "size").iter_rows():
        end = math.ceil(ts / NANO) * NANO if ts % NANO else ts
        before, rows = open_bars.get(key, (-1, []))
        if end < before:
            late[key] += 1
            continue
        if end > before:
            if rows:
                prices = [p for p, _ in rows]
                volume = notional = 0.0
                for p, q in rows:
                    volume += q
                    notional += p * q
                summary = prices[0], max(prices), min(prices), prices[-1], volume, notional / volume
                closed[key, before] = (len(rows), late.pop(key, 0), *summary)
            rows = []
            open_bars[key] = end, rows
        rows.append((price, size))
    return closed


def test_bars_are_those_made_by_hand_wherever_the_rows_are_cut() -> None:
    frame = trades(3_000)
    expected = bars_by_hand(frame)
    whole = outputs(BARS.stage(), frame, frame.height)
    assert {tuple(row)[:2]: tuple(row)[2:] for row in zip(*whole.to_pydict().values(), strict=True)} == expected
    assert whole.num_rows == len(expected) > 300
    assert sum(whole["late_rows"].to_pylist()) > 100
    for cut in (1, 7, 999):
        assert outputs(BARS.stage(), frame, cut).equals(whole)


def test_bars_go_on_from_their_state() -> None:
    frame = trades(2_000)
    first, second = BARS.stage(), BARS.stage()
    before = outputs(first, frame[:1_234], 100)
    second.restore(first.snapshot())
    after = outputs(second, frame[1_234:], 100)
    assert pa.concat_tables([before, after]).equals(outputs(BARS.stage(), frame, 2_000))


def test_impossible_trades_are_not_accepted() -> None:
    good = {"symbol": "A", "ts": 1, "price": 1.0, "size": 1.0}
    bad = [{"price": 0.0}, {"price": math.nan}, {"size": -1.0}, {"size": math.inf}, {"ts": -1}, {"ts": 2**63 - 1}]
    frame = pl.DataFrame([good, *(good | each for each in bad)])
    assert frame.select(BARS.accepts).to_series().to_list() == [True] + [False] * len(bad)


def test_features_of_quotes_are_those_made_by_hand() -> None:
    declared, version = read_declaration(EXAMPLES / "quote_features.py")
    assert len(version) == 16
    quotes = [("A", 1, 99.0, 3.0, 101.0, 1.0), ("B", 2, 10.0, 0.0, 10.5, 0.0)]
    frame = pl.DataFrame(quotes, schema=list(declared.fields), orient="row").with_columns(pl.Series(OFFSET, [5, 6]))
    (rows,) = declared.stage().process(frame).rows
    assert rows.data.schema == declared.schema
    assert rows.data.to_pylist() == [
        {"source_offset": 5, "symbol": "A", "ts": 1, "mid": 100.0, "spread_bps": 200.0, "imbalance": 0.5}
        | {"microprice": 100.5},
        {"source_offset": 6, "symbol": "B", "ts": 2, "mid": 10.25, "spread_bps": 0.5 / 10.25 * 10_000}
        | {"imbalance": None, "microprice": None},
    ]


def test_a_declaration_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    with pytest.raises(ConfigError, match="no Python file"):
        read_declaration(file)
    file.write_text("STAGE = 1 / 0")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        read_declaration(file)
    file.write_text("FEATURES = []")
    with pytest.raises(ConfigError, match="declares no STAGE"):
        read_declaration(file)
    wrong = MessageFeatures(fields={"a": float}, rows={"b": pl.col("nowhere")})
    with pytest.raises(ConfigError, match="nowhere"):
        _ = wrong.schema

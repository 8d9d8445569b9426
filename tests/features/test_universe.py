"""The universe stage: bars of all underlyings side by side, whatever the interleaving."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_market import edged, small_market

from features.bars import FeatureStage
from features.catalog import SCHEMA, UNIVERSE_SCHEMA
from features.errors import ConfigError
from features.universe import CORRELATION_BARS, UniverseStage

REFERENCE = {"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"}


def feature_rows() -> dict[str, list[pa.RecordBatch]]:
    stage = FeatureStage()
    rows: dict[str, list[pa.RecordBatch]] = {"BTC": [], "ETH": []}
    for batch in edged(small_market(80, seed=4)):
        for keyed in stage.process(batch).rows:
            rows[keyed.key].append(keyed.data)
    return rows


ROWS = feature_rows()


def collect(stage: UniverseStage, batches: list[pa.RecordBatch]) -> list[dict[str, Any]]:
    out = [row for batch in batches for keyed in stage.process(batch).rows for row in keyed.data.to_pylist()]
    return sorted(out, key=lambda row: (row["bar_ts"], row["underlying"]))


def shuffled(seed: int) -> list[pa.RecordBatch]:
    """Each underlying in its order, the two interleaved at random."""
    rng = random.Random(seed)
    left = {name: list(batches) for name, batches in ROWS.items()}
    out: list[pa.RecordBatch] = []
    while any(left.values()):
        name = rng.choice([name for name, batches in left.items() if batches])
        out.append(left[name].pop(0))
    return out


WHOLE = collect(UniverseStage(REFERENCE), shuffled(0))


def test_rows_are_the_reference_instruments_with_their_peers() -> None:
    assert len(WHOLE) > 140
    assert {row["instrument"] for row in WHOLE} == set(REFERENCE.values())
    by_key = {(row["underlying"], row["bar_ts"]): row for row in WHOLE}
    for (underlying, bar_ts), row in by_key.items():
        peer = by_key["ETH" if underlying == "BTC" else "BTC", bar_ts]
        assert row["peer_return"] == peer["log_return"]
        assert row["ts_known"] == peer["ts_known"] >= 0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 10_000))
def test_interleaving_does_not_matter(seed: int) -> None:
    assert collect(UniverseStage(REFERENCE), shuffled(seed)) == WHOLE


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 100))
def test_restoring_anywhere_and_repeating_rows_changes_nothing(cut: int) -> None:
    batches = shuffled(7)
    first, second = UniverseStage(REFERENCE), UniverseStage(REFERENCE)
    head = collect(first, batches[:cut])
    second.restore(first.snapshot())
    tail = collect(second, [*batches[max(0, cut - 5) : cut], *batches[cut:]])
    assert sorted(head + tail, key=lambda row: (row["bar_ts"], row["underlying"])) == WHOLE


def test_correlation_is_that_of_numpy() -> None:
    own = [row["log_return"] for row in WHOLE if row["underlying"] == "BTC"]
    peer = [row["log_return"] for row in WHOLE if row["underlying"] == "ETH"]
    found = [row["correlation_1m"] for row in WHOLE if row["underlying"] == "BTC"]
    checked = 0
    for i, value in enumerate(found):
        window = slice(i - CORRELATION_BARS + 1, i + 1)
        if i < CORRELATION_BARS - 1 or None in own[window] or None in peer[window]:
            assert value is None
        else:
            assert value == pytest.approx(np.corrcoef(own[window], peer[window])[0, 1], abs=1e-12)
            checked += 1
    assert checked > 5


def test_a_checkpoint_of_other_underlyings_is_refused() -> None:
    other = UniverseStage({"BTC": "x", "SOL": "y"})
    with pytest.raises(ConfigError, match="the configuration names"):
        UniverseStage(REFERENCE).restore(other.snapshot())


def test_an_empty_universe_is_refused() -> None:
    with pytest.raises(ConfigError, match="no underlying"):
        UniverseStage({})


def test_schemas_only_add_columns() -> None:
    assert UNIVERSE_SCHEMA.names[: len(SCHEMA)] == SCHEMA.names


def test_a_bar_that_only_one_underlying_has_is_counted() -> None:
    stage = UniverseStage(REFERENCE)
    late_start = [
        row for row in ROWS["ETH"] if row.column("bar_ts")[0].as_py() > ROWS["ETH"][2].column("bar_ts")[0].as_py()
    ]
    rejects = [reject for batch in [*ROWS["BTC"], *late_start] for reject in stage.process(batch).rejects]
    alone = {row["bar_ts"] for batch in ROWS["BTC"] for row in batch.to_pylist()}
    both = {row["bar_ts"] for batch in late_start for row in batch.to_pylist()}
    expected = len({bar for bar in alone - both if bar < max(both)})
    assert len(rejects) == expected > 0
    assert {reject.reason for reject in rejects} == {"no_peer_bar"}

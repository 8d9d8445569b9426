"""The universe stage: bars of all underlyings side by side, whatever the interleaving, the cuts and the restarts."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_market import edged, small_market

from features import universe
from features.catalog import SCHEMA, UNIVERSE_SCHEMA
from features.cross_asset import close_bars, empty_history, windows_in_bars
from features.declared.cross_asset import FEATURES, INPUTS
from features.errors import BadInputError, ConfigError
from features.feature import ARROW_TYPES, SECOND
from features.universe import UniverseStage
from features.waiting_rows import LOOSE_PARTS

START = 1_767_571_200 * SECOND
NAMES = [feature.name for feature in FEATURES]
CROSS = [pa.field(feature.name, ARROW_TYPES[feature.dtype]) for feature in FEATURES]

FEATURE_ROWS = pa.schema(
    [
        pa.field("underlying", pa.utf8(), nullable=False),
        pa.field("instrument", pa.utf8(), nullable=False),
        pa.field("bar_ts", pa.int64(), nullable=False),
        pa.field("ts_known", pa.int64(), nullable=False),
        pa.field("note", pa.utf8()),
        pa.field("trade_count", pa.int64()),
        *(pa.field(name, pa.float64()) for name in INPUTS),
    ]
)
"""As small as a catalogue may be: keys, what the stage reads, and two columns that it only carries."""

REFERENCE = {"BTC": "test:BTC", "ETH": "test:ETH", "SOL": "test:SOL"}
BARS = 90


def make(reference: dict[str, str] = REFERENCE, interval_ns: int = SECOND) -> UniverseStage:
    wide = pa.schema([*FEATURE_ROWS, *CROSS])
    return UniverseStage(reference, interval_ns, schema=FEATURE_ROWS, universe_schema=wide)


def rows_of(underlying: str, bars: list[int], interval_ns: int = SECOND, quiet: tuple[int, ...] = ()) -> pa.RecordBatch:
    """Rows of the reference instrument; of the bars in ``quiet`` nothing is known, as of a book that went."""
    rng = np.random.default_rng(list(underlying.encode()))
    draws = rng.standard_normal((max(bars, default=0) + 1, 3))
    values = [(1e-4 * a, 1e-7 * b * b, 0.6 + 0.01 * c, 1.0 + b * b) for a, b, c in draws]
    rows = [
        {
            "underlying": underlying,
            "instrument": f"test:{underlying}",
            "bar_ts": START + bar * interval_ns,
            "ts_known": START + bar * interval_ns + len(underlying) + int(1e6 * abs(draws[bar, 0])),
            "note": None if bar % 7 == 0 else f"{underlying} {bar}",
            "trade_count": None if bar in quiet else 3 * bar,
            **dict(zip(INPUTS, (None,) * 4 if bar in quiet else values[bar], strict=True)),
        }
        for bar in bars
    ]
    return pa.RecordBatch.from_pylist(rows, schema=FEATURE_ROWS)


def whole() -> dict[str, pa.RecordBatch]:
    """BTC lists late, ETH skips bars, SOL knows nothing for a while."""
    return {
        "BTC": rows_of("BTC", list(range(4, BARS))),
        "ETH": rows_of("ETH", [bar for bar in range(BARS) if bar not in (11, 12, 75)]),
        "SOL": rows_of("SOL", list(range(BARS)), quiet=(6, 7)),
    }


def interleaved(rows: dict[str, pa.RecordBatch], rng: random.Random, longest: int) -> list[pa.RecordBatch]:
    """Each underlying in its order, cut anywhere, with strangers' rows between; the underlyings mixed at random."""
    left = {name: batch for name, batch in rows.items() if batch.num_rows}
    out: list[pa.RecordBatch] = []
    while left:
        name = rng.choice(sorted(left))
        count = rng.randint(0, longest)
        part = left[name].slice(0, count)
        if rng.random() < 0.3:
            spot = part.set_column(1, FEATURE_ROWS.field(1), pa.array(["test:SPOT"] * part.num_rows, pa.utf8()))
            part = pa.Table.from_batches([part, spot]).sort_by("bar_ts").combine_chunks().to_batches()
            part = part[0] if part else spot
        out.append(part)
        left[name] = left[name].slice(count)
        left = {key: batch for key, batch in left.items() if batch.num_rows}
    return out


def collect(stage: UniverseStage, batches: list[pa.RecordBatch]) -> dict[str, list[pa.RecordBatch]]:
    out: dict[str, list[pa.RecordBatch]] = {}
    for batch in batches:
        for keyed in stage.process(batch).rows:
            out.setdefault(keyed.key, []).append(keyed.data)
    return out


def bits(out: dict[str, list[pa.RecordBatch]]) -> dict[str, dict[str, Any]]:
    """Every column of every underlying, floats as their bits."""
    found: dict[str, dict[str, Any]] = {}
    for underlying, batches in sorted(out.items()):
        table = pa.Table.from_batches(batches)
        found[underlying] = {
            name: [value.hex() if isinstance(value, float) else value for value in table.column(name).to_pylist()]
            for name in table.column_names
        }
    return found


def joined(*outputs: dict[str, list[pa.RecordBatch]]) -> dict[str, list[pa.RecordBatch]]:
    return {key: [batch for each in outputs for batch in each.get(key, [])] for key in REFERENCE}


ROWS = whole()
WHOLE = collect(make(), list(ROWS.values()))
BITS = bits(WHOLE)
LEFT = [bar for bar in range(4, BARS) if bar not in (11, 12, 75)]
"""Bars that every underlying has."""


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_rows_are_those_that_came_with_their_peers_beside_them() -> None:
    for underlying, batches in WHOLE.items():
        came = ROWS[underlying].filter(pa.array([row["bar_ts"] in ends() for row in ROWS[underlying].to_pylist()]))
        found = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
        assert found.schema == pa.schema([*FEATURE_ROWS, *CROSS])
        for name in FEATURE_ROWS.names:
            if name != "ts_known":
                assert found.column(name).equals(came.column(name)), name


def ends() -> set[int]:
    return {START + bar * SECOND for bar in LEFT}


def test_what_is_known_is_known_when_the_last_peer_is() -> None:
    known = {
        name: dict(zip(b["bar_ts"].to_pylist(), b["ts_known"].to_pylist(), strict=True)) for name, b in ROWS.items()
    }
    for columns in BITS.values():
        for bar_ts, ts_known in zip(columns["bar_ts"], columns["ts_known"], strict=True):
            assert ts_known == max(each[bar_ts] for each in known.values())


def test_the_features_are_those_of_the_kernel_with_missing_bars_unknown() -> None:
    """The kernel is tested against numpy and scipy; here only that each underlying gets its own, each bar in place."""
    inputs = np.full((BARS - 4, 3, len(INPUTS)), np.nan)
    for u, batch in enumerate(ROWS.values()):
        for row in batch.to_pylist():
            bar = (row["bar_ts"] - START) // SECOND
            if bar in LEFT:
                inputs[bar - 4, u] = [np.nan if row[name] is None else row[name] for name in INPUTS]
    windows, size = windows_in_bars(SECOND)
    out = close_bars(empty_history(3, size), windows, np.zeros(len(inputs), np.int64), inputs)
    for u, underlying in enumerate(REFERENCE):
        for f, name in enumerate(NAMES):
            expected = [None if np.isnan(value) else value.hex() for value in out[[b - 4 for b in LEFT], u, f].tolist()]
            assert BITS[underlying][name] == expected, (underlying, name)


def test_no_number_is_a_nan() -> None:
    for batches in WHOLE.values():
        for name in NAMES:
            column = pa.Table.from_batches(batches).column(name).drop_null().to_numpy()
            assert np.isfinite(column).all()
    filled = [name for name in NAMES if any(value is not None for value in BITS["BTC"][name])]
    assert {"peer_return", "return_dispersion", "spread_dispersion", "peer_atm_iv_30d"} <= set(filled)


def test_a_longer_bar_has_fewer_of_them_in_a_window() -> None:
    rows = [rows_of(name, list(range(40)), 10 * SECOND) for name in REFERENCE]
    found = bits(collect(make(interval_ns=10 * SECOND), rows))["ETH"]
    assert [value is not None for value in found["correlation_1m"]] == [False] * 5 + [True] * 35
    assert [value is not None for value in found["lead_lag_5m"]] == [False] * 29 + [True] * 11
    assert [value is not None for value in found["atm_beta_5m"]] == [False] * 30 + [True] * 10


def test_a_single_underlying_passes_with_nulls_for_its_peers() -> None:
    found = bits(collect(make({"BTC": "test:BTC"}), [ROWS["BTC"]]))["BTC"]
    assert len(found["bar_ts"]) == ROWS["BTC"].num_rows
    assert all(value is None for name in NAMES for value in found[name])


# -- to the bit --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 5, 40]))
def test_neither_interleaving_nor_cuts_matter(seed: int, longest: int) -> None:
    assert bits(collect(make(), interleaved(ROWS, random.Random(seed), longest))) == BITS


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 5, 40]), st.floats(0, 1), st.integers(0, 8))
def test_restoring_anywhere_and_repeating_rows_changes_nothing(
    seed: int, longest: int, share: float, again: int
) -> None:
    batches = interleaved(ROWS, random.Random(seed), longest)
    cut = int(share * len(batches))
    first, second = make(), make()
    head = collect(first, batches[:cut])
    second.restore(first.snapshot())
    tail = collect(second, batches[max(0, cut - again) :])
    assert bits(joined(head, tail)) == BITS


def test_a_restart_after_every_row_and_the_last_rows_again_change_nothing() -> None:
    """In step, so that the rows that come again would close their bars again, and a restart falls into each gap."""
    table = pa.Table.from_batches(list(ROWS.values())).sort_by([("bar_ts", "ascending"), ("underlying", "ascending")])
    rows = table.combine_chunks().to_batches()[0]
    stage, found, rejects = make(), [], 0
    for i in range(rows.num_rows):
        again = make()
        again.restore(stage.snapshot())
        stage = again
        found.append(collect(stage, [rows.slice(max(0, i - 7), min(i, 7))]))
        output = stage.process(rows.slice(i, 1))
        found.append({keyed.key: [keyed.data] for keyed in output.rows})
        rejects += len(output.rejects)
    assert bits(joined(*found)) == BITS
    assert rejects == rows.num_rows - len(REFERENCE) * len(LEFT)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, BARS))
def test_later_rows_never_change_an_emitted_one(seed: int, until: int) -> None:
    early = {name: batch.slice(0, until) for name, batch in ROWS.items()}
    found = bits(collect(make(), interleaved(early, random.Random(seed), 5)))
    for underlying, columns in found.items():
        for name, values in columns.items():
            assert values == BITS[underlying][name][: len(values)]


def test_rows_of_several_underlyings_in_one_batch_are_told_apart() -> None:
    mixed = pa.Table.from_batches(list(ROWS.values())).sort_by("bar_ts").combine_chunks().to_batches()[0]
    assert bits(collect(make(), [mixed])) == BITS


def test_an_underlying_far_ahead_waits_in_few_pieces() -> None:
    stage = make()
    for i in range(ROWS["SOL"].num_rows):
        stage.process(ROWS["SOL"].slice(i, 1))
    for i in range(ROWS["BTC"].num_rows):
        stage.process(ROWS["BTC"].slice(i, 1))
    assert len(stage._waiting["SOL"].parts) <= 1 + ROWS["SOL"].num_rows - LOOSE_PARTS
    assert bits(collect(stage, [ROWS["ETH"].slice(i, 1) for i in range(ROWS["ETH"].num_rows)])) == BITS


# -- who is not there --------------------------------------------------------------------------------------------------


def test_a_bar_that_one_underlying_skipped_is_rejected_of_each_other_one() -> None:
    stage = make()
    rejects = [reject for batch in ROWS.values() for reject in stage.process(batch).rejects]
    assert {reject.reason for reject in rejects} == {"no_peer_bar"}
    rows = sum(batch.num_rows for batch in ROWS.values())
    assert len(rejects) == rows - len(REFERENCE) * len(LEFT)


def test_nothing_leaves_before_the_one_that_lists_late() -> None:
    stage = make()
    early = [rows_of(name, list(range(20))) for name in ("ETH", "SOL")]
    outputs = [stage.process(batch) for batch in early]
    assert all(not output.rows and not output.rejects for output in outputs)
    first = stage.process(rows_of("BTC", [15]))
    assert [keyed.data.column("bar_ts").to_pylist() for keyed in first.rows] == [[START + 15 * SECOND]] * 3
    assert len(first.rejects) == 2 * 15


def test_one_of_which_nothing_is_known_makes_its_peers_features_null() -> None:
    unknown = rows_of("SOL", list(range(30)), quiet=tuple(range(20, 30)))
    found = bits(collect(make(), [rows_of("BTC", list(range(30))), rows_of("ETH", list(range(30))), unknown]))
    assert [value is None for value in found["BTC"]["peer_return"]] == [False] * 20 + [True] * 10
    assert [value is None for value in found["SOL"]["peer_return"]] == [False] * 30  # its own peers are known


def test_one_whose_rows_end_is_named_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(universe, "MAX_WAITING_BARS", 25)
    stage = make()
    stage.process(rows_of("SOL", list(range(10))))
    stage.process(rows_of("BTC", list(range(20))))
    stage.process(rows_of("ETH", list(range(20))))
    stage.process(rows_of("BTC", list(range(20, 35))))
    with pytest.raises(ConfigError, match=r"^SOL sent no bar while another underlying sent 26"):
        stage.process(rows_of("BTC", [35]))


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_duplicates_and_rows_out_of_order_are_dropped() -> None:
    stage = make()
    rows = ROWS["BTC"]
    found = collect(stage, [*(ROWS[name] for name in ("ETH", "SOL")), rows, rows.slice(3, 9), rows.take([5, 2, 2])])
    assert bits(found) == BITS
    backwards = make()
    collect(backwards, [ROWS["ETH"], ROWS["SOL"]])
    assert bits(collect(backwards, [rows.take([3, 1, 0, 3])]))["BTC"]["bar_ts"] == [START + 7 * SECOND]


def test_a_bar_off_the_grid_is_rejected_and_the_rest_flows() -> None:
    stage = make()
    collect(stage, [ROWS["ETH"], ROWS["SOL"]])
    rows = ROWS["BTC"].slice(0, 3)
    shifted = pa.array([START + 4 * SECOND, START + 5 * SECOND + 1, START + 6 * SECOND])
    output = stage.process(rows.set_column(2, FEATURE_ROWS.field(2), shifted))
    assert [reject.reason for reject in output.rejects if reject.reason != "no_peer_bar"] == ["bar_off_grid"]
    assert output.rows[0].data.column("bar_ts").to_pylist() == [START + 4 * SECOND, START + 6 * SECOND]


def test_rows_of_another_catalogue_are_refused() -> None:
    with pytest.raises(BadInputError, match="no feature rows of this catalogue"):
        make().process(ROWS["BTC"].drop_columns(["note"]))


def test_an_empty_batch_gives_nothing() -> None:
    output = make().process(ROWS["BTC"].slice(0, 0))
    assert not output.rows
    assert not output.rejects


def test_infinities_that_came_as_numbers_leave_as_nulls() -> None:
    rows = ROWS["BTC"].slice(0, 3)
    at = FEATURE_ROWS.get_field_index("log_return")
    infinite = rows.set_column(at, FEATURE_ROWS.field(at), pa.array([np.inf, np.nan, 1.0]))
    found = bits(collect(make(), [infinite, ROWS["ETH"], rows_of("SOL", list(range(BARS)))]))
    assert [value is None for value in found["ETH"]["peer_return"]] == [True, True, False]


@pytest.mark.parametrize(
    ("reference", "interval_ns", "match"),
    [
        ({"BTC": "x", "SOL": "y"}, SECOND, "the configuration names"),
        (REFERENCE | {"BTC": "test:OTHER"}, SECOND, "the configuration names"),
        (REFERENCE, 2 * SECOND, "interval_ns"),
    ],
)
def test_the_checkpoint_of_another_configuration_is_refused(
    reference: dict[str, str], interval_ns: int, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        make().restore(make(reference, interval_ns).snapshot())


def test_the_checkpoint_of_another_catalogue_is_refused() -> None:
    fewer = pa.schema([field for field in FEATURE_ROWS if field.name != "note"])
    other = UniverseStage(REFERENCE, schema=fewer, universe_schema=pa.schema([*fewer, *CROSS]))
    with pytest.raises(ConfigError, match="another catalogue"):
        make().restore(other.snapshot())


def test_an_empty_universe_is_refused() -> None:
    with pytest.raises(ConfigError, match="no underlying"):
        UniverseStage({})


def test_schemas_without_what_is_read_or_with_what_nobody_computes_are_refused() -> None:
    lacking = pa.schema([field for field in FEATURE_ROWS if field.name != "log_return"])
    with pytest.raises(ConfigError, match="log_return"):
        UniverseStage(REFERENCE, schema=lacking, universe_schema=pa.schema([*lacking, *CROSS]))
    wide = pa.schema([*FEATURE_ROWS, *CROSS, pa.field("peer_mood", pa.float64())])
    with pytest.raises(ConfigError, match="peer_mood"):
        UniverseStage(REFERENCE, schema=FEATURE_ROWS, universe_schema=wide)


# -- behind the features stage -----------------------------------------------------------------------------------------


def test_behind_the_features_stage() -> None:
    from features.bars import FeatureStage

    stage = FeatureStage()
    rows = [keyed.data for batch in edged(small_market(80, seed=4)) for keyed in stage.process(batch).rows]
    reference = {"BTC": "test:BTC-PERPETUAL", "ETH": "test:ETH-PERPETUAL"}
    found = bits(collect(UniverseStage(reference), rows))
    assert set(found) == set(reference)
    assert set(found["BTC"]["instrument"]) == {"test:BTC-PERPETUAL"}
    assert len(found["BTC"]["bar_ts"]) > 70
    assert found["BTC"]["bar_ts"] == found["ETH"]["bar_ts"]
    assert found["BTC"]["peer_return"] == found["ETH"]["log_return"]
    assert found["ETH"]["peer_return"] == found["BTC"]["log_return"]
    assert any(value is not None for value in found["BTC"]["correlation_1m"])
    assert UNIVERSE_SCHEMA.names[: len(SCHEMA)] == SCHEMA.names

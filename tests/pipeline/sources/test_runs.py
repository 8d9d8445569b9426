from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import SCHEMAS, Kind
from pipeline.codec import MAX_ROWS
from pipeline.sources.runs import MAX_SPAN_NS, MERGE_ORDER, Run, batches_of, merge


def run(ts_recv: int, kind: Kind = Kind.TRADE, rows: int = 1, source: int = 0, number: int = 0, **more: Any) -> Run:
    columns: dict[str, Any] = {"instrument": f"i{source}", "ts_event": ts_recv - 7}
    if kind is Kind.TRADE:
        columns |= {"trade_id": number, "price": 5, "size": 6, "aggressor": -1}
    if kind is Kind.BOOK:
        columns |= {"prev_id": number, "update_id": number + 1}
        columns |= {name: np.arange(1, rows + 1) for name in ("side", "price", "size", "flags")}
        columns["side"] = columns["flags"] = np.ones(rows, dtype=np.int8)
    return Run(ts_recv, MERGE_ORDER[kind], source, number, kind, more.get("underlying", "BTC"), rows, columns)


events = st.lists(
    st.tuples(
        st.integers(0, 3_000_000), st.sampled_from([Kind.TRADE, Kind.BOOK, Kind.HEARTBEAT]),
        st.sampled_from([1, 2, 900, 1_700]), st.sampled_from(["BTC", "ETH"]), st.integers(0, 1),
    ),
    max_size=10,
)  # fmt: skip


@given(events)
@settings(max_examples=50, deadline=None)
def test_batches_keep_rows_and_order_within_their_limits(steps: list[tuple[int, Kind, int, str, int]]) -> None:
    runs, now = [], 0
    for number, (step, kind, rows, underlying, source) in enumerate(steps):
        now += step
        rows = rows if kind is Kind.BOOK else 1
        runs.append(run(now, kind, rows, source, number, underlying=underlying))
    batches = list(batches_of(runs))
    rows_in = [
        (r.kind, r.underlying, r.columns["instrument"], r.ts_recv, r.ts_recv - 7) for r in runs for _ in range(r.rows)
    ]
    rows_out = []
    for batch in batches:
        assert batch.data.schema == SCHEMAS[batch.kind]
        assert 0 < batch.data.num_rows <= MAX_ROWS
        recv = batch.data.column(2).to_numpy()
        assert recv[-1] - recv[0] <= MAX_SPAN_NS
        rows_out += [
            (batch.kind, batch.underlying, row["instrument"], row["ts_recv"], row["ts_event"])
            for row in batch.data.to_pylist()
        ]
    assert rows_out == rows_in


def test_neighbours_of_one_kind_share_a_batch() -> None:
    batches = list(
        batches_of([run(0), run(1), run(2, source=1), run(3 + MAX_SPAN_NS), run(4 + MAX_SPAN_NS, Kind.BOOK)])
    )
    assert [(batch.kind, batch.data.num_rows) for batch in batches] == [
        (Kind.TRADE, 3),
        (Kind.TRADE, 1),
        (Kind.BOOK, 1),
    ]
    assert batches[0].data.column(0).to_pylist() == ["i0", "i0", "i1"]


def test_merge_is_by_receive_time_then_kind_then_source() -> None:
    first = [run(10, number=0), run(20, Kind.HEARTBEAT, number=1), run(30, number=2)]
    second = [run(10, Kind.BOOK, source=1), run(20, number=1, source=1), run(30, number=2, source=1)]
    merged = [(r.ts_recv, r.kind, r.source) for r in merge([iter(first), iter(second)])]
    assert merged == [
        (10, Kind.BOOK, 1), (10, Kind.TRADE, 0), (20, Kind.TRADE, 1), (20, Kind.HEARTBEAT, 0), (30, Kind.TRADE, 0),
        (30, Kind.TRADE, 1),
    ]  # fmt: skip

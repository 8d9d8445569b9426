"""Purged parts: no return belongs to the targets of two of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forecasting.split import purged_split


@given(st.integers(1, 400), st.integers(1, 80), st.integers(0, 9))
def test_no_common_returns(n: int, horizon: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bar_ts = np.sort(np.concatenate([rng.choice(2 * n, n, replace=False) for _ in range(2)]))
    split = purged_split(bar_ts, horizon)
    parts = [bar_ts[mask] for mask in (split.train, split.select, split.validate)]
    used: set[int] = set()
    for part in parts:
        returns = {t for bar in part for t in range(bar + 1, bar + horizon + 1)}
        assert not used & returns
        used |= returns
    assert not (split.train & split.select).any()
    assert split.validate.any()


def test_sizes_and_emptiness() -> None:
    split = purged_split(np.repeat(np.arange(100), 2), 5)
    assert [int(mask.sum()) for mask in (split.train, split.select, split.validate)] == [112, 32, 40]
    assert not len(purged_split(np.zeros(0, dtype=np.int64), 5).train)

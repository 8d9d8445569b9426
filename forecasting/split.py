"""Parts of a training window, in the order of time, without common returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Integer = NDArray[np.int64]
Mask = NDArray[np.bool_]

SELECT_FROM: Final = 0.6
VALIDATE_FROM: Final = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class PurgedSplit:
    """Rows that fit the models, rows that choose between them, and rows that measure the choice.

    A row is in a part only if its target ends before the next part begins (purging, Lopez de Prado 2018, ch. 7). No
    embargo is needed: no part is trained on rows after it.
    """

    train: Mask
    select: Mask
    validate: Mask


def purged_split(bar_ts_N: Integer, horizon_ns: int) -> PurgedSplit:
    """Split rows of all underlyings at common moments: 60, 20 and 20 % of the bars, less the purged ones.

    Args:
        bar_ts_N: the rows' bars.
        horizon_ns: from a row's bar to the end of its target.
    """
    bars = np.unique(bar_ts_N)
    if not len(bars):
        none = np.zeros(0, dtype=np.bool_)
        return PurgedSplit(none, none, none)
    select_ts, validate_ts = bars[int(SELECT_FROM * len(bars))], bars[int(VALIDATE_FROM * len(bars))]
    return PurgedSplit(
        train=bar_ts_N + horizon_ns <= select_ts,
        select=(bar_ts_N >= select_ts) & (bar_ts_N + horizon_ns <= validate_ts),
        validate=bar_ts_N >= validate_ts,
    )

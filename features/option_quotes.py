"""The last quote of every option of an underlying, and what the whole chain says."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.events import NANO
from features.kernel import row_kernel
from features.surface.chain import chain_features

Array = np.ndarray[Any, Any]


@row_kernel
def quote_rows(
    first: int, stop_ts: int, stream_ts: Array, ts_event: Array, index: Array, seq: Array, bid: Array, ask: Array,
    scale: Array, forward_e9: Array, inverse: Array, last_seq: Array, last_ts: Array, mid: Array, forward: Array,
) -> int:  # fmt: skip
    """Take option quotes from row ``first`` up to the first row whose stream time passes ``stop_ts``.

    ``mid[j]`` is the undiscounted mid price in quote currency of option j (coin price times forward for inverse
    options), NaN unless bid and ask are both there and ordered. A quote older than the one we have is left out.
    Returns the row to go on with.
    """
    for i in range(first, len(index)):
        if stream_ts[i] > stop_ts:
            return i
        j = index[i]
        if j < 0 or seq[i] <= last_seq[j]:
            continue
        last_seq[j] = seq[i]
        if ts_event[i] < last_ts[j]:
            continue
        last_ts[j] = ts_event[i]
        forward[j] = forward_e9[i] / NANO if forward_e9[i] > 0 else math.nan
        if bid[i] > 0 and ask[i] >= bid[i]:
            mid[j] = (bid[i] + ask[i]) * scale[j] / (2 * NANO)
            if inverse[j]:
                mid[j] *= forward[j]
        else:
            mid[j] = math.nan
    return len(index)


class OptionQuotes:
    """The last quote of every option of an underlying; options that have expired are forgotten."""

    _COLUMNS: Final = {
        "expiry": np.int64, "strike": np.float64, "is_call": np.bool_, "inverse": np.bool_, "tick_e9": np.int64,
        "last_seq": np.int64, "last_ts": np.int64, "mid": np.float64, "forward": np.float64,
    }  # fmt: skip

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self.changed = False
        self.expiry = np.zeros(0, np.int64)
        self.strike = np.zeros(0)
        self.is_call = np.zeros(0, np.bool_)
        self.inverse = np.zeros(0, np.bool_)
        self.tick_e9 = np.zeros(0, np.int64)
        self.last_seq = np.zeros(0, np.int64)
        self.last_ts = np.zeros(0, np.int64)
        self.mid = np.zeros(0)
        self.forward = np.zeros(0)

    def introduce(self, row: dict[str, Any]) -> None:
        """Add an option, or take its new reference data."""
        values: dict[str, Any] = {
            "expiry": row["expiry_ns"],
            "strike": row["strike_e9"] / NANO,
            "is_call": row["is_call"],
            "inverse": row["is_inverse"],
            "tick_e9": row["price_increment_e9"],
        }
        at = self.index.setdefault(row["instrument"], len(self.index))
        if at == len(self.expiry):
            fresh = {"last_seq": -1, "last_ts": -1, "mid": np.nan, "forward": np.nan}
            for name, dtype in self._COLUMNS.items():
                first: Array = np.array([{**values, **fresh}[name]], dtype=dtype)
                setattr(self, name, np.concatenate([getattr(self, name), first]))
        for name, value in values.items():
            getattr(self, name)[at] = value

    def forget_expired(self, now_ns: int) -> None:
        """Drop the options that expired by ``now_ns``: their number is bounded by what is listed."""
        keep = self.expiry > now_ns
        if keep.all():
            return
        self.index = {name: i for i, name in enumerate(n for n, kept in zip(self.index, keep, strict=True) if kept)}
        for name in self._COLUMNS:
            setattr(self, name, getattr(self, name)[keep])

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"names": list(self.index), "changed": self.changed} | {n: getattr(self, n) for n in self._COLUMNS}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.index = {name: i for i, name in enumerate(state["names"])}
        self.changed = bool(state["changed"])
        for name in self._COLUMNS:
            setattr(self, name, state[name])

    def features(self, now_ns: int) -> Array:
        """The chain's features at ``now_ns``, in the order of :func:`features.surface.chain.chain_features`."""
        values: Array = np.array(
            chain_features(self.expiry, self.strike, self.is_call, self.mid, self.forward, len(self.index), now_ns)
        )
        return values

"""The last quote of every option of an underlying, and what the whole chain says."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.events import NANO
from features.kernel import row_kernel
from features.surface.chain_surface import ChainSurface
from features.surface.forwards import parity_forward

Array = np.ndarray[Any, Any]


@row_kernel
def quote_rows(
    first: int, stop_ts: int, stream_ts: Array, ts_event: Array, index: Array, seq: Array, bid: Array, ask: Array,
    scale: Array, forward_e9: Array, last_seq: Array, last_ts: Array, best_bid: Array, best_ask: Array, forward: Array,
) -> int:  # fmt: skip
    """Take option quotes from row ``first`` up to the first row whose stream time passes ``stop_ts``.

    ``best_bid[j]`` and ``best_ask[j]`` are the prices of option j in its settlement currency, NaN for none. A quote
    older than the one we have is left out. Returns the row to go on with.
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
        best_bid[j] = bid[i] * scale[j] / NANO if bid[i] > 0 else math.nan
        best_ask[j] = ask[i] * scale[j] / NANO if ask[i] > 0 else math.nan
    return len(index)


class OptionQuotes:
    """The last quote of every option of an underlying; options that have expired are forgotten."""

    _COLUMNS: Final = {
        "expiry": np.int64, "strike": np.float64, "is_call": np.bool_, "inverse": np.bool_, "tick_e9": np.int64,
        "last_seq": np.int64, "last_ts": np.int64, "bid": np.float64, "ask": np.float64, "forward": np.float64,
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
        self.bid = np.zeros(0)
        self.ask = np.zeros(0)
        self.forward = np.zeros(0)
        self.surface = ChainSurface()

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
            fresh = {"last_seq": -1, "last_ts": -1, "bid": np.nan, "ask": np.nan, "forward": np.nan}
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
        columns = {name: getattr(self, name) for name in self._COLUMNS}
        surface = {f"surface.{name}": value for name, value in self.surface.state().items()}
        return {"names": list(self.index), "changed": self.changed} | columns | surface

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self.index = {name: i for i, name in enumerate(state["names"])}
        self.changed = bool(state["changed"])
        for name in self._COLUMNS:
            setattr(self, name, state[name])
        self.surface.load({name[8:]: value for name, value in state.items() if name.startswith("surface.")})

    def features(self, now_ns: int) -> Array:
        """The chain's features at ``now_ns``, in the order of :data:`features.surface.chain_surface.VALUES`."""
        forward = self._forwards()
        bid, ask = (np.where(self.inverse, price * forward, price) for price in (self.bid, self.ask))
        return self.surface.update(self.expiry, self.strike, self.is_call, bid, ask, forward, self.last_ts, now_ns)

    def _forwards(self) -> Array:
        """Of every option: what the feed says, or by parity where it says nothing of an expiry."""
        known = self.forward > 0.0
        if known.all():
            return self.forward
        forward = self.forward.copy()
        for expiry in np.unique(self.expiry[~known]):
            at = self.expiry == expiry
            if not known[at].any():
                found = parity_forward(
                    self.strike[at], self.is_call[at], self.bid[at], self.ask[at], is_inverse=bool(self.inverse[at][0])
                )
                forward[at] = found.forward
        return forward

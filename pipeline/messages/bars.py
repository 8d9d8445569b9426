"""Bars of messages that are trades: open, high, low, close, volume and VWAP a key and interval, with durable state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa

from features.events import NANO
from features.stage import Keyed, StageOutput
from features.state import pack, unpack
from pipeline.messages import bar_kernel as k

Array = np.ndarray[Any, Any]

SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.utf8(), nullable=False),
        pa.field("bar_ts", pa.int64(), nullable=False),
        pa.field("trades", pa.int64(), nullable=False),
        pa.field("late_rows", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("open", "high", "low", "close", "volume", "vwap")),
    ]
)
STATE: Final = "bars"
FIRST_KEYS: Final = 64
NEVER: Final = -(2**63)


@dataclass(frozen=True)
class MessageBars:
    """One bar (t - interval, t] a key in which it traded, sent at the key's first row beyond t.

    Rows (key, ``bar_ts``) come in order, so a repeat after a crash is seen by it. VWAP is sum(p q) / sum(q), summed in
    the order of the log.

    Args:
        key, time, price, size: names of the fields; time in ns since 1970.
        interval_ns: length of a bar.
    """

    key: str
    time: str
    price: str
    size: str
    interval_ns: int = NANO
    schema: pa.Schema = field(default=SCHEMA, init=False, repr=False)

    @property
    def fields(self) -> Mapping[str, type]:
        """The four."""
        return {self.key: str, self.time: int, self.price: float, self.size: float}

    @property
    def accepts(self) -> pl.Expr:
        """A price and a size are positive numbers, and a time lies after 1970."""
        price, size = pl.col(self.price), pl.col(self.size)
        finite = price.is_finite() & size.is_finite()
        return finite & (price > 0) & (size > 0) & pl.col(self.time).is_between(0, 2**62)

    def stage(self) -> _BarStage:
        """With no bar open."""
        return _BarStage(self)


class _BarStage:
    """The open bar of every key."""

    def __init__(self, declared: MessageBars) -> None:
        self._declared = declared
        self._codes: dict[str, int] = {}
        self._integers: Array = np.zeros((FIRST_KEYS, k.INTEGERS), dtype=np.int64)
        self._integers[:, k.END] = NEVER
        self._floats: Array = np.zeros((FIRST_KEYS, k.FLOATS))

    def process(self, frame: pl.DataFrame) -> StageOutput:
        """Bars that closed."""
        given = self._declared
        code = self._coded(frame[given.key].to_list())
        ts, price, size = (frame[name].to_numpy() for name in (given.time, given.price, given.size))
        rows = len(code)
        out_code, integers = np.empty(rows, dtype=np.int64), np.empty((rows, k.INTEGERS), dtype=np.int64)
        floats = np.empty((rows, k.FLOATS))
        closed = k.advance(
            *(code, ts, price, size, given.interval_ns, self._integers, self._floats), out_code, integers, floats
        )
        if not closed:
            return StageOutput()
        return StageOutput([Keyed("", self._bars(out_code[:closed], integers[:closed], floats[:closed]))])

    def _coded(self, keys: list[str]) -> Array:
        codes = self._codes
        try:
            return np.array([codes[key] for key in keys], dtype=np.int64)
        except KeyError:
            found = [codes.setdefault(key, len(codes)) for key in keys]
        while len(self._integers) < len(codes):
            blank = np.zeros_like(self._integers)
            blank[:, k.END] = NEVER
            self._integers = np.concatenate([self._integers, blank])
            self._floats = np.concatenate([self._floats, np.zeros_like(self._floats)])
        return np.array(found, dtype=np.int64)

    def _bars(self, code: Array, integers: Array, floats: Array) -> pa.RecordBatch:
        names = pa.array(list(self._codes), pa.utf8()).take(pa.array(code))
        bars = [integers[:, k.END], integers[:, k.COUNT], integers[:, k.LATE]]
        plain = [floats[:, at] for at in (k.OPEN, k.HIGH, k.LOW, k.CLOSE, k.VOLUME)]
        vwap = floats[:, k.NOTIONAL] / floats[:, k.VOLUME]
        return pa.RecordBatch.from_arrays([names, *map(pa.array, (*bars, *plain, vwap))], schema=SCHEMA)

    def snapshot(self) -> Mapping[str, bytes]:
        """Keys and their open bars."""
        used = len(self._codes)
        return {
            STATE: pack({"keys": list(self._codes), "integers": self._integers[:used], "floats": self._floats[:used]})
        }

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Continue where :meth:`snapshot` was taken."""
        saved = unpack(state[STATE])
        self._codes = {}
        self._coded(saved["keys"])
        self._integers[: len(self._codes)] = saved["integers"]
        self._floats[: len(self._codes)] = saved["floats"]

"""The ``universe`` stage: feature rows of all underlyings in, each reference instrument beside its peers out.

A bar leaves when every underlying has it, so the rows do not depend on how the underlyings' rows interleaved. The
underlyings are configured, not discovered: otherwise the first bars would depend on who spoke first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from features.catalog import SCHEMA, UNIVERSE_SCHEMA
from features.errors import ConfigError
from features.kernel import kernel
from features.stage import Keyed, Reject, StageOutput
from features.state import pack, unpack

Array = np.ndarray[Any, Any]

CORRELATION_BARS: Final = 60

MAX_WAITING_BARS: Final = 100_000
"""Bars an underlying may run ahead of the slowest one before the stage stops and says which one is silent."""

STATE_KEY: Final = "universe"


@kernel
def correlation(x: Array, y: Array, first: int) -> float:
    """Pearson correlation of two rings of equal length, read from position ``first`` round; NaN if undefined."""
    n = len(x)
    mean_x, mean_y = 0.0, 0.0
    for i in range(n):
        mean_x += x[(first + i) % n]
        mean_y += y[(first + i) % n]
    mean_x /= n
    mean_y /= n
    xx, yy, xy = 0.0, 0.0, 0.0
    for i in range(n):
        dx, dy = x[(first + i) % n] - mean_x, y[(first + i) % n] - mean_y
        xx += dx * dx
        yy += dy * dy
        xy += dx * dy
    if not (xx > 0.0 and yy > 0.0):
        return math.nan
    return xy / math.sqrt(xx * yy)


class UniverseStage:
    """Join the bars of all underlyings and add what one underlying's peers say.

    Args:
        reference: underlying -> the instrument that stands for it (its perpetual, as a rule).
    """

    name = "universe"

    def __init__(self, reference: Mapping[str, str]) -> None:
        if not reference:
            raise ConfigError("The universe has no underlying.", "Set `reference`, e.g. BTC = 'binance-usdm:BTCUSDT'.")
        self._reference = dict(sorted(reference.items()))
        self._waiting: dict[str, deque[dict[str, Any]]] = {underlying: deque() for underlying in self._reference}
        self._last_bar = dict.fromkeys(self._reference, -1)
        self._own = {underlying: np.full(CORRELATION_BARS, np.nan) for underlying in self._reference}
        self._peers = {underlying: np.full(CORRELATION_BARS, np.nan) for underlying in self._reference}
        self._bars = 0

    def process(self, batch: pa.RecordBatch) -> StageOutput:
        """Take feature rows; rows not beyond their underlying's last bar are duplicates and dropped."""
        for row in batch.to_pylist():
            underlying = row["underlying"]
            if row["instrument"] != self._reference.get(underlying) or row["bar_ts"] <= self._last_bar[underlying]:
                continue
            self._last_bar[underlying] = row["bar_ts"]
            self._waiting[underlying].append(row)
        done: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        while (bar := self._next_bar(rejects)) is not None:
            done.extend(self._close(bar))
        return StageOutput([Keyed(u, _batch(rows)) for u in self._reference if (rows := _of(done, u))], rejects)

    def _next_bar(self, rejects: list[Reject]) -> dict[str, dict[str, Any]] | None:
        """The earliest bar that every underlying has; rows of a bar that another one never had are rejected."""
        while all(self._waiting.values()):
            latest = max(rows[0]["bar_ts"] for rows in self._waiting.values())
            behind = [rows for rows in self._waiting.values() if rows[0]["bar_ts"] < latest]
            if not behind:
                return {underlying: rows.popleft() for underlying, rows in self._waiting.items()}
            for rows in behind:
                row = rows.popleft()
                rejects.append(Reject("no_peer_bar", f"{row['underlying']} alone has bar {row['bar_ts']}"))
        ahead = max(len(rows) for rows in self._waiting.values())
        if ahead > MAX_WAITING_BARS:
            silent = [underlying for underlying, rows in self._waiting.items() if not rows]
            raise ConfigError(
                f"{', '.join(silent)} sent no bar while another underlying sent {ahead}.",
                "Check its source, or take it out of `reference`.",
            )
        return None

    def _close(self, bar: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        known = max(row["ts_known"] for row in bar.values())
        at = self._bars % CORRELATION_BARS
        self._bars += 1
        rows: list[dict[str, Any]] = []
        for underlying, row in bar.items():
            others = [bar[other] for other in bar if other != underlying]
            peer_return = _mean([other["log_return"] for other in others])
            own, peers = self._own[underlying], self._peers[underlying]
            own[at] = math.nan if row["log_return"] is None else row["log_return"]
            peers[at] = math.nan if peer_return is None else peer_return
            value = correlation(own, peers, (at + 1) % CORRELATION_BARS)
            cross = {
                "peer_return": peer_return,
                "peer_realized_variance_1m": _mean([other["realized_variance_1m"] for other in others]),
                "correlation_1m": None if math.isnan(value) else value,
            }
            rows.append({**row, "ts_known": known, **cross})
        return rows

    def snapshot(self) -> Mapping[str, bytes]:
        """One key: the stage sees all underlyings."""
        waiting = {
            underlying: _batch(list(rows), SCHEMA).serialize().to_pybytes()
            for underlying, rows in self._waiting.items()
        }
        arrays = {f"own.{u}": a for u, a in self._own.items()} | {f"peers.{u}": a for u, a in self._peers.items()}
        return {STATE_KEY: pack({"waiting": waiting, "last_bar": self._last_bar, "bars": self._bars, **arrays})}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Replace all state.

        Raises:
            ConfigError: the state belongs to other underlyings.
        """
        saved = unpack(state[STATE_KEY])
        if saved["last_bar"].keys() != self._reference.keys():
            raise ConfigError(
                f"The checkpoint is for {sorted(saved['last_bar'])}, the configuration names {list(self._reference)}.",
                "Run under another `application` name, or restore the configuration.",
            )
        self._last_bar = dict(saved["last_bar"])
        self._bars = int(saved["bars"])
        for underlying in self._reference:
            rows = pa.ipc.read_record_batch(pa.py_buffer(saved["waiting"][underlying]), SCHEMA)
            self._waiting[underlying] = deque(rows.to_pylist())
            self._own[underlying] = saved[f"own.{underlying}"]
            self._peers[underlying] = saved[f"peers.{underlying}"]


def _mean(values: list[float | None]) -> float | None:
    """Mean in the order of the underlyings' names; unknown when any value is, or when there is none."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total / len(values) if values else None


def _of(rows: list[dict[str, Any]], underlying: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["underlying"] == underlying]


def _batch(rows: list[dict[str, Any]], schema: Any = UNIVERSE_SCHEMA) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=schema)

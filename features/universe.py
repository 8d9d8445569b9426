"""The ``universe`` stage: feature rows of all underlyings in, each reference instrument beside its peers out.

A bar leaves when every underlying has it, so the rows do not depend on how the underlyings' rows interleaved. The
underlyings are configured, not discovered: otherwise the first bars would depend on who spoke first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from features.catalog import SCHEMA, UNIVERSE_SCHEMA
from features.cross_asset import History, close_bars, empty_history, windows_in_bars
from features.declared import cross_asset as declared
from features.errors import BadInputError, ConfigError
from features.events import NANO
from features.stage import Keyed, Reject, StageOutput
from features.state import pack, unpack
from features.waiting_rows import MAX_WAITING_BARS, WaitingRows, one_batch, rows_at

Array = np.ndarray[Any, Any]

STATE_KEY: Final = "universe"


class UniverseStage:
    """Join the bars of all underlyings and add what one underlying's peers say.

    A reference instrument that lists late keeps every earlier bar from leaving: the peers' rows wait, and when its
    first row comes those before it are rejected as ``no_peer_bar``. One whose book went keeps sending rows of nulls,
    which make the features of its peers null. One that expired sends no more rows at all, for the features stage stops
    them: its underlying is silent, like one whose source stopped. It holds all others back until ``MAX_WAITING_BARS``
    of them wait, and then the stage stops and names it. Leaving it out silently would change what "the peers" are in
    the middle of every window; ``reference`` is the place to say so.

    Args:
        reference: underlying -> the instrument that stands for it (its perpetual, as a rule).
        interval_ns: length of a bar; divides the windows of the cross-asset features.
        schema: of the feature rows; has the columns ``features.declared.cross_asset.INPUTS``.
        universe_schema: ``schema``, then cross-asset columns.

    Raises:
        ConfigError: no underlying, an interval that does not divide the windows, or schemas that lack a column.
    """

    name = "universe"

    def __init__(
        self,
        reference: Mapping[str, str],
        interval_ns: int = NANO,
        *,
        schema: pa.Schema = SCHEMA,
        universe_schema: pa.Schema = UNIVERSE_SCHEMA,
    ) -> None:
        if not reference:
            raise ConfigError("The universe has no underlying.", "Set `reference`, e.g. BTC = 'binance-usdm:BTCUSDT'.")
        self._reference = dict(sorted(reference.items()))
        self._interval_ns = interval_ns
        self._schema = schema
        self._universe_schema = universe_schema
        self._columns = _cross_asset_columns(schema, universe_schema)
        self._windows, size = windows_in_bars(interval_ns)
        self._waiting = {underlying: WaitingRows() for underlying in self._reference}
        self._last_bar = dict.fromkeys(self._reference, -1)
        self._closed = -1
        self._history = empty_history(len(self._reference), size)

    def process(self, batch: pa.RecordBatch) -> StageOutput:
        """Take feature rows.

        Rows of other instruments are left aside; rows not beyond their underlying's last bar are duplicates and
        dropped. A bar that does not end on a multiple of the interval is rejected (``bar_off_grid``), and so is one
        that another underlying skipped (``no_peer_bar``).

        Raises:
            BadInputError: the batch has another schema.
            ConfigError: an underlying is silent while another runs ``MAX_WAITING_BARS`` ahead.
        """
        if not batch.schema.equals(self._schema):
            raise BadInputError(
                f"These are no feature rows of this catalogue: {batch.schema.names}.", "Run the stages together."
            )
        rejects: list[Reject] = []
        self._accept(batch, rejects)
        bars, taken, gone = self._match(rejects)
        parts = [part for u, each in enumerate(self._waiting.values()) for part in each.take(gone[u], taken[u])]
        self._require_all()
        return StageOutput(self._close(bars, one_batch(parts)) if bars else [], rejects)

    def _accept(self, batch: pa.RecordBatch, rejects: list[Reject]) -> None:
        """Put the rows of reference instruments that are new where they wait."""
        chosen: dict[str, tuple[list[int], list[int]]] = {}
        columns = (batch.column(name).to_pylist() for name in ("underlying", "instrument", "bar_ts"))
        for i, (underlying, instrument, bar_ts) in enumerate(zip(*columns, strict=True)):
            if instrument != self._reference.get(underlying) or bar_ts <= self._last_bar[underlying]:
                continue
            if bar_ts % self._interval_ns:
                rejects.append(
                    Reject("bar_off_grid", f"{underlying} at {bar_ts}, no multiple of {self._interval_ns} ns")
                )
                continue
            self._last_bar[underlying] = bar_ts
            at, ends = chosen.setdefault(underlying, ([], []))
            at.append(i)
            ends.append(bar_ts)
        for underlying, (at, ends) in chosen.items():
            self._waiting[underlying].append(rows_at(batch, at), ends)

    def _match(self, rejects: list[Reject]) -> tuple[list[int], list[list[int]], list[int]]:
        """Bars that every underlying has, earliest first; which of its waiting rows they are; how many rows are done.

        Rows of a bar that another underlying never had are rejected.
        """
        waiting = [(underlying, each.ends) for underlying, each in self._waiting.items()]
        bars: list[int] = []
        taken: list[list[int]] = [[] for _ in waiting]
        gone = [0] * len(waiting)
        while all(ends for _, ends in waiting):
            latest = max(ends[0] for _, ends in waiting)
            behind = [u for u, (_, ends) in enumerate(waiting) if ends[0] < latest]
            if not behind:
                bars.append(latest)
            for u in behind or range(len(waiting)):
                underlying, ends = waiting[u]
                if behind:
                    rejects.append(Reject("no_peer_bar", f"not every underlying has the bar {ends[0]} of {underlying}"))
                else:
                    taken[u].append(gone[u])
                ends.popleft()
                gone[u] += 1
        return bars, taken, gone

    def _require_all(self) -> None:
        ahead = max(len(each.ends) for each in self._waiting.values())
        if ahead > MAX_WAITING_BARS:
            silent = [underlying for underlying, each in self._waiting.items() if not each.ends]
            raise ConfigError(
                f"{', '.join(silent)} sent no bar while another underlying sent {ahead}.",
                "Check its source, or take it out of `reference`.",
            )

    def _close(self, bars: list[int], rows: pa.RecordBatch) -> list[Keyed]:
        """The rows of the bars with what their peers say; they come one underlying after the other, all bars of each.

        They are one batch until the last step: the price of a column is the same for one row as for thousands.
        """
        shape = (len(self._reference), len(bars))
        ends = np.array(bars, dtype=np.int64)
        steps = np.diff(ends, prepend=self._closed if self._closed >= 0 else bars[0] - self._interval_ns)
        self._closed = bars[-1]
        # A gap longer than the history empties it, however long it is.
        missing_B = np.minimum(steps // self._interval_ns - 1, self._history.ring_UST.shape[2])
        input_CUB = [rows.column(name).to_numpy(zero_copy_only=False).reshape(shape) for name in declared.INPUTS]
        input_BUC = np.ascontiguousarray(np.stack(input_CUB).transpose(2, 1, 0))
        out_BUF = close_bars(self._history, self._windows, missing_B, input_BUC)
        known_UB = np.broadcast_to(rows.column("ts_known").to_numpy().reshape(shape).max(axis=0), shape)
        out_FN = out_BUF.transpose(2, 1, 0)[self._columns].reshape(len(self._columns), -1)
        columns = [*rows.columns, *_arrays(out_FN)]
        columns[self._schema.get_field_index("ts_known")] = pa.array(known_UB.ravel())
        seen = pa.RecordBatch.from_arrays(columns, schema=self._universe_schema)
        return [Keyed(underlying, seen.slice(u * len(bars), len(bars))) for u, underlying in enumerate(self._reference)]

    def snapshot(self) -> Mapping[str, bytes]:
        """One key: the stage sees all underlyings."""
        state = {
            "reference": self._reference,
            "interval_ns": self._interval_ns,
            "waiting": _stream([part for each in self._waiting.values() for part in each.parts], self._schema),
            "last_bar": self._last_bar,
            "closed": self._closed,
            **self._history._asdict(),
        }
        return {STATE_KEY: pack(state)}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Replace all state.

        Raises:
            ConfigError: the state belongs to other underlyings or instruments, another interval, catalogue or version.
        """
        saved = unpack(state[STATE_KEY])
        for setting, now in (("reference", self._reference), ("interval_ns", self._interval_ns)):
            if saved.get(setting) != now:
                raise _other_checkpoint(f"{setting} {saved.get(setting)}", str(now))
        with pa.ipc.open_stream(saved["waiting"]) as reader:
            schema, waiting = reader.schema, reader.read_all().combine_chunks().to_batches()
        history = History(*(saved[name] for name in History._fields))
        if not schema.equals(self._schema) or history.ring_UST.shape != self._history.ring_UST.shape:
            raise _other_checkpoint("another catalogue", "this one")
        self._waiting = {underlying: WaitingRows() for underlying in self._reference}
        self._last_bar = dict.fromkeys(self._reference, -1)
        for batch in waiting:
            self._accept(batch, [])
        self._last_bar, self._closed, self._history = dict(saved["last_bar"]), int(saved["closed"]), history


def _cross_asset_columns(schema: pa.Schema, universe_schema: pa.Schema) -> list[int]:
    """Which of the features the universe rows carry, behind the columns of the feature rows."""
    features = [feature.name for feature in declared.FEATURES]
    lacking = [name for name in ("ts_known", *declared.INPUTS) if name not in schema.names]
    if lacking:
        raise ConfigError(f"The feature rows lack {lacking}.", "Keep these in the catalogue: the universe reads them.")
    carried, added = universe_schema.names[: len(schema)], universe_schema.names[len(schema) :]
    if carried != schema.names or not set(added) <= set(features):
        raise ConfigError(
            f"The universe rows end with {added}, and of these only {features} are computed here.",
            "Let them be the feature rows' columns, then names of features/declared/cross_asset.py.",
        )
    return [features.index(name) for name in added]


def _arrays(out_FN: Array) -> list[pa.Array]:
    """A column a row; what is not finite is null."""
    unknown_FN = ~np.isfinite(out_FN)
    return [pa.array(value_N, mask=unknown_N) for value_N, unknown_N in zip(out_FN, unknown_FN, strict=True)]


def _stream(parts: list[pa.RecordBatch], schema: pa.Schema) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for part in parts:
            writer.write_batch(part)
    return bytes(sink.getvalue().to_pybytes())


def _other_checkpoint(saved: str, now: str) -> ConfigError:
    return ConfigError(
        f"The checkpoint is for {saved}, the configuration names {now}.",
        "Run under another `application` name, or restore the configuration.",
    )

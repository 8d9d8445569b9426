"""One chain of a recording of Deribit's inverse options: Parquet, a row an option and snapshot, prices in coin."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from features.errors import BadInputError
from pipeline.option_chains import OptionChain, chosen, is_forward, none_so_early, with_parity_forwards
from pipeline.sources.recording_lines import require_file

Array = np.ndarray[Any, Any]

_NEEDED: Final = (
    "timestamp", "currency", "option_type", "strike", "expiry_datetime", "bid_price", "ask_price", "underlying",
)  # fmt: skip
_MARK: Final = "implied_volatility"
_NUMBERS: Final = ("strike", "bid_price", "ask_price", "underlying", _MARK)
_TIMES: Final = ("timestamp", "expiry_datetime")


def recorded_chain(path: Path, underlying: str | None = None, at_ns: int | None = None) -> OptionChain:
    """The last snapshot at or before a time; as :func:`pipeline.option_chains.read_chain`."""
    require_file(path)
    recorded = _scan(path)
    try:
        times = recorded.group_by("currency", "taken_ns").len().collect()
        present: list[str] = times["currency"].drop_nulls().unique().to_list()
        name = chosen(underlying, present, path)
        taken = times.filter(pl.col("currency") == name)["taken_ns"].drop_nulls().sort()
        if taken.is_empty():
            raise _no_chains(path, "the column 'timestamp' holds no times")
        known = taken if at_ns is None else taken.filter(taken <= at_ns)
        if known.is_empty():
            raise none_so_early(path, name, at_ns or 0, int(taken[0]))
        now_ns = int(known[-1])
        rows = recorded.filter((pl.col("currency") == name) & (pl.col("taken_ns") == now_ns)).collect()
    except pl.exceptions.PolarsError as error:
        raise _no_chains(path, str(error).splitlines()[0][:200]) from error
    return _chain(path, name, now_ns, rows)


def _chain(path: Path, underlying: str, now_ns: int, rows: pl.DataFrame) -> OptionChain:
    side = rows["option_type"].str.to_lowercase()
    types = set(rows["option_type"].filter(~side.is_in(["call", "put", "c", "p"]).fill_null(False)).unique().to_list())
    if types:
        raise _no_chains(path, f"option_type is one of {sorted(map(str, types))}, not call or put")
    forward = _floats(rows, "underlying")
    unit = np.where(is_forward(forward), forward, 1.0)
    chain = OptionChain(
        underlying,
        now_ns,
        # An option without an expiry counts as expired.
        rows["expiry_ns"].fill_null(0).to_numpy(),
        _floats(rows, "strike"),
        side.is_in(["call", "c"]).to_numpy(),
        _floats(rows, "bid_price") * unit,
        _floats(rows, "ask_price") * unit,
        forward,
        np.full(rows.height, now_ns),
        _floats(rows, _MARK) if _MARK in rows.columns else np.full(rows.height, np.nan),
    )
    return with_parity_forwards(chain, np.ones(rows.height, np.bool_))


def _floats(rows: pl.DataFrame, name: str) -> Array:
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _scan(path: Path) -> pl.LazyFrame:
    try:
        lazy = pl.scan_parquet(path)
        schema = lazy.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _no_chains(path, str(error).splitlines()[0][:200]) from error
    if missing := [name for name in _NEEDED if name not in schema]:
        raise _no_chains(path, f"the column {missing[0]!r} is missing")
    if odd := [name for name in _TIMES if not isinstance(schema[name], pl.Datetime)]:
        raise _no_chains(path, f"the column {odd[0]!r} holds no times")
    if odd := [
        name for name in _NUMBERS if name in schema and not (schema[name].is_numeric() or schema[name] == pl.Null)
    ]:
        raise _no_chains(path, f"the column {odd[0]!r} holds no numbers")
    columns = [*_NEEDED, *([_MARK] if _MARK in schema else [])]
    return lazy.select(columns).with_columns(
        pl.col("currency", "option_type").cast(pl.String),
        taken_ns=pl.col("timestamp").dt.epoch("ns"),
        expiry_ns=pl.col("expiry_datetime").dt.epoch("ns"),
    )


def _no_chains(path: Path, why: str) -> BadInputError:
    return BadInputError(
        f"{path} does not hold option chains: {why}.",
        f"Name the folder or URL of a lake, or Parquet with the columns {', '.join(_NEEDED)}; what else you have goes "
        "through a source into a lake first (docs/sources.md).",
    )

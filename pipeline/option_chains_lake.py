"""One chain of a lake: of every option the newest quote that was received by a time."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from features.errors import BadInputError
from features.events import NANO
from features.surface.black import YEAR_NS
from features.surface.inversion import implied_volatility
from pipeline.lake_location import Place
from pipeline.option_chains import OptionChain, chosen, is_forward, none_so_early, with_parity_forwards
from pipeline.query import open_lake

Array = np.ndarray[Any, Any]

LOOKBACK_NS: Final = 24 * 3_600 * NANO
"""An option that nobody quoted for so long before the newest quote is none of the chain; and older files stay shut."""

_TIMES: Final = """
SELECT max(ts_event) FILTER (ts_recv <= $at), min(ts_recv) FROM options WHERE underlying = $underlying
"""

# Dates are those of ts_event. The log's order settles what is of one time. A quote that says nothing takes an option
# off: pipeline.sources.option_chain.
_QUOTES: Final = """
SELECT o.*, i.increment, i.is_inverse FROM (
    SELECT instrument, ref_version, ts_event, expiry_ns, strike_e9 / 1e9 AS strike, is_call, bid, ask,
           mark_e9 / 1e9 AS mark, forward_e9 / 1e9 AS forward
    FROM options
    WHERE underlying = $underlying AND ts_recv <= $at AND ts_event >= $since
      AND date >= CAST(make_timestamp_ns($since) AS DATE)
    QUALIFY row_number() OVER (
        PARTITION BY instrument ORDER BY ts_event DESC, topic_partition, topic_offset DESC, topic_row DESC) = 1
) o LEFT JOIN (
    SELECT instrument, ref_version, max(price_increment_e9) / 1e9 AS increment, bool_or(is_inverse) AS is_inverse
    FROM instruments WHERE underlying = $underlying GROUP BY ALL
) i USING (instrument, ref_version)
WHERE o.expiry_ns > $now AND coalesce(o.bid, o.ask, o.mark, o.forward) IS NOT NULL
ORDER BY o.expiry_ns, o.strike, o.is_call
"""


def lake_chain(place: Place, underlying: str | None = None, at_ns: int | None = None) -> OptionChain:
    """The last quotes that were received by a time; as :func:`pipeline.option_chains.read_chain`."""
    with open_lake(place) as connection:
        present = connection.sql("SELECT DISTINCT underlying FROM options").fetchall()
        name = chosen(underlying, [each for (each,) in present], place)
        at = np.iinfo(np.int64).max if at_ns is None else at_ns
        ((now_ns, first_ns),) = connection.sql(_TIMES, params={"at": at, "underlying": name}).fetchall()
        if now_ns is None:
            raise none_so_early(place, name, at, first_ns)
        known = {"underlying": name, "at": at, "since": now_ns - LOOKBACK_NS, "now": now_ns}
        rows = connection.sql(_QUOTES, params=known).pl()
    if unknown := rows.filter(pl.col("increment").is_null())["instrument"].to_list():
        raise BadInputError(
            f"{place} has no reference data of {len(unknown)} options, such as {unknown[0]}.",
            "Without a price increment its prices are unknown: write table instruments, too.",
        )
    return _chain(name, now_ns, rows)


def _chain(underlying: str, now_ns: int, rows: pl.DataFrame) -> OptionChain:
    forward, strike = _floats(rows, "forward"), _floats(rows, "strike")
    expiry_ns, quoted_ns = rows["expiry_ns"].to_numpy(), rows["ts_event"].to_numpy()
    is_call = rows["is_call"].to_numpy()
    inverse = rows["is_inverse"].to_numpy()
    unit = np.where(inverse & is_forward(forward), forward, 1.0)
    increment = _floats(rows, "increment")
    years = (expiry_ns - quoted_ns) / YEAR_NS
    chain = OptionChain(
        underlying,
        now_ns,
        expiry_ns,
        strike,
        is_call,
        _floats(rows, "bid") * increment * unit,
        _floats(rows, "ask") * increment * unit,
        forward,
        quoted_ns,
        implied_volatility(_floats(rows, "mark") * unit, forward, strike, years, is_call),
    )
    return with_parity_forwards(chain, inverse)


def _floats(rows: pl.DataFrame, name: str) -> Array:
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

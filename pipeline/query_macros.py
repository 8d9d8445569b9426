"""Recipes of a researcher as DuckDB macros: prices in units, bars, and as-of joins that see only what was known.

Point in time means by availability: a row of features is seen from its ``ts_known`` on, not from its ``bar_ts``, and a
raw row from its ``ts_recv`` on, not from its ``ts_event``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import duckdb

_ROW: Final = "topic_partition, topic_offset, topic_row, date"


@dataclass(frozen=True, slots=True)
class Macro:
    """A named query.

    Args:
        signature: name and parameters.
        doc: what it gives, in one line.
        body: an expression, or with ``is_table`` a query.
        is_table: whether it stands in ``FROM``.
    """

    signature: str
    doc: str
    body: str
    is_table: bool = True

    @property
    def name(self) -> str:
        """Without the parameters."""
        return self.signature.split("(")[0]


MACROS: Final[tuple[Macro, ...]] = (
    Macro(
        "ns(t)",
        "a time (ISO 8601 text, TIMESTAMP, DATE; UTC where it has no zone) or a number of ns as ns since 1970",
        """coalesce(try_cast(t::VARCHAR AS BIGINT),
            CASE WHEN regexp_matches(t::VARCHAR, ':[0-9.]+ ?[+-][0-9:]+$') THEN epoch_us(t::VARCHAR::TIMESTAMPTZ) * 1000
            ELSE epoch_ns(t::VARCHAR::TIMESTAMP_NS) END)""",
        is_table=False,
    ),
    Macro("utc(t)", "ns since 1970 as a TIMESTAMP_NS, UTC", "make_timestamp_ns(t)", is_table=False),
    Macro(
        "bars_between(of_instrument, since, until)",
        "feature rows of an instrument whose bar ended in (since, until]",
        """SELECT utc(bar_ts) AS bar_time, * FROM features
        WHERE instrument = of_instrument AND bar_ts > ns(since) AND bar_ts <= ns(until) ORDER BY bar_ts""",
    ),
    Macro(
        "features_at(known_at)",
        "of every instrument the newest feature row that was known at a time",
        """SELECT utc(bar_ts) AS bar_time, * FROM features WHERE ts_known <= ns(known_at)
        QUALIFY row_number() OVER (PARTITION BY instrument ORDER BY bar_ts DESC) = 1 ORDER BY instrument""",
    ),
    Macro(
        "known_bars()",
        "when which bar was the newest known one: of an instrument, from ts_known on",
        """SELECT instrument, ts_known, max(bar_ts) OVER (PARTITION BY instrument ORDER BY ts_known) AS bar_ts
        FROM features""",
    ),
    Macro(
        "features_known(points)",
        "rows of your table (named in quotes; columns instrument, ts in ns), each with the features known at its ts",
        f"""SELECT p.* EXCLUDE (known_bar_ts), f.bar_ts, f.ts_known,
        f.* EXCLUDE (underlying, instrument, bar_ts, ts_known, {_ROW})
        FROM (SELECT q.*, k.bar_ts AS known_bar_ts FROM query_table(points) q
            ASOF LEFT JOIN known_bars() k ON q.instrument = k.instrument AND q.ts >= k.ts_known) p
        LEFT JOIN features f ON f.instrument = p.instrument AND f.bar_ts = p.known_bar_ts""",
    ),
    Macro(
        "quote_at(of_instrument, known_at)",
        "best bid and ask of an instrument as known at a time, and how old they were",
        """SELECT instrument, best_bid, best_ask, mid, spread_bps, utc(bar_ts) AS bar_time,
        (ns(known_at) - bar_ts) / 1e9 AS age_s FROM features_at(known_at) WHERE instrument = of_instrument""",
    ),
    Macro(
        "increments()",
        "what one count of price and size is worth, by instrument and version of its reference data",
        """SELECT instrument, ref_version, max(price_increment_e9) / 1e9 AS price_increment,
        max(size_increment_e9) / 1e9 AS size_increment, max(contract_size_e9) / 1e9 AS contract_size
        FROM instruments GROUP BY instrument, ref_version""",
    ),
    Macro(
        "trade_prints(of_instrument, since, until)",
        "trades in (since, until] with price in quote currency and size in contracts",
        """SELECT utc(t.ts_event) AS time, t.instrument, t.price * i.price_increment AS price,
        t.size * i.size_increment AS size, t.aggressor, t.trade_id, t.ts_event, t.ts_recv, t.late_ns
        FROM trades t JOIN increments() i USING (instrument, ref_version)
        WHERE t.instrument = of_instrument AND t.ts_event > ns(since) AND t.ts_event <= ns(until)
        ORDER BY t.topic_partition, t.topic_offset, t.topic_row""",
    ),
    Macro(
        "ohlcv(of_instrument, every, known_at := NULL)",
        "bars of the trades of an instrument, such as '1 minute'; with known_at only of trades received by then",
        """SELECT time_bucket(every::INTERVAL, utc(t.ts_event)::TIMESTAMP) AS time,
        arg_min(t.price, t.at) * any_value(i.price_increment) AS open, max(t.price * i.price_increment) AS high,
        min(t.price * i.price_increment) AS low, arg_max(t.price, t.at) * any_value(i.price_increment) AS close,
        sum(t.size * i.size_increment) AS volume, count(*) AS trades,
        sum(t.price * i.price_increment * t.size * i.size_increment) / nullif(sum(t.size * i.size_increment), 0)
            AS vwap, max(t.ts_recv) AS ts_known
        FROM (SELECT *, (ts_event, topic_partition, topic_offset, topic_row) AS at FROM trades
            WHERE instrument = of_instrument AND (known_at IS NULL OR ts_recv <= ns(known_at))) t
        JOIN increments() i USING (instrument, ref_version) GROUP BY 1 ORDER BY 1""",
    ),
    Macro(
        "surface_at(of_underlying, known_at)",
        "of every option of an underlying the newest quote that was received by a time, unexpired then",
        """SELECT o.instrument, utc(o.expiry_ns) AS expiry, (o.expiry_ns - ns(known_at)) / 86400e9 AS days,
        o.strike_e9 / 1e9 AS strike, o.is_call, o.bid * i.price_increment AS bid, o.ask * i.price_increment AS ask,
        o.mark_e9 / 1e9 AS mark, o.forward_e9 / 1e9 AS forward, ln(o.strike_e9 / o.forward_e9) AS log_moneyness,
        (ns(known_at) - o.ts_event) / 1e9 AS age_s
        FROM (SELECT * FROM options WHERE underlying = of_underlying AND ts_recv <= ns(known_at)
            AND expiry_ns > ns(known_at)
            QUALIFY row_number() OVER (PARTITION BY instrument ORDER BY ts_event DESC, topic_offset DESC) = 1) o
        JOIN increments() i USING (instrument, ref_version) ORDER BY expiry, strike, is_call""",
    ),
    Macro(
        "decision_times()",
        "decisions with decided_ts, when the last of their signals was known",
        f"""SELECT d.* EXCLUDE (document, {_ROW}),
        coalesce(max(s.ts_known) OVER (PARTITION BY d.portfolio, d.decision_id), d.bar_ts) AS decided_ts
        FROM decisions d LEFT JOIN signals s USING (underlying, bar_ts)""",
    ),
    Macro(
        "decisions_with_features()",
        "decisions, each with the features that were known when it was made (at decided_ts)",
        f"""SELECT p.* EXCLUDE (known_bar_ts), f.bar_ts AS feature_bar_ts, f.ts_known AS feature_ts_known,
        f.version AS feature_version, f.* EXCLUDE (underlying, instrument, bar_ts, ts_known, version, {_ROW})
        FROM (SELECT d.*, k.bar_ts AS known_bar_ts FROM decision_times() d
            ASOF LEFT JOIN known_bars() k ON d.instrument = k.instrument AND d.decided_ts >= k.ts_known) p
        LEFT JOIN features f ON f.instrument = p.instrument AND f.bar_ts = p.known_bar_ts""",
    ),
    Macro(
        "forward_returns(seconds)",
        "feature rows with the log return of the mid over the seconds from the first bar end after the row was known",
        f"""SELECT f.* EXCLUDE ({_ROW}), b.entry_ts, ln(x.mid / b.entry_mid) AS forward_return
        FROM features f JOIN (SELECT k.instrument, k.bar_ts, e.bar_ts AS entry_ts, e.mid AS entry_mid
            FROM (SELECT instrument, bar_ts, ts_known FROM features) k
            ASOF LEFT JOIN (SELECT instrument, bar_ts, mid FROM features) e
            ON k.instrument = e.instrument AND k.ts_known <= e.bar_ts) b
            ON b.instrument = f.instrument AND b.bar_ts = f.bar_ts
        LEFT JOIN features x ON x.instrument = b.instrument
            AND x.bar_ts = b.entry_ts + CAST(seconds * 1e9 AS BIGINT)""",
    ),
    Macro(
        "markouts(seconds)",
        "fills with what the mid did in our favour after a list of seconds, such as [1, 10, 60], in bps of the price",
        f"""SELECT f.* EXCLUDE ({_ROW}), f.seconds,
        1e4 * sign(f.quantity) * (m.mid - f.price) / f.price AS markout_bps
        FROM (SELECT *, unnest(seconds) AS seconds FROM fills) f
        LEFT JOIN features m ON m.instrument = f.instrument
            AND m.bar_ts = f.bar_ts + CAST(f.seconds * 1e9 AS BIGINT)""",
    ),
    Macro(
        "sequence_gaps(events)",
        "where numbers of a raw table (named in quotes: 'trades', 'book' ...) are missing, and how many",
        """SELECT instrument, utc(ts_recv) AS noticed, seq - before - 1 AS missing, before AS after_seq
        FROM (SELECT instrument, ts_recv, seq, lag(seq) OVER (PARTITION BY instrument, seq >> 34 ORDER BY seq) AS before
            FROM query_table(events)) WHERE seq > before + 1 ORDER BY ts_recv""",
    ),
)


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Create them, with what they give as comments (``duckdb_functions()``).

    One that names a column which this lake, of another version, does not have is left out.
    """
    for macro in MACROS:
        body = f"TABLE {macro.body}" if macro.is_table else f"({macro.body})"
        kind = "MACRO TABLE" if macro.is_table else "MACRO"
        doc = macro.doc.replace("'", "''")
        with suppress(duckdb.BinderException, duckdb.CatalogException):
            connection.execute(f"CREATE MACRO {macro.signature} AS {body}; COMMENT ON {kind} {macro.name} IS '{doc}'")

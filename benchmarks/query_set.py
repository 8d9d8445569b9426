"""The ten queries that ``benchmarks.queries`` times; ``features`` is a view on either side."""

from __future__ import annotations

from typing import Final

QUERIES: Final = {
    "bars by instrument": """
        SELECT instrument, count(*) AS bars, min(bar_ts) AS first, max(bar_ts) AS last FROM features GROUP
        BY ALL ORDER BY ALL
    """,
    "spread and depth by hour, one day": """
        SELECT instrument, bar_ts // 3600000000000 AS hour, avg(spread_bps) AS spread,
        quantile_cont(spread_bps, 0.95) AS p95, avg(bid_depth_10bps + ask_depth_10bps) AS depth FROM
        features WHERE date = '{day}' AND book_valid GROUP BY ALL ORDER BY ALL
    """,
    "one instrument, ten minutes": """
        SELECT bar_ts, mid, spread_bps, order_flow_imbalance FROM features WHERE instrument = '{name}' AND
        bar_ts > {from_ns} AND bar_ts <= {from_ns} + 600000000000 ORDER BY bar_ts
    """,
    "what was known at a moment": """
        SELECT instrument, max(bar_ts) AS bar_ts, arg_max(mid, bar_ts) AS mid FROM features WHERE date =
        '{day}' AND ts_known <= {from_ns} GROUP BY ALL ORDER BY ALL
    """,
    "minute bars of one instrument": """
        SELECT bar_ts // 60000000000 AS minute, arg_min(mid, bar_ts) AS open, max(mid) AS high, min(mid) AS
        low, arg_max(mid, bar_ts) AS close, sum(volume) AS volume FROM features WHERE instrument = '{name}'
        GROUP BY ALL ORDER BY ALL
    """,
    "imbalance deciles, next minute": """
        SELECT decile, count(*) AS bars, avg(return_) AS return_ FROM (SELECT ntile(10) OVER (ORDER BY
        order_flow_imbalance, bar_ts) AS decile, return_ FROM (SELECT bar_ts, order_flow_imbalance,
        ln(lead(mid, 61) OVER (ORDER BY bar_ts) / lead(mid) OVER (ORDER BY bar_ts)) AS return_ FROM features
        WHERE instrument = '{name}' AND date = '{day}')) WHERE return_ IS NOT NULL GROUP BY ALL ORDER BY ALL
    """,
    "as-of join of 10,000 moments": """
        WITH points AS (SELECT 'sim:' || (range % {names}) || '-PERP' AS instrument, {day_ns} + range *
        8000000000 AS ts FROM range(10000)) SELECT p.ts, p.instrument, f.bar_ts, f.mid FROM points p ASOF
        LEFT JOIN (SELECT instrument, ts_known, bar_ts, mid FROM features WHERE date = '{day}') f ON
        p.instrument = f.instrument AND p.ts >= f.ts_known ORDER BY ALL
    """,
    "correlation of two instruments": """
        SELECT a.bar_ts // 3600000000000 AS hour, corr(a.log_return, b.log_return) AS rho FROM features a
        JOIN features b ON a.bar_ts = b.bar_ts WHERE a.instrument = '{name}' AND b.instrument = '{other}'
        AND a.date = '{day}' AND b.date = '{day}' GROUP BY ALL ORDER BY ALL
    """,
    "realized against implied, by day": """
        SELECT date, underlying, sqrt(sum(log_return * log_return) * 365) AS realized, avg(atm_iv_30d) AS
        implied FROM features GROUP BY ALL ORDER BY ALL
    """,
    "share of unknown values": """
        SELECT instrument, date, count(*) - count(mid) AS no_mid, count(*) - count(vpin) AS no_vpin,
        sum(lost_rows) AS lost, sum(late_rows) AS late FROM features GROUP BY ALL ORDER BY ALL
    """,
}

"""Features of each quote of your own JSON topic; a row a message:

hedgeflow stream messages examples/quote_features.py --topics quotes --to quotes.features
"""

import polars as pl

from pipeline.messages import MessageFeatures

bid, ask = pl.col("bid_price"), pl.col("ask_price")
bid_size, ask_size = pl.col("bid_size"), pl.col("ask_size")
mid = (bid + ask) / 2

STAGE = MessageFeatures(
    fields={"symbol": str, "ts": int, "bid_price": float, "bid_size": float, "ask_price": float, "ask_size": float},
    rows={
        "symbol": "symbol",
        "ts": "ts",
        "mid": mid,
        "spread_bps": (ask - bid) / mid * 10_000,
        "imbalance": (bid_size - ask_size) / (bid_size + ask_size),
        "microprice": (bid * ask_size + ask * bid_size) / (bid_size + ask_size),
    },
)

"""Quix Streams over a topic of JSON; runs in ``.venv-peers``.

``quix_stream.py features|bars BOOTSTRAP TOPIC SINK GROUP COMMIT_S FOLDER`` runs until SIGTERM, as it would in service.
``features``: four numbers of each quote, a message a message. ``bars``: VWAP of one second a key, by a tumbling window
whose state is in RocksDB and in a changelog topic. Fields, formulas and their order are those of ``examples/``.
"""

import sys
from datetime import timedelta

from quixstreams import Application


def features(quote: dict) -> dict:
    """As examples/quote_features.py."""
    bid, ask = quote["bid_price"], quote["ask_price"]
    bid_size, ask_size = quote["bid_size"], quote["ask_size"]
    mid = (bid + ask) / 2
    return {
        "symbol": quote["symbol"],
        "ts": quote["ts"],
        "mid": mid,
        "spread_bps": (ask - bid) / mid * 10_000,
        "imbalance": (bid_size - ask_size) / (bid_size + ask_size),
        "microprice": (bid * ask_size + ask * bid_size) / (bid_size + ask_size),
    }


def first(trade: dict) -> list:
    """Volume, notional and number of trades."""
    return [trade["size"], trade["price"] * trade["size"], 1]


def add(before: list, trade: dict) -> list:
    """The next trade of the window."""
    return [before[0] + trade["size"], before[1] + trade["price"] * trade["size"], before[2] + 1]


def bar(window: dict) -> dict:
    """What goes out."""
    volume, notional, trades = window["value"]
    return {"end_ms": window["end"], "vwap": notional / volume, "volume": volume, "trades": trades}


def main() -> None:
    """Run until SIGTERM."""
    what, bootstrap, topic, sink, group, commit_s, folder = sys.argv[1:]
    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_interval=float(commit_s),
        state_dir=folder,
        loglevel="WARNING",
        # As ours: the default of librdkafka would wait up to 500 ms for company.
        consumer_extra_config={"fetch.wait.max.ms": 5},
        producer_extra_config={"linger.ms": 5},
    )
    stream = app.dataframe(app.topic(topic, key_deserializer="str", value_deserializer="json"))
    if what == "features":
        stream = stream.apply(features)
    else:
        stream = stream.tumbling_window(timedelta(seconds=1)).reduce(reducer=add, initializer=first).final().apply(bar)
    stream.to_topic(app.topic(sink, key_serializer="str", value_serializer="json"))
    app.run()


if __name__ == "__main__":
    main()

"""The book of nautilus_trader, driven through its Python API; runs in ``.venv-peers``.

``nautilus_book.py INPUT.npz --write OUTPUT.npz`` writes best bid and offer, and the imbalance of the best ten levels,
after every delta; ``nautilus_book.py INPUT.npz`` times both over deltas that were built before. For each of the two it
takes the faster of the package's two APIs: the Cython ``OrderBook`` for best prices, the ``nautilus_pyo3`` one, whose
``bids(depth)`` copies only the levels asked for, for the imbalance.
"""

import argparse
import gc
import json
import time
from statistics import median

import nautilus_trader
import numpy as np
from nautilus_trader.core import nautilus_pyo3
from nautilus_trader.model import book as cython_book
from nautilus_trader.model import data as cython_data
from nautilus_trader.model import enums as cython_enums
from nautilus_trader.model import identifiers as cython_identifiers
from nautilus_trader.model import objects as cython_objects

LEVELS = 10
PASSES = 3
RAW_DECIMALS = 16  # of the wheels' 128-bit fixed point
NANO_DECIMALS = 9


class Cython:
    """Names of the Cython API."""

    OrderBook = cython_book.OrderBook
    BookOrder = cython_data.BookOrder
    OrderBookDelta = cython_data.OrderBookDelta
    BookType = cython_enums.BookType
    BookAction = cython_enums.BookAction
    OrderSide = cython_enums.OrderSide
    InstrumentId = cython_identifiers.InstrumentId
    Price = cython_objects.Price
    Quantity = cython_objects.Quantity


def decimals(increment_e9: int) -> int:
    """Digits after the point of a multiple of the increment."""
    return max(0, NANO_DECIMALS - (len(str(increment_e9)) - len(str(increment_e9).rstrip("0"))))


def build(api, given):
    """The book of every row and the deltas that it gets; a snapshot's first row is preceded by a CLEAR."""
    to_raw = 10 ** (RAW_DECIMALS - NANO_DECIMALS)
    ids = [api.InstrumentId.from_str(f"I{s}.PEER") for s in range(len(given["names"]))]
    books = [api.OrderBook(instrument, api.BookType.L2_MBP) for instrument in ids]
    ticks = [int(value) for value in given["price_increment_e9"]]
    lots = [int(value) for value in given["size_increment_e9"]]
    nothing = api.BookOrder(api.OrderSide.NO_ORDER_SIDE, api.Price.from_raw(0, 0), api.Quantity.from_raw(0, 0), 0)
    sides = {1: api.OrderSide.BUY, -1: api.OrderSide.SELL}
    targets, deltas = [], []
    columns = [given[name].tolist() for name in ("slot", "clear", "side", "price", "size")]
    for i, (slot, clear, side, price, size) in enumerate(zip(*columns, strict=True)):
        if clear:
            targets.append(books[slot])
            deltas.append(api.OrderBookDelta(ids[slot], api.BookAction.CLEAR, nothing, 0, i, i, i))
        order = api.BookOrder(
            sides[side],
            api.Price.from_raw(price * ticks[slot] * to_raw, decimals(ticks[slot])),
            api.Quantity.from_raw(size * lots[slot] * to_raw, decimals(lots[slot])),
            price,
        )
        action = api.BookAction.UPDATE if size else api.BookAction.DELETE
        targets.append(books[slot])
        deltas.append(api.OrderBookDelta(ids[slot], action, order, 0, i, i, i))
    return books, targets, deltas


def time_best(books, targets, deltas) -> float:
    """Seconds of one pass with best bid and ask price read after each delta."""
    for book in books:
        book.reset()
    begin = time.perf_counter()
    for book, delta in zip(targets, deltas, strict=True):
        book.apply_delta(delta)
        book.best_bid_price()
        book.best_ask_price()
    return time.perf_counter() - begin


def time_imbalance(books, targets, deltas) -> float:
    """Seconds of one pass with the imbalance of the best ten levels after each delta."""
    for book in books:
        book.reset()
    begin = time.perf_counter()
    for book, delta in zip(targets, deltas, strict=True):
        book.apply_delta(delta)
        bids = asks = 0.0
        for level in book.bids(LEVELS):
            bids += level.size()
        for level in book.asks(LEVELS):
            asks += level.size()
        if bids + asks:
            (bids - asks) / (bids + asks)
    return time.perf_counter() - begin


def write(given, path: str) -> None:
    """The whole result, exactly: in counts of increments, and the imbalance of integers."""
    _, targets, deltas = build(nautilus_pyo3, given)
    rows = len(given["slot"])
    best = np.full((rows, 4), -1, dtype=np.int64)
    imbalance = np.empty(rows)
    to_raw = 10 ** (RAW_DECIMALS - NANO_DECIMALS)
    ticks = (given["price_increment_e9"][given["slot"]]).tolist()
    lots = (given["size_increment_e9"][given["slot"]]).tolist()
    row = 0
    for book, delta in zip(targets, deltas, strict=True):
        book.apply_delta(delta)
        if delta.action == nautilus_pyo3.BookAction.CLEAR:
            continue
        tick, lot = ticks[row] * to_raw, lots[row] * to_raw
        bids, asks = book.bids(LEVELS), book.asks(LEVELS)
        if bids:
            best[row, :2] = book.best_bid_price().raw // tick, book.best_bid_size().raw // lot
        if asks:
            best[row, 2:] = book.best_ask_price().raw // tick, book.best_ask_size().raw // lot
        bid, ask = (sum(round(level.size_raw()) // lot for level in side) for side in (bids, asks))
        imbalance[row] = (bid - ask) / (bid + ask)
        row += 1
    np.savez(path, best=best, imbalance=imbalance)


def main() -> None:
    """Write or time; the last line is one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("--write", metavar="OUTPUT")
    parser.add_argument("--passes", type=int, default=PASSES)
    options = parser.parse_args()
    with np.load(options.input) as arrays:
        given = {name: arrays[name] for name in arrays.files}
    result = {"version": nautilus_trader.__version__, "rows": len(given["slot"])}
    if options.write:
        write(given, options.write)
    else:
        for name, api, timed in (
            ("best_s", Cython, time_best),
            ("imbalance_s", nautilus_pyo3, time_imbalance),
        ):
            built = build(api, given)
            gc.collect()
            gc.freeze()
            gc.disable()  # in the peer's favour: its millions of objects are not traversed while it is timed
            result[name] = median(timed(*built) for _ in range(options.passes))
            gc.enable()
            del built
    print(json.dumps(result))


if __name__ == "__main__":
    main()

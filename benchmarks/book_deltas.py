"""Level-2 deltas for the book benchmark: of recordings and of the simulated exchange, for us and for the peer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from features.events import LAST, SNAPSHOT, EventBatch, Kind, record_batch
from pipeline.sources.recorded import RecordedFiles
from pipeline.sources.simulated import SimulatedExchange, SimulationConfig

Array = np.ndarray[Any, Any]

RECORDINGS: Final = Path(__file__).parent.parent.parent / "shared" / "data" / "binance"


class BookDeltas(NamedTuple):
    """N rows of the books of S instruments in log order; each row is an event of its own.

    A venue's event of many rows is thus visible row by row: the peer's book has no other way, and both must show the
    same. ``names``, ``price_increment_e9``, ``size_increment_e9`` are (S,); ``slot`` (N,) tells the instrument,
    ``clear`` (N,) whether a snapshot begins with the row, ``side`` is +1 or -1, price and size count increments.
    """

    names: Array
    price_increment_e9: Array
    size_increment_e9: Array
    slot: Array
    clear: Array
    side: Array
    price: Array
    size: Array

    def columns(self) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array]:
        """``slot, seq, prev_id, update_id, side, price, size, flags``, as our kernels read them."""
        seq = np.empty(len(self.slot), dtype=np.int64)
        for s in range(len(self.names)):
            mine = self.slot == s
            seq[mine] = np.arange(int(mine.sum()))
        flags = np.where(self.clear, SNAPSHOT | LAST, LAST).astype(np.uint8)
        return self.slot, seq, seq, seq + 1, self.side, self.price, self.size, flags

    def batches(self, rows: int) -> list[EventBatch]:
        """The same as the log's batches of ``rows`` rows."""
        slot, seq, prev_id, update_id, side, price, size, flags = self.columns()
        time = np.arange(len(slot), dtype=np.int64)
        columns = {
            "instrument": slot.astype(np.int32), "ts_event": time, "ts_recv": time, "seq": seq, "prev_id": prev_id,
            "update_id": update_id, "side": side, "price": price, "size": size, "flags": flags,
        }  # fmt: skip
        data = record_batch(Kind.BOOK, self.names.tolist(), columns)
        return [EventBatch(Kind.BOOK, "", data.slice(at, rows)) for at in range(0, data.num_rows, rows)]

    def save(self, path: Path) -> None:
        """Write an ``.npz`` that the peer reads, too."""
        np.savez(path, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> BookDeltas:
        """What :meth:`save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in cls._fields})


def recorded_deltas(folder: Path, rows: int) -> BookDeltas:
    """The first ``rows`` rows of the three Binance recordings in ``folder``, interleaved as they were received."""
    return _deltas(RecordedFiles(sorted(folder.glob("*.gz"))).batches(), rows)


def simulated_deltas(rows: int) -> BookDeltas:
    """The first ``rows`` rows of the simulated exchange's two books."""
    return _deltas(SimulatedExchange(SimulationConfig(minutes=600.0, tick_ms=10)).batches(), rows)


def _deltas(batches: Iterable[EventBatch], rows: int) -> BookDeltas:
    increments: dict[str, tuple[int, int]] = {}
    found = list(_book_batches(batches, rows, increments))
    names = list(dict.fromkeys(name for batch in found for name in batch.data.column(0).dictionary.to_pylist()))
    slot = {name: i for i, name in enumerate(names)}
    codes = [
        np.array([slot[name] for name in batch.data.column(0).dictionary.to_pylist()])[
            batch.data.column(0).indices.to_numpy()
        ]
        for batch in found
    ]

    def column(name: str) -> Array:
        whole: Array = np.concatenate([batch.data.column(name).to_numpy() for batch in found])[:rows]
        return whole

    slots, flags = np.concatenate(codes)[:rows], column("flags")
    return BookDeltas(
        names=np.array(names),
        price_increment_e9=np.array([increments[name][0] for name in names]),
        size_increment_e9=np.array([increments[name][1] for name in names]),
        slot=slots,
        clear=_begins_snapshot(slots, flags),
        side=column("side"),
        price=column("price"),
        size=column("size"),
    )


def _book_batches(
    batches: Iterable[EventBatch], rows: int, increments: dict[str, tuple[int, int]]
) -> Iterator[EventBatch]:
    """Book batches until there are ``rows`` rows; what instrument events say goes to ``increments``."""
    taken = 0
    for batch in batches:
        if batch.kind is Kind.INSTRUMENT:
            for row in batch.data.to_pylist():
                increments[row["instrument"]] = (row["price_increment_e9"], row["size_increment_e9"])
        elif batch.kind is Kind.BOOK:
            yield batch
            taken += batch.data.num_rows
            if taken >= rows:
                return


def _begins_snapshot(slot: Array, flags: Array) -> Array:
    """The first row of every event that is a snapshot."""
    first = np.empty(len(slot), dtype=np.bool_)
    for s in np.unique(slot):
        mine = np.flatnonzero(slot == s)
        first[mine] = np.concatenate([[True], (flags[mine][:-1] & LAST) != 0])
    begins: Array = first & ((flags & SNAPSHOT) != 0)
    return begins

"""What a Tardis CSV file holds, told by its header: names of files are of no account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from features.errors import BadInputError
from pipeline.sources.recording_lines import read_lines


class DataType(StrEnum):
    """The vendor's data types that can be read."""

    INCREMENTAL_BOOK = "incremental_book_L2"
    BOOK_SNAPSHOT = "book_snapshot"
    QUOTES = "quotes"
    TRADES = "trades"
    OPTIONS_CHAIN = "options_chain"
    DERIVATIVE_TICKER = "derivative_ticker"


COMMON: Final = ("exchange", "symbol", "timestamp", "local_timestamp")

_OWN: Final[Mapping[DataType, tuple[str, ...]]] = {
    DataType.INCREMENTAL_BOOK: ("is_snapshot", "side", "price", "amount"),
    DataType.BOOK_SNAPSHOT: ("asks[0].price", "asks[0].amount", "bids[0].price", "bids[0].amount"),
    DataType.OPTIONS_CHAIN: ("type", "strike_price", "expiration", "bid_price", "ask_price", "mark_price",
        "underlying_price", "open_interest"),
    DataType.DERIVATIVE_TICKER: ("funding_rate", "index_price", "mark_price", "open_interest"),
    DataType.QUOTES: ("ask_amount", "ask_price", "bid_price", "bid_amount"),
    DataType.TRADES: ("id", "side", "price", "amount"),
}  # fmt: skip
"""Columns that a type needs, beside the common ones; told apart in this order."""

PRICES: Final[Mapping[DataType, tuple[str, ...]]] = {
    DataType.INCREMENTAL_BOOK: ("price",),
    DataType.TRADES: ("price",),
    DataType.QUOTES: ("bid_price", "ask_price"),
    DataType.OPTIONS_CHAIN: ("bid_price", "ask_price"),
    DataType.DERIVATIVE_TICKER: ("last_price",),
}
SIZES: Final[Mapping[DataType, tuple[str, ...]]] = {
    DataType.INCREMENTAL_BOOK: ("amount",),
    DataType.TRADES: ("amount",),
    DataType.QUOTES: ("bid_amount", "ask_amount"),
    DataType.OPTIONS_CHAIN: ("bid_amount", "ask_amount"),
    DataType.DERIVATIVE_TICKER: (),
}
"""Columns in counts of the price and of the size increment; of snapshots, :meth:`Layout.level_columns`."""

_LEVEL: Final = re.compile(r"(asks|bids)\[(\d+)\]\.(price|amount)")


@dataclass(frozen=True, slots=True)
class Layout:
    """A file's data type, and where its columns stand. Columns that nobody needs are passed over."""

    data_type: DataType
    columns: Mapping[str, int]

    @classmethod
    def of_header(cls, header: bytes) -> Layout | None:
        """None if it is no header of a type that can be read."""
        names = header.strip(b"\xef\xbb\xbf\r\n ").decode("utf-8", "replace").split(",")
        columns = {name: at for at, name in enumerate(names)}
        if len(columns) != len(names) or not columns.keys() >= set(COMMON):
            return None
        for data_type, own in _OWN.items():
            if columns.keys() >= set(own):
                return cls(data_type, columns)
        return None

    @classmethod
    def of_file(cls, path: Path) -> Layout:
        """From the first line.

        Raises:
            BadInputError: the file is missing, empty, or its header is of no known type.
        """
        header = next(read_lines(path, lambda *_damage: None), b"")
        layout = cls.of_header(header)
        if layout is None:
            raise BadInputError(
                f"{path} has no header of a Tardis data type that can be read: {header[:80]!r}.",
                f"Known are {', '.join(DataType)}, each with {', '.join(COMMON)} first; see docs/sources.md.",
            )
        return layout

    @property
    def is_book(self) -> bool:
        """Whether its rows make up a book."""
        return self.data_type in (DataType.INCREMENTAL_BOOK, DataType.BOOK_SNAPSHOT, DataType.QUOTES)

    def level_columns(self) -> list[tuple[str, int, int]]:
        """Side, price column and amount column of every level: bids from the best down, then asks.

        Asks and bids may alternate or follow each other; any number of levels.
        """
        if self.data_type is DataType.QUOTES:
            names = (("bids", "bid"), ("asks", "ask"))
            return [(side, self.columns[f"{name}_price"], self.columns[f"{name}_amount"]) for side, name in names]
        found = [match for name in self.columns if (match := _LEVEL.fullmatch(name)) and match[3] == "price"]
        found.sort(key=lambda match: (match[1] != "bids", int(match[2])))
        return [
            (match[1], self.columns[match[0]], self.columns[f"{match[1]}[{match[2]}].amount"])
            for match in found
            if f"{match[1]}[{match[2]}].amount" in self.columns
        ]

    def number_columns(self) -> tuple[list[int], list[int]]:
        """Columns that are counts of the price increment, and of the size increment."""
        if self.data_type is DataType.BOOK_SNAPSHOT:
            levels = self.level_columns()
            return [price for _, price, _ in levels], [amount for _, _, amount in levels]
        return tuple(  # type: ignore[return-value]
            [self.columns[name] for name in names[self.data_type] if name in self.columns] for names in (PRICES, SIZES)
        )

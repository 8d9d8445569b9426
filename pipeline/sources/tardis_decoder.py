"""What the decoders of Tardis' data types share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from pipeline.sources.decimals import Increment
from pipeline.sources.runs import Run
from pipeline.sources.tardis_increments import TardisIncrements
from pipeline.sources.tardis_rows import TardisRows


class TardisDecoder(Protocol):
    """Turns the rows of one file into runs, in the file's order."""

    def runs(self, rows: TardisRows) -> Iterator[Run]:
        """Take the next block."""
        ...

    def finish(self) -> Iterator[Run]:
        """What waited for rows that do not come any more."""
        ...


class TardisContext:
    """What the files of one source share: increments, the option terms that chains tell, and who has which book."""

    def __init__(self, increments: TardisIncrements) -> None:
        self.increments = increments
        self.option_terms: dict[str, tuple[int, int, bool]] = {}
        self.books: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        """Rows left out on purpose: ``no_funding_rate``, ``duplicate_trade``."""

    def by_code(self, rows: TardisRows) -> tuple[list[Increment], list[Increment]]:
        """Price and size increments of ``rows.instruments``, as far as these rows need them."""
        unknown = Increment(0, 1)
        pairs = [(unknown, unknown)] * max(len(rows.instruments), 1)
        for code in np.unique(rows.code[rows.good]).tolist():
            pairs[code] = self.increments.of(rows.instruments[code])
        prices, sizes = zip(*pairs, strict=True)
        return list(prices), list(sizes)

    def claim_books(self, rows: TardisRows) -> None:
        """Refuse rows of an instrument whose book another data type of this source gives already."""
        data_type = rows.layout.data_type
        for code in np.unique(rows.code[rows.good]).tolist():
            owner = self.books.setdefault(rows.instruments[code].name, data_type)
            if owner != data_type:
                rows.refuse(rows.code == code, "second_book", f"its book comes from {owner} already")

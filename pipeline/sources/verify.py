"""Is the book right? Our best bid and ask against the venue's, at every update id that both name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from features.book import replay_l2
from features.events import NANO, Kind
from pipeline.sources.base import OnReject, ignore_reject
from pipeline.sources.binance import BinanceRecording, recordings_of
from pipeline.sources.binance_decoder import BookTicker
from pipeline.sources.line_recording import RESNAPSHOT_S
from pipeline.sources.runs import batches_of

BEST: Final = ("bid_price", "bid_size", "ask_price", "ask_size")
MISMATCHES_KEPT: Final = 5
LARGE_ROWS: Final = 1 << 16
LARGE_SPAN_NS: Final = 60 * NANO
"""Batches of these sizes replay several times faster than those of the log, with the same rows."""


@dataclass(frozen=True, slots=True)
class BestQuotes:
    """Best bid and ask in counts of increments; None where a side is empty."""

    bid_price: int | None
    bid_size: int | None
    ask_price: int | None
    ask_size: int | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An update id at which our book and the venue's best quotes differ."""

    instrument: str
    update_id: int
    book: BestQuotes
    venue: BestQuotes


@dataclass(frozen=True, slots=True)
class InstrumentCheck:
    """What was compared for one instrument."""

    matched: int
    compared: int
    invalid: int  # comparable ids at which our book was invalid: not compared, no mismatch


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What :func:`verify_book` found; ``mismatches`` are the first few."""

    instruments: dict[str, InstrumentCheck]
    mismatches: tuple[Mismatch, ...]

    @property
    def matched(self) -> int:
        """Update ids at which everything was equal."""
        return sum(check.matched for check in self.instruments.values())

    @property
    def compared(self) -> int:
        """Update ids that both name."""
        return sum(check.compared for check in self.instruments.values())

    @property
    def invalid(self) -> int:
        """Update ids that both name, but our book was invalid."""
        return sum(check.invalid for check in self.instruments.values())

    @property
    def ok(self) -> bool:
        """Something was compared for every instrument, and all of it matched."""
        return self.matched == self.compared and all(check.compared for check in self.instruments.values())


def verify_book(
    paths: Sequence[Path | str], *, resnapshot_s: float = RESNAPSHOT_S, on_reject: OnReject = ignore_reject
) -> VerifyResult:
    """Rebuild the books of recordings as any reader of the log would, and compare them with ``bookTicker``.

    An id counts once; where the log names it twice (a diff and the snapshot after it), both must agree.

    Raises:
        BadInputError: a file is missing or empty, or its name does not tell what it holds.
    """
    tickers: list[BookTicker] = []
    checks: dict[str, InstrumentCheck] = {}
    mismatches: list[Mismatch] = []
    for recording in recordings_of(
        paths, resnapshot_s=resnapshot_s, on_reject=on_reject, on_book_ticker=tickers.append
    ):
        tickers.clear()
        checks[recording.name], found = _check(recording, tickers)
        mismatches += found
    return VerifyResult(checks, tuple(mismatches[:MISMATCHES_KEPT]))


def _check(recording: BinanceRecording, tickers: list[BookTicker]) -> tuple[InstrumentCheck, list[Mismatch]]:
    rows = (run for run in recording.runs() if run.kind is Kind.BOOK)
    book = replay_l2(batches_of(rows, LARGE_ROWS, LARGE_SPAN_NS))
    if not tickers:
        return InstrumentCheck(0, 0, 0), []
    venue = pl.DataFrame(tickers, schema=dict.fromkeys(BookTicker._fields, pl.Int64) | {"instrument": pl.String})
    both = book.join(venue.unique(), on=["instrument", "update_id"], how="inner", maintain_order="left")
    equal = pl.all_horizontal(pl.col(f"{name}_0").eq_missing(pl.col(name)) for name in BEST)
    seen = both.filter("valid").with_columns(equal=equal)
    ids = seen.group_by("update_id").agg(pl.col("equal").all())
    invalid = both.filter(~pl.col("valid"))["update_id"].n_unique()
    wrong = seen.filter(~pl.col("equal")).head(MISMATCHES_KEPT)
    found = [
        Mismatch(
            row["instrument"],
            row["update_id"],
            BestQuotes(*(row[f"{name}_0"] for name in BEST)),
            BestQuotes(*(row[name] for name in BEST)),
        )
        for row in wrong.iter_rows(named=True)
    ]
    return InstrumentCheck(int(ids["equal"].sum()), ids.height, invalid), found

"""What Deribit has listed, and which of it is followed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

import msgspec

from pipeline.sources.base import UnusableError
from pipeline.sources.deribit_instruments import KINDS, DeribitInstrument
from pipeline.sources.deribit_messages import LISTING, RESULTS


class DeribitListing:
    """Instruments by symbol, from responses to ``public/get_instruments``.

    Args:
        only: symbols that are followed, None for all.
        counts: ``unsupported_kind`` (combos) and ``bad_listing`` (a field is missing or impossible) are counted here.
    """

    def __init__(self, only: Container[str] | None, counts: Counter[str]) -> None:
        self.only = only
        self.listed: dict[str, DeribitInstrument] = {}
        self._introduced: dict[str, DeribitInstrument] = {}
        self._counts = counts

    def take(self, result: msgspec.Raw) -> None:
        """Take a response's result; one that is no list of instruments changes nothing."""
        if not bytes(result).startswith(b"["):
            return
        for item in RESULTS.decode(result):
            if bytes(item).startswith(b"{"):
                self._take_one(item)

    def _take_one(self, item: msgspec.Raw) -> None:
        try:
            listing = LISTING.decode(item)
            if listing.kind not in KINDS:
                self._counts["unsupported_kind"] += 1
                return
            instrument = DeribitInstrument.of(listing)
        except (msgspec.DecodeError, UnicodeDecodeError, UnusableError):
            self._counts["bad_listing"] += 1
            return
        self.listed[instrument.symbol] = instrument

    def introduce(self) -> list[DeribitInstrument]:
        """Those that are followed, and new or changed since the last call."""
        news = [
            instrument
            for symbol, instrument in self.listed.items()
            if (self.only is None or symbol in self.only) and self._introduced.get(symbol) != instrument
        ]
        self._introduced.update((instrument.symbol, instrument) for instrument in news)
        return news

    def find(self, symbol: str) -> DeribitInstrument:
        """The introduced instrument.

        Raises:
            UnusableError: no list has introduced it, so its increments would be a guess.
        """
        instrument = self._introduced.get(symbol)
        if instrument is None:
            raise UnusableError("unknown_instrument", f"{symbol[:80]!r} is in no list of instruments so far")
        return instrument

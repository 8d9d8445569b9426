"""Option chains of another time, placed onto a session as it plays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from features.events import Kind
from pipeline.sources.option_chain import Chain, ChainListing
from pipeline.sources.runs import Run


class RetimedChains:
    """Inserts each underlying's next chain whenever one is due.

    A chain is due every ``interval_ns`` of receive time. It is placed at the underlying's stream time and rescaled to
    the last trade price of its reference instrument: it uses nothing that the session has not shown yet, and waits
    for the first trade.

    Args:
        chains: of each underlying, in order of time.
        reference: underlying -> the instrument whose trades give its price.
        interval_ns: from one chain to the next.
        first_source: position among merged sources.
    """

    def __init__(
        self, chains: Mapping[str, Iterator[Chain]], reference: Mapping[str, str], interval_ns: int, first_source: int
    ) -> None:
        self._chains = chains
        self._reference = reference
        self._interval_ns = interval_ns
        self._listings = {name: ChainListing(first_source + i) for i, name in enumerate(chains)}
        self._due: dict[str, int] = {}
        self._tick_e9: dict[str, int] = {}
        self._price_e9: dict[str, int] = {}
        self._stream_ts: dict[str, int] = {}
        self._ts_recv = 0

    def before(self, run: Run) -> list[Run]:
        """The chains' rows that belong before ``run``, the next run of the session."""
        if not self._due:
            self._due = dict.fromkeys(self._chains, run.ts_recv)
        runs: list[Run] = []
        for underlying, due in self._due.items():
            if due <= run.ts_recv and underlying in self._price_e9:
                runs += self._place(underlying, max(due, self._ts_recv))
                self._due[underlying] = max(due, self._ts_recv) + self._interval_ns
        self._note(run)
        return runs

    def _place(self, underlying: str, ts_recv: int) -> list[Run]:
        chain = next(self._chains[underlying], None)
        if chain is None:
            return []
        placed = chain.retimed(self._stream_ts[underlying], self._price_e9[underlying])
        return self._listings[underlying].runs(placed, ts_recv)

    def _note(self, run: Run) -> None:
        self._ts_recv = run.ts_recv
        if run.kind is Kind.INSTRUMENT:
            self._tick_e9[run.columns["instrument"]] = run.columns["price_increment_e9"][0]
            return
        ts_event = run.columns["ts_event"]
        self._stream_ts[run.underlying] = max(ts_event, self._stream_ts.get(run.underlying, ts_event))
        if run.kind is Kind.TRADE and run.columns["instrument"] == self._reference[run.underlying]:
            self._price_e9[run.underlying] = run.columns["price"] * self._tick_e9[run.columns["instrument"]]

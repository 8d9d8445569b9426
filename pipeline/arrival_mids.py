"""The mids at which the latest orders were decided, found by the ids that name decision and order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from hedger.inputs import SignalInput
from hedger.orders import decision_id, order_id

REMEMBERED_BARS: Final = 600
"""Bars whose mids are kept: an order that a fill reports later has an unknown arrival mid."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An instrument's market at the bar of a decision; ``mid`` is in USD, ``None`` where unknown."""

    bar_ts: int
    underlying: str
    instrument: str
    mid: float | None


class ArrivalMids:
    """A fill and a cancel say only hashes of (portfolio, bar) and (portfolio, decision, leg): these are looked for.

    The newest bars are tried first, for reports come soon.

    Args:
        portfolio: its name.
    """

    def __init__(self, portfolio: str) -> None:
        self._portfolio = portfolio
        self._bars: deque[list[Arrival]] = deque(maxlen=REMEMBERED_BARS)

    def remember(self, signals: Iterable[SignalInput]) -> None:
        """Take the signals of a bar beyond the last one."""
        self._bars.append([Arrival(each.bar_ts, each.underlying, each.instrument, each.mid) for each in signals])

    def of_decision(self, decision: str, instrument: str) -> Arrival | None:
        """The market of ``instrument`` at the decision with this id; ``None`` if that is not among the bars kept."""
        for name, legs in self._newest_first():
            if name == decision:
                return next((leg for leg in legs if leg.instrument == instrument), None)
        return None

    def of_order(self, order: str) -> Arrival | None:
        """The same for the leg whose order has this id."""
        for name, legs in self._newest_first():
            for leg in legs:
                if order_id(self._portfolio, name, leg.underlying) == order:
                    return leg
        return None

    def _newest_first(self) -> Iterator[tuple[str, list[Arrival]]]:
        for legs in reversed(self._bars):
            if legs:
                yield decision_id(self._portfolio, legs[0].bar_ts), legs

    def saved(self) -> list[list[list[Any]]]:
        """The state, as plain values."""
        return [[[leg.bar_ts, leg.underlying, leg.instrument, leg.mid] for leg in legs] for legs in self._bars]

    def load(self, saved: list[list[list[Any]]]) -> None:
        """Replace the state by what :meth:`saved` gave."""
        self._bars = deque(([Arrival(*leg) for leg in legs] for legs in saved), maxlen=REMEMBERED_BARS)

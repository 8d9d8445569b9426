"""What was traded in an instrument and what it cost against the arrival mid, in the bar, the hour and since the start.

References:
    Perold 1988, "The implementation shortfall: paper versus reality".
"""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass, field
from typing import Any, Final

from features.average_cost import PRODUCT_UNITS
from features.feature import MINUTE

BPS: Final = 10_000
HOUR_NS: Final = 60 * MINUTE


@dataclass(slots=True)
class Flow:
    """Sums over fills of signed quantity q, price p and arrival mid m, in units of :mod:`features.average_cost`.

    Attributes:
        fills: how many.
        turnover: ``sum(|q| p)``.
        cost: ``sum(q (p - m))``, of the fills whose arrival mid is known.
        arrival: ``sum(|q| m)`` of the same.
    """

    fills: int = 0
    turnover: int = 0
    cost: int = 0
    arrival: int = 0

    def add(self, other: Flow) -> None:
        """Count its fills, too."""
        self._move(other, 1)

    def remove(self, other: Flow) -> None:
        """Undo :meth:`add`, exactly: these are integers."""
        self._move(other, -1)

    def _move(self, other: Flow, sign: int) -> None:
        self.fills += sign * other.fills
        self.turnover += sign * other.turnover
        self.cost += sign * other.cost
        self.arrival += sign * other.arrival

    @property
    def turnover_usd(self) -> float:
        """USD."""
        return self.turnover / PRODUCT_UNITS

    @property
    def cost_bps(self) -> float | None:
        """``1e4 cost / arrival``; ``None`` without an arrival mid."""
        return None if self.arrival == 0 else BPS * self.cost / self.arrival


@dataclass(slots=True)
class Execution:
    """The flows of one instrument.

    Attributes:
        bar: since the bar before.
        hour: of the bars in (t - 1 h, t], which ``bars`` holds.
        total: since the start.
        last: of the last fill alone.
        last_ts: its time, ns UTC.
    """

    bar: Flow = field(default_factory=Flow)
    hour: Flow = field(default_factory=Flow)
    total: Flow = field(default_factory=Flow)
    last: Flow = field(default_factory=Flow)
    last_ts: int | None = None
    bars: deque[tuple[int, Flow]] = field(default_factory=deque)

    def fill(self, quantity: int, price: int, arrival_mid: int | None, at_ns: int) -> None:
        """Count a fill of the bar that is open; ``arrival_mid`` ``None`` where unknown."""
        size = abs(quantity)
        self.last = Flow(1, size * price)
        if arrival_mid is not None:
            self.last.cost = quantity * (price - arrival_mid)
            self.last.arrival = size * arrival_mid
        self.last_ts = at_ns
        self.bar.add(self.last)
        self.total.add(self.last)

    def close_bar(self, bar_ts: int) -> Flow:
        """End the bar: its flow, which the hour then holds, while older ones leave it."""
        closed, self.bar = self.bar, Flow()
        if closed.fills:
            self.bars.append((bar_ts, closed))
            self.hour.add(closed)
        while self.bars and self.bars[0][0] <= bar_ts - HOUR_NS:
            self.hour.remove(self.bars.popleft()[1])
        return closed

    def saved(self) -> dict[str, Any]:
        """The state; integers as text, for they may be longer than 64 bits."""
        return {
            "bar": _saved(self.bar),
            "total": _saved(self.total),
            "last": _saved(self.last),
            "last_ts": self.last_ts,
            "bars": [[bar_ts, _saved(flow)] for bar_ts, flow in self.bars],
        }

    @classmethod
    def restored(cls, saved: dict[str, Any]) -> Execution:
        """The inverse of :meth:`saved`."""
        bars = deque((int(bar_ts), _restored(flow)) for bar_ts, flow in saved["bars"])
        hour = Flow()
        for _, flow in bars:
            hour.add(flow)
        bar, total, last = (_restored(saved[name]) for name in ("bar", "total", "last"))
        return cls(bar, hour, total, last, saved["last_ts"], bars)


def _saved(flow: Flow) -> list[str]:
    return [str(value) for value in astuple(flow)]


def _restored(saved: list[str]) -> Flow:
    return Flow(*map(int, saved))
